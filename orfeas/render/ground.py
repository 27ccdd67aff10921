"""The soft shadow beneath a subject, on a ground that is otherwise not there.

It is no light simulation: what stands on the ground darkens it hard and close by, what hovers darkens it softly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from .camera import Camera

GRID = 96
ROOM = 1.6  # how far the map reaches beyond the subject
CONTACT, SOFT = 0.30, 0.30  # darkness of the two parts
BORDER = 0.08  # of the picture: where the shadow fades out, so that its edge never shows


@dataclass(frozen=True)
class GroundShadow:
    """dark: (GRID, GRID) float32, 0 to 1, over [-reach, reach] along x (columns) and z (rows) at y = height."""

    dark: np.ndarray
    reach: float
    height: float


def bake_shadow(points: np.ndarray, height: float) -> GroundShadow:
    """The shadow of surface points (k, 3) on the ground at y = height, the same for all directions of view."""
    reach = ROOM * (float(np.abs(points[:, [0, 2]]).max()) or 1.0)
    above = (points[:, 1] - height) / reach
    column, row = ((points[:, [0, 2]] / reach + 1) / 2 * GRID).astype(np.int64).T
    near = np.zeros(GRID * GRID, np.float32)
    np.maximum.at(near, row * GRID + column, np.exp(-5 * above).astype(np.float32))
    near = near.reshape(GRID, GRID)
    dark = CONTACT * gaussian_filter(near**2, 1.6) + SOFT * gaussian_filter(near, 5.0)
    return GroundShadow(dark.astype(np.float32), reach, height)


def draw_shadow(shadow: GroundShadow, camera: Camera, size: int, pixels: np.ndarray) -> np.ndarray:
    """(k,) float32: how dark the ground is in those pixels (k,) of a square picture; 0 seen from below."""
    out = np.zeros(len(pixels), np.float32)
    if camera.eye_direction[1] < 0.02:
        return out
    row, column = np.divmod(pixels, size)
    origin, direction = camera.rays(column + 0.5, row + 0.5, size)
    fall = direction[:, 1]
    steps = (shadow.height - origin[:, 1]) / np.where(fall < -1e-6, fall, -1e-6)
    u, v = (((origin[:, axis] + steps * direction[:, axis]) / shadow.reach + 1) / 2 * GRID - 0.5 for axis in (0, 2))
    inside = np.flatnonzero((u > 0) & (u < GRID - 1) & (v > 0) & (v < GRID - 1) & (fall < -1e-6))
    u, v = u[inside], v[inside]
    left, top = u.astype(np.int64), v.astype(np.int64)
    fu, fv = u - left, v - top
    corner = top * GRID + left
    a, b, c, d = (np.take(shadow.dark, corner + step) for step in (0, 1, GRID, GRID + 1))
    along = np.arange(size) + 0.5
    edge = np.clip(np.minimum(along, size - along) / (BORDER * size), 0, 1)
    edge = edge * edge * (3 - 2 * edge)
    upper, lower = a * (1 - fu) + b * fu, c * (1 - fu) + d * fu
    out[inside] = (upper * (1 - fv) + lower * fv) * edge[column[inside]] * edge[row[inside]]
    return out
