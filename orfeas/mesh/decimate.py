"""Fewer faces, still a solid: quadric edge collapse, then checked and mended, because collapse alone breaks solids."""

from __future__ import annotations

import manifold3d
import numpy as np

from orfeas.errors import BadMesh
from orfeas.mesh import Mesh
from orfeas.mesh.change import Change
from orfeas.mesh.intersect import crossing_pairs
from orfeas.mesh.solid import from_manifold, to_manifold
from orfeas.mesh.topology import find_bodies
from orfeas.mesh.transfer import colors_from_nearest

PASSES = 8  # one collapse stops far above a small budget
LARGEST_TOLERANCE = 0.05  # of the size; beyond it `manifold3d` takes minutes
LARGEST_STRETCH = 0.05
LOST_BODY = 1e-4  # of the volume: crumbs that a collapse splits off are dropped below this


def decimate(mesh: Mesh, max_faces: int) -> tuple[Mesh, list[Change]]:
    """At most ``max_faces`` faces, closed and consistently wound, as many bodies as before.

    Quadric collapse (fast-simplification) mended by a round trip through `manifold3d`; a gentler one if that runs
    through itself (the change's numbers say how often the better one still does); `manifold3d`'s own simplification
    if neither is solid. Raises `BadMesh` if nothing solid fits the budget.
    """
    if len(mesh.faces) <= max_faces:
        return mesh, []
    before = len(mesh.faces)
    plain = Mesh(mesh.vertices, mesh.faces)
    best, best_crossings = None, None
    for attempt in (_collapse(7), _collapse(4), _simplify):
        if attempt is _simplify and best is not None:
            break
        found = attempt(plain, max_faces)
        if found is None:
            continue
        crossings = len(crossing_pairs(found))
        if best is None or crossings < best_crossings:
            best, best_crossings = found, crossings
        if not crossings:
            break
    if best is None:
        raise BadMesh(
            f"The shape cannot be kept solid with {max_faces:,} faces: allow more faces.", "face_budget_too_small"
        )
    best = _same_bounds(best, mesh)
    if mesh.colors is not None:
        best = Mesh(best.vertices, best.faces, colors_from_nearest(mesh, best.vertices))
    sentence = f"Reduced {before:,} faces to {len(best.faces):,}."
    numbers = {"faces_before": before, "faces": len(best.faces), "self_intersections": best_crossings}
    return best, [Change("decimate", sentence, numbers)]


def _same_bounds(found: Mesh, mesh: Mesh) -> Mesh:
    """``found`` stretched to the bounds of ``mesh``: a collapse moves the outermost points by a little."""
    low, high = found.bounds
    factor = mesh.extents / np.maximum(high - low, 1e-300)
    if np.abs(factor - 1).max() > LARGEST_STRETCH:
        return found
    return Mesh((found.vertices - (low + high) / 2) * factor + mesh.bounds.mean(axis=0), found.faces)


def _collapse(aggressiveness: int):
    def collapse(mesh: Mesh, max_faces: int) -> Mesh | None:
        import fast_simplification

        found, target = mesh, max_faces
        for _ in range(PASSES):
            before = len(found.faces)
            centre, size = found.vertices.mean(axis=0), float(found.extents.max()) or 1.0
            vertices, faces = fast_simplification.simplify(
                ((found.vertices - centre) / size).astype(np.float32),
                found.faces,
                target_count=target,
                agg=aggressiveness,
            )
            if len(faces) < 4:
                return None
            found = _mended(Mesh(vertices.astype(np.float64) * size + centre, faces.astype(np.int32)), mesh)
            if found is None or len(found.faces) <= max_faces:
                return found
            if len(found.faces) > 0.98 * before:
                return None
            if len(found.faces) < 1.1 * max_faces:  # mending has added some: aim lower
                target = int(0.95 * target)
        return None

    return collapse


def _simplify(mesh: Mesh, max_faces: int) -> Mesh | None:
    """`manifold3d`'s simplification at the smallest tolerance that fits the budget (bisection)."""
    solid = to_manifold(mesh)
    size = float(np.ptp(mesh.vertices, axis=0).max())
    low, high = 1e-5 * size, LARGEST_TOLERANCE * size
    best = None
    for _ in range(10):
        middle = float(np.sqrt(low * high))
        simpler = solid.simplify(middle)
        if simpler.num_tri() > max_faces:
            low = middle
        else:
            best, high = simpler, middle
    if best is None or best.num_tri() < 4:
        return None
    return _mended(from_manifold(best, mesh)[0], mesh)


def _mended(found: Mesh, mesh: Mesh) -> Mesh | None:
    """``found`` through `manifold3d`, without crumbs of next to no volume; None if it is no solid."""
    solid = to_manifold(found)
    if solid.status() != manifold3d.Error.NoError or solid.num_tri() < 4:
        return None
    pieces = solid.decompose()
    if len(pieces) > find_bodies(mesh.faces, len(mesh.vertices))[0]:
        total = abs(solid.volume())
        pieces = [piece for piece in pieces if piece.volume() > LOST_BODY * total]
        if not pieces:
            return None
        solid = manifold3d.Manifold.compose(pieces)
    return from_manifold(solid, found)[0]
