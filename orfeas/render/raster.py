"""One z-buffer rasterizer for numpy arrays and torch tensors, on whatever device they are.

Fragment expansion: every pair of a face and a pixel in its bounding box becomes one row; rows inside the triangle are
reduced to one 64-bit key a pixel (depth above, face id below) by a scatter-min. There is no loop over faces, so it is
fast without a compiler, and the result does not depend on the order of execution. Torch is used only if it is given.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or torch.Tensor

FRAGMENTS_AT_ONCE = 1 << 15  # bounds memory to about 100 bytes each; on a processor larger is slower (cache)
FRAGMENTS_AT_ONCE_ON_GPU = 1 << 22  # an accelerator wants few large steps
MAX_SIZE = 16384  # pixels along an edge


class _Numpy:
    """The few calls that numpy and torch spell differently."""

    def __init__(self, like: np.ndarray):
        self.real = like.dtype
        self.fragments_at_once = FRAGMENTS_AT_ONCE

    def integers(self, array):
        return array.astype(np.int64)

    def reals(self, array):
        return array.astype(self.real)

    def bits(self, array):
        return array.astype(np.float32).view(np.int32).astype(np.int64)

    def full(self, count: int, value: int):
        return np.full(count, value, dtype=np.int64)

    def zeros(self, *shape: int):
        return np.zeros(shape, dtype=self.real)

    def counted(self, counts):
        """0 counts[0] times, 1 counts[1] times, and so on."""
        return np.repeat(np.arange(len(counts)), counts)

    def within(self, counts):
        """0, 1, ... up to counts[0], again up to counts[1], and so on."""
        last = np.cumsum(counts)
        return np.arange(last[-1]) - np.repeat(last - counts, counts)

    def stack(self, arrays):
        return np.stack(arrays)

    def least(self, rows):
        return rows.min(axis=0)

    def greatest(self, rows):
        return rows.max(axis=0)

    def where_true(self, mask):
        return np.flatnonzero(mask)

    def take(self, array, index):
        """array[index] of an array of one dimension."""
        return np.take(array, index)

    def choose(self, mask, one, other):
        return np.where(mask, one, other)

    def rank(self, sorted_values, value: int) -> int:
        return int(np.searchsorted(sorted_values, value, side="right"))

    def clip(self, array, low, high):
        return np.clip(array, low, high)

    def columns_of(self, array):
        return np.ascontiguousarray(array.T)

    def all_finite(self, array) -> bool:
        return bool(np.isfinite(array).all())

    def floor(self, array):
        return np.floor(array)

    def scatter_min(self, target, index, values) -> None:
        np.minimum.at(target, index, values)


class _Torch:
    def __init__(self, like):
        import torch

        self.torch, self.real, self.device = torch, like.dtype, like.device
        self.fragments_at_once = FRAGMENTS_AT_ONCE if like.device.type == "cpu" else FRAGMENTS_AT_ONCE_ON_GPU

    def integers(self, array):
        return array.to(self.torch.int64)

    def reals(self, array):
        return array.to(self.real)

    def bits(self, array):
        return array.to(self.torch.float32).view(self.torch.int32).to(self.torch.int64)

    def full(self, count: int, value: int):
        return self.torch.full((count,), value, dtype=self.torch.int64, device=self.device)

    def zeros(self, *shape: int):
        return self.torch.zeros(shape, dtype=self.real, device=self.device)

    def counted(self, counts):
        return self.torch.repeat_interleave(counts)

    def within(self, counts):
        last = counts.cumsum(0)
        total = self.torch.arange(int(last[-1]), device=self.device)
        return total - self.torch.repeat_interleave(last - counts, counts)

    def stack(self, arrays):
        return self.torch.stack(arrays)

    def least(self, rows):
        return rows.amin(0)

    def greatest(self, rows):
        return rows.amax(0)

    def where_true(self, mask):
        return self.torch.nonzero(mask)[:, 0]

    def take(self, array, index):
        return array[index]

    def choose(self, mask, one, other):
        return self.torch.where(mask, one, other)

    def rank(self, sorted_values, value: int) -> int:
        return int(self.torch.searchsorted(sorted_values, value, right=True))

    def clip(self, array, low, high):
        return self.torch.clamp(array, low, high)

    def columns_of(self, array):
        return array.T.contiguous()

    def all_finite(self, array) -> bool:
        return bool(self.torch.isfinite(array).all())

    def floor(self, array):
        return array.floor()

    def scatter_min(self, target, index, values) -> None:
        target.scatter_reduce_(0, index, values, "amin", include_self=True)


def _calls(array: Array) -> _Numpy | _Torch:
    if isinstance(array, np.ndarray):
        return _Numpy(array)
    if type(array).__module__.partition(".")[0] == "torch":
        return _Torch(array)
    raise TypeError(f"expected a numpy array or a torch tensor, not {type(array).__name__}")


def rasterize(
    positions: Array,
    faces: Array,
    size: int | tuple[int, int],
    *,
    cull: bool = False,
    fragments_at_once: int | None = None,
) -> tuple[Array, Array]:
    """Find the nearest face at the centre of each pixel.

    positions: (n, 3) or (n, 4) floating point: x and y in pixels (x to the right, y down, the centre of the first
    pixel is (0.5, 0.5)), depth (smaller is nearer; it must be linear on screen, as an orthographic distance or
    -1 / distance is), and for perspective w, the distance along the view. Faces that reach w <= 0 are left out whole.
    faces: (m, 3) integers. size: pixels, one number or (height, width). cull: leave out faces that turn their back,
    that is, whose corners do not run counter-clockwise on screen.

    Returns (face ids (height, width) int64, -1 where there is none; barycentrics (height, width, 3) in the type of
    positions, 0 where there is none, perspective-correct if w is given). Edges belong to the triangle, neighbours
    leave no gaps, and of faces at the same depth (as float32) the one with the lower id wins.

    Raises ValueError for wrong shapes, sizes and numbers that are not finite.
    """
    height, width = _edges(size)
    pixels, faces_there, shares = cover(positions, faces, size, cull=cull, fragments_at_once=fragments_at_once)
    calls = _calls(positions)
    face_ids = calls.full(height * width, -1)
    face_ids[pixels] = faces_there
    barycentrics = calls.zeros(height * width, 3)
    barycentrics[pixels] = shares
    return face_ids.reshape(height, width), barycentrics.reshape(height, width, 3)


def cover(
    positions: Array,
    faces: Array,
    size: int | tuple[int, int],
    *,
    cull: bool = False,
    fragments_at_once: int | None = None,
) -> tuple[Array, Array, Array]:
    """What `rasterize` finds, of the pixels that are covered only: their numbers row by row (k,), the face ids (k,) and
    the barycentrics (k, 3). Arguments and errors as of `rasterize`.
    """
    height, width = _edges(size)
    if positions.ndim != 2 or positions.shape[1] not in (3, 4) or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError("positions must be (n, 3) or (n, 4) and faces (m, 3)")
    calls = _calls(positions)
    if fragments_at_once is None:
        fragments_at_once = calls.fragments_at_once
    if fragments_at_once < 1:
        raise ValueError("fragments_at_once must be at least 1")
    if not calls.all_finite(positions):
        raise ValueError("positions must be finite")

    chosen, turned, corners = _screen_triangles(calls, positions, faces, cull)
    key = _nearest_keys(calls, corners, height, width, fragments_at_once)

    hit = calls.where_true(key != np.iinfo(np.int64).max)
    row = calls.take(key, hit) & 0xFFFFFFFF  # among the chosen faces
    line = hit // width
    x, y = calls.reals(hit - line * width) + 0.5, calls.reals(line) + 0.5
    shares = _edge_values(
        [calls.take(corner, row) - x for corner in corners[:3]],
        [calls.take(corner, row) - y for corner in corners[3:6]],
    )
    if positions.shape[1] == 4:
        shares = [share / calls.take(w, row) for share, w in zip(shares, corners[9:], strict=True)]
    total = shares[0] + shares[1] + shares[2]
    barycentrics = calls.zeros(len(hit), 3)
    shares = [share / total for share in shares]
    swapped = calls.take(turned, row)
    barycentrics[:, 0] = shares[0]
    barycentrics[:, 1] = calls.choose(swapped, shares[2], shares[1])
    barycentrics[:, 2] = calls.choose(swapped, shares[1], shares[2])
    return hit, calls.take(chosen, row), barycentrics


def _edges(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int | np.integer) else size
    if not (1 <= height <= MAX_SIZE and 1 <= width <= MAX_SIZE):
        raise ValueError(f"size must be 1 to {MAX_SIZE} pixels, not {height} x {width}")
    return height, width


def _screen_triangles(calls, positions, faces, cull: bool):
    """Ids of the faces worth drawing (k,); whether the second and third corner change places (k,), which they do so
    that all of them turn the same way; and (9 or 12, k): x of the three corners, then y, depth and w.
    """
    faces = calls.columns_of(calls.integers(faces))
    columns = calls.columns_of(positions)
    x, y = ([columns[axis][faces[k]] for k in range(3)] for axis in (0, 1))
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    keep = area < 0 if cull else area != 0  # y points down: counter-clockwise to the eye has a negative area
    if positions.shape[1] == 4:
        ahead = columns[3] > 0
        keep = keep & ahead[faces[0]] & ahead[faces[1]] & ahead[faces[2]]
    chosen = calls.where_true(keep)
    turned = calls.take(area, chosen) < 0
    first, second, third = (calls.take(corner, chosen) for corner in faces)
    corner_ids = [first, calls.choose(turned, third, second), calls.choose(turned, second, third)]
    return chosen, turned, calls.stack([calls.take(column, ids) for column in columns for ids in corner_ids])


def _edge_values(dx, dy):
    """Twice the signed areas between the pixel's centre and the edges opposite to corners 0, 1, 2; dx and dy lead from
    the centre to the corners.

    Written so that an edge seen from the two faces that share it gives values that are equal but for their sign, bit
    by bit: this is what leaves no gap between neighbours.
    """
    return [dx[1] * dy[2] - dx[2] * dy[1], dx[2] * dy[0] - dx[0] * dy[2], dx[0] * dy[1] - dx[1] * dy[0]]


def _nearest_keys(calls, corners, height: int, width: int, at_once: int):
    """(height * width,) int64: depth and number of the nearest triangle; the largest integer where there is none."""
    key = calls.full(height * width, np.iinfo(np.int64).max)
    x_start, x_count = _pixels_between(calls, corners[0:3], width)
    y_start, y_count = _pixels_between(calls, corners[3:6], height)
    some = calls.where_true((x_count > 0) & (y_count > 0))
    x_start, x_count, y_start, y_count = (calls.take(array, some) for array in (x_start, x_count, y_start, y_count))
    for group in _groups(calls, y_count, at_once):
        # first one entry for each triangle and row that it spans ...
        local = calls.counted(y_count[group])
        row = calls.within(y_count[group]) + calls.take(y_start[group], local)
        triangle = calls.take(some[group], local)
        start, count = calls.take(x_start[group], local), calls.take(x_count[group], local)
        y = calls.reals(row) + 0.5
        dy = [calls.take(corner, triangle) - y for corner in corners[3:6]]
        for part in _groups(calls, count, at_once):
            # ... then one for each pixel in it
            line = calls.counted(count[part])
            column = calls.within(count[part]) + calls.take(start[part], line)
            x = calls.reals(column) + 0.5
            ids = calls.take(triangle[part], line)
            dx = [calls.take(corner, ids) - x for corner in corners[:3]]
            edges = _edge_values(dx, [calls.take(offset[part], line) for offset in dy])
            inside = calls.where_true((edges[0] >= 0) & (edges[1] >= 0) & (edges[2] >= 0))
            e0, e1, e2 = (calls.take(edge, inside) for edge in edges)
            ids = calls.take(ids, inside)
            z0, z1, z2 = (calls.take(corner, ids) for corner in corners[6:9])
            depth = (e0 * z0 + e1 * z1 + e2 * z2) / (e0 + e1 + e2)
            bits = calls.bits(depth)
            ordered = bits ^ ((bits >> 63) & 0x7FFFFFFF)  # float32 bits, made to sort like the numbers
            pixel = calls.take(row[part], calls.take(line, inside)) * width + calls.take(column, inside)
            calls.scatter_min(key, pixel, (ordered << 32) | ids)
    return key


def _pixels_between(calls, ends, edge: int):
    """The first pixel whose centre lies between the least and the greatest of `ends` (3, k), and how many do."""
    low, high = calls.least(ends), calls.greatest(ends)
    start = calls.integers(calls.clip(-calls.floor(0.5 - low), 0, edge))  # the ceiling of low - 0.5
    stop = calls.integers(calls.clip(calls.floor(high - 0.5), -1, edge - 1)) + 1
    return start, calls.clip(stop - start, 0, None)


def _groups(calls, counts, at_once: int):
    """Slices of `counts`, each of which adds up to at most `at_once` or has one member."""
    last = counts.cumsum(0)
    begin, done = 0, 0
    while begin < len(counts):
        end = max(calls.rank(last, done + at_once), begin + 1)
        yield slice(begin, end)
        done = int(last[end - 1])
        begin = end


def interpolate(corner_values: Array, face_ids: Array, barycentrics: Array) -> Array:
    """Blend values at the corners over the picture.

    corner_values: (m, 3, c), values at the corners of each face (`values[faces]` for values at vertices).
    Returns (height, width, c) in their type, 0 where there is no face.
    """
    covered = face_ids >= 0
    made = barycentrics.reshape(-1, 3)[covered.reshape(-1)]
    corners = corner_values[face_ids[covered]]
    blended = corners[:, 0] * made[:, :1] + corners[:, 1] * made[:, 1:2] + corners[:, 2] * made[:, 2:3]
    calls = _calls(blended)
    out = calls.zeros(*face_ids.shape, corner_values.shape[2])
    out[covered] = blended
    return out
