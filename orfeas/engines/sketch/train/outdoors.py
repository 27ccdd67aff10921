"""What is driven, flown or lived in, and robots.

Members as in `families`.
"""

from __future__ import annotations

import numpy as np

from orfeas.engines.sketch.train.assembly import MATERIALS, Assembly, any_solid
from orfeas.engines.sketch.train.solids import BOX, GABLE, cylinder, plate, random_outline, superquadric, turn

HALF = np.pi / 2


def car(a: Assembly) -> None:
    r = a.random
    length, width, height = r.uniform(0.7, 1.4), r.uniform(0.3, 0.6), r.uniform(0.12, 0.4)
    paint = r.integers(0, MATERIALS, 3)
    edge = r.choice([0.2, 0.4, 0.7])
    a.add(superquadric(edge, r.choice([0.2, 0.4, 0.7])), (width, height, length), material=paint[0])
    if r.random() < 0.85:
        cabin = (width * 0.85, height * r.uniform(0.7, 1.6), length * r.uniform(0.25, 0.8))
        shape = superquadric(r.choice([0.2, 0.5, 1]), r.choice([0.2, 0.5, 1]), -r.uniform(0, 0.4))
        a.add(shape, cabin, (0, height * 1.2, length * r.uniform(-0.4, 0.4)), material=paint[1])
    wheel = r.uniform(0.15, 0.38)
    for z in np.linspace(-0.65, 0.65, r.integers(2, 5)):
        a.add(cylinder(), (wheel, r.uniform(0.05, 0.14), wheel), (width, -height, z * length), turn(z=HALF), True, 4)
    for _ in range(r.integers(0, 4)):
        place = (r.uniform(0, width), r.uniform(-height, height * 2), r.uniform(-length, length))
        a.add(any_solid(r), r.uniform(0.05, 0.3, 3), place, None, True)


def boat(a: Assembly) -> None:
    r = a.random
    length, width, height = r.uniform(0.8, 1.4), r.uniform(0.2, 0.5), r.uniform(0.12, 0.35)
    a.add(superquadric(0.6, r.uniform(0.6, 1.3), r.uniform(0.1, 0.4)), (width, height, length), material=0)
    for _ in range(r.integers(0, 3)):
        tall = r.uniform(0.1, 0.4)
        place = (0, height + tall * 0.6, r.uniform(-0.5, 0.5) * length)
        a.add(superquadric(0.2, 0.3), (width * 0.6, tall, r.uniform(0.1, 0.4)), place)
    if r.random() < 0.5:
        mast = r.uniform(0.5, 1.2)
        a.add(cylinder(8), (0.04, mast, 0.04), (0, mast, 0), material=1)
        a.add(plate(random_outline(r), 0.05), (mast * 0.6, mast * 0.7, 1), (0, mast, 0.1), turn(y=HALF), material=2)


def building(a: Assembly) -> None:
    r = a.random
    wall = r.integers(MATERIALS)
    if r.random() < 0.5:
        a.add(superquadric(0.15, r.choice([0.15, 1])), (1.2, 0.06, 1.2), (0, -0.05, 0), material=3)
    for block in range(r.integers(1, 6)):
        width, depth, height = r.uniform(0.2, 0.6), r.uniform(0.2, 0.6), r.uniform(0.25, 1.1)
        x, z = (0, 0) if block == 0 else r.uniform(-0.7, 0.7, 2)
        if r.random() < 0.65:
            a.add(BOX, (width, height / 2, depth), (x, height / 2, z), material=wall)
            roof, tall = r.random(), r.uniform(0.15, 0.5)
            if roof < 0.5:
                a.add(GABLE, (width * 1.15, tall, depth * 1.15), (x, height, z), material=wall + 1)
            elif roof < 0.75:
                eaves = (width * 1.5, tall, depth * 1.5)
                a.add(cylinder(4, 0.02), eaves, (x, height + tall, z), turn(y=HALF / 2), material=wall + 1)
            for _ in range(r.integers(0, 4)):  # windows
                place = (x + r.uniform(-0.7, 0.7) * width, r.uniform(0.2, 0.8) * height, z + depth)
                a.add(BOX, (width * 0.15, height * 0.12, 0.03), place, material=4)
        else:
            tall = r.uniform(0.2, 0.5)
            a.add(cylinder(int(r.choice([6, 8, 20]))), (width * 0.6, height * 0.7, width * 0.6), (x, height * 0.7, z))
            a.add(cylinder(20, 0.03), (width * 0.8, tall, width * 0.8), (x, height * 1.4 + tall, z), material=wall + 1)
    if r.random() < 0.3:
        a.add(BOX, (0.08, 0.25, 0.08), (0.2, 0.9, 0))


def robot(a: Assembly) -> None:
    r = a.random
    metal = r.integers(0, MATERIALS, 3)
    width, height, depth = r.uniform(0.3, 0.55), r.uniform(0.3, 0.6), r.uniform(0.2, 0.4)
    edge = r.uniform(0.12, 0.3)
    a.add(superquadric(edge, edge), (width, height, depth), material=metal[0])
    head = r.uniform(0.2, 0.35)
    a.add(cylinder(8), (head * 0.4, 0.1, head * 0.4), (0, height + 0.05, 0), material=4)
    a.add(superquadric(edge, edge), (head * 1.2, head, head), (0, height + head, 0), material=metal[1])
    a.add(cylinder(12), (0.07, 0.06, 0.07), (head * 0.5, height + head, head), turn(x=HALF), True, 4)
    for y in (height * 0.5, -0.05 * height):
        a.add(superquadric(0.2, 0.2), (0.1, height * 0.32, 0.1), (width + 0.14, y, 0.05), None, True, metal[2])
    a.add(superquadric(0.2, 0.2), (0.13, 0.1, 0.16), (width + 0.14, -height * 0.5, 0.1), None, True, metal[1])
    leg = r.uniform(0.2, 0.5)
    a.add(BOX, (0.13, leg, 0.15), (width * 0.55, -height - leg, 0), None, True, metal[2])
    a.add(BOX, (0.16, 0.08, 0.28), (width * 0.55, -height - 2 * leg, 0.08), None, True, metal[0])


def aeroplane(a: Assembly) -> None:
    r = a.random
    length, radius = r.uniform(0.8, 1.2), r.uniform(0.12, 0.22)
    a.add(superquadric(1, 1), (radius, radius, length), material=0)
    wing, sweep = r.uniform(0.5, 0.9), r.uniform(-0.4, 0.1)
    a.add(superquadric(0.5, 0.4), (wing, 0.04, 0.18), (wing, 0, 0.05), turn(y=-sweep), True, 1)
    a.add(superquadric(0.5, 0.4), (wing * 0.35, 0.03, 0.1), (wing * 0.3, 0.05, -length * 0.85), None, True, 1)
    a.add(superquadric(0.5, 0.4), (0.03, 0.25, 0.13), (0, 0.22, -length * 0.85), material=1)
    if r.random() < 0.6:
        a.add(superquadric(0.6, 1), (0.08, 0.08, 0.2), (wing * 0.8, -0.1, 0.15), None, True, 2)
