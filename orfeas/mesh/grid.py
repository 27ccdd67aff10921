"""A uniform grid over triangles: which pairs come near one another, and what a ray meets first. numpy only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

CELLS_PER_AXIS = 128
RAYS_AT_ONCE = 2048
PAIRS_AT_ONCE = 200_000
CROWD = 512  # faces in one cell; with more it is divided
CELL_PER_TRIANGLE = 1.5  # edge of a cell, in sizes of the median triangle
ENTRIES_PER_FACE = 12  # on average; the grid is made coarser until it holds


@dataclass(frozen=True)
class FaceGrid:
    """Triangles sorted into the cells that their boxes meet.

    origin: (3,). cell: edge length of a cell. shape: (3,) cells along each axis.
    cell_of: (k,) int64 flat cell index of each entry, sorted. face_of: (k,) int64 face of each entry.
    """

    origin: np.ndarray
    cell: float
    shape: np.ndarray
    cell_of: np.ndarray
    face_of: np.ndarray


def face_boxes(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m, 3) smallest and (m, 3) largest coordinates of (m, 3, 3) corners."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]  # three long rows: far quicker than min(axis=1)
    return np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)


def build_grid(corners: np.ndarray) -> FaceGrid:
    """A grid over (m, 3, 3) ``corners`` with cells somewhat larger than a typical triangle."""
    return _grid_of_boxes(*face_boxes(corners))


def _grid_of_boxes(low: np.ndarray, high: np.ndarray) -> FaceGrid:
    origin = low.min(axis=0)
    size = float(max((high.max(axis=0) - origin).max(), 1e-300))
    typical = float(np.median((high - low).max(axis=1)))
    cell = max(CELL_PER_TRIANGLE * typical, size / CELLS_PER_AXIS, 1e-300)
    while True:
        first = np.floor((low - origin) / cell).astype(np.int64)
        span = np.floor((high - origin) / cell).astype(np.int64) - first + 1
        count = span.prod(axis=1)
        if count.sum() <= ENTRIES_PER_FACE * len(low) + 4096 or cell >= size:
            break
        cell *= 1.5
    shape = np.floor((high.max(axis=0) - origin) / cell).astype(np.int64) + 1
    face_of = np.repeat(np.arange(len(low)), count)
    place = np.arange(len(face_of)) - np.repeat(np.cumsum(count) - count, count)
    width, depth = span[face_of, 2], span[face_of, 1]
    at = first[face_of]
    index = at[:, 0] + place // (width * depth)
    index = index * shape[1] + at[:, 1] + place // width % depth
    index = index * shape[2] + at[:, 2] + place % width
    order = np.argsort(index, kind="stable")
    return FaceGrid(origin, cell, shape, index[order], face_of[order])


def near_pairs(corners: np.ndarray) -> np.ndarray:
    """(p, 2) int64 pairs of faces whose boxes meet, each pair once."""
    return np.concatenate([np.zeros((0, 2), np.int64), *near_pair_batches(corners)])


def near_pair_batches(corners: np.ndarray) -> Iterator[np.ndarray]:
    """`near_pairs` in parts of at most `PAIRS_AT_ONCE`, for those who may stop before the last one."""
    waiting, held = [], 0
    for pairs in _pairs_of_boxes(*face_boxes(corners), 0):
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            part = pairs[start : start + PAIRS_AT_ONCE]
            if held + len(part) > PAIRS_AT_ONCE:
                yield np.concatenate(waiting)
                waiting, held = [], 0
            waiting.append(part)
            held += len(part)
    if held:
        yield np.concatenate(waiting)


def _pairs_of_boxes(low: np.ndarray, high: np.ndarray, level: int) -> Iterator[np.ndarray]:
    """Compares each entry of a cell with the next, then with the one after that, and so on: all cells at once.

    A crowded cell (fine detail on a large model) gets a grid of its own. Boxes are rounded outwards to float32: a pair
    may only be too many, and half as much memory has to be read.
    """
    grid = _grid_of_boxes(low, high)

    # two faces can share several cells: the pair belongs to the one that holds the low corner of their common box
    def home_of(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        home = np.floor((np.maximum(low[one], low[other]) - grid.origin) / grid.cell).astype(np.int64)
        return (home[:, 0] * grid.shape[1] + home[:, 1]) * grid.shape[2] + home[:, 2]

    cells, start, count = np.unique(grid.cell_of, return_index=True, return_counts=True)
    crowded = np.flatnonzero((count > CROWD) & (level < 8) & (len(cells) > 1))
    entries = np.arange(len(grid.cell_of), dtype=np.int32)
    if len(crowded):
        entries = entries[~np.repeat(np.isin(np.arange(len(cells)), crowded), count)]
        for k in crowded:
            members = grid.face_of[start[k] : start[k] + count[k]]
            where = np.array(np.unravel_index(cells[k], tuple(grid.shape)))
            floor = grid.origin + where * grid.cell
            inside = np.maximum(low[members], floor), np.minimum(high[members], floor + grid.cell)
            for inner in _pairs_of_boxes(*inside, level + 1):
                one, other = members[inner[:, 0]], members[inner[:, 1]]
                mine = home_of(one, other) == cells[k]
                yield np.stack([one[mine], other[mine]], axis=1)
    lows = np.nextafter(low.astype(np.float32), np.float32(-np.inf)).T[:, grid.face_of]
    highs = np.nextafter(high.astype(np.float32), np.float32(np.inf)).T[:, grid.face_of]
    step = 0
    while len(entries):
        step += 1
        entries = entries[: np.searchsorted(entries, len(grid.cell_of) - step)]
        entries = entries[grid.cell_of[entries] == grid.cell_of[entries + step]]
        a = entries
        for axis in range(3):  # one axis after the other: most pairs fall out at the first
            b = a + step
            a = a[(lows[axis, a] <= highs[axis, b]) & (lows[axis, b] <= highs[axis, a])]
        one, other = grid.face_of[a], grid.face_of[a + step]
        mine = home_of(one, other) == grid.cell_of[a]
        yield np.stack([one[mine], other[mine]], axis=1)


def cast_rays(
    corners: np.ndarray, grid: FaceGrid, origins: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First hit of each ray: (r,) float64 distance (inf: none) and (r,) int64 face (-1: none).

    origins, directions: (r, 3), directions of length 1. Walks all rays through the grid together, one cell a step
    (Amanatides and Woo, "A fast voxel traversal algorithm", 1987); triangles by Moeller and Trumbore (1997).
    """
    if len(origins) > RAYS_AT_ONCE:  # bounds the memory where a cell is crowded
        halves = [slice(None, len(origins) // 2), slice(len(origins) // 2, None)]
        found = [cast_rays(corners, grid, origins[half], directions[half]) for half in halves]
        return tuple(np.concatenate(part) for part in zip(*found, strict=True))
    n = len(origins)
    best, face = np.full(n, np.inf), np.full(n, -1, np.int64)
    starts = np.searchsorted(grid.cell_of, np.arange(int(grid.shape.prod()) + 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / directions
    high = grid.origin + grid.shape * grid.cell
    with np.errstate(invalid="ignore"):
        t1, t2 = (grid.origin - origins) * inverse, (high - origins) * inverse
    enter = np.nanmax(np.minimum(t1, t2), axis=1).clip(0)
    leave = np.nanmin(np.maximum(t1, t2), axis=1)
    rays = np.flatnonzero(enter <= leave)
    where = origins[rays] + directions[rays] * enter[rays, None]
    at = np.clip(np.floor((where - grid.origin) / grid.cell).astype(np.int64), 0, grid.shape - 1)
    step = np.where(directions[rays] < 0, -1, 1)
    with np.errstate(invalid="ignore"):
        border = (grid.origin + (at + (step > 0)) * grid.cell - origins[rays]) * inverse[rays]
    border = np.where(np.isfinite(border), border, np.inf)
    stride = np.abs(np.where(directions[rays] == 0, np.inf, grid.cell * inverse[rays]))
    while len(rays):
        cell = (at[:, 0] * grid.shape[1] + at[:, 1]) * grid.shape[2] + at[:, 2]
        count = starts[cell + 1] - starts[cell]
        ray = np.repeat(np.arange(len(rays)), count)
        entry = np.arange(len(ray)) - np.repeat(np.cumsum(count) - count, count) + starts[cell][ray]
        tested = grid.face_of[entry]
        distance = _hit(corners[tested], origins[rays[ray]], directions[rays[ray]])
        order = np.lexsort((distance, ray))
        first = order[np.unique(ray[order], return_index=True)[1]]
        r = rays[ray[first]]
        closer = distance[first] < best[r]
        best[r[closer]], face[r[closer]] = distance[first][closer], tested[first][closer]
        axis = border.argmin(axis=1)
        rows = np.arange(len(rays))
        go = best[rays] > border[rows, axis]
        at[rows, axis] += step[rows, axis]
        go &= (at[rows, axis] >= 0) & (at[rows, axis] < grid.shape[axis])
        border[rows, axis] += stride[rows, axis]
        rays, at, step, border, stride = rays[go], at[go], step[go], border[go], stride[go]
    return best, face


def _hit(corners: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    p = np.cross(direction, edge2)
    determinant = np.einsum("ij,ij->i", edge1, p)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = 1.0 / determinant
        offset = origin - corners[:, 0]
        u = np.einsum("ij,ij->i", offset, p) * inverse
        q = np.cross(offset, edge1)
        v = np.einsum("ij,ij->i", direction, q) * inverse
        t = np.einsum("ij,ij->i", edge2, q) * inverse
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (determinant != 0)
    return np.where(hit, t, np.inf)
