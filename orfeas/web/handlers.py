"""What the page's events do. Long work runs in threads of its own, so that the server answers meanwhile."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gradio as gr
import numpy as np

from orfeas.errors import BadRequest, OrfeasError
from orfeas.recipe import read_recipe
from orfeas.request import GenerationRequest, Tap
from orfeas.telemetry import Observer, report_bug
from orfeas.web import panels
from orfeas.web.access import follow
from orfeas.web.bench import Bench
from orfeas.web.callers import Caller
from orfeas.web.copies import to_cache
from orfeas.web.inputs import on_page, refusal
from orfeas.web.jobs import MOST_WAITING
from orfeas.web.owners import may_have_job, may_have_result

if TYPE_CHECKING:
    from orfeas.cutout import Cutout
    from orfeas.recipe import KeptLatent
    from orfeas.result import Result
    from orfeas.studio import Studio
    from orfeas.web.job import Job
    from orfeas.web.jobs import Jobs

T = TypeVar("T")
POLL_SECONDS = 0.2  # progress is passed on at most five times a second
CUTOUT_THREADS = 2
SHOWN_CUTOUT_PX = 900  # longest side of the cutout as the page shows it
UNUSABLE = ("unsupported_type", "corrupt", "too_large", "too_many_pixels", "too_small", "bad_aspect")  # files
FADED = 0.18  # how much of the removed background stays visible, so that one can tap it back


@dataclass(frozen=True)
class Corrections:
    """The taps on the cutout of ``picture``, and the size in pixels at which the page shows it."""

    picture: str | None = None
    taps: tuple[Tap, ...] = ()
    shown: tuple[int, int] = (1, 1)

    def of(self, picture: str | None) -> Corrections:
        """These where they are of ``picture``, else none: the page sends the last one's until the next is cut out."""
        return self if picture == self.picture else Corrections(picture)

    def tapped(self, pixel: tuple[float, float], include: bool) -> Corrections:
        x, y = (min(max(at / side, 0.0), 1.0) for at, side in zip(pixel, self.shown, strict=True))
        return replace(self, taps=(*self.taps, Tap(x, y, include)))


class Desk:
    """What a page has before it: the ``corrections`` of its picture. One for each page, which its events share.

    An event that takes long ends after those that came later, and must not put its older corrections in their place:
    each is numbered when it begins, and an answer to any but the newest is dropped.
    """

    def __init__(self, corrections: Corrections = Corrections()):
        self.corrections = corrections
        self._newest = 0

    def begin(self) -> int:
        """The number of an event that begins now."""
        self._newest += 1
        return self._newest

    def end(self, number: int, corrections: Corrections) -> bool:
        """Put ``corrections`` on the desk, unless another event has begun since; whether they are there."""
        if number != self._newest:
            return False
        self.corrections = corrections
        return True

    def put(self, corrections: Corrections) -> None:
        """Put ``corrections`` on the desk now; what is under way is dropped."""
        self.end(self.begin(), corrections)


class Cutter(Bench):
    """Cutouts outside the lane, `CUTOUT_THREADS` at a time, ``limit`` waiting."""

    def __init__(self, studio: Studio, limit: int, observer: Observer | None = None):
        super().__init__("cutouts", CUTOUT_THREADS, limit, observer)
        self.studio = studio

    async def cut(self, picture: str | None, background: str, taps: tuple[Tap, ...] = ()) -> Cutout:
        """Raises `OrfeasError`."""
        asked = ask(picture, {"background": background, "taps": taps})
        return await self.run(self.studio.cut, asked.picture, asked.background, asked.taps)

    async def cut_and_draw(
        self, picture: str | None, background: str, taps: tuple[Tap, ...]
    ) -> tuple[Cutout, np.ndarray]:
        """The cutout and how the page shows it. Raises `OrfeasError`."""
        return await self.run(self._cut_and_draw, ask(picture, {"background": background, "taps": taps}))

    def _cut_and_draw(self, asked: GenerationRequest) -> tuple[Cutout, np.ndarray]:
        whole, cutout = self.studio.look(asked.picture, asked.background, asked.taps)
        return cutout, draw_cutout(whole.rgba, cutout.rgba[..., 3], asked.taps)


async def finish(job: Job, progress: gr.Progress | None = None) -> Result | None:
    """Wait for ``job``, passing its progress on; None if it was stopped. Raises `gr.Error` if it failed."""
    await watch(job.future, lambda: (job.progress.fraction, job.progress.message) if job.progress else None, progress)
    if job.state == "failed":
        raise refusal(job.error)
    return job.result


async def watch(
    future: Future, look: Callable[[], tuple[float, str] | None], progress: gr.Progress | None = None
) -> None:
    """Wait for ``future``, passing on what ``look`` returns, fraction and message, whenever that is new.

    The same again would be a message to every caller that waits, five times a second.
    """
    over, told = asyncio.wrap_future(future), None
    while not over.done():
        await asyncio.wait([over], timeout=POLL_SECONDS)  # not cancelled with us: the job is stopped by its flag
        if progress is None or over.done():
            continue
        seen = look()
        if seen is not None and seen != told:
            told = seen
            progress(seen[0], desc=seen[1])


