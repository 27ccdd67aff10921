"""Families of what engineers and toy makers build: square, crossing, stacked, extruded and pierced.

Members as in `families`; most stand square and upright, as things on a table do, and most have one material, so that
nothing but light tells one face from the next.
"""

from __future__ import annotations

import numpy as np

from orfeas.engines.sketch.train.assembly import Assembly, any_solid
from orfeas.engines.sketch.train.solids import (
    BOX,
    Solid,
    cylinder,
    faceted,
    pierced,
    plate,
    random_outline,
    rotation,
    superquadric,
    turn,
)

HALF = np.pi / 2


def _lay(a: Assembly) -> None:
    """Now and then turn the whole to lie anyhow; mostly give all parts one material."""
    r = a.random
    turned = rotation(r.normal(0, 1, 3) * 2) if r.random() < 0.25 else np.eye(3)
    one = r.random() < 0.6
    a.parts = [(Solid(s.vertices @ turned.T, s.faces), a.parts[0][1] if one else kind) for s, kind in a.parts]


def _stroke(r: np.random.Generator) -> np.ndarray:
    """Half sizes of a box: a rod, a beam, a board or a block, along a random axis."""
    size = np.exp(r.uniform(np.log(0.08), np.log(0.5), 3))
    size[0] = r.uniform(0.5, 1)
    return size[r.permutation(3)]


def crossing(a: Assembly) -> None:
    """Beams, boards and bulges through one another, square to each other or at any angle about one axis."""
    r = a.random
    askew, axis = r.random() < 0.3, r.integers(3)
    shares = ((1, 0, 0, 0), (0.75, 0.1, 0.1, 0.05), (0, 1, 0, 0), (0, 0, 0, 1), (0.3, 0.3, 0.2, 0.2))
    shares = shares[r.choice(5, p=(0.35, 0.15, 0.15, 0.2, 0.15))]
    edges = r.choice([0.2, 0.5, 1.0])
    for _ in range(r.integers(2, 6)):
        shape = (BOX, superquadric(edges, edges), cylinder(12), faceted(r))[r.choice(4, p=shares)]
        turned = rotation(np.eye(3)[axis] * r.uniform(0, np.pi)) if askew else None
        a.add(shape, _stroke(r), r.uniform(-0.35, 0.35, 3), turned)
    _lay(a)


def grown(a: Assembly) -> None:
    """Blocks that sit on one another's faces, each reaching into the last."""
    r = a.random
    places, sizes = [np.zeros(3)], [_stroke(r) * 0.7]
    shapes = (BOX, BOX, BOX, superquadric(0.25, 0.25), cylinder(16), cylinder(6))
    a.add(shapes[r.integers(len(shapes))], sizes[0], places[0])
    for _ in range(r.integers(1, 7)):
        root, size = r.integers(len(places)), _stroke(r) * r.uniform(0.35, 0.8)
        axis, side = r.integers(3), r.choice([-1, 1])
        place = places[root] + sizes[root] * r.uniform(-0.9, 0.9, 3)
        place[axis] = places[root][axis] + side * (sizes[root][axis] + size[axis] * r.uniform(0.3, 0.95))
        turned = rotation(np.eye(3)[axis] * r.uniform(0, np.pi)) if r.random() < 0.25 else None
        a.add(shapes[r.integers(len(shapes))], size, place, turned)
        places.append(place)
        sizes.append(size)
    _lay(a)


