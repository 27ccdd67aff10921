"""What stands in a home: furniture, vessels, cartons, tools, lamps, machines.

Members as in `families`.
"""

from __future__ import annotations

import numpy as np

from orfeas.engines.sketch.train.assembly import MATERIALS, Assembly, any_solid
from orfeas.engines.sketch.train.solids import (
    BOX,
    Solid,
    cylinder,
    hollow,
    lathe,
    random_profile,
    rotation,
    superquadric,
    tube,
    turn,
)

HALF = np.pi / 2


def seat_or_table(a: Assembly) -> None:
    r = a.random
    width, depth, thick = r.uniform(0.4, 1), r.uniform(0.35, 0.8), r.uniform(0.03, 0.15)
    height, leg, wood = r.uniform(0.3, 1.1), r.uniform(0.03, 0.1), r.integers(MATERIALS)
    top = superquadric(0.15, 0.2) if r.random() < 0.4 else BOX
    if r.random() < 0.2:
        top, depth = cylinder(), width
    a.add(top, (width, thick, depth), material=wood)
    if r.random() < 0.15:  # one leg
        a.add(cylinder(12), (leg * 1.5, height / 2, leg * 1.5), (0, -height / 2, 0))
        a.add(cylinder(20), (width * 0.6, 0.04, depth * 0.6), (0, -height, 0))
    else:
        shape = cylinder(int(r.choice([4, 12])), r.uniform(0.5, 1)) if r.random() < 0.5 else BOX
        inset = r.uniform(0.7, 1)
        for z in (-depth + leg, depth - leg):
            a.add(shape, (leg, height / 2, leg), ((width - leg) * inset, -height / 2, z * inset), None, True, wood + 1)
    if r.random() < 0.6:  # a back
        tall = r.uniform(0.3, 1.1)
        if r.random() < 0.6:
            a.add(superquadric(0.2, 0.2), (width, tall / 2, thick * 0.8), (0, tall / 2, -depth + thick), material=wood)
        else:
            a.add(BOX, (leg, tall / 2, leg), (width - leg, tall / 2, -depth + leg), None, True, wood)
            for rung in range(r.integers(1, 5)):
                a.add(BOX, (width, leg, leg * 0.6), (0, tall * (rung + 1) / 5, -depth + leg), material=wood)
        if r.random() < 0.4:
            a.add(superquadric(0.3, 0.3), (thick, thick, depth), (width, tall * 0.5, 0), None, True, wood)


def sofa_or_bed(a: Assembly) -> None:
    r = a.random
    width, depth, height = r.uniform(0.5, 1.2), r.uniform(0.4, 1.0), r.uniform(0.12, 0.35)
    edge, cloth = r.uniform(0.15, 0.5), r.integers(MATERIALS)
    a.add(superquadric(edge, edge), (width, height, depth), material=cloth)
    tall = r.uniform(0.2, 0.8)
    a.add(superquadric(edge, edge), (width, tall, 0.12), (0, tall - height, -depth), material=cloth)
    if r.random() < 0.6:
        arm = r.uniform(0.08, 0.2)
        a.add(superquadric(edge, edge), (arm, height + tall * 0.4, depth), (width, tall * 0.3, 0), None, True, cloth)
    for _ in range(r.integers(0, 4)):
        place = (r.uniform(-0.7, 0.7) * width, height + 0.08, r.uniform(-0.6, 0.4) * depth)
        a.add(superquadric(0.5, 0.5), (0.25, 0.1, 0.2), place, rotation(r.normal(0, 0.3, 3)))


def cabinet(a: Assembly) -> None:
    r = a.random
    width, height, depth = r.uniform(0.3, 1, 3)
    wood = r.integers(MATERIALS)
    if r.random() < 0.4:  # open shelves
        thick = r.uniform(0.03, 0.07)
        for y in np.linspace(-height, height, r.integers(2, 6)):
            a.add(BOX, (width, thick, depth), (0, y, 0), material=wood)
        a.add(BOX, (thick, height, depth), (width, 0, 0), None, True, wood)
        if r.random() < 0.5:
            a.add(BOX, (width, height, thick), (0, 0, -depth), material=wood)
        return
    a.add(BOX if r.random() < 0.6 else superquadric(0.15, 0.15), (width, height, depth), material=wood)
    count = r.integers(1, 5)
    for row in range(count):
        y = -height + height / count * (2 * row + 1)
        a.add(BOX, (width * 0.9, height / count * 0.85, 0.03), (0, y, depth), material=wood + 1)
        a.add(superquadric(rows=7, sides=10), 0.05, (0, y, depth + 0.05), material=4)
    if r.random() < 0.4:
        a.add(BOX, (0.06, 0.1, 0.06), (width * 0.8, -height - 0.1, depth * 0.8), None, True)
        a.add(BOX, (0.06, 0.1, 0.06), (width * 0.8, -height - 0.1, -depth * 0.8), None, True)
    if r.random() < 0.4:
        a.add(any_solid(r), r.uniform(0.15, 0.4), (r.uniform(-0.5, 0.5) * width, height + 0.2, 0))


