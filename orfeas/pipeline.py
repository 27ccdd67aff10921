"""From a request to a result, stage by stage: `Pipeline` is one job's way, `orfeas.studio` decides when it is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orfeas.errors import BadMesh, BadPicture
from orfeas.progress import STAGE_SHARES, Progress, StageClock
from orfeas.recipe import LATENT, KeptLatent, fingerprint, hash_cutout, write_recipe
from orfeas.result import Result
from orfeas.telemetry import PeakMemory, log
from orfeas.telemetry.logs import short

if TYPE_CHECKING:
    import numpy as np

    from orfeas.cutout import Cutout
    from orfeas.engines import Engine
    from orfeas.library import Library
    from orfeas.mesh import Mesh
    from orfeas.mesh.change import Change
    from orfeas.mesh.report import Report
    from orfeas.picture import Picture
    from orfeas.request import GenerationRequest, Quality


@dataclass
class Pipeline:
    """One job. Each stage takes what the ones before it left here, and leaves its own.

    kept: the latent of an earlier result, to mesh the shape from where it fits. draw: also the still and the turntable.
    load: makes the engine ready, at once if it is. is_loaded: whether it was when the job began.
    draw_views: a mesh's still and the frames of its turn.
    """

    request: GenerationRequest
    engine: Engine
    quality: Quality
    library: Library
    load: Callable[[], None]
    is_loaded: bool
    kept: KeptLatent | None = None
    draw: bool = True
    owner: str = ""
    draw_views: Callable[[Mesh], tuple[np.ndarray, list[np.ndarray]]] | None = None

    clock: StageClock = field(init=False)
    picture: Picture = field(init=False)
    cutout: Cutout = field(init=False)
    shape: Mesh = field(init=False)
    whole: np.ndarray = field(init=False)  # the shape's bounds, (2, 3), before anything was taken away
    agreement: float = field(init=False)  # of its outline with the cutout's, see `orfeas.rank`
    shape_note: str = field(init=False, default="")
    shape_facts: dict[str, Any] = field(init=False, default_factory=dict)
    is_remeshed: bool = field(init=False, default=False)
    changes: list[Change] = field(init=False, default_factory=list)
    report: Report = field(init=False)

    def run(self) -> Iterator[Progress | Result]:
        """Yield `Progress` and, last of all, the `Result`, which is in the library then."""
        request, engine = self.request, self.engine
        self.clock, memory = StageClock(STAGE_SHARES[engine.name]), PeakMemory().start()
        result_id = self.library.new_id()
        log.info("making", result=short(result_id), quality=request.quality, seed=request.seed, engine=engine.name)
        yield from self._look()
        yield from self._make_shape()
        yield from self._make_solid()
        yield from self._colour()
        yield from self._measure()
        yield self.clock.enter("files", "Drawing it from all sides" if self.draw else "Writing the files")
        with self.library.write(result_id, self.owner) as folder:
            names = {}
            for message, more in self._write(folder):
                names.update(more)
                yield self.clock.at(len(names) / 8, message)
            self.clock.stop()
            facts, notes = self._tell(memory.read_mb()), self._notes()
            names["recipe"] = "recipe.json"
            write_recipe(
                folder / "recipe.json",
                request=request,
                picture=self.picture,
                report=self.report.to_dict(),
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
        yield Result(result_id, folder, request.name, files, request, self.report.to_dict(), facts, notes)

    # --- the stages ----------------------------------------------------------------------------------------------

    def _look(self) -> Iterator[Progress]:
        from orfeas.cutout import cut_out
        from orfeas.picture import load_picture

        yield self.clock.enter("picture", "Reading the picture")
        self.picture = load_picture(self.request.picture)
        yield self.clock.enter("cutout", "Finding the subject")
        self.cutout = cut_out(self.picture, self.request.background, self.request.taps)

    def _make_shape(self) -> Iterator[Progress]:
        engine, kept, seed = self.engine, self.kept, self.request.seed
        misfit = kept.explain_misfit(engine, seed, self.cutout) if kept else ""
        latent = kept.load() if kept and not misfit else None
        yield self.clock.enter("shape", "Making the shape" if self.is_loaded else "Loading the engine")
        self.load()
        if latent is None:
            making, self.shape_note = engine.shape(self.cutout, self.quality, seed), misfit
        else:
            yield self.clock.at(0.0, "Re-meshing from the kept latent")
            making, self.shape_note = engine.remesh(latent, self.quality), kept.note
        shape = None
        with contextlib.closing(making):  # cancelling stops the engine now, not when the collector comes by
            for event in making:
                if hasattr(event, "vertices"):
                    shape = event
                else:
                    self.shape_facts.update(getattr(event, "facts", None) or {})
                    yield self.clock.at(event.fraction, event.message)
        if shape is None:
            raise RuntimeError(f"{engine.name} ended without a mesh")
        self.shape, self.is_remeshed = shape, latent is not None
        if self.is_remeshed:
            self.shape_facts |= kept.how_sampled(self.shape_facts)

    def _make_solid(self) -> Iterator[Progress]:
        from orfeas.mesh.finish import make_solid
        from orfeas.rank import measure_agreement

        yield self.clock.enter("solid", "Making it solid")
        self.whole = self.shape.bounds
        try:
            self.shape, self.changes = make_solid(self.shape, max_faces=self._max_faces)
        except BadMesh as error:  # speaks to somebody who has a file
            if error.code == "face_budget_too_small":
                raise
            raise _not_solid() from error
        self.agreement = measure_agreement(self.shape, self.cutout.rgba)  # before it is turned or set on a base

    def _colour(self) -> Iterator[Progress]:
        from orfeas.mesh import Mesh

        if self.request.texture == "photo":
            from orfeas.texture.photo import project_photo

            yield self.clock.enter("texture", "Putting the photo's colours on it")
            self.shape = project_photo(self.shape, self.cutout, whole=self.whole)
        else:
            yield self.clock.enter("texture", "No texture")
            self.shape = Mesh(self.shape.vertices, self.shape.faces)

    def _measure(self) -> Iterator[Progress]:
        from orfeas.mesh.finish import place
        from orfeas.mesh.report import inspect

        request = self.request
        yield self.clock.enter("report", "Measuring")
        self.shape, placing = place(
            self.shape,
            size_mm=request.size_mm,
            orientation="upright" if request.orientation == "picture" else request.orientation,
            front_up=True,
            flat_base=None if request.base == "none" else request.base,
            max_faces=self._max_faces,
        )
        self.changes = [*self.changes, *placing]
        self.report = inspect(self.shape, changes=self.changes)
        if not self.report.watertight:
            raise _not_solid()

    @property
    def _max_faces(self) -> int:
        return min(self.quality.faces, self.request.max_faces or self.quality.faces)

    def _write(self, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
        """Write the result's files; yield what comes next and the names written since."""
        import numpy as np

        from orfeas.export import export, file_name, find_exporter, write_glb
        from orfeas.picture import encode_png
        from orfeas.render.encode import encode_webp, turntable_strip
        from orfeas.render.still import render_poster, render_poster_and_turn

        request, shape, thumbnail = self.request, self.shape, None
        if self.draw:
            poster, turn = (self.draw_views or render_poster_and_turn)(shape)
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
        (folder / "picture.png").write_bytes(encode_png(self.picture.rgba))
        (folder / "cutout.png").write_bytes(encode_png(self.cutout.rgba))
        yield "Writing the recipe", {"picture": "picture.png", "cutout": "cutout.png"}
        if "latent" in self.shape_facts:
            np.save(folder / LATENT, self.shape_facts.pop("latent"), allow_pickle=False)
            yield "Writing the recipe", {"latent": LATENT}

    # --- what the recipe says --------------------------------------------------------------------------------------

    def _tell(self, peak_memory_mb: float) -> dict[str, Any]:
        engine, cutout, seconds = self.engine, self.cutout, self.clock.seconds
        # a leaner or another way to the shape, or one without stills, is not what the request gives another time
        usual = self.draw and not self.is_remeshed and not self.shape_facts.get("memory_note")
        return {
            "engine": engine.name,
            "engine_version": engine.version,
            "engine_reason": engine.reason,
            "device": engine.device,
            "cutout": cutout.method,
            "cutout_explanation": cutout.explanation,
            "cutout_sha256": hash_cutout(cutout),
            "seed": self.request.seed,
            "fingerprint": fingerprint(self.picture.sha256, self.request, engine) if usual else "",
            "seconds": {**seconds, "total": round(sum(seconds.values()), 3)},
            "peak_memory_mb": peak_memory_mb,
            "changes": [change.to_dict() for change in self.changes],
            "agreement": round(self.agreement, 4),
            **self.shape_facts,
        }

    def _notes(self) -> tuple[str, ...]:
        facts = self.shape_facts
        run_notes = (facts.get(key, "") for key in ("rerun_note", "memory_note", "approximation_note"))
        turns = (change.sentence for change in self.changes if change.step in ("tilt_to_stand", "lay_flat"))
        # an engine that says how this shape was approximated has no other caveat, and may make the next another way
        caveat = "" if "approximations" in facts else self.engine.caveat
        notes = (*self.picture.notes, *self.cutout.notes, self.shape_note, *run_notes, *turns, caveat)
        return tuple(dict.fromkeys(note for note in notes if note))


def _not_solid() -> BadPicture:
    return BadPicture(
        "No solid model could be made of this picture: try another picture, or a lower quality.", "not_solid"
    )