def stacked(a: Assembly) -> None:
    """Toy blocks, cell next to cell of a lattice, each full or slim: all boxes, or all lumps of facets, or rounded."""
    r = a.random
    kind = r.choice(3, p=(0.5, 0.35, 0.15))  # boxes, facets, rounded edges
    edge = np.exp(r.normal(0, 0.15, 3)) / 2
    axes = r.permutation(3)[: r.choice([1, 2, 3], p=(0.1, 0.4, 0.5))]  # in a row, in a plane, in space
    cells = [(np.zeros(3), edge)]
    pegs = r.uniform(0.1, 0.6)  # share of cells that are slimmer
    for _ in range(r.integers(1, 7)):
        root, size = cells[r.integers(len(cells))]
        axis, side = r.choice(axes), r.choice([-1, 1])
        slim = r.random() < pegs
        new = edge * (r.uniform(0.2, 0.6, 3) if slim else r.uniform(0.85, 1.05, 3) if r.random() < 0.5 else 1.02)
        new[axis] = edge[axis] * r.choice([0.5, 1.0, 1.0, 2.0])
        place = root.copy()
        place[axis] += side * (size[axis] + new[axis] * 0.97)
        if r.random() < 0.25:  # to one side, as far as it still holds
            other = r.choice(axes)
            if other != axis:
                place[other] += r.choice([-1, 1]) * abs(size[other] - new[other])
        cells.append((place, new))
    for place, size in cells:
        shape = BOX if kind == 0 else faceted(r) if kind == 1 else superquadric(0.25, 0.25)
        a.add(shape, size * (1.03 if kind == 0 else 1.12), place)
    _lay(a)


def profile_bar(a: Assembly) -> None:
    """Angles, channels, tees, crosses, combs and stairs: one cross section, pulled along."""
    r = a.random
    wall, long = r.uniform(0.06, 0.3), r.uniform(0.15, 1)
    kind = r.integers(6)
    web, flange = r.uniform(0.3, 1, 2)
    upright, level = (wall, web, long), (flange, wall, long)
    if kind == 0:  # an angle
        a.add(BOX, upright)
        a.add(BOX, level, (flange - wall, -web + wall, 0))
    elif kind == 1:  # a channel, or an H
        a.add(BOX, level)
        place = (flange - wall, r.choice([0, web - wall]), 0)
        a.add(BOX, upright, place, mirrored=True)
    elif kind == 2:  # a tee, or a cross
        a.add(BOX, upright)
        a.add(BOX, level, (r.uniform(-0.3, 0.3), r.choice([0, 1, r.uniform(-1, 1)]) * web, 0))
    elif kind == 3:  # a comb
        a.add(BOX, (1, wall, long), (0, -web, 0))
        count = r.integers(2, 6)
        for x in np.linspace(-1, 1, count) * (1 - wall * 0.5):
            a.add(BOX, (min(wall, 0.6 / count), web, long * r.uniform(0.5, 1)), (x, 0, 0))
    elif kind == 4:  # stairs
        count = r.integers(2, 6)
        for step in range(count):
            tall = (step + 1) / count
            a.add(BOX, (1 / count + 0.01, tall * web, long), (2 * step / count - 1, tall * web, 0))
    else:  # a bracket with a rib
        a.add(BOX, (wall * 0.7, web, long))
        a.add(BOX, (flange, wall * 0.7, long), (flange, -web, 0))
        a.add(cylinder(3), (min(web, flange), wall * 0.5, min(web, flange)), (0, -web, 0), turn(x=HALF))
    _lay(a)


def extrusion(a: Assembly) -> None:
    """A random outline pulled into depth: biscuits, dies, columns; with a second one on it, or a hole through it."""
    r = a.random
    deep = np.exp(r.uniform(np.log(0.08), np.log(1.2)))
    outline = random_outline(r)
    if r.random() < 0.35:  # rings, washers, nuts
        inner = np.full(40, 0.9 * r.uniform(0.3, 0.85) * outline.min()) if r.random() < 0.6 else outline * 0.6
        a.add(pierced(outline, inner, deep), (r.uniform(0.5, 1), 1, 1))
    else:
        a.add(plate(outline, deep, r.choice([0, 0, 0.1, 0.25])), (r.uniform(0.5, 1), 1, 1))
    if r.random() < 0.4:
        other = plate(random_outline(r), r.uniform(0.1, 0.8), r.choice([0, 0.1]))
        place = (*r.uniform(-0.4, 0.4, 2), deep * r.choice([-1, 1]))
        a.add(other, r.uniform(0.2, 0.8), place, rotation(r.normal(0, 0.5, 3)) if r.random() < 0.3 else None)
    _lay(a)