def vessel(a: Assembly) -> None:
    r = a.random
    width, height = r.uniform(0.35, 1), r.uniform(0.4, 1.2)
    squash = r.choice([1.0, 1.0, r.uniform(0.5, 1)])
    profile = random_profile(r)
    if r.random() < 0.45:
        profile = hollow(profile, r.uniform(0.06, 0.15), r.uniform(-0.9, 0.2))
    a.add(lathe(profile, int(r.choice([6, 8, 24, 24]))), (width, height, width * squash), material=0)
    if r.random() < 0.5:  # a handle
        angle = np.linspace(-0.4, np.pi + 0.4, 14)
        size = r.uniform(0.2, 0.5)
        path = np.stack([width * 0.7 + size * np.sin(angle), size * 1.2 * np.cos(angle), 0 * angle], 1)
        a.add(tube(path, r.uniform(0.04, 0.1), 8), turned=turn(y=r.uniform(0, 6.28)), mirrored=r.random() < 0.3)
    if r.random() < 0.35:  # a lid
        a.add(superquadric(0.5, 1), (width * r.uniform(0.3, 0.9), 0.08, width * squash * 0.7), (0, height, 0))
        a.add(superquadric(rows=7, sides=12), 0.1, (0, height + 0.12, 0))
    if r.random() < 0.2:  # a spout
        a.limb((0, 0, width * squash * 0.6), (0, 0.4, width * squash + 0.5), 0.12, 0.06, 0, False)


def carton(a: Assembly) -> None:
    """Boxes of any proportion: standing, lying, tilted, stacked, open."""
    r = a.random
    kind = r.random()
    size = np.exp(r.uniform(np.log(0.15), 0, 3))
    card = r.integers(MATERIALS)
    if kind < 0.55:
        shape = BOX if r.random() < 0.6 else superquadric(r.uniform(0.1, 0.4), r.uniform(0.1, 0.4))
        a.add(shape, size, turned=rotation(r.normal(0, 0.7, 3)) if r.random() < 0.3 else None, material=card)
        for _ in range(r.integers(0, 3)):
            a.add(any_solid(r), r.uniform(0.05, 0.25, 3), r.uniform(-1, 1, 3) * size)
    elif kind < 0.8:
        y = 0.0
        for _ in range(r.integers(2, 5)):
            part = np.array([r.uniform(0.3, 0.8), r.uniform(0.08, 0.4), r.uniform(0.3, 0.8)])
            y += part[1]
            a.add(BOX, part, (r.normal(0, 0.1), y, r.normal(0, 0.1)), turn(y=r.normal(0, 0.3)))
            y += part[1]
    else:
        wall = r.uniform(0.03, 0.1)
        a.add(BOX, (size[0], wall, size[2]), (0, -size[1], 0), material=card)
        a.add(BOX, (wall, size[1], size[2]), (size[0], 0, 0), None, True, card)
        for z in (-size[2], size[2]):
            a.add(BOX, (size[0], size[1], wall), (0, 0, z), material=card)


def tool(a: Assembly) -> None:
    r = a.random
    length = r.uniform(0.6, 1.4)
    grip = cylinder(12, r.uniform(0.6, 1.2)) if r.random() < 0.6 else superquadric(0.3, 0.4)
    a.add(grip, (r.uniform(0.04, 0.16), length, r.uniform(0.04, 0.14)), material=0)
    for _ in range(r.integers(1, 4)):
        place = (r.uniform(0, 0.3) * (r.random() < 0.5), length * r.choice([1, 0.8, -1]), 0)
        turned = rotation(r.normal(0, 0.3, 3)) if r.random() < 0.3 else None
        a.add(any_solid(r), r.uniform(0.08, 0.45, 3), place, turned, r.random() < 0.4)
    if r.random() < 0.5:
        tilt = turn(z=r.uniform(-1.5, 1.5))
        a.parts = [(Solid(solid.vertices @ tilt.T, solid.faces), kind) for solid, kind in a.parts]


def lamp(a: Assembly) -> None:
    r = a.random
    tall, shade, foot = r.uniform(0.5, 1.1), r.uniform(0.3, 0.6), r.uniform(0.2, 0.45)
    a.add(cylinder(20, r.uniform(0.5, 1)), (foot, 0.07, foot), (0, -tall, 0), material=0)
    a.add(cylinder(10), (0.05, tall, 0.05), material=0)
    cone = np.array([[0, -1], [1, -1], [r.uniform(0.4, 0.9), 1], [0, 1]], float)
    a.add(lathe(cone), (shade, r.uniform(0.2, 0.4), shade), (0, tall, 0), material=1)


def appliance(a: Assembly) -> None:
    """A housing with knobs, feet, a door: kitchen and office machines."""
    r = a.random
    width, height, depth = r.uniform(0.35, 1, 3)
    edge = r.uniform(0.1, 0.4)
    a.add(superquadric(edge, edge), (width, height, depth), material=0)
    a.add(superquadric(0.2, 0.2), (width * 0.6, height * 0.6, 0.05), (-width * 0.2, 0, depth), material=1)
    for y in np.linspace(-0.5, 0.5, r.integers(1, 4)):
        a.add(cylinder(12), (0.09, 0.06, 0.09), (width * 0.7, y * height, depth + 0.03), turn(x=HALF), material=2)
    if r.random() < 0.5:
        a.add(superquadric(0.3, 0.6), (width * 0.5, 0.1, depth * 0.5), (0, height + 0.07, 0), material=3)
    a.add(cylinder(10), (0.1, 0.06, 0.1), (width * 0.7, -height - 0.03, depth * 0.6), None, True, 4)
