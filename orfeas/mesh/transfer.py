"""Colours from one surface to another: what a new vertex or face takes from the old surface nearest to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from orfeas.mesh import Mesh, Texture
from orfeas.mesh.change import Change


def colors_from_nearest(source: Mesh, points: np.ndarray) -> np.ndarray:
    """(n, 3) uint8 for (n, 3) ``points``: the three nearest vertices of ``source``, weighted by nearness."""
    tree = cKDTree(source.vertices)
    distance, nearest = tree.query(points, k=min(3, len(source.vertices)), workers=-1)
    if distance.ndim == 1:
        return source.colors[nearest]
    weight = 1.0 / np.maximum(distance, 1e-12 * max(float(np.ptp(source.vertices)), 1e-300))
    mixed = np.einsum("nk,nkc->nc", weight, source.colors[nearest].astype(np.float64)) / weight.sum(axis=1)[:, None]
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def sample_texture(texture: Texture, uv: np.ndarray) -> np.ndarray:
    """(n, 3) uint8: the texture at (n, 2) ``uv``, bilinear."""
    height, width = texture.image.shape[:2]
    x = np.clip(uv[:, 0] * width - 0.5, 0, width - 1)
    y = np.clip(uv[:, 1] * height - 0.5, 0, height - 1)
    x0, y0 = np.minimum(x.astype(np.int64), max(width - 2, 0)), np.minimum(y.astype(np.int64), max(height - 2, 0))
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    image = texture.image
    top = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
    bottom = image[y1, x0] * (1 - fx) + image[y1, x1] * fx
    return np.rint(top * (1 - fy) + bottom * fy).astype(np.uint8)


def vertex_colors(mesh: Mesh) -> np.ndarray | None:
    """(n, 3) uint8: the texture sampled at each vertex (the mean of its corners), else the mesh's own; None if none."""
    if mesh.texture is None:
        return mesh.colors
    sampled = sample_texture(mesh.texture, mesh.texture.corner_uv.reshape(-1, 2)).astype(np.float64)
    at = mesh.faces.ravel()
    count = np.maximum(np.bincount(at, minlength=len(mesh.vertices)), 1)
    sums = [np.bincount(at, sampled[:, channel], minlength=len(mesh.vertices)) for channel in range(3)]
    return np.rint(np.stack(sums, axis=1) / count[:, None]).astype(np.uint8)


def bake_texture(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """Turn the texture into vertex colours, for steps that make new faces."""
    if mesh.texture is None:
        return mesh, []
    sentence = "Turned the texture into colours of the vertices, because the faces change."
    return replace(mesh, colors=vertex_colors(mesh), texture=None), [Change("bake_texture", sentence)]


def paint_new_faces(mesh: Mesh, new: np.ndarray, source: Mesh) -> Mesh:
    """Give the faces of the mask ``new`` the colours of the surface of ``source`` nearest to them.

    With a texture each new face takes one place of it, since its corners may lie on different charts.
    """
    if not new.any():
        return mesh
    colors, texture = mesh.colors, mesh.texture
    if colors is not None:
        only_new = np.ones(len(mesh.vertices), bool)
        only_new[mesh.faces[~new]] = False
        colors = colors.copy()
        colors[only_new] = colors_from_nearest(source, mesh.vertices[only_new]) if only_new.any() else 0
    if texture is not None:
        middle = source.vertices[source.faces].mean(axis=1)
        nearest = cKDTree(middle).query(mesh.vertices[mesh.faces[new]].mean(axis=1), workers=-1)[1]
        uv = texture.corner_uv.copy()
        uv[new] = source.texture.corner_uv[nearest].mean(axis=1)[:, None]
        texture = Texture(uv, texture.image)
    return replace(mesh, colors=colors, texture=texture)