def bored_plate(a: Assembly) -> None:
    """Boards and flanges with openings, gratings, boxes with a window."""
    r = a.random
    kind, thick = r.random(), r.uniform(0.04, 0.3)
    if kind < 0.45:  # a board with one opening anywhere
        width, height = r.uniform(0.4, 1, 2)
        left, right = np.sort(r.uniform(-0.85, 0.85, 2)) * width
        low, high = np.sort(r.uniform(-0.85, 0.85, 2)) * height
        for x0, x1, y0, y1 in (
            (-width, left, -height, height),
            (right, width, -height, height),
            (left, right, -height, low),
            (left, right, high, height),
        ):
            a.add(BOX, ((x1 - x0) / 2 + 1e-3, (y1 - y0) / 2, thick), ((x0 + x1) / 2, (y0 + y1) / 2, 0), material=0)
    elif kind < 0.7:  # a pipe flange
        wide = r.uniform(0.2, 0.5)
        circle = np.ones(40)
        a.add(pierced(circle, circle * wide * 0.8, thick * 0.5), material=0)
        a.add(pierced(circle * wide, circle * wide * 0.8, r.uniform(0.3, 1)), 1, (0, 0, thick), material=0)
        for angle in np.arange(r.integers(0, 7)):
            a.add(cylinder(6), (0.08, thick, 0.08), (0.75 * np.sin(angle), 0.75 * np.cos(angle), 0), turn(x=HALF))
    else:  # a grating
        bar, count = r.uniform(0.04, 0.12), r.integers(2, 5)
        height = r.uniform(0.4, 1)
        for x in np.linspace(-1, 1, count):
            a.add(BOX, (bar, height + bar, thick), (x, 0, 0), material=0)
        for y in np.linspace(-height, height, r.integers(2, 5)):
            a.add(BOX, (1 + bar, bar, thick), (0, y, r.choice([0, thick])), material=0)
    if r.random() < 0.4:
        a.add(any_solid(r), _stroke(r) * 0.5, r.uniform(-0.5, 0.5, 3))
    _lay(a)


def implement(a: Assembly) -> None:
    """Hammers, mallets, spanners, rakes, keys: a handle and a head, lying anyhow."""
    r = a.random
    long, thick = r.uniform(0.6, 1.2), r.uniform(0.05, 0.16)
    grip = BOX if r.random() < 0.4 else cylinder(int(r.choice([6, 16])), r.uniform(0.7, 1.2))
    a.add(grip, (thick, long, thick * r.uniform(0.4, 1)))
    kind = r.random()
    if kind < 0.4:
        a.add(BOX if r.random() < 0.6 else cylinder(12), _stroke(r) * 0.6, (0, long, 0))
    elif kind < 0.7:
        wide = r.uniform(0.2, 0.5)
        a.add(
            pierced(np.ones(40), np.full(40, r.uniform(0.4, 0.8)), r.uniform(0.2, 0.8)), wide, (0, long + wide * 0.8, 0)
        )
    else:
        a.add(BOX, (r.uniform(0.3, 0.7), thick, thick), (0, long, 0))
        for x in np.linspace(-0.5, 0.5, r.integers(2, 6)):
            a.add(BOX, (thick * 0.5, r.uniform(0.15, 0.4), thick * 0.5), (x * 0.6, long * 1.1, 0))
    _lay(a)


def fitting(a: Assembly) -> None:
    """Held out: a thick outline that bars run through, with a knob."""
    r = a.random
    a.add(plate(random_outline(r), r.uniform(0.15, 0.7), r.choice([0, 0.15])), (r.uniform(0.4, 0.8), 0.7, 0.7))
    for _ in range(r.integers(1, 4)):
        bar = cylinder(4) if r.random() < 0.6 else cylinder(14)
        size = (r.uniform(0.08, 0.25), r.uniform(0.6, 1.1), r.uniform(0.08, 0.25))
        a.add(bar, size, r.uniform(-0.3, 0.3, 3), rotation(r.normal(0, 1.2, 3)))
    if r.random() < 0.5:
        a.add(superquadric(r.uniform(0.3, 1), 1), r.uniform(0.15, 0.35), r.uniform(-0.6, 0.6, 3))
    turned = rotation(r.normal(0, 2, 3))
    a.parts = [(Solid(s.vertices @ turned.T, s.faces), 0) for s, _ in a.parts]
