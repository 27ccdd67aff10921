"""One training sample: a procedural object, a camera, its picture and its solid truth, all from one seed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from orfeas.engines.sketch import learned
from orfeas.engines.sketch.train import families, living, photo
from orfeas.engines.sketch.train.assembly import Assembly
from orfeas.engines.sketch.train.scan import depth_maps, occupancy, scan
from orfeas.engines.sketch.train.solids import turn

LAYERS = 80  # voxels of the truth in z
Z_START = -0.75  # where they begin, in frame units: more room behind than before the outline's plane
CREASED = 0.6  # of the pictures that are not all flat: smoothed between creases, see `photo.render`
LEAST_COVERAGE = 0.03  # of the picture; slimmer objects are drawn again


@dataclass(frozen=True)
class Sample:
    """A picture and what is behind it, in the frame of `orfeas.engines.sketch.learned`.

    rgba: (PICTURE, PICTURE, 4) uint8. prior: (GRID, GRID) float32, inflated half thickness of the picture's mask.
    front, back: (GRID, GRID) float32 z, NaN outside. normals: (GRID, GRID, 3) float32, 0 outside.
    solid: (LAYERS, GRID, GRID) bool. family: name. distance: of the camera in frame sides, inf for orthographic.
    """

    rgba: np.ndarray
    prior: np.ndarray
    front: np.ndarray
    back: np.ndarray
    normals: np.ndarray
    solid: np.ndarray
    family: str
    distance: float


def draw_sample(seed: int | tuple[int, ...], family: families.Family | None = None) -> Sample:
    """The sample of a seed, the same wherever numpy and OpenCV are. family: that one, or any of those trained on."""
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    while True:
        chosen = family
        if chosen is None:
            kinds, weights = list(families.TRAINING), np.array(list(families.TRAINING.values()))
            chosen = kinds[random.choice(len(kinds), p=weights / weights.sum())]
        assembly = Assembly(random)
        chosen(assembly)
        vertices, faces, material = assembly.join()
        vertices = _deform(vertices, chosen, random)
        points, distance = _view(vertices, random)
        sample = _look(vertices, points, faces, material, random, chosen.__name__, distance)
        if sample is not None:
            return sample


def _deform(vertices: np.ndarray, family: families.Family, random: np.random.Generator) -> np.ndarray:
    """Waves for what has grown, a bend for some, other proportions for all."""
    soft = family in (living.rock, living.fruit)
    if soft or (family in (living.quadruped, living.biped, living.plant) and random.random() < 0.35):
        strength = 0.04 if family is living.rock else 0.015
        for _ in range(6):
            wave, phase = random.normal(0, 3, 3), random.uniform(0, 6.28)
            vertices = vertices + random.normal(0, strength, 3) * np.sin(vertices @ wave + phase)[:, None]
    if random.random() < 0.12:
        vertices = vertices.copy()
        vertices[:, 2] += random.normal(0, 0.25) * vertices[:, 1] ** 2
    if family in families.HELD_OUT and soft:
        return vertices
    return vertices * np.exp(random.normal(0, 0.12, 3))


def _view(vertices: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, float]:
    """(points, camera distance): vertices turned, projected and fitted into the frame.

    Yaw all round, but oftener near the front; elevation -5 to 35 degrees, oftener 5 to 25; a little roll. Half of the
    cameras are orthographic, the others 1.5 to 8 frame sides away. Perspective is applied to z as well (x, y and z
    times d / (d - z)): planes stay planes, rays become parallel, and the solid stays aligned with the picture.
    """
    yaw = random.uniform(-np.pi, np.pi) if random.random() < 0.5 else random.normal(0, 0.7)
    elevation = random.uniform(5, 25) if random.random() < 0.5 else random.uniform(-5, 35)
    view = turn(y=yaw, x=np.radians(elevation), z=random.normal(0, 0.03))
    points = vertices @ view.T
    points = points - (points.min(0) + points.max(0)) / 2
    points = points / np.ptp(points[:, :2], axis=0).max()
    distance = np.inf
    if random.random() < 0.5:
        distance = float(np.exp(random.uniform(np.log(1.5), np.log(8)))) + max(points[:, 2].max(), 0)
        points = points * (distance / (distance - points[:, 2:]))
    low, high = points.min(0), points.max(0)
    fill = learned.FILL * random.uniform(0.985, 1.015)
    return (points - (low + high) / 2) * (fill / (high - low)[:2].max()), distance


def _look(vertices, points, faces, material, random, family: str, distance: float) -> Sample | None:
    """Picture and truth of projected points; None if there is too little to see."""
    middle = vertices.mean(0)
    place = (vertices - middle) / np.abs(vertices - middle).max()
    seen = scan(points, faces, round(learned.PICTURE * photo.OVERSAMPLING), only_facing=True)
    image, normals = photo.render(seen, points, faces, material, place, random, CREASED)
    rgba = photo.photograph(image, learned.PICTURE, random)
    if np.mean(rgba[..., 3] > 127) < LEAST_COVERAGE:
        return None
    fragments = scan(points, faces, learned.GRID)
    front, back = depth_maps(fragments)
    prior = learned.inflated_depth(learned.outline_distance(rgba[..., 3]))
    both = np.isfinite(front) & (prior > 0)
    if both.sum() < 8:
        return None
    # One picture cannot tell how far away a thing is: put its front where the inflated front is.
    shift = np.float32(np.median((prior - front)[both]))
    fragments = type(fragments)(
        fragments.size, fragments.pixel, fragments.face, fragments.weights, fragments.z + shift, fragments.facing
    )
    front, back = front + shift, back + shift
    solid = occupancy(fragments, Z_START, LAYERS, front, back)
    normals = cv2.resize(normals, (learned.GRID, learned.GRID), interpolation=cv2.INTER_AREA)
    normals[~np.isfinite(front)] = 0
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.where(length > 1e-3, normals / np.maximum(length, 1e-3), 0).astype(np.float32)
    return Sample(rgba, prior, front, back, normals, solid, family, distance)
