"""Which triangles lie in a grid cell, for every pattern of corner signs: derived, not typed in.

A cell's surface is found in two steps. On each of its six faces the corner signs say where the surface cuts the
face: an *ambiguous* face (positive and negative corners on opposite diagonals) can be cut in two ways, and Nielson
and Hamann's asymptotic decider ("The asymptotic decider", Visualization 1991) chooses from the four values on that
face alone, so that both cells beside a face always agree. The cuts of the six faces chain up to closed loops, and
each loop is filled with triangles.

Two rules make the result a closed 2-manifold for *any* values:

- every crossed grid edge carries one vertex, and every face cut is used once by either cell;
- no triangle edge inside a cell joins two vertices on the same cell face (it could meet the same edge of the
  neighbour). Where a loop cannot be filled so, it gets a vertex at its centre.

Numbering. Corner ``4*x + 2*y + z`` for offsets x, y, z of 0 or 1. Edge ``4*axis + 2*u + v`` runs along ``axis`` from
the corner whose offsets on the next two axes (cyclically) are u and v. Face ``2*axis + side``. Local vertex 12 is the
centre of a loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

CENTRE = 12


def _corner(axis: int, a: int, u: int, v: int) -> int:
    """Number of the corner with offset ``a`` along ``axis`` and u, v along the two axes that follow it."""
    offset = [0, 0, 0]
    offset[axis], offset[(axis + 1) % 3], offset[(axis + 2) % 3] = a, u, v
    return 4 * offset[0] + 2 * offset[1] + offset[2]


EDGE_CORNERS = tuple(
    (_corner(axis, 0, u, v), _corner(axis, 1, u, v)) for axis in range(3) for u in (0, 1) for v in (0, 1)
)
# The four corners of each face, counter-clockwise as seen from outside the cell.
FACE_CORNERS = tuple(
    tuple(_corner(axis, side, u, v) for u, v in (((0, 0), (1, 0), (1, 1), (0, 1))[:: 1 if side else -1]))
    for axis in range(3)
    for side in (0, 1)
)
_EDGE_OF = {frozenset(pair): edge for edge, pair in enumerate(EDGE_CORNERS)}
_FACES_OF_EDGE = tuple(
    frozenset(face for face in range(6) if set(pair) <= set(FACE_CORNERS[face])) for pair in EDGE_CORNERS
)


@dataclass(frozen=True)
class Tables:
    """Triangles for each pattern of signs and each choice on its ambiguous faces.

    ambiguous: (256,) uint8, bit f set where face f is ambiguous for that pattern (bit c of it: corner c is inside).
    row: (256, 64) int64, the row below for a pattern and a bit set of joined faces (subset of ``ambiguous``).
    count, first: (rows,) int64, how many triangles, and where they begin in ``triangles``.
    triangles: (n, 3) int64 local vertices, counter-clockwise seen from the negative side (outside).
    centre_edges: (rows, 12) bool, the edges whose mean is the centre vertex; all False where there is none.
    """

    ambiguous: np.ndarray
    row: np.ndarray
    count: np.ndarray
    first: np.ndarray
    triangles: np.ndarray
    centre_edges: np.ndarray


@lru_cache(maxsize=1)
def build_tables() -> Tables:
    """Derive the tables; takes a fraction of a second, once."""
    ambiguous = np.zeros(256, np.uint8)
    row = np.zeros((256, 64), np.int64)
    counts: list[int] = []
    triangles: list[tuple[int, int, int]] = []
    centres: list[list[bool]] = []
    for pattern in range(256):
        inside = [bool(pattern >> corner & 1) for corner in range(8)]
        unclear = [face for face in range(6) if _is_ambiguous(inside, face)]
        ambiguous[pattern] = sum(1 << face for face in unclear)
        for choice in product((False, True), repeat=len(unclear)):
            joined = {face for face, join in zip(unclear, choice, strict=True) if join}
            filled, centre = _fill(_loops(inside, joined))
            row[pattern, sum(1 << face for face in joined)] = len(counts)
            counts.append(len(filled))
            triangles.extend(filled)
            centres.append([edge in centre for edge in range(12)])
    count = np.array(counts, np.int64)
    return Tables(
        ambiguous, row, count, np.cumsum(count) - count, np.array(triangles, np.int64), np.array(centres, bool)
    )


def _is_ambiguous(inside: list[bool], face: int) -> bool:
    a, b, c, d = (inside[corner] for corner in FACE_CORNERS[face])
    return a == c and b == d and a != b


def _loops(inside: list[bool], joined: set[int]) -> list[list[int]]:
    """The closed loops of crossed edges around the cell; ``joined`` faces connect their positive corners."""
    following: dict[int, int] = {}
    for face in range(6):
        corners = FACE_CORNERS[face]
        # Walking around the face, the surface is left at an exit (inside to outside) and met again at an entry.
        walk = [(corners[k], corners[(k + 1) % 4]) for k in range(4)]
        crossed = [(_EDGE_OF[frozenset(pair)], inside[pair[0]]) for pair in walk if inside[pair[0]] != inside[pair[1]]]
        for k, (edge, leaving) in enumerate(crossed):
            if leaving:  # a cut ends here; it began past the negative corner that follows, or before the positive one
                following[crossed[(k + 1 if face in joined else k - 1) % len(crossed)][0]] = edge
    loops = []
    while following:
        loop = [min(following)]
        while (edge := following.pop(loop[-1])) != loop[0]:
            loop.append(edge)
        loops.append(loop)
    return loops


def _fill(loops: list[list[int]]) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Triangles of all loops, and the edges of the one loop (if any) that needs a centre vertex."""
    filled: list[tuple[int, int, int]] = []
    centre: list[int] = []
    for loop in loops:
        triangles = _triangulate(tuple(loop))
        if triangles is None:
            assert not centre, "two loops with a centre do not fit in one cell"
            centre = loop
            triangles = [(CENTRE, a, b) for a, b in zip(loop, loop[1:] + loop[:1], strict=True)]
        filled.extend(triangles)
    return filled, centre


def _triangulate(loop: tuple[int, ...]) -> list[tuple[int, int, int]] | None:
    """Triangles over ``loop`` without a diagonal on a cell face, or None if there is no such filling."""
    if len(loop) == 3:
        return [loop]
    first, last = loop[0], loop[-1]  # the triangle on this side splits the loop in two smaller ones
    for k in range(1, len(loop) - 1):
        triangles = [(first, loop[k], last)]
        for part in (loop[: k + 1], loop[k:]):
            if len(part) == 2:
                continue
            if _FACES_OF_EDGE[part[0]] & _FACES_OF_EDGE[part[-1]]:
                break
            inner = _triangulate(part)
            if inner is None:
                break
            triangles += inner
        else:
            return triangles
    return None
