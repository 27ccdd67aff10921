import pickle

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from orfeas.engines import Engine, Step
from orfeas.engines.sketch import SketchEngine
from orfeas.engines.sketch.engine import SPARE_FACES
from orfeas.engines.sketch.inflate import Guess, inflate
from orfeas.engines.sketch.subject import LEAST_RADIUS, crop_subject, grid_subject
from orfeas.engines.sketch.surface import drop_crumbs, smooth
from orfeas.errors import BadPicture
from orfeas.mesh import Mesh, signed_volume
from orfeas.request import QUALITIES, Quality
from orfeas.silhouette import bounding_box, subject_mask
from tests.silhouettes import SILHOUETTES, as_cutout, disc, mug, wire

DRAFT = QUALITIES["sketch"]["draft"]


def make(rgba: np.ndarray, quality=DRAFT, seed: int = 1) -> Mesh:
    *_, mesh = SketchEngine().shape(as_cutout(rgba), quality, seed)
    return mesh


def unmatched_edges(faces: np.ndarray) -> int:
    """How many directed edges lack exactly one opposite: 0 is closed, two-manifold at edges and wound one way."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    there = edges[:, 0] << 32 | edges[:, 1]
    back = edges[:, 1] << 32 | edges[:, 0]
    return len(there) - len(np.unique(there)) + len(np.setxor1d(there, back))


def count_bodies(mesh: Mesh) -> int:
    links = coo_array((np.ones(len(mesh.faces)), (mesh.faces[:, 0], mesh.faces[:, 1])), (len(mesh.vertices),) * 2)
    links += coo_array((np.ones(len(mesh.faces)), (mesh.faces[:, 1], mesh.faces[:, 2])), links.shape)
    return connected_components(links, directed=False)[0]


def seen_from_front(mesh: Mesh, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) bool: the mesh's silhouette over a picture of its bounding box."""
    from orfeas.render.raster import rasterize

    (left, bottom, _), (right, top, _) = mesh.bounds
    x = (mesh.vertices[:, 0] - left) / (right - left) * shape[1]
    y = (top - mesh.vertices[:, 1]) / (top - bottom) * shape[0]
    return rasterize(np.stack([x, y, -mesh.vertices[:, 2]], axis=1), mesh.faces, shape)[0] >= 0


def test_engine_keeps_the_contract():
    engine = SketchEngine("asked for")
    assert isinstance(engine, Engine)
    assert (engine.name, engine.device, engine.reason) == ("sketch", "cpu", "asked for")
    assert "guessed" in engine.caveat
    engine.load()
    assert engine.health()["ready"] is True
    events = list(engine.shape(as_cutout(disc(120)), DRAFT, 1))
    assert all(isinstance(event, Step) for event in events[:-1])
    assert isinstance(events[-1], Mesh)
    fractions = [step.fraction for step in events[:-1]]
    assert fractions == sorted(fractions)
    assert fractions[-1] <= 1
    assert len(fractions) >= 8
    pickle.dumps(events)
    engine.close()


def test_closing_the_generator_ends_the_job():
    job = SketchEngine().shape(as_cutout(disc(120)), DRAFT, 1)
    next(job)
    job.close()
    assert list(job) == []


@pytest.mark.parametrize("name", SILHOUETTES)
def test_every_silhouette_becomes_a_closed_solid_that_lies_over_the_picture(name):
    draw, bodies, handles = SILHOUETTES[name]
    rgba = draw()
    mesh = make(rgba)
    assert unmatched_edges(mesh.faces) == 0
    assert signed_volume(mesh.vertices, mesh.faces) > 0
    assert mesh.faces.dtype == np.int32
    assert len(np.unique(mesh.faces)) == len(mesh.vertices)
    assert len(np.unique(mesh.vertices, axis=0)) == len(mesh.vertices)
    assert count_bodies(mesh) == bodies
    euler = len(mesh.vertices) - len(mesh.faces) // 2
    assert bodies - euler // 2 == handles
    assert len(mesh.faces) < 400_000

    left, top, right, bottom = bounding_box(subject_mask(rgba))
    size = np.array([right - left, bottom - top])
    np.testing.assert_allclose(mesh.bounds[1, :2], size / size.max(), atol=1e-9)
    np.testing.assert_allclose(mesh.bounds[0, :2], -size / size.max(), atol=1e-9)


