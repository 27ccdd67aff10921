"""Where a mesh runs through itself: pairs of triangles that properly cross.

Triangles that only touch, or lie on one another in a plane, do not count: slicers and `manifold3d` take both.
"""

from __future__ import annotations

import numpy as np

from orfeas.mesh import Mesh
from orfeas.mesh.grid import near_pair_batches

TOLERANCE = 1e-9  # of the diagonal: what lies closer to a plane lies in it


def crossing_pairs(mesh: Mesh, *, between: np.ndarray | None = None, enough: int | None = None) -> np.ndarray:
    """(p, 2) int64 pairs of faces that cross, found by the interval test of Moeller ("A fast triangle-triangle
    intersection test", 1997) on the pairs whose boxes meet. Faces with a common edge are not compared.

    between: (m,) a label of each face; only faces of different labels are compared.
    enough: stop looking once more than so many are found; then more than ``enough`` come back, but not all.
    """
    if len(mesh.faces) < 2:
        return np.zeros((0, 2), np.int64)
    vertices = mesh.vertices - mesh.vertices.mean(axis=0)
    corners = vertices[mesh.faces]
    tolerance = TOLERANCE * float(np.linalg.norm(np.ptp(vertices, axis=0)))
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    offset = np.einsum("ij,ij->i", normal, corners[:, 0])

    faces = mesh.faces

    def heights(of: np.ndarray, over: np.ndarray) -> np.ndarray:
        height = np.einsum("ikj,ij->ik", corners[of], normal[over]) - offset[over][:, None]
        return np.where(np.abs(height) < tolerance, 0.0, height)

    def crosses_plane(height: np.ndarray) -> np.ndarray:
        a, b, c = height.T
        return (np.minimum(np.minimum(a, b), c) < 0) & (np.maximum(np.maximum(a, b), c) > 0)

    found, count = [np.zeros((0, 2), np.int64)], 0
    for pairs in near_pair_batches(corners):
        if between is not None:
            pairs = pairs[between[pairs[:, 0]] != between[pairs[:, 1]]]
        shared = np.zeros(len(pairs), np.int8)
        for i in range(3):
            for j in range(3):
                shared += faces[pairs[:, 0], i] == faces[pairs[:, 1], j]
        pairs = pairs[shared < 2]
        keep = crosses_plane(first := heights(pairs[:, 0], pairs[:, 1]))
        pairs, first = pairs[keep], first[keep]
        second = heights(pairs[:, 1], pairs[:, 0])
        keep = crosses_plane(second)
        pairs, first, second = pairs[keep], first[keep], second[keep]
        line = np.cross(normal[pairs[:, 0]], normal[pairs[:, 1]])
        a = _interval(np.einsum("ikj,ij->ik", corners[pairs[:, 0]], line), first)
        b = _interval(np.einsum("ikj,ij->ik", corners[pairs[:, 1]], line), second)
        overlap = np.minimum(a[:, 1], b[:, 1]) - np.maximum(a[:, 0], b[:, 0])
        pairs = pairs[overlap > tolerance * np.linalg.norm(line, axis=1)]
        found.append(pairs)
        count += len(pairs)
        if enough is not None and count > enough:
            break
    return np.concatenate(found)


def _interval(along: np.ndarray, height: np.ndarray) -> np.ndarray:
    """(p, 2) where triangles that cross a plane do so, along the common line.

    along, height: (p, 3) position of each corner along the line and over the plane; heights of both signs.
    """
    ends = np.empty((len(along), 3))
    for k in range(3):
        h0, h1 = height[:, k], height[:, (k + 1) % 3]
        crosses = (h0 * h1 <= 0) & (h0 != h1)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(crosses, h0 / (h0 - h1), 0.0)
        at = along[:, k] + share * (along[:, (k + 1) % 3] - along[:, k])
        ends[:, k] = np.where(crosses, at, np.nan)
    return np.stack([np.nanmin(ends, axis=1), np.nanmax(ends, axis=1)], axis=1)
