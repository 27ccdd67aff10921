"""How near a final mesh comes to the solid truth: overlap of volumes, distance and F-score of surfaces, smoothness.

One picture cannot tell how far away a thing is, so meshes are shifted along the line of sight to where they overlap
most. Lengths are in frame sides (the subject's longer side is 0.9 of one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orfeas.engines.sketch import learned
from orfeas.engines.sketch.train.photo import OVERSAMPLING, photograph, render
from orfeas.engines.sketch.train.scan import depth_maps, occupancy, scan, unseen
from orfeas.engines.sketch.train.solids import turn
from orfeas.mesh import Mesh

CELLS = 96  # voxels along the frame's side
LAYERS = 192  # two frame sides in z
Z_START = -1.0
POINTS = 20_000
NEAR = 0.03  # distance that counts as found, for the F-score
PICTURE = 256  # pixels of the picture that an engine is given


@dataclass(frozen=True)
class View:
    """A picture of a solid and the solid.

    rgba: (PICTURE, PICTURE, 4) uint8. solid: (LAYERS, CELLS, CELLS) bool. surface: (POINTS, 3) on its surface.
    """

    name: str
    rgba: np.ndarray
    solid: np.ndarray
    surface: np.ndarray


def look_at(
    name: str,
    vertices: np.ndarray,
    faces: np.ndarray,
    yaw: float,
    elevation: float,
    random: np.random.Generator,
    closed: bool = True,
) -> View:
    """An orthographic view of a mesh; yaw and elevation in degrees, materials and light from ``random``.

    closed: every part is closed and faces outward. If not, what no direction sees is solid (`scan.unseen`).
    """
    points = vertices @ turn(y=np.radians(yaw), x=np.radians(elevation)).T
    low, high = points.min(0), points.max(0)
    points = (points - (low + high) / 2) * (learned.FILL / (high - low)[:2].max())
    seen = scan(points, faces, round(PICTURE * OVERSAMPLING), only_facing=closed)
    middle = vertices.mean(0)
    place = (vertices - middle) / np.abs(vertices - middle).max()
    image, _ = render(seen, points, faces, np.zeros(len(faces), np.int64), place, random)
    solid = voxelize(points, faces) if closed else unseen(points, faces, CELLS, Z_START, LAYERS)
    return View(name, photograph(image, PICTURE, random), solid, _surface_of(solid))


def voxelize(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(LAYERS, CELLS, CELLS) bool: the solid inside of a closed mesh in frame units."""
    fragments = scan(points, faces, CELLS)
    return occupancy(fragments, Z_START, LAYERS, *depth_maps(fragments))


def _surface_of(solid: np.ndarray) -> np.ndarray:
    """(POINTS, 3) points spread evenly over the surface of a volume, in frame units, y up."""
    from skimage.measure import marching_cubes

    nodes, faces, _, _ = marching_cubes(np.pad(solid, 1).astype(np.float32), 0.5)
    layer, row, column = nodes.T - 0.5  # the padding, less the half cell to the centre
    vertices = np.stack([column / CELLS - 0.5, 0.5 - row / CELLS, layer / CELLS + Z_START], 1)
    return sample_surface(vertices, faces)


def sample_surface(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(POINTS, 3) points spread evenly over a mesh; the same each time."""
    random = np.random.default_rng(0)
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    chosen = random.choice(len(faces), POINTS, p=area / area.sum())
    u, v = random.random((2, POINTS, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]


def score(mesh: Mesh, view: View) -> dict[str, float]:
    """iou: overlap of volumes. chamfer: mean distance between the surfaces, both ways. f_score: at NEAR.

    bend: mean angle between neighbouring faces in degrees, of the mesh alone, weighted by edge length.
    """
    from scipy.spatial import cKDTree

    points = mesh.vertices * (learned.FILL / 2)
    points[:, 2] -= (points[:, 2].min() + points[:, 2].max()) / 2
    solid = voxelize(points, mesh.faces)
    shift, iou = _best_shift(solid, view.solid)
    surface = sample_surface(points + np.array([0, 0, shift / CELLS]), mesh.faces)
    there = cKDTree(view.surface).query(surface)[0]
    back = cKDTree(surface).query(view.surface)[0]
    precision, recall = np.mean(there < NEAR), np.mean(back < NEAR)
    return {
        "iou": iou,
        "chamfer": float(there.mean() + back.mean()) / 2,
        "f_score": float(2 * precision * recall / max(precision + recall, 1e-9)),
        "bend": mean_bend(mesh),
    }


def _best_shift(solid: np.ndarray, truth: np.ndarray) -> tuple[int, float]:
    """The shift in layers at which two volumes overlap most, and the intersection over union there."""
    columns = solid.any(0) | truth.any(0)
    ours, theirs = solid[:, columns], truth[:, columns]
    both = int(ours.sum()) + int(theirs.sum())
    best, most = 0, -1.0
    for shifts in (range(-60, 61, 4), None):
        for shift in shifts or range(best - 3, best + 4):
            low, high = max(0, -shift), min(LAYERS, LAYERS - shift)
            common = int((ours[low:high] & theirs[low + shift : high + shift]).sum())
            if common / (both - common) > most:
                best, most = shift, common / (both - common)
    return best, most


def mean_bend(mesh: Mesh) -> float:
    """Mean angle in degrees between the faces at an edge, weighted by the edge's length."""
    from orfeas.mesh import face_cross

    normals = face_cross(mesh.vertices, mesh.faces)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    owner = np.repeat(np.arange(len(mesh.faces)), 3)
    order = np.lexsort(edges.T)
    first, second = order[:-1], order[1:]
    pair = (edges[first] == edges[second]).all(1)
    first, second = first[pair], second[pair]
    cosine = (normals[owner[first]] * normals[owner[second]]).sum(1).clip(-1, 1)
    length = np.linalg.norm(np.diff(mesh.vertices[edges[first]], axis=1)[:, 0], axis=1)
    return float(np.degrees(np.arccos(cosine)) @ length / length.sum())