@pytest.mark.parametrize("name", ["disc", "mug", "star", "across_frame", "parts", "tiny"])
def test_outline_is_the_pictures(name):
    rgba = SILHOUETTES[name][0]()
    mask = subject_mask(rgba)
    left, top, right, bottom = bounding_box(mask)
    mask = mask[top:bottom, left:right]
    seen = seen_from_front(make(rgba), mask.shape)
    # a star's tips are finer than a draft's cells: they end early, and the rest is stretched to the box
    assert (seen & mask).sum() / (seen | mask).sum() > {"star": 0.92, "tiny": 0.95}.get(name, 0.97)


def test_every_quality_has_the_faces_that_it_promises():
    for name in ("draft", "standard"):
        quality = QUALITIES["sketch"][name]
        assert len(make(wire(), quality).faces) >= 0.9 * SPARE_FACES * quality.faces


def test_a_disc_becomes_a_ball():
    guess = Guess.draw(1)
    mesh = make(disc())
    ball = 2 / 3 * np.pi * guess.thickness * (1 + guess.back)
    assert signed_volume(mesh.vertices, mesh.faces) == pytest.approx(ball, rel=0.04)
    assert mesh.bounds[1, 2] == pytest.approx(guess.thickness, abs=0.04)
    assert mesh.bounds[0, 2] == pytest.approx(-guess.thickness * guess.back, abs=0.04)


def test_inflation_solves_poissons_equation():
    y, x = np.mgrid[-40:41, -40:41]
    distance = 33.3 - np.hypot(x, y)  # an outline that runs between the nodes
    expected = np.maximum(33.3**2 - x**2 - y**2, 0)
    assert np.abs(inflate(distance) - expected).max() < 0.002 * 33.3**2
    strip = np.repeat(10.25 - np.abs(np.arange(-15.0, 16.0))[:, None], 401, axis=1)
    strip[:, [0, -1]] = -1
    assert np.sqrt(inflate(strip)[15, 200]) == pytest.approx(np.sqrt(2) * 10.25, rel=0.002)


def test_a_wire_thinner_than_a_cell_keeps_a_least_width():
    crop = crop_subject(wire())
    subject = grid_subject(crop, 96)
    along = [subject.distance[round(3 + t * 70), :].max() for t in (0.05, 0.2, 0.85)]
    assert min(along) > 0.3 * LEAST_RADIUS[0]


def test_a_picture_edge_is_a_flat_cut_and_a_slit_stays_open():
    rgba = disc()
    rgba[140:160, :250, 3] = 0  # a slit to beyond the middle
    mask = subject_mask(rgba)
    left, top, right, bottom = bounding_box(mask)
    seen = seen_from_front(make(rgba), (bottom - top, right - left))
    assert not seen[146 - top : 154 - top, : 240 - left].any()


def test_small_pictures_give_no_stairs():
    """Seen from the front, the rim of a disc of 20 pixels is as round as that of 400."""
    for size in (24, 400):
        mesh = make(disc(size, 0.42))
        rim = mesh.vertices[np.abs(mesh.vertices[:, 2]) < 0.01]
        assert np.hypot(rim[:, 0], rim[:, 1]).std() < 0.02


def test_same_seed_same_bytes_and_another_seed_another_depth():
    first, again, other = make(mug(), seed=7), make(mug(), seed=7), make(mug(), seed=8)
    assert first.vertices.tobytes() == again.vertices.tobytes()
    assert first.faces.tobytes() == again.faces.tobytes()
    assert first.extents[2] != pytest.approx(other.extents[2], rel=1e-3)
    np.testing.assert_allclose(first.extents[:2], other.extents[:2])


