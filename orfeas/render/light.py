"""How light falls on a mesh: soft ambient light with its shadows, baked once a mesh, and three lamps fixed to the eye.

The ambient part asks for each vertex how much of a bright sky and of a dimmer ground it can see. Visibility comes from
splatting points of the surface into small depth maps from a few dozen directions: no rays, no acceleration structure.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

DIRECTIONS = 48  # of the ambient light
GROUND = 0.42  # brightness of the ground, the sky above being 1

# direction to the lamp (right, up, towards the eye), linear colour, and how far it reaches round the edge
LAMPS = (
    ((-0.55, 0.62, 0.56), (0.92, 0.88, 0.82), 0.15),
    ((0.85, 0.12, 0.50), (0.20, 0.22, 0.26), 0.35),
    ((0.25, 0.55, -0.80), (0.42, 0.44, 0.48), 0.10),
)
AMBIENT = (0.47, 0.49, 0.53)
HIGHLIGHT = 0.10


def spread_directions(count: int) -> np.ndarray:
    """(count, 3) float32 unit vectors, evenly spread (a Fibonacci spiral)."""
    k = np.arange(count) + 0.5
    up = 1 - 2 * k / count
    turn = np.pi * (1 + 5**0.5) * k
    level = np.sqrt(1 - up * up)
    return np.stack([level * np.cos(turn), up, level * np.sin(turn)], axis=1).astype(np.float32)


def sample_surface(vertices: np.ndarray, faces: np.ndarray, count: int) -> np.ndarray:
    """(count, 3) points spread over the surface by area, the same every time."""
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    total = float(area.sum())
    if total <= 0:
        return vertices[faces[:, 0]]
    generator = np.random.default_rng(0)
    at = (np.arange(count) + 0.5) / count * total
    chosen = corners[np.minimum(np.searchsorted(np.cumsum(area), at), len(faces) - 1)]
    u, v = np.sqrt(generator.random((count, 1))), generator.random((count, 1))
    points = (1 - u) * chosen[:, 0] + u * (1 - v) * chosen[:, 1] + u * v * chosen[:, 2]
    return points.astype(vertices.dtype)


def bake_ambient(vertices: np.ndarray, normals: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n,) float32, the ambient light at each vertex: 1 on top of a convex thing, about 0.4 beneath it, less in folds.

    vertices and normals (n, 3), points (k, 3) of the surface (`sample_surface`), float32.
    """
    everything = np.concatenate([vertices, points])
    middle = (everything.min(axis=0) + everything.max(axis=0)) / 2
    everything = everything - middle
    radius = float(np.linalg.norm(everything, axis=1).max()) or 1.0
    grid = int(np.clip(0.35 * len(everything) ** 0.5, 16, 96))
    cell = 2 * radius / grid
    sky = spread_directions(DIRECTIONS)

    def receive(every_other: int) -> tuple[np.ndarray, np.ndarray]:
        """Light received from half of the directions, and what would be if nothing were in its way."""
        received = np.zeros(len(vertices), np.float32)
        full = np.zeros(len(vertices), np.float32)
        for k in range(every_other, DIRECTIONS, 2):
            direction = sky[k]
            # a frame around the direction, turned a little each time so that the grids' steps do not add up
            side = np.cross(direction, (0.0, 1.0, 0.0) if abs(direction[1]) < 0.9 else (1.0, 0.0, 0.0))
            side /= np.linalg.norm(side)
            other = np.cross(direction, side)
            turn = 2.4 * k
            frame = np.stack(
                [np.cos(turn) * side + np.sin(turn) * other, np.cos(turn) * other - np.sin(turn) * side, direction]
            ).astype(np.float32)
            seen = everything @ frame.T
            column = ((seen[:, 0] + radius) / cell).astype(np.int32)
            row = ((seen[:, 1] + radius) / cell).astype(np.int32)
            place = np.minimum(row, grid - 1) * grid + np.minimum(column, grid - 1)
            nearest = np.full(grid * grid, -np.inf, np.float32)
            np.maximum.at(nearest, place, seen[:, 2])
            facing = normals @ direction
            towards = np.flatnonzero(facing > 0)
            lit = np.take(facing, towards)
            # a slanted surface rises within one cell, so it would shade itself: allow for its slope
            slack = cell * (0.5 + np.sqrt(np.maximum(1 - lit * lit, 0)) / np.maximum(lit, 0.25))
            hidden = (np.take(nearest, np.take(place, towards)) - np.take(seen[:, 2], towards)) / slack - 1
            bright = GROUND + (1 - GROUND) * np.clip(direction[1] * 1.5 + 0.5, 0, 1)
            full[towards] += lit
            received[towards] += lit * bright * (1 - np.clip(hidden, 0, 1))
        return received, full

    with ThreadPoolExecutor(max_workers=2) as pool:  # numpy lets go of the interpreter in its loops
        received, full = (one + other for one, other in zip(*pool.map(receive, (0, 1)), strict=True))
    baked = received / np.maximum(full, 1e-6)
    return _average_neighbours(_average_neighbours(baked, faces), faces)


def _average_neighbours(values: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Each vertex's value blended with the mean of the triangles around it: takes the grain off."""
    mean = np.repeat(values[faces].mean(axis=1), 3)
    ring = faces.ravel()
    count = np.bincount(ring, minlength=len(values))
    around = np.bincount(ring, weights=mean, minlength=len(values)) / np.maximum(count, 1)
    return np.where(count > 0, around, values).astype(np.float32)


def shade(albedo: np.ndarray, normals: np.ndarray, ambient: np.ndarray) -> np.ndarray:
    """(k, 3) linear light from the surface to the eye.

    albedo (k, 3) linear; normals (k, 3) unit, in the camera's frame (right, up, towards the eye); ambient (k,) from
    `bake_ambient`. All float32.
    """
    fold = ambient * ambient * (3 - 2 * ambient)  # deep folds hide from the lamps too, gently
    towards = np.array([lamp[0] for lamp in LAMPS], np.float32)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    wrap = np.array([lamp[2] for lamp in LAMPS], np.float32)
    reach = np.maximum((normals @ towards.T + wrap) / (1 + wrap), 0)
    reach[:, 0] *= 0.45 + 0.55 * fold
    light = np.column_stack([reach, ambient]) @ np.array([lamp[1] for lamp in LAMPS] + [AMBIENT], np.float32)
    half = towards[0] + np.array([0, 0, 1], np.float32)
    gloss = np.maximum(normals @ (half / np.linalg.norm(half)), 0)
    for _ in range(5):  # to the 32nd power
        gloss *= gloss
    edge = 1 - np.clip(normals[:, 2], 0, 1)
    extra = np.float32(HIGHLIGHT) * gloss * fold + np.float32(0.06) * edge * edge * edge * ambient
    return albedo * light + extra[:, None]
