"""Solids as fields: what is inside, how far the surface is, and the surface of such a field again.

The way out when a surface cannot be mended as it is (it runs through itself, or has walls inside it), and the way to
offset one (hollowing). The inside is exact at every grid point; the surface between them is rebuilt, so detail finer
than a cell is lost.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial import cKDTree

from orfeas.errors import BadMesh
from orfeas.mesh import Mesh, face_cross
from orfeas.mesh.change import Change

REMESH_CELLS = 192  # along the longest side
INNER_CELLS = 200  # likewise, at most


def remesh(mesh: Mesh, *, one_sided: bool = False, cells: int = REMESH_CELLS) -> tuple[Mesh, list[Change]]:
    """Rebuild the outer surface of a mesh from its inside, at ``cells`` cells along the longest side.

    one_sided: count crossings of a ray instead of their directions, for closed surfaces that cannot be wound (Klein).
    Colours come from the nearest old vertex; a texture is dropped. Raises `BadMesh` if nothing is inside.
    """
    origin, cell, shape = _lattice(mesh, cells)
    votes = sum(
        _crossings(mesh, origin, cell, shape, axis, one_sided).astype(np.int8)
        for axis in ((2,) if one_sided else (0, 1, 2))
    )
    inside = votes > (0 if one_sided else 1)
    if not inside.any():
        raise BadMesh("The surface encloses no volume: give it a thickness in the program that made it.", "no_volume")
    distance = _distance_near_surface(mesh, inside, origin, cell, width=1.6)
    # half a cell of smoothing: sheets that come within a cell of one another would make faces that cross
    field = gaussian_filter(np.where(inside, -distance, distance), 0.6)
    surface = extract_surface(field, 0.0, origin, cell)
    if mesh.colors is not None:
        nearest = cKDTree(mesh.vertices).query(surface.vertices)[1]
        surface = Mesh(surface.vertices, surface.faces, mesh.colors[nearest])
    size = float(np.ptp(mesh.vertices, axis=0).max())
    sentence = (
        f"Rebuilt the whole surface on a grid of {cells} cells, because it could not be mended as it was: "
        f"detail finer than {100 * cell / size:.1g} % of the size is lost."
    )
    return surface, [Change("remesh", sentence, {"cells": cells, "faces": len(surface.faces)})]


def least_depth(mesh: Mesh) -> float:
    """How far under the surface of a mesh `inner_solid` has to lie, in the mesh's unit: its grid tells no less."""
    return 0.75 * float(np.ptp(mesh.vertices, axis=0).max()) / INNER_CELLS


def inner_solid(mesh: Mesh, depth: float) -> Mesh | None:
    """The part of a solid that lies deeper than ``depth`` under its surface; None if there is none.

    depth: in the mesh's unit, `least_depth` at least. The grid has three cells to it where `INNER_CELLS` allow that.
    """
    size = float(np.ptp(mesh.vertices, axis=0).max())
    origin, cell, shape = _lattice(mesh, int(np.clip(np.ceil(3 * size / depth), 48, INNER_CELLS)))
    inside = _crossings(mesh, origin, cell, shape, 1, False)
    distance = _distance_near_surface(mesh, inside, origin, cell, at=depth, width=2.5)
    signed = np.where(inside, -distance, distance)
    level = -(depth + 0.05 * cell)  # the marching cubes cut corners: stay on the thick side
    if not (signed < level).any():
        return None
    return extract_surface(signed, level, origin, cell)


def extract_surface(field: np.ndarray, level: float, origin: np.ndarray, cell: float) -> Mesh:
    """The surface where ``field`` (negative inside, outside at its border) equals ``level``; normals outwards."""
    from skimage.measure import marching_cubes

    vertices, faces, _, _ = marching_cubes(field, level, gradient_direction="descent", allow_degenerate=False)
    mesh = Mesh(vertices.astype(np.float64) * cell + origin, np.ascontiguousarray(faces[:, ::-1], np.int32))
    cross = face_cross(mesh.vertices, mesh.faces)
    if np.einsum("ij,ij->", mesh.vertices[mesh.faces[:, 0]] - mesh.vertices.mean(axis=0), cross) < 0:
        mesh = Mesh(mesh.vertices, np.ascontiguousarray(mesh.faces[:, ::-1]))
    return mesh


def _lattice(mesh: Mesh, cells: int) -> tuple[np.ndarray, float, np.ndarray]:
    low, size = mesh.vertices.min(axis=0), np.ptp(mesh.vertices, axis=0)
    cell = float(size.max()) / cells
    shape = np.ceil(size / cell).astype(int) + 5
    # two empty layers around; an odd offset, so that grid lines do not run along the edges of boxes
    return low - cell * np.array([2.372, 2.419, 2.337]), cell, shape