def test_guesses_stay_in_their_ranges():
    guesses = [Guess.draw(seed) for seed in range(200)]
    thickness, back = (np.array([getattr(guess, key) for guess in guesses]) for key in ("thickness", "back"))
    assert 0.92 <= thickness.min() < 0.94
    assert 1.06 < thickness.max() <= 1.08
    assert 0.85 <= back.min() < 0.87
    assert 0.98 < back.max() <= 1.0
    assert Guess.draw(2**32 - 1) == Guess.draw(2**32 - 1)


def test_relief_raises_what_is_bright():
    rgba = disc(300)
    rgba[..., :3] = 120
    rgba[135:165, 135:165, :3] = 250
    flat = rgba.copy()
    flat[..., :3] = 120
    raised, plain = make(rgba), make(flat)
    height = raised.bounds[1, 2] - plain.bounds[1, 2]
    assert 0.003 < height < 0.03
    assert raised.bounds[0, 2] == pytest.approx(plain.bounds[0, 2], abs=1e-3)


def test_an_empty_cutout_is_refused_in_a_sentence():
    rgba = disc(64)
    rgba[..., 3] = 0
    with pytest.raises(BadPicture, match="empty"):
        make(rgba)


def test_one_pixel_is_enough():
    rgba = np.zeros((50, 50, 4), np.uint8)
    rgba[20, 30] = 255
    mesh = make(rgba)
    assert unmatched_edges(mesh.faces) == 0
    assert signed_volume(mesh.vertices, mesh.faces) > 0


def test_specks_are_no_bodies_and_do_not_move_the_box():
    rgba = disc(300, 0.3)
    clean = make(rgba)
    rgba[2:6, 2:6, 3] = 255
    assert make(rgba).vertices.tobytes() == clean.vertices.tobytes()


def box(size: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float) * size + shift
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return corners, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))], np.int32)


def test_a_thin_part_that_stands_apart_stays_and_nothing_is_stretched():
    rgba = np.full((500, 500, 4), 140, np.uint8)
    y, x = np.mgrid[:500, :500]
    rgba[..., 3] = ((np.hypot(x - 150, y - 250) < 100) | ((abs(x - 446.5) < 3) & (abs(y - 250) < 100))) * 255
    for cells in (96, 160):
        mesh = make(rgba, Quality(grid=cells, steps=1, faces=2000))
        assert count_bodies(mesh) == 2
        ball = mesh.vertices[mesh.vertices[:, 0] < 0.2]
        width, height = np.ptp(ball[:, :2], axis=0)
        assert width == pytest.approx(height, rel=0.02)


def test_crumbs_go_by_their_share_of_the_volume():
    (v1, f1), (v2, f2), (v3, f3) = box(1, 0), box(0.1, 2), box(0.5, 3)
    assert signed_volume(v1, f1) == pytest.approx(1)
    vertices = np.concatenate([v2, v1, v3])
    faces = np.concatenate([f2, f1 + 8, f3 + 16])
    kept_vertices, kept_faces = drop_crumbs(vertices, faces, 0.003)
    assert len(kept_vertices) == 16
    assert signed_volume(kept_vertices, kept_faces) == pytest.approx(1.125)


def test_smoothing_keeps_the_volume_and_takes_the_noise():
    mesh = make(disc())
    rough = mesh.vertices + np.random.default_rng(0).normal(0, 0.004, mesh.vertices.shape)
    result = smooth(rough, mesh.faces, 8)
    volume = signed_volume(mesh.vertices, mesh.faces)
    assert signed_volume(result, mesh.faces) == pytest.approx(volume, rel=0.01)
    assert np.abs(result - mesh.vertices).mean() < 0.5 * np.abs(rough - mesh.vertices).mean()
