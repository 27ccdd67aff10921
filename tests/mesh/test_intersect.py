"""Crossing triangles and rays against the slow way: every pair, every triangle."""

from __future__ import annotations

import numpy as np
import pytest

from orfeas.mesh import Mesh, face_cross
from orfeas.mesh.grid import build_grid, cast_rays, near_pairs
from orfeas.mesh.intersect import crossing_pairs
from tests.mesh import shapes


def segment_hits(a, b, triangle) -> bool:
    """Whether the open segment ab passes through the inside of a triangle, by signed volumes."""
    volume = lambda p, q, r, s: np.dot(q - p, np.cross(r - p, s - p))  # noqa: E731
    x, y, z = triangle
    if np.sign(volume(a, x, y, z)) == np.sign(volume(b, x, y, z)):
        return False
    sides = np.sign([volume(a, b, x, y), volume(a, b, y, z), volume(a, b, z, x)])
    return bool((sides > 0).all() or (sides < 0).all())


@pytest.mark.parametrize("seed", range(3))
def test_random_triangles_cross_as_the_slow_way_says(seed):
    random = np.random.default_rng(seed)
    corners = random.normal(size=(70, 1, 3)) + random.normal(size=(70, 3, 3)) * 0.6
    mesh = shapes.soup(Mesh(corners.reshape(-1, 3), np.arange(210).reshape(-1, 3)))
    expected = set()
    for i in range(70):
        for j in range(i + 1, 70):
            one, other = corners[i], corners[j]
            crosses = any(segment_hits(one[k], one[k - 1], other) for k in range(3))
            if crosses or any(segment_hits(other[k], other[k - 1], one) for k in range(3)):
                expected.add((i, j))
    assert len(expected) > 20
    assert {tuple(sorted(pair)) for pair in crossing_pairs(mesh).tolist()} == expected


def test_every_pair_of_near_boxes_is_found_once():
    random = np.random.default_rng(5)
    corners = random.normal(size=(300, 1, 3)) + random.normal(size=(300, 3, 3)) * random.uniform(0.02, 1, (300, 1, 1))
    low, high = corners.min(axis=1), corners.max(axis=1)
    meet = ((low[:, None] <= high[None]) & (low[None] <= high[:, None])).all(axis=2)
    expected = {(i, j) for i, j in np.argwhere(meet) if i < j}
    found = [tuple(sorted(pair)) for pair in near_pairs(corners).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_fine_detail_on_a_large_plate_is_found():
    """Thousands of crossing crumbs in one spot of a plate 10,000 times their size: one cell of a plain grid."""
    crumbs = [shapes.moved(shapes.cube(0.01), (0.011 * (k % 40), 0.1, 0.011 * (k // 40))) for k in range(600)]
    crossing = shapes.cube(0.01, (0.005, 0.105, 0.005))
    mesh = shapes.together(shapes.box((100, 0.1, 100)), *crumbs, crossing)
    pairs = crossing_pairs(mesh)
    assert len(pairs) > 3
    first = len(mesh.faces) - 12
    assert ((pairs >= first).sum(axis=1) == 1).all()  # only the last cube crosses others


def test_touching_is_not_crossing():
    assert not len(crossing_pairs(shapes.ball()))
    assert not len(crossing_pairs(shapes.cube()))
    assert not len(crossing_pairs(shapes.together(shapes.cube(), shapes.cube(1.0, (1.0, 0, 0)))))


def test_fold_at_a_shared_corner_is_found():
    beside = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [1, -1, -1], [0.5, -0.5, 1.0]], float)
    assert len(crossing_pairs(Mesh(beside, np.array([[0, 1, 2], [0, 3, 4]])))) == 0  # the corner is all they share
    through = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [1.0, 0.4, -1], [0.4, 0.3, 1.0]], float)
    assert len(crossing_pairs(Mesh(through, np.array([[0, 1, 2], [0, 3, 4]])))) == 1


def test_rays_hit_what_the_slow_way_hits():
    mesh = shapes.together(shapes.ball(cells=16), shapes.moved(shapes.torus(1, 0.3, 24, 12), (0.5, 0.2, 0)))
    corners = mesh.vertices[mesh.faces]
    random = np.random.default_rng(0)
    origins = random.normal(size=(300, 3))
    directions = random.normal(size=(300, 3))
    directions[:20] = np.eye(3)[np.arange(20) % 3] * np.where(np.arange(20) % 2, 1, -1)[:, None]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    distance, face = cast_rays(corners, build_grid(corners), origins, directions)
    normal = face_cross(mesh.vertices, mesh.faces)
    expected = np.full(300, np.inf)
    for k in range(300):
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.einsum("ij,ij->i", corners[:, 0] - origins[k], normal) / (normal @ directions[k])
        t = np.where(np.isfinite(t), t, -1.0)
        point = origins[k] + t[:, None] * directions[k]
        inside = np.ones(len(t), bool)
        for side in range(3):
            edge = corners[:, (side + 1) % 3] - corners[:, side]
            inside &= np.einsum("ij,ij->i", np.cross(edge, point - corners[:, side]), normal) >= -1e-12
        hits = t[inside & (t > 0)]
        expected[k] = hits.min() if len(hits) else np.inf
    assert np.isfinite(expected).sum() > 50
    assert np.allclose(distance, expected, atol=1e-9)
    assert ((face >= 0) == np.isfinite(expected)).all()
