"""Closed triangle solids of about unit size, from which the families are put together.

Each function returns a `Solid` whose faces are counter-clockwise seen from outside, centred at the origin, Y up,
reaching about -1 to 1. Solids may overlap: what counts as inside is the union.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Solid(NamedTuple):
    """vertices: (n, 3) float64. faces: (m, 3) int32."""

    vertices: np.ndarray
    faces: np.ndarray


BOX = Solid(
    np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float),
    np.array([int(corner) for corner in "013032467475045051237276026064157173"], np.int32).reshape(-1, 3),
)
GABLE = Solid(  # a roof: ridge along X, eaves at y = 0
    np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1], [-1, 1, 0], [1, 1, 0]], float),
    np.array([[0, 1, 2], [0, 2, 3], [0, 5, 1], [0, 4, 5], [3, 2, 5], [3, 5, 4], [0, 3, 4], [1, 5, 2]], np.int32),
)


@lru_cache(maxsize=256)
def _grid_faces(rows: int, columns: int, closed: bool) -> np.ndarray:
    """Faces of a (rows, columns) grid of vertices that closes along its columns, along its rows too if ``closed``."""
    row, column = np.mgrid[0 : rows if closed else rows - 1, 0:columns]
    below, right = (row + 1) % rows, (column + 1) % columns
    a, b, c, d = row * columns + column, row * columns + right, below * columns + column, below * columns + right
    return np.stack([a, b, c, b, d, c], axis=-1).reshape(-1, 3).astype(np.int32)


def outwards(solid: Solid) -> Solid:
    """The same solid with its faces turned so that it has a positive volume."""
    corners = solid.vertices[solid.faces]
    volume = np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    return solid if volume >= 0 else Solid(solid.vertices, solid.faces[:, ::-1])


def superquadric(
    upright: float = 1.0, around: float = 1.0, taper: float = 0.0, rows: int = 13, sides: int = 20
) -> Solid:
    """A ball (exponents 1), a box with rounded edges (towards 0) and what lies between (Barr 1981).

    upright, around: exponents of the profile and of the cross section. taper: in [-1, 1], widens the top.
    """
    latitude = np.linspace(-np.pi / 2, np.pi / 2, rows)
    if upright < 0.5:  # the profile turns within a short arc: put the rows there
        latitude = np.sign(latitude) * np.pi / 2 * (np.abs(latitude) / (np.pi / 2)) ** 0.6
    longitude = np.arange(sides) / sides * 2 * np.pi

    def power(value: np.ndarray, exponent: float) -> np.ndarray:
        return np.sign(value) * np.abs(value) ** exponent

    radius, height = power(np.cos(latitude), upright), power(np.sin(latitude), upright)
    radius = radius * (1 + taper * height)
    x = radius[:, None] * power(np.sin(longitude), around)
    z = radius[:, None] * power(np.cos(longitude), around)
    vertices = np.stack([x, np.repeat(height[:, None], sides, 1), z], -1).reshape(-1, 3)
    return outwards(Solid(vertices, _grid_faces(rows, sides, False)))


def faceted(random: np.random.Generator) -> Solid:
    """A lump of flat facets, between a cut stone and a box with its corners cut off: the hull of 14 to 60 points."""
    from scipy.spatial import ConvexHull

    direction = random.normal(0, 1, (random.integers(14, 60), 3))
    power = random.choice([2.0, 4.0, 8.0])  # of the norm whose unit ball they lie on: a ball, up to nearly a box
    points = direction / (np.abs(direction) ** power).sum(1, keepdims=True) ** (1 / power)
    hull = ConvexHull(points)
    vertices = points[hull.vertices]
    number = np.zeros(len(points), np.int32)
    number[hull.vertices] = np.arange(len(vertices))
    faces = number[hull.simplices]
    corners = vertices[faces]
    inward = np.einsum(
        "ij,ij->i", np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), corners[:, 0]
    )
    faces[inward < 0] = faces[inward < 0][:, ::-1]
    low, high = vertices.min(0), vertices.max(0)
    return Solid((vertices - (low + high) / 2) / ((high - low) / 2), faces)


def lathe(profile: np.ndarray, sides: int = 24) -> Solid:
    """A solid of revolution about Y. profile: (n, 2) radius and height, from the axis to the axis."""
    angle = np.arange(sides) / sides * 2 * np.pi
    x, z = profile[:, 0, None] * np.sin(angle), profile[:, 0, None] * np.cos(angle)
    vertices = np.stack([x, np.repeat(profile[:, 1, None], sides, 1), z], -1).reshape(-1, 3)
    return outwards(Solid(vertices, _grid_faces(len(profile), sides, False)))


def cylinder(sides: int = 20, top: float = 1.0) -> Solid:
    """A cylinder, prism (few sides), frustum or cone (small ``top``, the upper radius)."""
    return lathe(np.array([[0, -1], [1, -1], [top, 1], [0, 1]], float), sides)


def tube(path: np.ndarray, radius: float | np.ndarray, sides: int = 10, closed: bool = False) -> Solid:
    """A round tube along a path. path: (n, 3). radius: one, or one a point of the path. closed: a ring."""
    along = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    along = along / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-9)
    # a fixed direction that hardly any path follows keeps the rings from twisting
    across = np.cross(along, (0.123, 0.21, 0.97))
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
    other = np.cross(along, across)
    angle = np.arange(sides) / sides * 2 * np.pi
    radius = np.broadcast_to(radius, (len(path),))[:, None, None]
    ring = np.cos(angle)[:, None] * across[:, None] + np.sin(angle)[:, None] * other[:, None]
    points = path[:, None] + radius * ring
    if not closed:
        ends = [np.repeat(path[end, None], sides, 1) for end in (slice(0, 1), slice(-1, None))]
        points = np.concatenate([ends[0], points, ends[1]])
    return outwards(Solid(points.reshape(-1, 3), _grid_faces(len(points), sides, closed)))


def ring(thickness: float, sides: int = 24) -> Solid:
    """A torus about Z that just fits [-1, 1]; ``thickness`` is its tube's radius."""
    angle = np.arange(sides) / sides * 2 * np.pi
    path = np.stack([np.sin(angle), np.cos(angle), 0 * angle], 1) * (1 - thickness)
    return tube(path, thickness, 10, closed=True)


