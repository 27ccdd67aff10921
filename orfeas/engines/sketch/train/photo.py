"""The picture of a procedural object: materials, light, and the faults of photographs and of cutting out.

Every texture is drawn by a formula; no image is read.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from orfeas.engines.sketch.train.assembly import MATERIALS
from orfeas.engines.sketch.train.scan import Fragments, nearest
from orfeas.engines.sketch.train.solids import rotation

OVERSAMPLING = 1.5  # pixels rendered along a side for each one kept
CREASE = np.radians(35)  # faces that meet at a greater angle have an edge between them
PRINTS = 24  # size of the pool of printed patterns


@lru_cache(maxsize=1)
def _prints() -> np.ndarray:
    """(PRINTS, 128, 128, 3) float32: labels, lettering, blotches and scribbles, the same in every process."""
    random = np.random.default_rng(20_26)
    sheets = []
    for _ in range(PRINTS):
        sheet = np.full((128, 128, 3), random.uniform(25, 255, 3).astype(np.uint8))
        for _ in range(random.integers(5, 30)):
            colour = tuple(int(value) for value in random.integers(0, 256, 3))
            at = tuple(int(value) for value in random.integers(0, 128, 2))
            kind = random.random()
            if kind < 0.3:
                to = tuple(int(value) for value in random.integers(0, 128, 2))
                cv2.rectangle(sheet, at, to, colour, -1)
            elif kind < 0.55:
                cv2.circle(sheet, at, int(random.integers(3, 30)), colour, -1 if random.random() < 0.7 else 3)
            elif kind < 0.8:
                text = "".join(chr(random.integers(65, 91)) for _ in range(random.integers(2, 8)))
                cv2.putText(sheet, text, at, cv2.FONT_HERSHEY_DUPLEX, random.uniform(0.4, 1.5), colour, 2)
            else:
                curve = np.cumsum(random.normal(0, 12, (20, 2)), 0).astype(np.int32) + at
                cv2.polylines(sheet, [curve], False, colour, int(random.integers(1, 5)))
        if random.random() < 0.4:
            sheet = cv2.GaussianBlur(sheet, (0, 0), random.uniform(1, 6))
        sheets.append(sheet)
    return np.stack(sheets).astype(np.float32) / 255


def material_colours(place: np.ndarray, material: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(k, 3) float64 colours in [0, 1] of points on the object.

    place: (k, 3) in object coordinates, about [-1, 1]. material: (k,) int.
    """
    colours = np.zeros((len(place), 3))
    for kind in range(MATERIALS):
        here = material == kind
        points = place[here]
        grey = random.random() < 0.3
        base = np.full(3, random.uniform(0.08, 0.95)) if grey else random.uniform(0.06, 0.95, 3)
        other, pattern = random.uniform(0.05, 1, 3), random.random()
        painted = np.broadcast_to(base, points.shape)
        if pattern < 0.15:  # stripes
            stripe = np.sin(points @ random.normal(0, 12, 3)) > random.uniform(-0.5, 0.5)
            painted = np.where(stripe[:, None], base, other)
        elif pattern < 0.23:  # checks
            odd = np.floor(points * random.uniform(4, 14)).sum(1) % 2 > 0
            painted = np.where(odd[:, None], base, other)
        elif pattern < 0.5:  # cloudy, grained
            waves = random.normal(0, random.uniform(5, 40), (5, 3))
            cloud = np.sin(points @ waves.T + random.uniform(0, 6.28, 5)).sum(1)
            painted = base + cloud[:, None] * random.normal(0, 0.07, 3)
        elif pattern < 0.68:  # printed
            sheet = _prints()[random.integers(PRINTS)]
            flat = (points @ rotation(random.normal(0, 1.5, 3)))[:, :2] * random.uniform(30, 130)
            column, row = (flat % 128).astype(np.int64).T
            painted = base * 0.2 + 0.8 * sheet[row % 128, column % 128] * random.uniform(0.6, 1.2)
        colours[here] = painted
    return colours.clip(0, 1)