def _crossings(
    mesh: Mesh, origin: np.ndarray, cell: float, shape: np.ndarray, axis: int, one_sided: bool
) -> np.ndarray:
    """(shape) bool: which grid points are inside, by counting what a line along ``axis`` has crossed before them."""
    u_axis, v_axis = (axis + 1) % 3, (axis + 2) % 3
    place = (mesh.vertices - origin) / cell
    corners = place[mesh.faces]
    u, v, w = corners[:, :, u_axis], corners[:, :, v_axis], corners[:, :, axis]
    twice_area = (u[:, 1] - u[:, 0]) * (v[:, 2] - v[:, 0]) - (u[:, 2] - u[:, 0]) * (v[:, 1] - v[:, 0])
    low_u, low_v = np.ceil(u.min(axis=1)).astype(np.int64), np.ceil(v.min(axis=1)).astype(np.int64)
    wide = np.floor(u.max(axis=1)).astype(np.int64) - low_u + 1
    tall = np.floor(v.max(axis=1)).astype(np.int64) - low_v + 1
    some = np.flatnonzero((wide > 0) & (tall > 0) & (twice_area != 0))
    n_u, n_v, n_w = int(shape[u_axis]), int(shape[v_axis]), int(shape[axis])
    change = np.zeros(n_u * n_v * (n_w + 1), np.int32)
    count = (wide * tall)[some]
    chunk_of = np.cumsum(count) // 4_000_000  # bounds the memory
    for chunk in range(int(chunk_of[-1]) + 1 if len(some) else 0):
        part = chunk_of == chunk
        face = np.repeat(some[part], count[part])
        step = np.arange(len(face)) - np.repeat(np.cumsum(count[part]) - count[part], count[part])
        pu, pv = low_u[face] + step // tall[face], low_v[face] + step % tall[face]
        share = []
        inside = np.ones(len(face), bool)
        for k in range(3):
            a, b = (k + 1) % 3, (k + 2) % 3
            edge = (u[face, b] - u[face, a]) * (pv - v[face, a]) - (v[face, b] - v[face, a]) * (pu - u[face, a])
            share.append(edge / twice_area[face])
            inside &= share[-1] >= 0
        height = sum(share[k] * w[face, k] for k in range(3))[inside]
        level = np.clip(np.ceil(height).astype(np.int64), 0, n_w)
        index = (pu[inside] * n_v + pv[inside]) * (n_w + 1) + level
        sign = -np.sign(twice_area[face[inside]]).astype(np.int32)
        np.add.at(change, index, 1 if one_sided else sign)
    winding = np.cumsum(change.reshape(n_u, n_v, n_w + 1)[:, :, :n_w], axis=2)
    inside = winding % 2 == 1 if one_sided else winding > 0
    return np.moveaxis(inside, (0, 1, 2), (u_axis, v_axis, axis))


def _distance_near_surface(
    mesh: Mesh, inside: np.ndarray, origin: np.ndarray, cell: float, *, at: float = 0.0, width: float
) -> np.ndarray:
    """Distance to the surface: by samples of it within ``width`` cells of the distance ``at``, to a voxel elsewhere."""
    deep = distance_transform_edt(inside).astype(np.float32)
    rough = (deep if at > 0 else np.maximum(deep, distance_transform_edt(~inside).astype(np.float32))) * cell
    near = np.argwhere((np.abs(rough - at) < width * cell) & (rough > 0))
    samples, normals = _sample(mesh, cell * 0.5)
    points = near * cell + origin
    distance, nearest = cKDTree(samples).query(points, workers=-1)
    if at == 0:  # the plane through the nearest sample tells more than the sample; not where the surface bends
        flat = np.abs(np.einsum("ij,ij->i", points - samples[nearest], normals[nearest]))
        distance = np.where(distance < 1.2 * cell, np.maximum(flat, 1e-3 * cell), distance)
    rough[tuple(near.T)] = distance
    return np.maximum(rough, np.float32(1e-3 * cell))


def _sample(mesh: Mesh, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Points on the surface about ``spacing`` apart (and every vertex), and the normals of their faces."""
    corners = mesh.vertices[mesh.faces]
    cross = face_cross(mesh.vertices, mesh.faces)
    length = np.linalg.norm(cross, axis=1)
    normal = cross / np.maximum(length, 1e-300)[:, None]
    count = np.minimum(np.ceil(length / spacing**2), 4_000_000).astype(np.int64)
    face = np.repeat(np.arange(len(count)), count)
    step = np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
    # the R2 sequence (Roberts, 2018): even in the plane without random numbers
    a, b = (0.5 + step * 0.7548776662466927) % 1, (0.5 + step * 0.5698402909980532) % 1
    fold = a + b > 1
    a, b = np.where(fold, 1 - a, a), np.where(fold, 1 - b, b)
    points = corners[face, 0] + a[:, None] * (corners[face, 1] - corners[face, 0])
    points += b[:, None] * (corners[face, 2] - corners[face, 0])
    return np.concatenate([points, corners.reshape(-1, 3)]), np.concatenate(
        [normal[face], np.repeat(normal, 3, axis=0)]
    )
