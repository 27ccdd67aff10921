"""The named endpoints for meshes, /inspect and /repair: ``python -m orfeas inspect`` and ``repair`` for scripts.

Options, bounds and sentences are those of `orfeas.mesh`; here they are only handed on.
"""

from __future__ import annotations

import inspect as signatures
import math
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from orfeas.errors import BadMesh, BadRequest, OrfeasError
from orfeas.export import EXPORTERS, export, file_name, find_exporter
from orfeas.mesh import Mesh
from orfeas.mesh.finish import FLAT_BASES, ORIENTATIONS
from orfeas.mesh.load import load_mesh
from orfeas.mesh.repair import inspect_as
from orfeas.mesh.repair import repair as repair_mesh
from orfeas.request import MAX_FACES, SIZE_MM
from orfeas.telemetry import Observer, report_bug
from orfeas.web.api import docstring, explain
from orfeas.web.bench import Bench
from orfeas.web.copies import to_cache
from orfeas.web.inputs import Amount, Choice, MeshFile, refusal

if TYPE_CHECKING:
    from orfeas.web.readiness import Room

MESH_THREADS = 2
MAX_UPLOADED_FACES = 500_000  # an STL as large as an upload may be has 335,000

MEANINGS: Mapping[str, str] = {
    "mesh": "An STL, 3MF, GLB, OBJ or PLY file; the name's ending says which. STL and 3MF are taken as Z-up, STL, OBJ"
    " and PLY as millimetres.",
    "size_mm": f"The longest side in millimetres, {SIZE_MM[0]:g} to {SIZE_MM[1]:g}. Without it, the mesh's own.",
    "max_faces": f"At most so many triangles, {MAX_FACES[0]} to {MAX_FACES[1]:,}.",
    "orientation": "upright: as it is. standing: tilted, back by up to 45 degrees or forward by up to 10, to where it"
    " stands steadiest. flattest: turned to lie on its largest flat side.",
    "flat_base": "cut: cut flat at the bottom. plinth: put on a plate. Without it, as it is.",
    "base_mm": "The height of the cut or the thickness of the plate, 0.01 mm to a third of the size. Without it, 2 % of"
    " the size; up to 6 % are cut until it stands, and a plate has 1.2 mm at least.",
    "hollow": "Hollow it to walls of so many millimetres, from 0.4, or 0.375 % of the size, to a quarter of it. Without"
    " it, it stays solid.",
    "drain_mm": "The width of the drain hole of a hollow mesh, 0.5 mm to a quarter of the size.",
    "format": "The file to make. STL and 3MF are Z-up and stand on the bed; the others are Y-up.",
}
_OF_REPAIR = {"hollow": "wall_mm"}  # the command line's names, which scripts know, and those of `orfeas.mesh.repair`


class MeshBench(Bench):
    """Work on meshes outside the lane, `MESH_THREADS` at a time, ``limit`` waiting."""

    def __init__(self, limit: int, observer: Observer | None = None):
        super().__init__("meshes", MESH_THREADS, limit, observer)

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What ``work`` returns, from a thread. Raises `gr.Error` with its sentence, or with a bug's id."""
        try:
            return await super().run(work, *arguments)
        except OrfeasError as error:
            raise refusal(error) from None
        except MemoryError:
            raise refusal("This machine ran out of memory: give a mesh of fewer faces.") from None
        except Exception as bug:
            raise refusal(report_bug(bug)) from None