def render(
    fragments: Fragments,
    points: np.ndarray,
    faces: np.ndarray,
    material: np.ndarray,
    place: np.ndarray,
    random: np.random.Generator,
    creased: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the picture and its normals.

    A quarter of pictures shows every face flat. Of the others the share ``creased`` is smoothed between the creases,
    as real things are, and the rest by normals interpolated from corner to corner, as simple renderers do, which puts
    shades onto the flat sides of boxes that are not there.

    points: (n, 3) as projected. material: (m,) of each face. place: (n, 3) in object coordinates, for the textures.
    Returns (size, size, 4) float32 RGBA, straight alpha, and (size, size, 3) float32 normals of the surface as it is
    between its creases, x right, y up, z to the viewer.
    """
    size = fragments.size
    pixels, front = nearest(fragments)
    face = fragments.face[front]
    corners = faces[face]
    first, second = fragments.weights[front].T
    weights = np.stack([first, second, 1 - first - second], 1)[..., None].astype(np.float64)
    flat, true = _creased(points, faces, face, weights)
    normal = flat
    if random.random() < 0.75:
        # drawn only where it could matter: pictures without creases stay what they were
        simple = creased < 1 and (creased <= 0 or random.random() >= creased)
        normal = _interpolated(points, faces, corners, weights, flat) if simple else true
    towards = np.where(flat[:, 2:] < 0, -1, 1)  # what is seen looks at the viewer, also where a file has it inside out
    normal, true = normal * towards, true * towards
    colour = material_colours((place[corners] * weights).sum(1), material[face], random)

    light = np.array([random.normal(0, 0.6), random.uniform(0.1, 1), random.uniform(0.2, 1)])
    light /= np.linalg.norm(light)
    ambient, sky = random.uniform(0.25, 0.75), random.uniform(0, 0.3)
    shade = ambient + (1.05 - ambient) * (normal @ light).clip(0) + sky * 0.5 * normal[:, 1]
    shade *= _openness(fragments, pixels, front, random.uniform(0, 1))
    colour = colour * shade[:, None]
    if random.random() < 0.4:  # a highlight
        half = light + np.array([0, 0, 1])
        half /= np.linalg.norm(half)
        colour += random.uniform(0.1, 0.6) * (normal @ half).clip(0)[:, None] ** random.uniform(8, 60)
    image = np.zeros((size * size, 4), np.float32)
    image[pixels, :3] = colour.clip(0, 1) ** random.uniform(0.7, 1.3)
    image[pixels, 3] = 1
    normals = np.zeros((size * size, 3), np.float32)
    normals[pixels] = true
    return image.reshape(size, size, 4), normals.reshape(size, size, 3)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-12)


def _cross(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(m, 3) normals of faces, twice as long as the faces are large."""
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    return np.cross(b - a, c - a)


def _creased(
    points: np.ndarray, faces: np.ndarray, face: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(k, 3) unit normals of the fragments' faces, and of the surface smoothed between faces that meet at less than
    `CREASE`.

    face: (k,) of each fragment. weights: (k, 3, 1) barycentric.
    """
    cross = _cross(points, faces)
    normal = _unit(cross)
    seen, number = np.unique(face, return_inverse=True)
    vertex = faces[seen].ravel()
    # all faces around each corner of a face that is seen
    around = np.argsort(faces, axis=None, kind="stable")
    count = np.bincount(faces.ravel(), minlength=len(points))
    start = np.cumsum(count) - count
    repeat = count[vertex]
    corner = np.repeat(np.arange(len(vertex)), repeat)
    step = np.arange(len(corner)) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    other = around[start[vertex[corner]] + step] // 3
    smooth = (normal[other] * normal[seen[corner // 3]]).sum(1) > np.cos(CREASE)
    added = cross[other[smooth]]
    corner = corner[smooth]
    soft = np.stack([np.bincount(corner, added[:, axis], len(vertex)) for axis in range(3)], 1)
    soft = _unit(soft).reshape(-1, 3, 3)
    return normal[face], _unit((soft[number] * weights).sum(1))


def _interpolated(points, faces, corners, weights, flat) -> np.ndarray:
    """(k, 3) unit normals interpolated between the means at the corners; flat where that is far off."""
    cross = _cross(points, faces)
    corner = np.stack([np.bincount(faces.ravel(), np.repeat(cross[:, axis], 3), len(points)) for axis in range(3)], 1)
    soft = _unit((_unit(corner)[corners] * weights).sum(1))
    return np.where((soft * flat).sum(1, keepdims=True) < 0.75, flat, soft)


def _openness(fragments: Fragments, pixels: np.ndarray, front: np.ndarray, strength: float) -> np.ndarray:
    """(k,) factor on the light: pixels that lie behind their surroundings are darker, as corners and gaps are."""
    size = fragments.size
    depth, covered = np.zeros((2, size * size), np.float32)
    depth[pixels], covered[pixels] = fragments.z[front], 1
    blurred = cv2.GaussianBlur(np.stack([depth, covered], 1).reshape(size, size, 2), (0, 0), size * 0.03).reshape(-1, 2)
    behind = blurred[pixels, 0] / np.maximum(blurred[pixels, 1], 1e-3) - fragments.z[front]
    return 1 - strength * (behind * 6).clip(0, 0.6)


def photograph(image: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """(size, size, 4) uint8: the rendering as a photograph that was cut out, with the faults of both.

    Blur, noise, JPEG blocks; a mask that is a pixel too wide or narrow, wavy, soft, or with its background shining
    through.
    """
    colour = image[..., :3] * image[..., 3:]
    ground = random.uniform(0, 1, 3).astype(np.float32)
    colour = colour + ground * (1 - image[..., 3:])  # what lies behind shows where the cut is too wide
    alpha = image[..., 3]
    colour = cv2.resize(colour, (size, size), interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(alpha, (size, size), interpolation=cv2.INTER_AREA)
    if random.random() < 0.4:
        wave = cv2.GaussianBlur(random.normal(0, 1, (size, size)).astype(np.float32), (0, 0), random.uniform(2, 6))
        edge = cv2.GaussianBlur(alpha, (0, 0), random.uniform(0.5, 1.5))
        alpha = ((edge - 0.5 + random.normal(0, 0.12) + wave * random.uniform(0, 1.2)) * 2.5 + 0.5).clip(0, 1)
    if random.random() < 0.3:
        colour = cv2.GaussianBlur(colour, (0, 0), random.uniform(0.3, 1.2))
    if random.random() < 0.5:
        colour = colour + random.normal(0, random.uniform(0.005, 0.05), colour.shape)
    colour = (colour.clip(0, 1) * 255).astype(np.uint8)
    if random.random() < 0.5:
        quality = int(random.integers(25, 90))
        colour = cv2.imdecode(cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return np.dstack([colour, (alpha * 255 + 0.5).astype(np.uint8)])
