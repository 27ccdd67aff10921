"""What the readers share: turning Z up to Y up, checking counts, cutting polygons into triangles."""

from __future__ import annotations

import numpy as np

from orfeas.errors import BadMesh
from orfeas.mesh import face_cross

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # before the text of some programs on Windows


def y_up(vertices: np.ndarray) -> np.ndarray:
    """(n, 3) from Z up, front -Y, to Y up, front +Z: the inverse of what the exporters do."""
    return np.stack([vertices[:, 0], vertices[:, 2], -vertices[:, 1]], axis=1)


def check_count(faces: int, max_faces: int) -> None:
    """Raises `BadMesh` if a file holds more faces than are taken."""
    if faces > max_faces:
        raise BadMesh(f"it has {faces:,} faces, at most {max_faces:,} are taken: reduce it first.", "too_large")


def check_vertices(vertices: int, max_faces: int) -> None:
    """Raises `BadMesh` if a file holds more vertices than ``max_faces`` faces can have between them."""
    if vertices > 3 * max_faces:
        raise BadMesh(
            f"it has {vertices:,} vertices, too many for the {max_faces:,} faces that are taken: reduce it first.",
            "too_large",
        )


def check_indices(faces: np.ndarray, n_vertices: int) -> np.ndarray:
    """The (m, 3) faces as int32. Raises `BadMesh` if one names a vertex that is not there."""
    faces = np.asarray(faces, np.int64).reshape(-1, 3)
    if len(faces) and (faces.min() < 0 or faces.max() >= n_vertices):
        raise BadMesh("a face names a vertex that is not there: export it again.", "damaged")
    return faces.astype(np.int32)


def triangulate(counts: np.ndarray, corners: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Polygons as triangles, those with a notch as well.

    counts: (p,) corners of each polygon. corners: (sum,) numbers of (n, 3) vertices. Polygons of fewer than three
    corners are left out. Returns (t, 3) int32 faces and the (t,) polygon of each. Raises `BadMesh` if a face names a
    vertex that is not there.
    """
    counts = np.asarray(counts, np.int64)
    faces, polygon = _fan(counts, corners)
    faces = check_indices(faces, len(vertices))
    if counts.max(initial=0) <= 3:
        return faces, polygon
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is dealt with later
        cross = face_cross(vertices, faces)
        normal = np.stack([np.bincount(polygon, cross[:, axis], len(counts)) for axis in range(3)], axis=1)
        backward = np.einsum("ij,ij->i", cross, normal[polygon]) < 0  # a fan's triangle over a notch is turned round
    starts = np.cumsum(counts) - counts
    for number in np.unique(polygon[backward]):
        own = corners[starts[number] : starts[number] + counts[number]]
        cut = _cut_notched(vertices[own], normal[number])
        if cut is not None:
            first, end = np.searchsorted(polygon, [number, number + 1])
            faces[first:end] = own[cut]
    return faces, polygon


def _cut_notched(points: np.ndarray, normal: np.ndarray) -> np.ndarray | None:
    """(n - 2, 3) int: triangles of the polygon, seen along its normal; None where it crosses itself or is no area."""
    import manifold3d

    length = np.linalg.norm(normal)
    if not np.isfinite(points).all() or not 0 < length < np.inf:
        return None
    normal = normal / length
    across = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    across /= np.linalg.norm(across)
    flat = (points - points.mean(axis=0)) @ np.stack([across, np.cross(normal, across)], axis=1)
    cut = np.asarray(manifold3d.triangulate([flat]))
    a, b, c = (flat[cut[:, k]] for k in range(3))
    twice_area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    return cut if len(cut) == len(points) - 2 and twice_area.min() >= -1e-9 * length else None


def _fan(counts: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(t, 3) entries of ``corners``, polygons cut into triangles around their first corner, and the (t,) polygon of
    each."""
    starts = np.cumsum(counts) - counts
    triangles = np.maximum(counts - 2, 0)
    polygon = np.repeat(np.arange(len(counts)), triangles)
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    first = starts[polygon]
    return corners[np.stack([first, first + step + 1, first + step + 2], axis=1)], polygon
