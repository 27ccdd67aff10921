"""Any mesh in, a solid to print out, with the report and what was changed: `make_solid` and `place` in one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from orfeas.errors import BadRequest
from orfeas.mesh import Mesh
from orfeas.mesh.change import Change
from orfeas.mesh.finish import make_solid, orient, place
from orfeas.mesh.report import Report, inspect, usable_faces
from orfeas.request import MAX_FACES, SIZE_MM


def repair(
    mesh: Mesh,
    *,
    size_mm: float | None = None,
    max_faces: int | None = None,
    orientation: str = "upright",
    flat_base: str | None = None,
    base_mm: float | None = None,
    wall_mm: float | None = None,
    drain_mm: float = 5.0,
) -> tuple[Mesh, Report, list[Change]]:
    """A solid from a mesh in millimetres (see `orfeas.mesh.load`), its report, and what was changed, in order.

    size_mm: longest side, 1 to 1000; None keeps the mesh's own. max_faces: 100 to 2,000,000; None keeps all up to
    that. The others are those of `orfeas.mesh.finish.place`.
    Raises `BadMesh` if no solid can be made of it, `BadRequest` for options out of range.
    """
    most = MAX_FACES[1] if max_faces is None else max_faces
    if not MAX_FACES[0] <= most <= MAX_FACES[1]:
        raise BadRequest(f"max_faces cannot be {most}: use {MAX_FACES[0]} to {MAX_FACES[1]}.", "out_of_range")
    solid, changes = make_solid(mesh, max_faces=most)
    solid, turned = orient(solid, orientation)  # before its own size is taken
    size = float(solid.extents.max()) if size_mm is None else size_mm
    if size_mm is None and not SIZE_MM[0] <= size <= SIZE_MM[1]:
        raise BadRequest(
            f"The longest side of the mesh is {size:.4g} mm, not between {SIZE_MM[0]:g} and {SIZE_MM[1]:g}: "
            "say how large it is to be (size_mm).",
            "out_of_range",
        )
    placed, done = place(
        solid,
        size_mm=size,
        flat_base=flat_base,
        base_mm=base_mm,
        wall_mm=wall_mm,
        drain_mm=drain_mm,
        max_faces=most,
    )
    changes = changes + turned + done
    return placed, inspect(placed, changes=changes), changes


def inspect_as(mesh: Mesh, size_mm: float | None = None) -> Report:
    """The report of a mesh as if its longest side were ``size_mm`` (1 to 1000; None: as it is), nothing repaired.

    Raises `BadRequest` for a size out of range.
    """
    if size_mm is None:
        return inspect(mesh)
    if not SIZE_MM[0] <= size_mm <= SIZE_MM[1]:
        raise BadRequest(f"size_mm cannot be {size_mm:g}: use {SIZE_MM[0]:g} to {SIZE_MM[1]:g}.", "out_of_range")
    points = mesh.vertices[np.unique(mesh.faces[usable_faces(mesh)])]  # no others are of the model
    longest = float(np.ptp(points, axis=0).max()) if len(points) else 0.0
    return inspect(replace(mesh, vertices=mesh.vertices * (size_mm / longest if longest > 0 else 1.0)))
