"""The one way from a request to a result: page, API, CLI and Python are doors to `Studio.run`."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orfeas import __version__
from orfeas.errors import BadPicture, OutOfMemory
from orfeas.lane import Lane, Ticket
from orfeas.library import Library, Retention
from orfeas.recipe import LATENT, KeptLatent, fingerprint, hash_cutout, hash_picture, write_recipe
from orfeas.request import QUALITIES, GenerationRequest, Quality
from orfeas.result import Result, load_result
from orfeas.telemetry import PeakMemory, log
from orfeas.telemetry.logs import short

if TYPE_CHECKING:
    import numpy as np

    from orfeas.cutout import Cutout
    from orfeas.engines import Engine
    from orfeas.mesh import Mesh
    from orfeas.picture import Picture
    from orfeas.settings import Settings

# Each stage of a job and its share of the job's progress bar, in order. The shares follow measured seconds
# (benchmarks/sketch.py; for Hunyuan3D the shape is nearly everything).
STAGE_SHARES: Mapping[str, Mapping[str, float]] = {
    "sketch": {
        "picture": 0.04, "cutout": 0.16, "shape": 0.30, "solid": 0.12, "texture": 0.12, "report": 0.04, "files": 0.22,
    },
    "hunyuan3d": {
        "picture": 0.01, "cutout": 0.03, "shape": 0.82, "solid": 0.05, "texture": 0.03, "report": 0.02, "files": 0.04,
    },
}  # fmt: skip
STAGES = tuple(STAGE_SHARES["sketch"])
REUSED = "The same picture and options were made before: this is that result again."
MOST_GIVEN_UP = 3  # threads that hang cost memory, and perhaps a core each


@dataclass(frozen=True)
class Progress:
    """Where a job is. ``fraction`` of the whole job, 0 to 1, never falls; ``stage`` is "waiting" or one of `STAGES`.

    ahead: how many jobs have to end before a waiting one runs.
    """

    stage: str
    fraction: float
    message: str
    ahead: int = 0


@dataclass
class _Clock:
    """Turns stages into `Progress` and keeps each stage's seconds."""

    shares: Mapping[str, float]
    seconds: dict[str, float] = field(default_factory=dict)
    stage: str = ""
    _since: float = 0.0

    def enter(self, stage: str, message: str) -> Progress:
        self.stop()
        self.stage, self._since = stage, time.perf_counter()
        return self.at(0.0, message)

    def at(self, fraction: float, message: str) -> Progress:
        """Progress at ``fraction`` of the current stage."""
        before = sum(share for stage, share in self.shares.items() if self._is_before(stage))
        return Progress(self.stage, min(1.0, before + self.shares[self.stage] * fraction), message)

    def stop(self) -> None:
        if self.stage:
            spent = time.perf_counter() - self._since
            self.seconds[self.stage] = round(self.seconds.get(self.stage, 0.0) + spent, 3)

    def _is_before(self, stage: str) -> bool:
        order = list(self.shares)
        return order.index(stage) < order.index(self.stage)


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
            self._count("finished")
            yield Progress("files", 1.0, "This was made before")
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

    # --- the stages ----------------------------------------------------------------------------------------------

    def _make(
        self, request: GenerationRequest, kept: KeptLatent | None, draw: bool, owner: str
    ) -> Iterator[Progress | Result]:
        import numpy as np

        from orfeas.cutout import cut_out
        from orfeas.mesh.finish import make_solid, place
        from orfeas.mesh.report import inspect
        from orfeas.picture import load_picture

        engine = self.engine
        quality = self.qualities[request.quality]
        clock = _Clock(STAGE_SHARES[engine.name])
        memory = PeakMemory().start()
        result_id = self.library.new_id()
        log.info("making", result=short(result_id), quality=request.quality, seed=request.seed, engine=engine.name)

        yield clock.enter("picture", "Reading the picture")
        picture = load_picture(request.picture)

        yield clock.enter("cutout", "Finding the subject")
        cutout = cut_out(picture, request.background, request.taps)

        misfit = kept.explain_misfit(engine, request.seed, cutout) if kept else ""
        latent = kept.load() if kept and not misfit else None
        yield clock.enter("shape", "Making the shape" if self._loaded else "Loading the engine")
        self.load()
        if latent is None:
            making, shape_note = engine.shape(cutout, quality, request.seed), misfit
        else:
            yield clock.at(0.0, "Re-meshing from the kept latent")
            making, shape_note = engine.remesh(latent, quality), kept.note
        shape, shape_facts = None, {}
        with contextlib.closing(making):  # cancelling stops the engine now, not when the collector comes by
            for event in making:
                if hasattr(event, "vertices"):
                    shape = event
                else:
                    shape_facts.update(getattr(event, "facts", None) or {})
                    yield clock.at(event.fraction, event.message)
        if shape is None:
            raise RuntimeError(f"{engine.name} ended without a mesh")
        if latent is not None:
            shape_facts |= kept.how_sampled(shape_facts)

        yield clock.enter("solid", "Making it solid")
        max_faces = min(quality.faces, request.max_faces or quality.faces)
        shape, changes = make_solid(shape, max_faces=max_faces)

        yield clock.enter(
            "texture", "Putting the photo's colours on it" if request.texture == "photo" else "No texture"
        )
        if request.texture == "photo":
            from orfeas.texture.photo import project_photo

            shape = project_photo(shape, cutout)
        else:
            shape = _without_colours(shape)

        yield clock.enter("report", "Measuring")
        flat_base = None if request.base == "none" else request.base
        shape, placing = place(shape, size_mm=request.size_mm, flat_base=flat_base, max_faces=max_faces)
        changes = [*changes, *placing]
        report = inspect(shape, changes=changes)
        if not report.watertight:
            raise BadPicture(
                "No solid model could be made of this picture: try another picture, or a lower quality.",
                "not_solid",
            )

        yield clock.enter("files", "Drawing it from all sides" if draw else "Writing the files")
        with self.library.write(result_id, owner) as folder:
            names = {}
            for message, more in self._write(folder, request, picture, cutout, shape, draw):
                names.update(more)
                yield clock.at(len(names) / 8, message)
            if "latent" in shape_facts:
                np.save(folder / LATENT, shape_facts.pop("latent"), allow_pickle=False)
                names["latent"] = LATENT
            clock.stop()
            run_notes = [shape_facts.get(key, "") for key in ("rerun_note", "memory_note")]
            memory_note = shape_facts.get("memory_note", "")
            notes = _unique([*picture.notes, *cutout.notes, shape_note, *run_notes, engine.caveat])
            # a leaner or another way to the shape, or one without stills, is not what the request gives another time
            usual = draw and latent is None and not memory_note
            mark = fingerprint(picture.sha256, request, engine) if usual else ""
            facts = {
                "engine": engine.name,
                "engine_version": engine.version,
                "engine_reason": engine.reason,
                "device": engine.device,
                "cutout": cutout.method,
                "cutout_explanation": cutout.explanation,
                "cutout_sha256": hash_cutout(cutout),
                "seed": request.seed,
                "fingerprint": mark,
                "seconds": {**clock.seconds, "total": round(sum(clock.seconds.values()), 3)},
                "peak_memory_mb": memory.read_mb(),
                "changes": [change.to_dict() for change in changes],
                **shape_facts,
            }
            names["recipe"] = "recipe.json"
            write_recipe(
                folder / "recipe.json",
                request=request,
                picture=picture,
                report=report.to_dict(),
                facts=facts,
                notes=notes,
                files=names,
            )
        folder = self.library.results / result_id
        log.info("made", result=short(result_id), seconds=facts["seconds"]["total"])
        try:
            yield Progress("files", 1.0, "Done")
        except GeneratorExit:  # stopped between the last step and the result: nothing is kept of it
            self.library.remove(result_id)
            raise
        files = {key: folder / name for key, name in names.items()}
        yield Result(result_id, folder, request.name, files, request, report.to_dict(), facts, notes)

    def _write(
        self, folder: Path, request: GenerationRequest, picture, cutout, shape: Mesh, draw: bool
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """Write the result's files; yield what comes next and the names written so far."""
        from orfeas.export import export, file_name, find_exporter, write_glb
        from orfeas.picture import encode_png
        from orfeas.render.encode import encode_webp, turntable_strip
        from orfeas.render.still import render_poster, render_poster_and_turn

        thumbnail = None
        if draw:
            poster, turn = (self._draw_views or render_poster_and_turn)(shape)
            thumbnail = encode_png(poster)
            (folder / "poster.webp").write_bytes(encode_webp(poster))
            (folder / "turntable.webp").write_bytes(encode_webp(turntable_strip(turn)))
            yield "Writing the files", {"poster": "poster.webp", "turntable": "turntable.webp"}
        elif find_exporter(request.format).takes_thumbnail:
            thumbnail = encode_png(render_poster(shape))
        write_glb(shape, folder / "model.glb")
        write_glb(shape, folder / "preview.glb", unit_scale=1.0 / request.size_mm)
        name = file_name(request.name, request.size_mm, request.format)
        export(shape, folder / name, request.format, title=request.name, thumbnail=thumbnail)
        yield "Writing the files", {"glb": "model.glb", "preview": "preview.glb", "model": name}
        (folder / "picture.png").write_bytes(encode_png(picture.rgba))
        (folder / "cutout.png").write_bytes(encode_png(cutout.rgba))
        yield "Writing the recipe", {"picture": "picture.png", "cutout": "cutout.png"}


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

    picture: path or bytes. folder: where the result's folder is made; the installation's data folder by default.
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


def _without_colours(mesh: Mesh) -> Mesh:
    from orfeas.mesh import Mesh

    return Mesh(mesh.vertices, mesh.faces)


def _unique(sentences) -> tuple[str, ...]:
    return tuple(dict.fromkeys(sentence for sentence in sentences if sentence))


@contextlib.contextmanager
def _explain_memory_errors() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory("This machine ran out of memory: choose a lower quality and try again.") from error