def limb(start: np.ndarray, end: np.ndarray, thick: float, thin: float, bend: np.ndarray) -> Solid:
    """A tapering, round-ended rod from ``start`` to ``end`` whose middle is displaced by ``bend``."""
    share = np.linspace(0, 1, 9)[:, None]
    path = start * (1 - share) + end * share + bend * 4 * share * (1 - share)
    ends = np.array([0.44, 0.94, 1, 1, 1, 1, 1, 0.94, 0.44])
    return tube(path, (thick * (1 - share) + thin * share)[:, 0] * ends, 9)


def plate(outline: np.ndarray, thickness: float, bevel: float = 0.0) -> Solid:
    """A flat piece facing +Z. outline: (n,) radius per angle. bevel: share of thickness and radius cut off the edge."""
    angle = np.arange(len(outline)) / len(outline) * 2 * np.pi
    across = np.stack([outline * np.sin(angle), outline * np.cos(angle)], 1)
    rings = [(0, -1), (1 - bevel, -1), (1, -1 + 2 * bevel), (1, 1 - 2 * bevel), (1 - bevel, 1), (0, 1)]
    layers = [np.concatenate([across * share, np.full((len(outline), 1), z * thickness)], 1) for share, z in rings]
    return outwards(Solid(np.concatenate(layers), _grid_faces(len(rings), len(outline), False)))


def pierced(outer: np.ndarray, inner: np.ndarray, thickness: float) -> Solid:
    """A flat piece facing +Z with a hole. outer, inner: (n,) radius per angle, inner the smaller everywhere."""
    angle = np.arange(len(outer)) / len(outer) * 2 * np.pi
    across = np.stack([np.sin(angle), np.cos(angle)], 1)
    walls = [(outer, -1), (outer, 1), (inner, 1), (inner, -1)]
    rings = [np.c_[across * radius[:, None], np.full(len(outer), z * thickness)] for radius, z in walls]
    return outwards(Solid(np.concatenate(rings), _grid_faces(4, len(outer), True)))


def random_profile(random: np.random.Generator, rows: int = 16) -> np.ndarray:
    """(n, 2) profile for `lathe`: a few random radii, joined by straight lines or by a soft curve."""
    height = np.linspace(-1, 1, rows)
    knots = random.integers(3, 6)
    radius = np.interp(height, np.linspace(-1, 1, knots), random.uniform(0.15, 1, knots))
    if random.random() < 0.7:
        radius = np.convolve(np.pad(radius, 2, "edge"), np.ones(5) / 5, "valid")
    return np.concatenate([[[0, -1]], np.stack([radius, height], 1), [[0, 1]]])


def hollow(profile: np.ndarray, wall: float, floor: float) -> np.ndarray:
    """The profile of an open vessel: outside of ``profile``, inside thinner by ``wall``, down to height ``floor``."""
    outer = profile[:-1]
    inner = outer[outer[:, 1] > floor][::-1].copy()
    inner[:, 0] = np.maximum(inner[:, 0] - wall, 0.02)
    return np.concatenate([outer, inner, [[0, floor]]])


def random_outline(random: np.random.Generator, count: int = 40) -> np.ndarray:
    """(count,) radii for `plate`: a regular polygon, a flower or a blob, at most 1."""
    angle = np.arange(count) / count * 2 * np.pi
    kind = random.random()
    if kind < 0.3:
        corners = random.integers(3, 8)
        radius = np.cos(np.pi / corners) / np.cos(angle % (2 * np.pi / corners) - np.pi / corners)
    elif kind < 0.5:
        radius = 1 + random.uniform(0.15, 0.45) * np.cos(random.integers(4, 9) * angle)
    else:
        wave = np.arange(1, 6)[:, None]
        even, odd = random.normal(0, 0.22, (5, 1)) / wave, random.normal(0, 0.06, (5, 1)) / wave
        radius = 1 + (even * np.cos(wave * angle) + odd * np.sin(wave * angle)).sum(0)
    radius = np.clip(radius, 0.2, 2)
    return radius / radius.max()


def rotation(vector: np.ndarray) -> np.ndarray:
    """(3, 3) rotation about ``vector`` by its length in radians (Rodrigues)."""
    angle = np.linalg.norm(vector) + 1e-12
    x, y, z = np.asarray(vector) / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def turn(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """(3, 3): rotation about Y, then X, then Z, in radians."""
    return rotation((0, 0, z)) @ rotation((x, 0, 0)) @ rotation((0, y, 0))
