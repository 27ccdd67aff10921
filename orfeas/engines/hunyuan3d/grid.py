"""Where samples, cells and blocks lie: index arithmetic on a cubic grid, on any device.

A grid of R cells along an axis has R + 1 samples. Positions are (..., 3) int64; a *key* numbers them with x slowest. A
*block* is a cell of one level and 2 x 2 x 2 cells of the next, so 27 samples of that.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

CORNERS = np.array(list(product((0, 1), repeat=3)))  # corner 4*x + 2*y + z
BLOCK = np.array(list(product((0, 1, 2), repeat=3)))  # sample 9*x + 3*y + z
SUB_CELLS = (CORNERS[:, None] + CORNERS) @ (9, 3, 1)  # (8, 8): the samples of each of a block's cells
NEIGHBOURS = np.array([[side if axis == k else 0 for k in range(3)] for axis in range(3) for side in (-1, 1)])
BLOCK_FACES = np.array([np.flatnonzero(BLOCK[:, axis] == side) for axis in range(3) for side in (0, 2)])


def widen(cells: Tensor, side: int) -> Tensor:
    """The cells and the 26 around each, inside the box, sorted."""
    mask = torch.zeros((side + 2,) * 3, dtype=torch.bool, device=cells.device)
    mask[tuple((cells + 1).unbind(1))] = True
    for axis in range(3):
        length = side + 2
        inner = mask.narrow(axis, 1, side).clone()
        inner |= mask.narrow(axis, 0, side) | mask.narrow(axis, 2, length - 2)
        mask.narrow(axis, 1, side).copy_(inner)
    return mask[1:-1, 1:-1, 1:-1].nonzero()


def is_crossed(corners: Tensor) -> Tensor:
    """(..., 8) values -> (...) bool: both signs are there."""
    inside = corners > 0
    return inside.any(-1) & ~inside.all(-1)


def close_outside(values: Tensor, outside: Tensor) -> Tensor:
    """Give samples ``outside`` the box the negative of their nearest sample in it: a cap half a cell beyond the box."""
    return torch.where(outside, -values.abs(), values)


def is_among(keys: Tensor, sorted_keys: Tensor) -> Tensor:
    """(n,) bool: which keys are found in ``sorted_keys``."""
    if not len(sorted_keys):
        return torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
    return sorted_keys[torch.searchsorted(sorted_keys, keys).clamp(max=len(sorted_keys) - 1)] == keys


def sort_unique(blocks: Tensor, side: int) -> Tensor:
    """(k, 3) -> the same without repetition, sorted by key."""
    return to_positions(torch.unique(to_keys(blocks, side)), side)


def to_keys(positions: Tensor, side: int) -> Tensor:
    """(..., 3) -> (...) int64, x slowest."""
    return (positions[..., 0] * side + positions[..., 1]) * side + positions[..., 2]


def to_positions(keys: Tensor, side: int) -> Tensor:
    """(n,) -> (n, 3) int64: the inverse of `to_keys`."""
    return torch.stack((keys // (side * side), keys // side % side, keys % side), dim=1)


def view_corner(values: Tensor, corner: int) -> Tensor:
    """The values at one corner of every cell of a slab of samples."""
    x, y, z = corner >> 2, corner >> 1 & 1, corner & 1
    a, b, c = (length - 1 for length in values.shape)
    return values[x : x + a, y : y + b, z : z + c]


def block_samples(blocks: Tensor) -> Tensor:
    """(k, 3) -> (k, 27, 3): the samples of each block, in samples of its level."""
    return blocks[:, None] * 2 + table_on(BLOCK, blocks.device)


def cell_corners(cells: Tensor) -> Tensor:
    """(k, 3) -> (k, 8, 3)."""
    return cells[:, None] + table_on(CORNERS, cells.device)


def table_on(array: np.ndarray, device: torch.device) -> Tensor:
    """One of the tables above, on the device."""
    return torch.from_numpy(array).to(device)