class Handlers:
    """The page's events."""

    def __init__(self, jobs: Jobs, cutter: Cutter):
        self.jobs = jobs
        self.cutter = cutter

    # --- picture and cutout --------------------------------------------------------------------------------------

    async def take_picture(self, picture: str | None, background: str, desk: Desk):
        """The corrections of a result that is opened again come with its picture; any other's are dropped."""
        return await self._show(desk, picture, background, desk.corrections.of(picture))

    async def change_background(self, picture: str | None, background: str, desk: Desk):
        return await self._show(desk, picture, background, desk.corrections.of(picture))

    async def reset(self, picture: str | None, background: str, desk: Desk):
        return await self._show(desk, picture, background, replace(desk.corrections.of(picture), taps=()))

    async def tap(self, picture: str | None, background: str, desk: Desk, mode: str, event: gr.SelectData):
        before = desk.corrections.of(picture)
        try:
            x, y = (float(at) for at in event.index)
            if not (math.isfinite(x) and math.isfinite(y)):
                raise ValueError
        except (AttributeError, TypeError, ValueError):  # not the page's: a tap has a place
            raise refusal("A tap has a place: its index is two numbers of pixels.") from None
        if before is not desk.corrections:  # what was tapped is the picture before: show this one's cutout
            return await self._show(desk, picture, background, before)
        return await self._show(desk, picture, background, before.tapped((x, y), mode == "include"), before)

    async def _show(
        self,
        desk: Desk,
        picture: str | None,
        background: str,
        corrections: Corrections,
        before: Corrections | None = None,
    ):
        """Updates of the cutout's panel, its picture and its explanation; the corrections go on the desk.

        before: the corrections to keep where these are refused: a tap that cannot be taken leaves the others.
        """
        number = desk.begin()
        panel, image, note, kept = await self._cut(picture, background, corrections, before)
        if not desk.end(number, kept):
            return [gr.skip()] * 3
        return panel, image, panels.of_picture(note, picture)

    async def _cut(self, picture: str | None, background: str, corrections: Corrections, before: Corrections | None):
        """What `_show` updates, and the corrections to keep."""
        if picture is None:
            return gr.update(visible=False), None, "", Corrections()
        try:
            cutout, image = await self.cutter.cut_and_draw(picture, background, corrections.taps)
        except OrfeasError as error:
            if error.code in UNUSABLE:
                return gr.update(visible=False), None, panels.problem(str(error), unusable=True), Corrections(picture)
            # with the panel open the user can choose another background; what it shows stays if it is this picture
            shown = None if corrections.shown == Corrections.shown else gr.skip()
            return gr.update(visible=True), shown, panels.problem(str(error)), before or corrections
        except Exception as bug:
            return gr.update(visible=False), None, panels.problem(report_bug(bug)), Corrections(picture)
        height, width = image.shape[:2]
        return gr.update(visible=True), image, panels.cutout_note(cutout), replace(corrections, shown=(width, height))

    def qualities(self) -> dict[str, Any]:
        """What the choice of the quality shows: faces, and the seconds that the last jobs took here."""
        engine, history = self.jobs.studio.engine.name, self.jobs.history
        return {"choices": panels.quality_choices(engine, history), "info": panels.measured_on(engine, history)}

    # --- the job -------------------------------------------------------------------------------------------------

    async def make(
        self, token, draws, picture, quality, format, size_mm, seed, background, texture, base, max_faces, orientation,
        desk: Desk,
        request: gr.Request, progress=gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ):  # fmt: skip
        """One job of the page. Returns once, at the end: two deliveries of a model leave the viewer blank."""
        options = {
            "quality": quality, "format": format, "size_mm": size_mm, "seed": seed, "background": background,
            "texture": texture, "base": base, "max_faces": max_faces, "orientation": orientation,
            "taps": desk.corrections.of(picture).taps,
        }  # fmt: skip
        token = str(token or "")
        try:
            asked = ask(picture, options)
        except OrfeasError as refused:
            error = on_page(refused)
            await asyncio.to_thread(self.jobs.refuse, token, error)
            raise refusal(error) from None
        return await self._deliver(await start(self.jobs, asked, request, token), draws, progress)

    async def again(self, token, draws, result_id, change, request: gr.Request, progress=gr.Progress()):  # noqa: B008
        """A result made again with its own seed and one other option, such as "base:cut"; "": with another seed."""
        token = str(token or "")
        try:
            folder = self.jobs.studio.library.find(str(result_id))
            may_have = await asyncio.to_thread(may_have_result, self.jobs, str(result_id), Caller.of(request).account)
            if folder is None or not may_have:
                raise BadRequest("This result is no longer there: choose its picture again.", "no_result")
            recipe = read_recipe(folder / "recipe.json")
            option, _, value = str(change or "").partition(":")
            if option not in ("", "quality", "base", "orientation"):
                raise BadRequest("The page sent something else than was expected: reload it and try again.")
            asked = ask(str(recipe.picture), {**recipe.options, **({option: value} if option else {"seed": None})})
        except OrfeasError as error:
            await asyncio.to_thread(self.jobs.refuse, token, error)
            raise refusal(error) from None
        return await self._deliver(await start(self.jobs, asked, request, token, recipe.latent), draws, progress)

    async def resume(self, token, draws, request: gr.Request):
        """After a reload: the job that the page remembers, running or done."""
        token = str(token or "")
        job = self.jobs.get(token)
        try:
            if not await asyncio.to_thread(may_have_job, self.jobs, token, Caller.of(request).account):
                return gr.skip(), gr.skip()
        except OrfeasError as error:
            raise refusal(error) from None
        if job is None:  # of an earlier run of this server
            try:
                result = await asyncio.to_thread(self.jobs.find_result, token)
            except OrfeasError as error:
                raise refusal(error) from None
            return self._show_result(result, draws)
        if job.state in ("failed", "cancelled"):
            return gr.skip(), gr.skip()
        job.session = request.session_hash
        if not await self._is_read_by_me(job):
            return gr.skip(), gr.skip()
        return await self._deliver(job, draws, None)

    async def _is_read_by_me(self, job: Job) -> bool:
        """Wait for ``job``; False once `MOST_WAITING` pages have come later for it.

        Gradio does not tell that a page was closed or reloaded, and what waited for it would keep its place until the
        job is over.
        """
        over, mine = asyncio.wrap_future(job.future), object()
        job.readers.append(mine)
        try:
            while not over.done() and mine in job.readers[-MOST_WAITING:]:
                await asyncio.wait([over], timeout=POLL_SECONDS)
        except asyncio.CancelledError:
            self.jobs.stop(job)
            raise
        finally:
            job.readers.remove(mine)
        return over.done()

    async def _deliver(self, job: Job, draws: str, progress: gr.Progress | None):
        try:
            result = await finish(job, progress)
        except asyncio.CancelledError:
            self.jobs.stop(job)
            raise
        return self._show_result(result, draws)

    def _show_result(self, result: Result | None, draws: str):
        """Updates of the viewer and the result's card; none for one that has expired, as its job says then."""
        if result is None or not result.folder.is_dir():
            return gr.skip(), gr.skip()
        try:
            preview = to_cache(result.files["preview"], [result.folder]) if draws != "no" else gr.skip()
            return preview, panels.result_card(result, self.jobs.studio.settings.public_url)
        except FileNotFoundError:  # it has just gone
            return gr.skip(), gr.skip()
        except OrfeasError as error:
            raise refusal(error) from None

    def leave(self, request: gr.Request) -> None:
        """The page was closed or reloaded."""
        self.jobs.leave(request.session_hash)