def add_mesh_api(bench: MeshBench, room: Room | None = None) -> None:
    """Add both endpoints to the Blocks being built. Their components are never drawn: they carry the types.

    room: without it nothing is written.
    """

    def repair_if_there_is_room(*asked: Any) -> tuple[str, dict[str, Any]]:
        if room:
            room.check()
        return repair_file(*asked)

    async def inspect(mesh, size_mm=None):
        return await bench.run(inspect_file, mesh, size_mm)

    async def repair(
        mesh, size_mm=None, max_faces=None, orientation=None, flat_base=None, base_mm=None, hollow=None, drain_mm=None,
        format=None,
    ):  # fmt: skip
        options = {
            "size_mm": size_mm, "max_faces": max_faces, "orientation": orientation, "flat_base": flat_base,
            "base_mm": base_mm, "hollow": hollow, "drain_mm": drain_mm,
        }  # fmt: skip
        return await bench.run(repair_if_there_is_room, mesh, options, format)

    inspect.__doc__ = docstring(
        "Say whether a mesh can be printed, and why not. Nothing is changed.",
        {name: MEANINGS[name] for name in ("mesh", "size_mm")},
        {"report": "The verdict with its reasons, and what was measured."},
    )
    repair.__doc__ = docstring(
        "Make a mesh solid, so that it can be printed, and say what was changed.",
        MEANINGS,
        {"file": "The solid.", "report": "The check of the solid, and each change in order."},
    )
    with gr.Row(visible=False):
        mesh = explain(MeshFile(label="mesh"), MEANINGS)
        size_mm = _amount("size_mm", *SIZE_MM)
        gr.Button().click(
            inspect,
            [mesh, size_mm],
            [gr.JSON(label="report")],
            api_name="inspect",
            concurrency_limit=None,
        )
        gr.Button().click(
            repair,
            [
                mesh,
                size_mm,
                _amount("max_faces", *MAX_FACES, precision=0),
                _choice("orientation", ORIENTATIONS),
                _choice("flat_base", FLAT_BASES),
                _amount("base_mm"),
                _amount("hollow"),
                _amount("drain_mm"),
                explain(Choice(list(EXPORTERS), value="stl", label="format"), MEANINGS),
            ],
            [gr.File(label="file"), gr.JSON(label="report")],
            api_name="repair",
            concurrency_limit=None,
        )


def inspect_file(path: str | None, size_mm: Any = None) -> dict[str, Any]:
    """The report of the mesh in a file, as if its longest side were ``size_mm``. Raises `OrfeasError`."""
    size = _number("size_mm", size_mm)
    return inspect_as(_load(path), size).to_dict()


def repair_file(path: str | None, options: Mapping[str, Any], format: Any) -> tuple[str, dict[str, Any]]:
    """The repaired mesh as a file that Gradio serves, and its report with the changes. Raises `OrfeasError`."""
    format = "stl" if format in (None, "") else str(format)
    find_exporter(format)
    asked = {_OF_REPAIR.get(name, name): _value(name, value) for name, value in options.items()}
    given = {name: value for name, value in asked.items() if value is not None}
    mesh = _load(path)
    try:
        solid, report, changes = repair_mesh(mesh, **given)
    except BadRequest as error:
        raise error.renamed({theirs: ours for ours, theirs in _OF_REPAIR.items()}) from None
    title = re.sub(r"_\d+(\.\d+)?mm$", "", Path(path).stem)  # of one of our own files: it gets its size anew
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / file_name(title, float(solid.extents.max()), format)
        export(solid, file, format, title=title)
        kept = to_cache(file)
    return kept, {**report.to_dict(), "changes": [change.to_dict() for change in changes]}


def _load(path: str | None) -> Mesh:
    if path is None:
        raise BadMesh("No mesh was given: upload an STL, 3MF, GLB, OBJ or PLY file.", "no_mesh")
    return load_mesh(path, max_faces=MAX_UPLOADED_FACES)


def _value(name: str, value: Any) -> Any:
    if name in ("orientation", "flat_base"):
        return None if value == "" else value
    number = _number(name, value)
    if name == "max_faces" and number is not None:
        if not number.is_integer():
            raise BadRequest(f"max_faces cannot be {value!r}: use {MAX_FACES[0]} to {MAX_FACES[1]}.", "out_of_range")
        return int(number)
    return number


def _number(name: str, value: Any) -> float | None:
    """What a caller sent as a float, None where nothing was; only the type is judged here."""
    if value in (None, ""):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise BadRequest(f"{name} cannot be {str(value)[:40]!r}: use a number.", "out_of_range")
    return number


def _default(name: str) -> Any:
    return signatures.signature(repair_mesh).parameters[_OF_REPAIR.get(name, name)].default


def _choice(name: str, choices: tuple[str, ...]) -> Choice:
    return explain(Choice(list(choices), value=_default(name), label=name), MEANINGS)


def _amount(name: str, minimum: float | None = None, maximum: float | None = None, **options: Any) -> Amount:
    amount = Amount(_default(name), label=name, minimum=minimum, maximum=maximum, **options)
    return explain(amount, MEANINGS)
