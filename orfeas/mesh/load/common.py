"""What the readers share: turning Z up to Y up, checking counts, fanning polygons."""

from __future__ import annotations

import numpy as np

from orfeas.errors import BadMesh


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


def fan(counts: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Polygons as triangles around their first corner.

    counts: (p,) corners of each polygon. corners: (sum,) whatever each corner is (an index). Polygons of fewer than
    three corners are left out. Returns (t, 3) entries of ``corners`` and the (t,) polygon of each triangle.
    """
    counts = np.asarray(counts, np.int64)
    starts = np.cumsum(counts) - counts
    triangles = np.maximum(counts - 2, 0)
    polygon = np.repeat(np.arange(len(counts)), triangles)
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    first = starts[polygon]
    return corners[np.stack([first, first + step + 1, first + step + 2], axis=1)], polygon
