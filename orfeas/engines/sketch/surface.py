"""Make a marching-cubes surface fit to be given away: no crumbs, no steps."""

from __future__ import annotations

import numpy as np

TAUBIN = (0.5, -0.53)  # shrink, then swell: what is left passes low frequencies unchanged


def drop_crumbs(vertices: np.ndarray, faces: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """(vertices, faces) without the connected parts that hold less than ``share`` of the whole volume."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(vertices)
    links = coo_array((np.ones(len(faces) * 2, np.int8), (faces[:, :2].ravel(), faces[:, 1:].ravel())), (count, count))
    parts, label = connected_components(links, directed=False)
    if parts == 1:
        return vertices, faces
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    volume = np.bincount(label[faces[:, 0]], np.einsum("ij,ij->i", a, np.cross(b, c)) / 6.0, parts)
    # a void inside has a negative volume; it goes with the crumbs, for nothing in one picture tells of it
    kept = volume >= share * volume.sum()
    if kept.all():
        return vertices, faces
    kept_vertex = kept[label]
    number = np.cumsum(kept_vertex) - 1
    return vertices[kept_vertex], number[faces[kept_vertex[faces[:, 0]]]].astype(np.int32)


def smooth(vertices: np.ndarray, faces: np.ndarray, passes: int) -> np.ndarray:
    """(n, 3) float64 vertices after Taubin's filter ("A signal processing approach to fair surface design", 1995).

    Each pass moves every vertex towards the mean of its neighbours and then slightly farther back, so that the volume
    stays while the steps of the grid go.
    """
    from scipy.sparse import csr_array

    count = len(vertices)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])  # closed: each edge once either way
    neighbours = csr_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    weight = 1.0 / np.maximum(np.diff(neighbours.indptr), 1)[:, None]
    for _ in range(passes):
        for factor in TAUBIN:
            vertices = vertices + factor * (weight * (neighbours @ vertices) - vertices)
    return vertices
