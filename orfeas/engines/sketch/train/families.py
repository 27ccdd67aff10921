"""Families of procedural objects. Each function builds one random member into an `Assembly`.

Objects stand upright (Y up) and face +Z. `TRAINING` are learned from; `HELD_OUT` are kept for validation, so that a
score on them says something about objects of kinds the network has never seen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from orfeas.engines.sketch.train import workpieces
from orfeas.engines.sketch.train.assembly import MATERIALS, Assembly, any_solid
from orfeas.engines.sketch.train.solids import (
    BOX,
    GABLE,
    Solid,
    cylinder,
    hollow,
    lathe,
    plate,
    random_outline,
    random_profile,
    ring,
    rotation,
    superquadric,
    tube,
    turn,
)

HALF = np.pi / 2


def soft_body(random: np.random.Generator) -> Solid:
    """The trunk or head of a creature: mostly egg-like, sometimes squarish."""
    kind = random.random()
    if kind < 0.55:
        return superquadric(taper=random.uniform(-0.35, 0.35), sides=18)
    if kind < 0.85:
        return superquadric(random.uniform(0.5, 1), random.uniform(0.5, 1), random.uniform(-0.35, 0.35))
    return superquadric(0.3, 0.3)


def _ears(a: Assembly, head: float, y: float, z: float, material: int) -> None:
    r = a.random
    if r.random() < 0.7:
        ear = superquadric(rows=9, sides=12) if r.random() < 0.5 else cylinder(12, 0.1)
        size = head * np.array([r.uniform(0.12, 0.4), r.uniform(0.2, 0.9), r.uniform(0.08, 0.25)])
        place = (head * r.uniform(0.4, 0.9), y + head * r.uniform(0.5, 1.1), z)
        a.add(ear, size, place, rotation(r.normal(0, 0.25, 3)), True, material)


def quadruped(a: Assembly) -> None:
    r = a.random
    skin = r.integers(0, MATERIALS, 4)
    length, height, y = r.uniform(0.5, 1.1), r.uniform(0.22, 0.45), r.uniform(0.1, 0.9)
    width = height * r.uniform(0.6, 1.1)
    a.add(soft_body(r), (width, height, length), (0, y, 0), material=skin[0])
    head, head_y, head_z = r.uniform(0.18, 0.45), y + r.uniform(0, 0.7), length + r.uniform(-0.15, 0.3)
    a.limb((0, y + height * 0.2, length * 0.7), (0, head_y, head_z), height * 0.7, head * 0.6, skin[0], False)
    a.add(soft_body(r), head * r.uniform(0.7, 1.2, 3), (0, head_y, head_z), material=skin[1])
    if r.random() < 0.7:
        snout = head * np.array([0.45, 0.4, r.uniform(0.4, 0.8)])
        a.add(superquadric(rows=9), snout, (0, head_y - head * 0.2, head_z + head * 0.8), material=skin[2])
    _ears(a, head, head_y, head_z, skin[1])
    leg, ground = r.uniform(0.06, 0.16), -r.uniform(0.1, 0.6)
    for z in (length * 0.7, -length * 0.7):
        foot = (width * r.uniform(0.5, 0.9), ground, z + r.uniform(-0.15, 0.15))
        a.limb((width * 0.6, y - height * 0.3, z), foot, leg * 1.3, leg, skin[0], True, 0.03)
        a.add(superquadric(rows=9, sides=12), leg * np.array([1.2, 0.8, 1.6]), foot, None, True, skin[2])
    if r.random() < 0.8:
        tip = (r.normal(0, 0.2), y + r.uniform(-0.4, 0.7), -length * r.uniform(1.2, 1.8))
        root = (0, y + height * 0.3, -length * 0.9)
        a.limb(root, tip, r.uniform(0.04, 0.2), r.uniform(0.03, 0.2), r.choice(skin), False, 0.1)
    if r.random() < 0.15:
        wing = (r.uniform(0.4, 0.9), 0.04, r.uniform(0.15, 0.4))
        a.add(superquadric(), wing, (width + 0.3, y + height, 0), rotation(r.normal(0, 0.3, 3)), True, skin[3])


def biped(a: Assembly) -> None:
    r = a.random
    skin = r.integers(0, MATERIALS, 4)
    height, width = r.uniform(0.35, 0.8), r.uniform(0.25, 0.55)
    depth = width * r.uniform(0.55, 1.05)
    a.add(soft_body(r), (width, height, depth), material=skin[0])
    head = r.uniform(0.25, 0.75)
    head_y, head_x = height + head * r.uniform(0.4, 0.9), head * r.uniform(0.8, 1.2)
    a.add(
        soft_body(r),
        (head_x, head, head * r.uniform(0.75, 1.1)),
        (0, head_y, r.uniform(-0.05, 0.15)),
        material=skin[1],
    )
    if r.random() < 0.4:  # hair
        size = (head_x * 1.08, head * 1.05, head * 0.95)
        a.add(superquadric(), size, (0, head_y + head * 0.15, -head * 0.18), material=skin[3])
    if r.random() < 0.3:  # hat
        hat = np.array([[0, -0.1], [1.4, -0.1], [1.4, 0], [0.8, 0.05], [0.6, 0.9], [0, 1.0]])
        a.add(lathe(hat), head_x, (0, head_y + head * 0.5, 0), material=skin[3])
    if r.random() < 0.5:  # nose or beak
        size = head * np.array([0.2, 0.18, 0.25]) * r.uniform(0.5, 1.6)
        a.add(superquadric(rows=9, sides=12), size, (0, head_y - head * 0.1, head), material=skin[2])
    if r.random() < 0.6:  # eyes
        eye = head * r.uniform(0.08, 0.25)
        place = (head_x * 0.4, head_y + head * 0.15, head * 0.85)
        a.add(superquadric(rows=7, sides=10), (eye, eye * 1.2, eye * 0.6), place, None, True, 4)
    _ears(a, head, head_y, 0, skin[1])
    arm, reach, swing = r.uniform(0.06, 0.17), r.uniform(0.4, 0.9), r.uniform(-0.2, 1.4)
    hand = (width + reach * np.sin(swing) * 0.8, height * 0.6 - reach * np.cos(swing), r.uniform(-0.1, 0.4))
    a.limb((width * 0.8, height * 0.6, 0), hand, arm * 1.1, arm, skin[0], True, 0.06)
    a.add(soft_body(r), arm * 1.3, hand, None, True, skin[1])
    leg, thigh, hip = r.uniform(0.15, 1.0), r.uniform(0.09, 0.22), width * r.uniform(0.4, 0.7)
    a.limb((hip, -height * 0.6, 0), (hip * 1.1, -height - leg, 0), thigh * 1.2, thigh, skin[2])
    foot = (hip * 1.1, -height - leg, thigh * 0.6)
    a.add(soft_body(r), thigh * np.array([1.1, 0.7, 1.7]), foot, None, True, skin[3])
    if r.random() < 0.3:  # tail
        tip = (r.normal(0, 0.4), -height + r.uniform(-0.3, 0.8), -depth - r.uniform(0.2, 0.8))
        a.limb((0, -height * 0.5, -depth * 0.8), tip, 0.12, 0.05, skin[0], False, 0.15)
    if r.random() < 0.25:  # something in the hand
        size = (r.uniform(0.05, 0.5), r.uniform(0.1, 0.8), r.uniform(0.03, 0.15))
        a.add(any_solid(r), size, (width + reach * 0.6, 0, 0.3), rotation(r.normal(0, 0.3, 3)))
    if r.random() < 0.2:  # a stand
        a.add(superquadric(0.4, 1), (width * 1.5, 0.08, depth * 1.6), (0, -height - leg - 0.05, 0))
    if r.random() < 0.2:  # a rucksack
        a.add(superquadric(0.5, 0.5), (width * 0.8, height * 0.8, 0.15), (0, 0, -depth - 0.08))


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


def plant(a: Assembly) -> None:
    r = a.random
    height = r.uniform(0.4, 1.2)
    a.limb((0, -height, 0), (r.normal(0, 0.1), 0, 0), r.uniform(0.05, 0.16), 0.05, 0, False, 0.08)
    for _ in range(r.integers(2, 12)):
        leaf = superquadric(rows=9, sides=12) if r.random() < 0.7 else cylinder(8, 0.1)
        size = r.uniform(0.12, 0.45) * r.uniform(0.5, 1.2, 3)
        turned = rotation(r.normal(0, 0.8, 3)) if r.random() < 0.5 else None
        a.add(leaf, size, r.normal(0, 0.3, 3) * (1, 0.8, 1) + (0, 0.35, 0), turned, material=1)
    if r.random() < 0.5:
        a.add(cylinder(20, r.uniform(1, 1.5)), (0.3, 0.2, 0.3), (0, -height, 0), material=2)


def rock(a: Assembly) -> None:
    r = a.random
    for _ in range(r.integers(1, 4)):
        size, place = r.uniform(0.3, 1, 3), r.normal(0, 0.3, 3)
        a.add(superquadric(rows=17, sides=28), size, place, rotation(r.normal(0, 1, 3)), material=0)


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


def lamp(a: Assembly) -> None:
    r = a.random
    tall, shade, foot = r.uniform(0.5, 1.1), r.uniform(0.3, 0.6), r.uniform(0.2, 0.45)
    a.add(cylinder(20, r.uniform(0.5, 1)), (foot, 0.07, foot), (0, -tall, 0), material=0)
    a.add(cylinder(10), (0.05, tall, 0.05), material=0)
    cone = np.array([[0, -1], [1, -1], [r.uniform(0.4, 0.9), 1], [0, 1]], float)
    a.add(lathe(cone), (shade, r.uniform(0.2, 0.4), shade), (0, tall, 0), material=1)


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


def fruit(a: Assembly) -> None:
    """Round things with a stalk: the family on which inflation is nearly right."""
    r = a.random
    height = np.linspace(-1, 1, 20)
    waist = r.uniform(0.55, 1)
    radius = np.sqrt(np.maximum(1 - height**2, 0)) * np.interp(height, (-1, 1), (1, waist))
    profile = np.stack([radius, height], 1)
    profile[[0, -1], 0] = 0
    width = r.uniform(0.6, 1)
    a.add(lathe(profile, 28), (width, r.uniform(0.6, 1.1), width), turned=turn(z=r.normal(0, 0.3)), material=0)
    if r.random() < 0.7:
        a.limb((0, 0.7, 0), (r.normal(0, 0.15), r.uniform(1, 1.4), r.normal(0, 0.15)), 0.05, 0.04, 1, False, 0.05)


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


Family = Callable[[Assembly], None]
TRAINING: dict[Family, float] = {
    quadruped: 0.11,
    biped: 0.14,
    seat_or_table: 0.08,
    sofa_or_bed: 0.03,
    cabinet: 0.04,
    car: 0.07,
    boat: 0.02,
    vessel: 0.08,
    building: 0.07,
    combination: 0.11,
    single: 0.05,
    carton: 0.06,
    flat_piece: 0.03,
    thin_piece: 0.03,
    round_piece: 0.12,
    plant: 0.02,
    rock: 0.02,
    tool: 0.04,
    workpieces.crossing: 0.17,
    workpieces.grown: 0.14,
    workpieces.profile_bar: 0.07,
    workpieces.extrusion: 0.09,
    workpieces.bored_plate: 0.05,
    workpieces.implement: 0.05,
}
HELD_OUT: tuple[Family, ...] = (robot, lamp, aeroplane, fruit, appliance, workpieces.fitting)
