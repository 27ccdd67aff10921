"""Primitives alone, in heaps, flat, thin and round.

Members as in `families`.
"""

from __future__ import annotations

import numpy as np

from orfeas.engines.sketch.train.assembly import Assembly, any_solid
from orfeas.engines.sketch.train.solids import (
    BOX,
    cylinder,
    plate,
    random_outline,
    ring,
    rotation,
    superquadric,
    tube,
    turn,
)

HALF = np.pi / 2


def combination(a: Assembly) -> None:
    """Primitives thrown together."""
    r = a.random
    mirrored = r.random() < 0.6
    for part in range(r.integers(1, 9)):
        size = r.uniform(0.1, 0.7, 3) if r.random() < 0.6 else r.uniform((0.05, 0.3, 0.05), (0.2, 1, 0.2))
        turned = rotation(r.normal(0, 0.8, 3)) if r.random() < 0.5 else None
        if turned is None and r.random() < 0.5:
            turned = turn(x=r.choice([0, HALF]))
        place = r.uniform(-0.6, 0.6, 3) * (part > 0)
        a.add(any_solid(r), size, place, turned, mirrored and r.random() < 0.6)


def single(a: Assembly) -> None:
    r = a.random
    turned = rotation(r.normal(0, 0.8, 3)) if r.random() < 0.4 else None
    a.add(any_solid(r), r.uniform(0.25, 1, 3), turned=turned)


def flat_piece(a: Assembly) -> None:
    r = a.random
    thick = r.uniform(0.02, 0.12)
    a.add(plate(random_outline(r), thick, r.choice([0, 0.08, 0.2])), (r.uniform(0.4, 1), 1, 1), material=0)
    for _ in range(r.integers(0, 5)):
        size = r.uniform((0.05, 0.05, 0.05), (0.4, 0.4, 0.15))
        a.add(any_solid(r), size, (*r.uniform(-0.5, 0.5, 2), thick), mirrored=r.random() < 0.5)
    if r.random() < 0.4:
        a.add(cylinder(10), (0.05, r.uniform(0.5, 1.2), 0.05), (0, -1.2, 0))


def thin_piece(a: Assembly) -> None:
    """Rings, frames, wires, panels and rods."""
    r = a.random
    kind, bar = r.random(), r.uniform(0.03, 0.1)
    if kind < 0.3:
        for _ in range(r.integers(1, 4)):
            a.add(ring(r.uniform(0.06, 0.2)), r.uniform(0.5, 1, 3), r.normal(0, 0.2, 3), rotation(r.normal(0, 0.6, 3)))
    elif kind < 0.55:  # a frame, perhaps on legs
        width, height = r.uniform(0.4, 1, 2)
        a.add(BOX, (bar, height, bar), (width, 0, 0), None, True, 0)
        for y in np.linspace(-height, height, r.integers(2, 6)):
            a.add(BOX, (width + bar, bar, bar), (0, y, 0), material=0)
        if r.random() < 0.5:
            a.add(BOX, (width, 0.04, r.uniform(0.3, 0.6)), (0, -height, 0), material=1)
    elif kind < 0.8:  # a bent wire or pipe
        knots = r.normal(0, 0.6, (r.integers(3, 6), 3)) * (1, 1, r.uniform(0.2, 1))
        place = np.linspace(0, len(knots) - 1, 30)
        path = np.stack([np.interp(place, np.arange(len(knots)), knots[:, axis]) for axis in range(3)], 1)
        for _ in range(4):
            path[1:-1] = (path[:-2] + 2 * path[1:-1] + path[2:]) / 4
        a.add(tube(path, r.uniform(0.05, 0.15), 8), material=0)
    else:  # panels that meet at an angle
        for angle in (0.0, r.uniform(0.6, 2.2)):
            panel = np.array([r.uniform(0.4, 1), r.uniform(0.4, 0.9), r.uniform(0.02, 0.06)])
            a.add(BOX, panel, (0, panel[1] * np.cos(angle), panel[1] * np.sin(angle)), turn(x=angle))


def round_piece(a: Assembly) -> None:
    """Balls, eggs, pebbles, domes, discs, snowmen."""
    r = a.random
    kind = r.random()
    if kind < 0.6:
        size = r.uniform(0.6, 1) * np.exp(r.normal(0, 0.2, 3) * (r.random() < 0.7))
        a.add(superquadric(r.uniform(0.85, 1.1), r.uniform(0.9, 1.1), rows=17, sides=28), size)
        if r.random() < 0.4:
            a.add(any_solid(r), r.uniform(0.05, 0.25, 3), r.normal(0, 0.6, 3))
    else:
        y = 0.0
        for _ in range(r.integers(1, 4)):
            size = r.uniform(0.3, 0.8)
            a.add(superquadric(rows=15, sides=24), size * np.exp(r.normal(0, 0.1, 3)), (r.normal(0, 0.08), y, 0))
            y += size * r.uniform(0.8, 1.5)
