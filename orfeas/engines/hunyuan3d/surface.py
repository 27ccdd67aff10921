"""Sparse marching cubes: the cells that the surface crosses -> a closed triangle mesh, on the device they lie on.

Whatever the values, every mesh edge has exactly two triangles and every vertex one fan of them (see
`marching_cubes_tables`). All that decides is either integer or IEEE double arithmetic in a fixed order, so the CPU
and a GPU return the same mesh, index for index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from orfeas.engines.hunyuan3d.marching_cubes_tables import CENTRE, EDGE_CORNERS, FACE_CORNERS, build_tables

# A vertex keeps this part of a cell's side away from the samples beside it: where the field is 0 on a sample itself,
# the triangles around that sample would otherwise shrink to nothing.
MARGIN = 1e-3
# Cells in one piece of work: bounds the scratch memory (about 600 bytes a cell) whatever the surface's size.
PIECE = 1 << 18


@dataclass(frozen=True)
class SurfaceCells:
    """Cells that hold a piece of the surface.

    cells: samples along each axis minus one (R); half_extent: the box is [-half_extent, half_extent] cubed.
    position: (n, 3) int64, index of the cell's lowest corner in samples, sorted (x slowest). From -1 to R: a layer of
        cells around the box closes shapes that touch it.
    values: (n, 8) float32, the field at corner ``4*x + 2*y + z``; inside where > 0.
    """

    cells: int
    half_extent: float
    position: Tensor
    values: Tensor


@dataclass(frozen=True)
class Surface:
    """A closed mesh, and on which grid edge each of its vertices lies.

    vertices: (n, 3) float64. faces: (m, 3) int64, counter-clockwise from outside (where the field is <= 0).
    The first ``len(axis)`` vertices lie on grid edges: from sample ``start`` (n, 3) int64 one cell along ``axis`` (n,),
    at the part ``t`` (n,) float64 of it, where the field goes from ``low`` to ``high`` (n,) float64. The others are
    centres: the mean of the vertices of ``centre_vertices`` (k, 12) int64, -1 where there is none.
    """

    cells: int
    half_extent: float
    vertices: Tensor
    faces: Tensor
    start: Tensor
    axis: Tensor
    low: Tensor
    high: Tensor
    t: Tensor
    centre_vertices: Tensor


def extract_surface(cells: SurfaceCells) -> Surface:
    """Marching cubes over ``cells``. No cell, or none that is crossed, gives a mesh without faces."""
    device = cells.values.device
    tables = _tables_on(str(device))
    span = cells.cells + 3  # samples along an axis with the layer around the box, which begins at -1
    stride = torch.tensor((span * span, span, 1), device=device)
    corners = torch.tensor(EDGE_CORNERS, device=device)
    offset = torch.stack((corners[:, 0] >> 2 & 1, corners[:, 0] >> 1 & 1, corners[:, 0] & 1), dim=1)
    edge_axis = torch.arange(12, device=device) // 4
    # The key of a grid edge: its lower sample, then its axis.
    edge_key = (offset * stride).sum(1) * 3 + edge_axis

    keys, lows, highs = [], [], []
    for values, position in zip(cells.values.split(PIECE), cells.position.split(PIECE), strict=True):
        inside = values > 0
        crossed = inside[:, corners[:, 0]] != inside[:, corners[:, 1]]
        cell, edge = crossed.nonzero(as_tuple=True)
        lower = ((position + 1) * stride).sum(1)  # CUDA has no matrix product of integers
        keys.append(lower[cell] * 3 + edge_key[edge])
        lows.append(values[cell, corners[edge, 0]])
        highs.append(values[cell, corners[edge, 1]])
    key, vertex = torch.unique(torch.cat(keys), return_inverse=True)
    low, high = (torch.empty(len(key), dtype=torch.float64, device=device) for _ in range(2))
    low[vertex] = torch.cat(lows).double()  # every cell around an edge brings the same two values
    high[vertex] = torch.cat(highs).double()
    del keys, lows, highs

    faces, centres, first = [], [], 0
    for values in cells.values.split(PIECE):
        inside = values > 0
        crossed = inside[:, corners[:, 0]] != inside[:, corners[:, 1]]
        local = torch.full((len(values), 13), -1, dtype=torch.int64, device=device)
        count = int(crossed.sum())
        local[:, :12][crossed] = vertex[first : first + count]
        first += count
        row = tables.row[_patterns(inside), _joined_faces(values.double(), inside, tables)]
        has_centre = tables.centre_edges[row].any(1)
        centre = torch.where(tables.centre_edges[row[has_centre]], local[has_centre, :12], -1)
        local[has_centre, CENTRE] = len(key) + sum(map(len, centres)) + torch.arange(len(centre), device=device)
        centres.append(centre)
        triangles = tables.count[row]
        cell = torch.arange(len(row), device=device).repeat_interleave(triangles)
        rank = torch.arange(len(cell), device=device) - (triangles.cumsum(0) - triangles)[cell]
        corner = tables.triangles[tables.first[row][cell] + rank]
        faces.append(local[cell[:, None], corner])

    axis, lower = key % 3, key // 3
    start = torch.stack((lower // (span * span), lower // span % span, lower % span), dim=1) - 1
    at = (start, axis, low, high, low / (low - high))
    surface = Surface(cells.cells, cells.half_extent, start.double(), torch.cat(faces), *at, torch.cat(centres))
    return _place(surface, surface.t)


def refine_surface(
    surface: Surface, field: Callable[[Tensor], Tensor], chunk: int, rounds: int = 2
) -> Iterator[tuple[float, Surface | None]]:
    """Move the vertices onto the field's zero along their grid edges; yields (fraction, None), then (1.0, surface).

    A root finder with a bracket (regula falsi in the variant of Anderson and Björck, BIT 13, 1973) in place of Newton's
    method: one evaluation a vertex and round where a gradient costs six more, and no vertex can leave its edge, so
    nothing folds over.
    field: (n, 3) float32 points -> (n,) logits, called with at most ``chunk`` points. Vertices of the cap that closes
    a shape at the box stay where they are: the field is not zero there.
    """
    limit = surface.cells
    end = surface.start.clone()
    end[torch.arange(len(end), device=end.device), surface.axis] += 1
    free = ((surface.start >= 0) & (end <= limit)).all(1).nonzero().squeeze(1)
    t = surface.t.clone()
    axes = torch.nn.functional.one_hot(surface.axis, 3).double()
    total = max(1, rounds * len(free))
    done = 0
    for piece in free.split(chunk):
        a, b = torch.zeros_like(t[piece]), torch.ones_like(t[piece])
        fa, fb = surface.low[piece].clone(), surface.high[piece].clone()
        here = t[piece]
        before = torch.zeros_like(fa)
        for _ in range(rounds):
            points = _to_box(surface, surface.start[piece] + here[:, None] * axes[piece])
            value = field(points.float()).double()
            same = (value > 0) == (fa > 0)  # the root lies beyond ``here``
            side = torch.where(same, 1.0, -1.0)
            # An end kept twice in a row holds the estimate back: its value shrinks by how much the curve bends.
            bend = 1 - value / torch.where(same, fa, fb)
            shrink = torch.where(side == before, torch.where(bend > 0, bend, 0.5), 1.0)
            fa, fb = torch.where(same, value, fa * shrink), torch.where(same, fb * shrink, value)
            before = side
            a, b = torch.where(same, here, a), torch.where(same, b, here)
            here = a + (b - a) * (fa / (fa - fb))
            done += len(piece)
            yield done / total, None
        t[piece] = here
    yield 1.0, _place(surface, t)


def _place(surface: Surface, t: Tensor) -> Surface:
    t = t.clamp(MARGIN, 1 - MARGIN)
    index = surface.start.double()
    index[torch.arange(len(index), device=index.device), surface.axis] += t
    vertices = _to_box(surface, index)
    members = surface.centre_vertices
    total = torch.zeros((len(members), 3), dtype=torch.float64, device=vertices.device)
    for column in members.unbind(1):  # one after the other: the order of a sum must not depend on the device
        total += torch.where((column >= 0)[:, None], vertices[column.clamp(min=0)], 0.0)
    centres = total / (members >= 0).sum(1, keepdim=True)
    return replace(surface, t=t, vertices=torch.cat((vertices, centres)))


def _to_box(surface: Surface, index: Tensor) -> Tensor:
    """Positions in samples -> coordinates. R cells span the box: R is the divisor, not the number of samples."""
    return index * (2 * surface.half_extent / surface.cells) - surface.half_extent


def _patterns(inside: Tensor) -> Tensor:
    """(n, 8) bool -> (n,) int64 with bit c for corner c."""
    return (inside << torch.arange(8, device=inside.device)).sum(1)


def _joined_faces(values: Tensor, inside: Tensor, tables: _DeviceTables) -> Tensor:
    """(n,) int64, bit f set where the positive corners of the ambiguous face f are connected across it.

    The saddle value of the bilinear interpolant has the sign of (product of the positive diagonal) - (product of the
    negative one). Products of two float32 are exact in float64, so both cells beside a face decide alike.
    """
    faces = torch.tensor(FACE_CORNERS, device=values.device)
    a, b, c, d = (values[:, faces[:, k]] for k in range(4))
    positive = inside[:, faces[:, 0]]
    joined = torch.where(positive, a * c > b * d, b * d > a * c)
    bits = (joined << torch.arange(6, device=values.device)).sum(1)
    return bits & tables.ambiguous[_patterns(inside)]


@dataclass(frozen=True)
class _DeviceTables:
    ambiguous: Tensor
    row: Tensor
    count: Tensor
    first: Tensor
    triangles: Tensor
    centre_edges: Tensor


@lru_cache(maxsize=4)
def _tables_on(device: str) -> _DeviceTables:
    tables = build_tables()
    put = lambda array: torch.from_numpy(array).to(device)  # noqa: E731
    return _DeviceTables(
        put(tables.ambiguous.astype("int64")),
        put(tables.row),
        put(tables.count),
        put(tables.first),
        put(tables.triangles),
        put(tables.centre_edges),
    )
