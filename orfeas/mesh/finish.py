"""From any engine's surface to a solid of a known size that stands on the bed.

    surface -> make_solid -> one outer skin, closed, within the face budget   (unit free)
            -> place      -> the size in millimetres, standing on y = 0        (millimetres)

Every step is a function of its own that takes a mesh and returns the mesh and what it changed; these two put them in
order. Texturing may happen in between: `place` carries colours and texture along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from orfeas.errors import BadMesh, BadRequest
from orfeas.mesh import Mesh
from orfeas.mesh.change import Change
from orfeas.mesh.clean import (
    agree_winding,
    check_arrays,
    collapse_short_edges,
    drop_bad_vertices,
    drop_degenerate_faces,
    drop_double_faces,
    weld,
)
from orfeas.mesh.decimate import decimate
from orfeas.mesh.field import remesh
from orfeas.mesh.holes import close_holes
from orfeas.mesh.intersect import crossing_pairs
from orfeas.mesh.report import FDM_WALL_MM
from orfeas.mesh.solid import (
    drop_floaters,
    face_outwards,
    is_solid,
    join_bodies,
    part_touching,
    split_shared_edges,
)
from orfeas.mesh.stability import centre_of_mass, stands
from orfeas.mesh.stand import add_plinth, cut_base, hollow_out, lay_flat, scale_to, tilt_to_stand
from orfeas.mesh.topology import find_edges, is_closed, is_manifold, winding_flips
from orfeas.mesh.transfer import bake_texture
from orfeas.mesh.untangle import reduce_untangled, untangle

Step = Callable[[Mesh], tuple[Mesh, list[Change]]]

MIN_FACES = 4
FLAT_BASES = ("cut", "plinth")
ORIENTATIONS = ("upright", "standing", "flattest")
BASE_SHARE = 0.02  # what is cut off for a flat base, and a plate's thickness; share of size_mm
PLATE_MM = FDM_WALL_MM  # a plate is no thinner than that, or it would itself be a wall too thin to print
DEEPER = (1, 2, 3)  # times the usual cut: the first after which it stands
MOST_BASE = 1 / 3  # of size_mm: what is asked for may be no more


def make_solid(mesh: Mesh, *, max_faces: int) -> tuple[Mesh, list[Change]]:
    """One closed outer skin with at most ``max_faces`` faces, and what was changed; a good mesh comes back as it is.

    Welds, drops broken, degenerate and double faces, turns the winding, closes holes, removes floaters and inner
    shells, unites overlapping parts, resolves places where the surface runs through itself, and reduces. Colours
    survive; a texture survives where the faces do, else it becomes colours of the vertices.

    Raises `BadMesh` if nothing encloses a volume, `BadRequest` if ``max_faces`` is below 4.
    """
    if max_faces < MIN_FACES:
        raise BadRequest(f"max_faces cannot be {max_faces}: a solid has at least {MIN_FACES} faces.", "out_of_range")
    mesh = check_arrays(mesh)
    changes: list[Change] = []

    def run(*steps: Step) -> None:
        nonlocal mesh
        for step in steps:
            mesh, done = step(mesh)
            if any(change.step == "keep_floaters" for change in done):  # asked several times, told once
                changes[:] = [change for change in changes if change.step != "keep_floaters"]
            changes.extend(done)
            if not len(mesh.faces):
                raise BadMesh(
                    "The surface encloses no volume: give it a thickness in the program that made it.", "no_volume"
                )

    run(drop_bad_vertices, drop_degenerate_faces)
    if not is_manifold(mesh.faces):
        run(weld, drop_degenerate_faces, drop_double_faces, agree_winding)
        if _one_sided(mesh):
            run(bake_texture, lambda m: remesh(m, one_sided=True))
        run(close_holes, drop_degenerate_faces, split_shared_edges)
        if not is_closed(mesh.faces):
            run(bake_texture, remesh)
    run(face_outwards, lambda m: drop_floaters(m, touching_stays=True), _join, drop_floaters)
    if len(mesh.faces) > max_faces:
        run(bake_texture)
        finer = mesh
        mesh, done = decimate(finer, max_faces)
        if done[0].numbers["self_intersections"]:
            mesh = finer
            run(untangle, drop_floaters, lambda m: reduce_untangled(m, max_faces))
        else:
            changes += done
    elif len(crossing_pairs(mesh)):
        run(bake_texture, untangle, drop_floaters)
        if len(mesh.faces) > max_faces:
            run(lambda m: reduce_untangled(m, max_faces))
    run(collapse_short_edges, split_shared_edges, part_touching)
    if len(mesh.faces) > max_faces or not is_closed(mesh.faces) or not is_solid(mesh):
        raise BadMesh("The mesh could not be made solid: repair it in the program that made it.", "not_solid")
    return mesh, changes


def place(
    mesh: Mesh,
    *,
    size_mm: float,
    orientation: str = "upright",
    front_up: bool = False,
    flat_base: str | None = None,
    base_mm: float | None = None,
    wall_mm: float | None = None,
    drain_mm: float = 5.0,
    max_faces: int | None = None,
) -> tuple[Mesh, list[Change]]:
    """A solid in millimetres, standing on y = 0 with x and z centred, longest side ``size_mm`` (exactly, after all).

    orientation, front_up: see `orient`.
    flat_base: "cut" (the lowest ``base_mm`` are cut off, a quarter of the height at most) or "plinth" (set on a plate
    ``base_mm`` thick). base_mm: None is `usual_base`, and up to three times that is cut where it would fall over else.
    wall_mm: hollow out to walls this thick, with a hole of ``drain_mm`` across in the bottom; None: stays solid.
    max_faces: at most so many faces, if base and hollow add too many (then a texture becomes colours of the vertices).

    Raises `BadRequest` for options that do not fit the mesh's size, `BadMesh` if the mesh is not solid where a base or
    hollowing needs it.
    """
    _check_options(size_mm, flat_base, base_mm, wall_mm, drain_mm)
    cuts = [base_mm] if base_mm is not None else [times * usual_base(size_mm, "cut") for times in DEEPER]
    if base_mm is None:
        base_mm = usual_base(size_mm, flat_base)
    changes: list[Change] = []
    mesh, done = orient(mesh, orientation, front_up=front_up)
    changes += done
    if flat_base == "cut":
        mesh, done = _cut_until_it_stands(mesh, size_mm, cuts)
        changes += done
    else:
        mesh, done = scale_to(mesh, size_mm, flat_base=flat_base, base_mm=base_mm)
        changes += done
    if flat_base == "plinth":
        mesh, done = add_plinth(mesh, base_mm)
        changes += done
    if wall_mm is not None:
        mesh, done = hollow_out(mesh, wall_mm, drain_mm)
        changes += done
    if max_faces is not None and len(mesh.faces) > max_faces:
        mesh, done = bake_texture(mesh)
        changes += done
        mesh, done = decimate(mesh, max_faces)
        changes += done
    if flat_base or wall_mm is not None:  # cuts leave short edges
        for step in (collapse_short_edges, split_shared_edges, part_touching):
            mesh, done = step(mesh)
            changes += done
    return _exact(mesh, size_mm), changes


def orient(mesh: Mesh, orientation: str, *, front_up: bool = False) -> tuple[Mesh, list[Change]]:
    """A solid as it is ("upright"), tilted as `tilt_to_stand` does ("standing"), or turned to lie on the largest flat
    side of its hull on which it rests ("flattest"; front_up: see `lay_flat`). Raises `BadRequest` for another word.
    """
    if orientation not in ORIENTATIONS:
        raise BadRequest(f"orientation cannot be {orientation!r}: use upright, standing or flattest.", "bad_choice")
    if orientation == "upright":
        return mesh, []
    return tilt_to_stand(mesh) if orientation == "standing" else lay_flat(mesh, front_up=front_up)


def _cut_until_it_stands(mesh: Mesh, size_mm: float, cuts: list[float]) -> tuple[Mesh, list[Change]]:
    """Scaled and cut flat, by the first of ``cuts`` (millimetres) after which it stands; by the first if by none."""
    tried = []
    for base_mm in cuts:
        scaled, done = scale_to(mesh, size_mm, flat_base="cut", base_mm=base_mm)
        cut, more = cut_base(scaled, base_mm)
        tried.append((cut, done + more))
        if stands(cut.vertices, centre_of_mass(cut)):
            return tried[-1]
    return tried[0]


def usual_base(size_mm: float, flat_base: str | None) -> float:
    """Millimetres to cut off, or of a plate: 2 % of the size; a plate has 1.2 mm at least, or a third of the size."""
    if flat_base == "plinth":
        return max(BASE_SHARE * size_mm, min(PLATE_MM, MOST_BASE * size_mm))
    return BASE_SHARE * size_mm


def _exact(mesh: Mesh, size_mm: float) -> Mesh:
    """Take away what rounding has left: longest side, ground and centre to the last digit."""
    low, high = mesh.bounds
    factor = size_mm / float((high - low).max())
    ground = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    return replace(mesh, vertices=(mesh.vertices - ground) * factor)


def _join(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """`join_bodies`, with the texture turned into colours if parts have to be united."""
    try:
        return join_bodies(mesh)
    except ValueError:
        baked, done = bake_texture(mesh)
        joined, more = join_bodies(baked)
        return joined, done + more


def _one_sided(mesh: Mesh) -> bool:
    """Whether a closed piece is one-sided. Raises `BadMesh` if an open one is: that is a strip, nothing is inside."""
    if is_closed(mesh.faces):
        return False
    edges = find_edges(mesh.faces)
    if not ((edges.count == 2) & (edges.balance != 0)).any():
        return False
    one_sided = winding_flips(mesh.faces, edges)[1]
    if one_sided.any() and (edges.count[edges.of_side].reshape(-1, 3)[one_sided] == 1).any():
        raise BadMesh(
            "The surface has only one side, like a Moebius strip, so nothing is inside it: "
            "give the sheet a thickness in the program that made it.",
            "one_sided",
        )
    return bool(one_sided.any())


def _check_options(size_mm, flat_base, base_mm, wall_mm, drain_mm) -> None:
    def bounded(name: str, value: float, low: float, high: float, why: str) -> None:
        if not isinstance(value, int | float) or not low <= value <= high:
            raise BadRequest(f"{name} cannot be {value!r}: use {low:g} to {high:g} mm{why}.", "out_of_range")

    if flat_base is not None and flat_base not in FLAT_BASES:
        raise BadRequest(f"flat_base cannot be {flat_base!r}: use cut or plinth, or leave it out.", "bad_choice")
    bounded("size_mm", size_mm, 1.0, 1000.0, "")
    if flat_base and base_mm is not None:
        bounded("base_mm", base_mm, 0.01, round(MOST_BASE * size_mm, 3), ", a third of the size at most")
    if wall_mm is not None:
        bounded("wall_mm", wall_mm, 0.4, round(size_mm / 4, 3), ", a quarter of the size at most")
        bounded("drain_mm", drain_mm, 0.5, round(size_mm / 4, 3), ", a quarter of the size at most")
