"""The one way from a request to a result: page, API, CLI and Python are doors to `Studio.run`."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orfeas import __version__
from orfeas.errors import OutOfMemory
from orfeas.lane import Lane, Ticket
from orfeas.library import Library, Retention
from orfeas.pipeline import Pipeline
from orfeas.progress import Progress
from orfeas.recipe import KeptLatent, fingerprint, hash_picture
from orfeas.request import QUALITIES, GenerationRequest, Quality
from orfeas.result import Result, load_result
from orfeas.telemetry import log

if TYPE_CHECKING:
    import numpy as np

    from orfeas.cutout import Cutout
    from orfeas.engines import Engine
    from orfeas.mesh import Mesh
    from orfeas.picture import Picture
    from orfeas.settings import Settings

REUSED = "The same picture and options were made before: this is that result again."
MOST_GIVEN_UP = 3  # threads that hang cost memory, and perhaps a core each


class Studio:
    """An engine, a library and one lane. Threads may share it; as many jobs run at once as the engine has slots, each
    party's in its turn.

    qualities: what each quality's name means to the engine; as `QUALITIES` has it by default.
    remake: makes another such engine, where one can take the place of one that no longer answers.
    draw_views: a mesh's still and the frames of its turn; `render_poster_and_turn` by default.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        library: Library,
        qualities: Mapping[str, Quality] | None = None,
        remake: Callable[[], Engine] | None = None,
        draw_views: Callable[[Mesh], tuple[np.ndarray, list[np.ndarray]]] | None = None,
    ):
        self._remake, self._draw_views = remake, draw_views
        self._given_up = 0
        self._tickets: dict[str, Ticket] = {}  # of the jobs that have an owner
        self.settings = settings
        self.engine = engine
        self.library = library
        self.qualities = qualities or QUALITIES[engine.name]
        self._lane = Lane(engine.slots)
        self._load_lock = threading.Lock()
        self._loaded = False
        self._started = time.monotonic()
        self._counts = Counter()  # "finished" and "failed"
        self._count_lock = threading.Lock()

    @property
    def slots(self) -> int:
        """How many jobs run at once."""
        return self._lane.slots

    # --- the one way ---------------------------------------------------------------------------------------------

    def run(
        self,
        request: GenerationRequest,
        latent: KeptLatent | None = None,
        *,
        draw: bool = True,
        owner: str = "",
        party: str = "",
        reuse: bool = False,
    ) -> Iterator[Progress | Result]:
        """Yield `Progress` as the job goes on and, last of all, its `Result`.

        latent: of the recipe that the request was made from; where it fits the request, the shape is meshed from it
        without diffusion, and a note says whether it was.
        draw: also draw the still and the turntable, two fifths of a sketch's time; without, the result has neither.
        owner: a token of 32 hexadecimal digits that stands for who asked: see `Library.write`.
        party: whose job it is: parties are served in turn.
        reuse: answer with a copy of a result that is the same, if there is one: picture, options, seed and engine.
        Closing the generator cancels the job, at the latest at its next step, and frees the lane.
        Raises `OrfeasError` for whatever the user can mend.
        """
        if reuse and (same := self._find_same(request, owner)):
            try:
                yield Progress("files", 1.0, "This was made before")
            except GeneratorExit:  # stopped before anybody heard of it
                self.library.remove(same.id)
                raise
            self._count("finished")
            yield same
            return
        ticket = self._lane.enter(party)
        if owner:
            self._tickets[owner] = ticket
        try:
            while ahead := self._lane.wait(ticket, seconds=0.5):
                jobs = "one job" if ahead == 1 else f"{ahead} jobs"
                yield Progress("waiting", 0.0, f"Waiting for {jobs} before this one", ahead)
            with _explain_memory_errors():
                yield from self._make(request, latent, draw, owner)
            self._count("finished")
        except GeneratorExit:
            log.info("cancelled")
            raise
        except Exception:
            self._count("failed")
            raise
        finally:
            self._lane.leave(ticket)
            self._tickets.pop(owner, None)

    def _make(
        self, request: GenerationRequest, latent: KeptLatent | None, draw: bool, owner: str
    ) -> Iterator[Progress | Result]:
        quality = self.qualities[request.quality]
        pipeline = Pipeline(
            request, self.engine, quality, self.library, self.load, self._loaded, latent, draw, owner, self._draw_views
        )
        return pipeline.run()

    def _find_same(self, request: GenerationRequest, owner: str) -> Result | None:
        try:
            mark = fingerprint(hash_picture(request.picture), request, self.engine)
            same = self.library.index.find_fingerprint(mark)
            return load_result(self.library.copy(same.id, owner, REUSED)) if same else None
        except (OSError, ValueError, KeyError):  # the picture or the result has just gone: the job says what is wrong
            return None

    def give_up(self, owner: str) -> bool:
        """Free the lane of a job whose thread does not come back, and use a new engine from now on.

        A thread cannot be ended: it is left alone with the engine that it hangs in, and counted. False where no other
        engine can take that one's place here, none can be made, or `MOST_GIVEN_UP` have been left already: then only a
        new process helps, and the lane stays taken.
        """
        self._given_up += 1
        if self._remake is None or self._given_up > MOST_GIVEN_UP:
            return False
        try:
            engine = self._remake()
        except Exception as error:
            log.error("engine_not_remade", error=str(error))
            return False
        # not under the old lock: the thread may hang while it loads the engine
        self._load_lock, self._loaded, self.engine = threading.Lock(), False, engine
        threading.Thread(target=self._load_or_log, name="load", daemon=True).start()
        if ticket := self._tickets.pop(owner, None):
            self._lane.leave(ticket)
        return True

    def cut(self, picture: Path | bytes, background: str = "auto", taps=()) -> Cutout:
        """The cutout that a job with these options would use; for showing it before the job. Takes no lane."""
        return self.look(picture, background, taps)[1]

    def look(self, picture: Path | bytes, background: str = "auto", taps=()) -> tuple[Picture, Cutout]:
        """The picture, decoded once, and its cutout as of `cut`."""
        from orfeas.cutout import cut_out
        from orfeas.picture import load_picture

        request = GenerationRequest(picture, background=background, taps=taps)
        with _explain_memory_errors():
            whole = load_picture(request.picture)
            return whole, cut_out(whole, request.background, request.taps)

    def load(self) -> None:
        """Make the engine ready; the first job does it otherwise."""
        with self._load_lock:
            if not self._loaded:
                self.engine.load()
                self._loaded = True

    @property
    def is_loaded(self) -> bool:
        """Whether the engine is ready to work."""
        return self._loaded

    def _load_or_log(self) -> None:
        try:
            self.load()
        except Exception as error:  # the next job tries again, and is told
            log.error("engine_not_loaded", error=str(error))

    def health(self) -> dict[str, Any]:
        """Plain facts, at once, also while a job runs."""
        waiting = len(self._lane)
        return {
            "version": __version__,
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "engine": {
                "name": self.engine.name,
                "title": self.engine.title,
                "device": self.engine.device,
                "reason": self.engine.reason,
                "loaded": self._loaded,
                **self.engine.health(),
            },
            "busy": waiting > 0,
            "queue": max(0, waiting - self._lane.slots),
            "given_up": self._given_up,
            "jobs": {"finished": self._counts["finished"], "failed": self._counts["failed"]},
        }

    def close(self) -> None:
        self.engine.close()
        self.library.close()

    def _count(self, outcome: str) -> None:
        with self._count_lock:
            self._counts[outcome] += 1


