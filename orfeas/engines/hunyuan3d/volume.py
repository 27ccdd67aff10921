"""A field that can be asked anywhere -> its samples on a grid: all of them, or only those near the surface.

`hierarchical` starts with a coarse grid and refines where the surface may be. It looks at *blocks*: a block is a cell
of one level, 2 x 2 x 2 cells of the next, so 27 samples. Where the surface leaves the refined blocks, the neighbour
is refined too, until none is left: what was found is always closed, and no unknown sample can become surface. Samples
of coarser levels are samples of the finer ones, at bitwise the same places, and are never asked again.

Everything is a generator: it yields the fraction done after each chunk, so that the caller can show progress and
stop, and returns the volume (``volume = yield from hierarchical(...)``).

Memory at R = 512: `dense` keeps 4 bytes for each of 135 M samples (540 MB) and a slab of scratch; `hierarchical` keeps
12 bytes for each sample it asked for and no array of the whole grid: of a compact shape 68 MB, and 0.4 GB at the peak
of merging and sorting (measured on the CPU).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from orfeas.engines.hunyuan3d.grid import (
    BLOCK_FACES,
    CORNERS,
    NEIGHBOURS,
    SUB_CELLS,
    block_samples,
    cell_corners,
    close_outside,
    is_among,
    is_crossed,
    sort_unique,
    table_on,
    to_keys,
    to_positions,
    view_corner,
    widen,
)
from orfeas.engines.hunyuan3d.surface import SurfaceCells
from orfeas.errors import OrfeasError

HALF_EXTENT = 1.01  # the released model's box is [-1.01, 1.01] cubed
COARSEST = 63  # no level has fewer cells: what a coarser grid steps over is lost
NEAR = 0.95  # |logit| below this: the surface is taken to be near (the trained field is cut off near 1)
REACH = 1.5  # ... or below this many times the change over the cell, so that it could be reached, whatever the scale
CPU_CHUNK = 16_384
CHUNK_BOUNDS = (4_096, 131_072)  # the upper one is about 4 GB of work for the released model
BYTES_PER_POINT = 40_000  # width 1024 in half precision: queries, attention, and the MLP's inner 4096 twice
PIECE = 1 << 17  # blocks in one piece of bookkeeping: 27 samples each

Field = Callable[[Tensor], Tensor]  # (n, 3) float32 on the device -> (n,) logits, > 0 inside


def choose_chunk(device: torch.device | str, bytes_per_point: int = BYTES_PER_POINT) -> int:
    """How many points to ask for at once: what a third of the free GPU memory holds, or a constant on the CPU.

    A power of two: how many rows a product has can decide the last bit of it, and so free memory the same request's
    mesh. A few numbers, the same on all cards with room, keep that rare.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return CPU_CHUNK
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    low, high = CHUNK_BOUNDS
    points = int(min(high, max(low, (free + cached) / 3 // bytes_per_point)))
    return 1 << (points.bit_length() - 1)


def level_cells(cells: int, coarsest: int = COARSEST) -> list[int]:
    """Cells along an axis of each level, coarse to fine: halves of ``cells`` while even and not below ``coarsest``."""
    levels = [cells]
    while levels[0] % 2 == 0 and levels[0] // 2 >= coarsest:
        levels.insert(0, levels[0] // 2)
    return levels


@dataclass(frozen=True)
class DenseVolume:
    """Every sample of the grid. values: ((cells + 1) ** 3,) float32, axes x, y, z with x slowest."""

    cells: int
    half_extent: float
    values: Tensor

    @property
    def evaluated(self) -> int:
        return len(self.values)

    def to_dense(self) -> tuple[Tensor, Tensor]:
        """(values, known), both (R+1, R+1, R+1)."""
        values = self.values.view((self.cells + 1,) * 3)
        return values, torch.ones_like(values, dtype=torch.bool)

    def surface_cells(self) -> SurfaceCells:
        """The cells with corners of both signs, those around the box included."""
        values = self.values.view((self.cells + 1,) * 3)
        device = values.device
        around = torch.arange(-1, self.cells + 2, device=device)  # the grid and one layer outside it
        clamped = around.clamp(0, self.cells)
        outside = around != clamped
        found, corners = [], []
        for planes in torch.arange(self.cells + 2).split(16):
            i = slice(int(planes[0]), int(planes[-1]) + 2)
            slab = values[clamped[i]][:, clamped][:, :, clamped]
            slab = close_outside(slab, outside[i, None, None] | outside[None, :, None] | outside[None, None, :])
            inside = slab > 0
            views = [view_corner(inside, corner) for corner in range(8)]
            some, every = views[0].clone(), views[0].clone()
            for view in views[1:]:
                some |= view
                every &= view
            active = some & ~every
            found.append(active.nonzero() + torch.tensor((i.start - 1, -1, -1), device=device))
            corners.append(torch.stack([view_corner(slab, corner)[active] for corner in range(8)], dim=1))
        return SurfaceCells(self.cells, self.half_extent, torch.cat(found), torch.cat(corners))


@dataclass(frozen=True)
class SparseVolume:
    """The samples near the surface.

    keys: (n,) int64, sorted: ``(x * (R + 1) + y) * (R + 1) + z`` of each known sample. values: (n,) float32.
    blocks: (k, 3) int64, sorted, in units of two cells: the blocks whose 27 samples are all known. Every cell with
    corners of both signs lies in one of them.
    """

    cells: int
    half_extent: float
    keys: Tensor
    values: Tensor
    blocks: Tensor

    @property
    def evaluated(self) -> int:
        return len(self.values)

    def to_dense(self) -> tuple[Tensor, Tensor]:
        """(values, known), both (R+1, R+1, R+1); unknown samples are NaN."""
        shape = (self.cells + 1,) * 3
        values = torch.full(shape, torch.nan, device=self.values.device)
        values.view(-1)[self.keys] = self.values
        return values, ~values.isnan()

    def surface_cells(self) -> SurfaceCells:
        """The cells with corners of both signs, those around the box included."""
        device = self.values.device
        position, values = [], []
        for blocks in self.blocks.split(PIECE):
            samples = block_samples(blocks)
            corners = self._at(samples)[:, table_on(SUB_CELLS, device)]  # (k, 8 cells, 8 corners)
            active = is_crossed(corners)
            position.append((blocks[:, None] * 2 + table_on(CORNERS, device))[active])
            values.append(corners[active])
        closing, corners = self._closing_cells()
        position, values = torch.cat((*position, closing)), torch.cat((*values, corners))
        span = self.cells + 2
        order = to_keys(position + 1, span).argsort()
        return SurfaceCells(self.cells, self.half_extent, position[order], values[order])

    def _at(self, samples: Tensor) -> Tensor:
        """(..., 3) positions of known samples -> (...) values."""
        return self.values[torch.searchsorted(self.keys, to_keys(samples, self.cells + 1).contiguous())]

    def _closing_cells(self) -> tuple[Tensor, Tensor]:
        """The cells outside the box around each sample on its boundary that is inside the shape, and their corners."""
        device = self.values.device
        on_rim = ((self.blocks == 0) | (self.blocks == self.cells // 2 - 1)).any(1)
        keys = [torch.empty(0, dtype=torch.int64, device=device)]
        for blocks in self.blocks[on_rim].split(PIECE):
            samples = block_samples(blocks)
            samples = samples[((samples == 0) | (samples == self.cells)).any(2)]
            samples = samples[self._at(samples) > 0]
            around = (samples[:, None] - table_on(CORNERS, device)).reshape(-1, 3)
            around = around[((around < 0) | (around >= self.cells)).any(1)]
            keys.append(torch.unique(to_keys(around + 1, self.cells + 2)))
        cells = to_positions(torch.unique(torch.cat(keys)), self.cells + 2) - 1
        corners = cells[:, None] + table_on(CORNERS, device)
        clamped = corners.clamp(0, self.cells)
        return cells, close_outside(self._at(clamped), (clamped != corners).any(2))


Volume = DenseVolume | SparseVolume


def dense(
    field: Field,
    cells: int,
    *,
    device: torch.device | str = "cpu",
    chunk: int | None = None,
    half_extent: float = HALF_EXTENT,
) -> Generator[float, None, DenseVolume]:
    """Ask ``field`` for all (cells + 1) ** 3 samples. Raises `OrfeasError` where it is not finite."""
    ask = _Asker(field, cells, device, chunk, half_extent)
    total = (cells + 1) ** 3
    values = torch.empty(total, device=device)
    for first in range(0, total, ask.chunk):
        keys = torch.arange(first, min(first + ask.chunk, total), device=device)
        values[first : first + ask.chunk] = ask(keys)
        yield min(first + ask.chunk, total) / total
    ask.check()
    return DenseVolume(cells, half_extent, values)


def hierarchical(
    field: Field,
    cells: int,
    *,
    device: torch.device | str = "cpu",
    chunk: int | None = None,
    half_extent: float = HALF_EXTENT,
    coarsest: int = COARSEST,
) -> Generator[float, None, Volume]:
    """Ask ``field`` only near its surface; with one level only (few or oddly divisible cells) it is `dense`.

    A cell is refined if its corners differ in sign, or if the field could reach zero in it or just beside it (`REACH`);
    on all but the last refinement also if any |logit| < `NEAR` or a neighbour is refined (on the first refinement
    always). On synthetic shapes this asks for 8 % of a grid of 256, 6 % of 384 and 4 % of 512 where the shape is
    compact, and for 28 % of 256 where it is a dense gyroid. Raises `OrfeasError` where the field is not finite.
    """
    levels = level_cells(cells, coarsest)
    if len(levels) == 1:
        return (yield from dense(field, cells, device=device, chunk=chunk, half_extent=half_extent))
    ask = _Asker(field, cells, device, chunk, half_extent)
    weights = np.cumsum([0.0] + [4.0**k for k in range(len(levels))])  # a surface's cells grow fourfold a level
    shares = weights / weights[-1]

    known = _Known(cells, device)
    first = torch.arange(levels[0] + 1, device=device) * (cells // levels[0])
    yield from known.learn(to_keys(torch.cartesian_prod(first, first, first), cells + 1), ask, shares[0], shares[1])
    every = torch.arange(levels[0], device=device)
    step = cells // levels[0]
    blocks = torch.cat(
        [
            part[_may_hold_surface(corners, part, levels[0], NEAR, corners.amax(1) - corners.amin(1))]
            for part in torch.cartesian_prod(every, every, every).split(PIECE)
            for corners in (known.at(cell_corners(part) * step),)
        ]
    )
    blocks = widen(blocks, levels[0])  # always once: what is missed on the coarsest grid is lost
    for level in range(1, len(levels)):
        step = cells // levels[level]  # between samples of this level, in samples of the finest
        side = levels[level - 1]  # blocks along an axis
        new = blocks
        while len(new):
            yield from known.learn(known.missing(new, step), ask, shares[level], shares[level + 1])
            new = _beyond(known, new, blocks, side, step)
            blocks = sort_unique(torch.cat((blocks, new)), side)
        if level + 1 < len(levels):
            last = level + 2 == len(levels)
            blocks = _refine(known, blocks, step, levels[level], 0.0 if last else NEAR)
            blocks = blocks if last else widen(blocks, levels[level])
    ask.check()
    return SparseVolume(cells, half_extent, known.keys, known.values, blocks)


class _Asker:
    """Calls the field at samples given by their keys, with coordinates made on the device in float32."""

    def __init__(self, field: Field, cells: int, device, chunk: int | None, half_extent: float):
        self.field, self.side = field, cells + 1
        self.chunk = chunk or choose_chunk(device, getattr(field, "bytes_per_point", BYTES_PER_POINT))
        axis = np.linspace(-half_extent, half_extent, cells + 1, dtype=np.float32)
        self.axis = torch.from_numpy(axis).to(device)
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.waiting: torch.cuda.Event | None = None

    def __call__(self, keys: Tensor) -> Tensor:
        with torch.no_grad():
            values = self.field(self.axis[to_positions(keys, self.side)]).float()
        self.finite &= values.isfinite().all()
        if values.is_cuda:  # stay one chunk ahead of the device, no more: progress is true and a stop is quick
            if self.waiting is not None:
                self.waiting.synchronize()
            self.waiting = torch.cuda.Event()
            self.waiting.record(torch.cuda.current_stream(values.device))
        return values

    def check(self) -> None:
        if not self.finite:
            raise OrfeasError(
                "Hunyuan3D's network returned values that are not finite numbers: check the weights with"
                " `python -m orfeas doctor`, or try another seed.",
                "not_finite",
            )


class _Known:
    """The samples asked so far, sorted by key."""

    def __init__(self, cells: int, device):
        self.side = cells + 1
        self.keys = torch.empty(0, dtype=torch.int64, device=device)
        self.values = torch.empty(0, device=device)

    def learn(self, keys: Tensor, ask: _Asker, begin: float, end: float) -> Generator[float, None, None]:
        """Ask for ``keys`` (sorted, none of them known), yielding fractions from ``begin`` to ``end``."""
        values = torch.empty(len(keys), device=keys.device)
        for first in range(0, len(keys), ask.chunk):
            values[first : first + ask.chunk] = ask(keys[first : first + ask.chunk])
            yield begin + (end - begin) * min(1.0, (first + ask.chunk) / len(keys))
        self.keys, order = torch.cat((self.keys, keys)).sort()
        self.values = torch.cat((self.values, values))[order]

    def at(self, samples: Tensor) -> Tensor:
        """(..., 3) positions of known samples -> (...) values."""
        return self.values[torch.searchsorted(self.keys, to_keys(samples, self.side).contiguous())]

    def missing(self, blocks: Tensor, step: int) -> Tensor:
        """The keys of the blocks' samples that are not known yet, sorted."""
        parts = [torch.unique(to_keys(block_samples(part) * step, self.side)) for part in blocks.split(PIECE)]
        keys = torch.unique(torch.cat(parts))
        return keys[~is_among(keys, self.keys)]


def _beyond(known: _Known, new: Tensor, blocks: Tensor, side: int, step: int) -> Tensor:
    """The neighbours of the ``new`` blocks, not among ``blocks``, that the surface enters."""
    device = new.device
    found = [torch.empty((0, 3), dtype=torch.int64, device=device)]
    faces = table_on(BLOCK_FACES, device)
    offsets = table_on(NEIGHBOURS, device)
    for part in new.split(PIECE):
        samples = block_samples(part)
        inside = known.at(samples * step) > 0
        # Outside the box counts as outside the shape, so the surface also runs along the boundary where it is inside.
        rim = inside & ((samples == 0) | (samples == 2 * side)).any(2)
        some, every = inside[:, faces].any(2), inside[:, faces].all(2)
        enters = (some & ~every) | rim[:, faces].any(2)
        beside = (part[:, None] + offsets)[enters]
        found.append(beside[((beside >= 0) & (beside < side)).all(1)])
    beside = sort_unique(torch.cat(found), side)
    return beside[~is_among(to_keys(beside, side), to_keys(blocks, side))]


def _refine(known: _Known, blocks: Tensor, step: int, side: int, near: float) -> Tensor:
    """The cells of the blocks that may hold surface; ``side`` is how many cells there are along an axis."""
    device = blocks.device
    kept = []
    for part in blocks.split(PIECE):
        samples = known.at(block_samples(part) * step)
        # Half the block's range, not the cell's own: between two sides of a thin plate a cell may see no change at all.
        change = ((samples.amax(1) - samples.amin(1)) / 2).repeat_interleave(8)
        corners = samples[:, table_on(SUB_CELLS, device)].reshape(-1, 8)
        cells = (part[:, None] * 2 + table_on(CORNERS, device)).reshape(-1, 3)
        kept.append(cells[_may_hold_surface(corners, cells, side, near, change)])
    return sort_unique(torch.cat(kept), side)


def _may_hold_surface(corners: Tensor, cells: Tensor, side: int, near: float, change: Tensor) -> Tensor:
    """(n, 8) values and (n, 3) positions of cells -> (n,) bool.

    side: cells along an axis. change: (n,) how much the field changes over a cell there.
    """
    nearest = corners.abs().amin(1)
    positions = cell_corners(cells)
    rim = ((positions == 0) | (positions == side)).any(2)
    reachable = nearest < torch.clamp(REACH * change, min=near)
    return is_crossed(corners) | reachable | (rim & (corners > 0)).any(1)
