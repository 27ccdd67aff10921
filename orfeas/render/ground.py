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


def draw_shadow(shadow: GroundShadow, camera: Camera, size: int) -> np.ndarray:
    """(size * size,) float32: how dark the ground is in each pixel of a square picture; 0 seen from below."""
    out = np.zeros(size * size, np.float32)
    if camera.eye_direction[1] < 0.02:
        return out
    along = np.arange(size) + 0.5
    x, y = np.tile(along, size), np.repeat(along, size)
    origin, direction = camera.rays(x, y, size)
    fall = direction[:, 1]
    steps = (shadow.height - origin[:, 1]) / np.where(fall < -1e-6, fall, -1e-6)
    hit = origin[:, [0, 2]] + steps[:, None] * direction[:, [0, 2]]
    where = (hit / shadow.reach + 1) / 2 * GRID - 0.5
    inside = np.flatnonzero(((where > 0) & (where < GRID - 1)).all(axis=1) & (fall < -1e-6))
    u, v = where[inside].T
    left, top = u.astype(np.int64), v.astype(np.int64)
    fu, fv = u - left, v - top
    dark = shadow.dark
    upper = dark[top, left] * (1 - fu) + dark[top, left + 1] * fu
    lower = dark[top + 1, left] * (1 - fu) + dark[top + 1, left + 1] * fu
    edge = np.clip(np.minimum(along, size - along) / (BORDER * size), 0, 1)
    edge = edge * edge * (3 - 2 * edge)
    out[inside] = (upper * (1 - fv) + lower * fv) * edge[inside % size] * edge[inside // size]
    return out
