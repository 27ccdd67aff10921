"""What has grown: creatures, plants, fruit and stones.

Members as in `families`.
"""

from __future__ import annotations

import numpy as np

from orfeas.engines.sketch.train.assembly import MATERIALS, Assembly, any_solid
from orfeas.engines.sketch.train.solids import Solid, cylinder, lathe, rotation, superquadric, turn


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
