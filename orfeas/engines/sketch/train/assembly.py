"""An object under construction: solids with a material each, and the primitives that any of them may be."""

from __future__ import annotations

import numpy as np

from orfeas.engines.sketch.train.solids import (
    BOX,
    Solid,
    cylinder,
    lathe,
    limb,
    plate,
    random_outline,
    random_profile,
    ring,
    superquadric,
)

MATERIALS = 5  # an object has at most so many different surfaces


class Assembly:
    """Parts of one object: solids with a material each."""

    def __init__(self, random: np.random.Generator):
        self.random = random
        self.parts: list[tuple[Solid, int]] = []

    def add(self, solid: Solid, scale=1.0, at=(0.0, 0.0, 0.0), turned=None, mirrored=False, material=None) -> None:
        """Scale (one or three factors), turn (3, 3), move and keep a solid; ``mirrored`` adds its image at -X."""
        vertices = solid.vertices * np.asarray(scale, float)
        if turned is not None:
            vertices = vertices @ turned.T
        vertices = vertices + np.asarray(at, float)
        material = self.random.integers(MATERIALS) if material is None else material % MATERIALS
        self.parts.append((Solid(vertices, solid.faces), int(material)))
        if mirrored:
            self.parts.append((Solid(vertices * (-1, 1, 1), solid.faces[:, ::-1]), int(material)))

    def limb(self, start, end, thick, thin, material, mirrored=True, bend=0.0) -> None:
        """A rod between two points, see `solids.limb`."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        self.add(limb(start, end, thick, thin, self.random.normal(0, bend, 3)), mirrored=mirrored, material=material)

    def join(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(vertices, faces, material of each face)."""
        starts = np.cumsum([0] + [len(solid.vertices) for solid, _ in self.parts[:-1]])
        vertices = np.concatenate([solid.vertices for solid, _ in self.parts])
        faces = np.concatenate([solid.faces + start for (solid, _), start in zip(self.parts, starts, strict=True)])
        material = np.concatenate([np.full(len(solid.faces), kind) for solid, kind in self.parts])
        return vertices, faces, material


def any_solid(random: np.random.Generator) -> Solid:
    """One of the primitives, with random parameters."""
    kind = random.choice(8, p=[0.2, 0.2, 0.15, 0.08, 0.15, 0.06, 0.1, 0.06])
    if kind == 0:
        return BOX
    if kind == 1:
        edges = (0.15, 0.3, 0.5, 0.8, 1.0)
        taper = random.uniform(-0.5, 0.5) * (random.random() < 0.4)
        return superquadric(random.choice(edges), random.choice(edges), taper)
    if kind == 2:
        return cylinder(int(random.choice([5, 6, 8, 20])), random.choice([1.0, 1.0, random.uniform(0.4, 1)]))
    if kind == 3:
        return cylinder(int(random.choice([4, 6, 20])), random.uniform(0, 0.25))
    if kind == 4:
        return superquadric()
    if kind == 5:
        return ring(random.uniform(0.12, 0.4))
    if kind == 6:
        return lathe(random_profile(random), 20)
    return plate(random_outline(random), random.uniform(0.1, 0.5), random.choice([0, 0.1]))