def build_studio(settings: Settings) -> Studio:
    """A studio with the engine that ``settings`` call for. Reads no weights yet and makes no folder."""
    from orfeas.engines.choose import choose_engine

    retention = Retention(settings.keep_days, settings.keep_gb)
    engine = choose_engine(settings)
    # a GPU's memory and its driver's state belong to the process: there a new engine is no way out
    remake = functools.partial(choose_engine, settings) if engine.device == "cpu" else None
    return Studio(settings, engine, Library(settings.data_dir, retention), remake=remake)


def generate(picture: Path | str | bytes, *, folder: Path | str | None = None, **options) -> Result:
    """Make one model and wait for it: the Python door.

    picture: path or bytes. folder: the library that takes the result, with whatever is in it already; the
    installation's data folder by default. The model is at ``result.files["model"]``: results/<id>/<name> in there.
    options: those of `GenerationRequest` (quality, format, size_mm, seed, background, texture, max_faces, ...).
    Raises `OrfeasError`.
    """
    from orfeas.settings import load_settings

    request = GenerationRequest.from_options(Path(picture) if isinstance(picture, str) else picture, options)
    studio = build_studio(load_settings(**({"data_dir": Path(folder)} if folder else {})))
    try:
        *_, result = studio.run(request)
    finally:
        studio.close()
    return result


@contextlib.contextmanager
def _explain_memory_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        import cv2

        if isinstance(error, MemoryError) or (isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem):
            sentence = "This machine ran out of memory: choose a lower quality and try again."
            raise OutOfMemory(sentence) from error
        raise