async def start(
    jobs: Jobs, asked: GenerationRequest, request: gr.Request, token: str, latent: KeptLatent | None = None
) -> Job:
    """A job of the caller's session, which a page calls ``token``; it may be reloaded meanwhile.

    Raises `gr.Error` when it is not admitted.
    """
    follow()
    caller = Caller.of(request)
    begin = functools.partial(jobs.start, asked, token, request.session_hash, bool(token), latent, caller)
    try:
        return await in_thread(begin, jobs.stop)
    except OrfeasError as error:
        raise refusal(error) from None


async def in_thread(begin: Callable[[], T], undo: Callable[[T], object]) -> T:
    """What ``begin`` returns or raises; a disk that is slow keeps nobody else waiting.

    undo: what becomes of that where the caller went away meanwhile.
    """

    def tidy(done: asyncio.Task) -> None:
        if not done.cancelled() and not done.exception():
            loop.run_in_executor(None, undo, done.result())

    loop = asyncio.get_running_loop()
    beginning = loop.create_task(asyncio.to_thread(begin))
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        beginning.add_done_callback(tidy)
        raise


def ask(picture: str | None, options: dict[str, Any]) -> GenerationRequest:
    """The request of a page or an API caller. Raises `OrfeasError`."""
    return GenerationRequest.from_options(Path(picture) if picture else None, options)


def draw_cutout(picture: np.ndarray, alpha: np.ndarray, taps: tuple[Tap, ...]) -> np.ndarray:
    """The cutout as the page shows it: (h, w, 4) uint8, the background faded, each tap a dot.

    picture: (h, w, 4) uint8. alpha: (h, w) uint8, the subject.
    """
    from PIL import Image, ImageDraw

    faded = np.maximum(alpha, picture[..., 3] * FADED).astype(np.uint8)
    image = Image.fromarray(np.dstack([picture[..., :3], faded]))
    image.thumbnail((SHOWN_CUTOUT_PX, SHOWN_CUTOUT_PX))
    draw = ImageDraw.Draw(image)
    radius = max(image.size) / 60
    for tap in taps:
        x, y = tap.x * image.width, tap.y * image.height
        colour = (15, 118, 113, 255) if tap.include else (180, 50, 40, 255)
        for reach, fill in ((radius, colour), (radius * 0.7, (255, 255, 255, 255)), (radius * 0.45, colour)):
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)
    return np.asarray(image)
