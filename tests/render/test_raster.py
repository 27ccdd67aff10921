import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from orfeas.render.camera import view_axes
from orfeas.render.raster import interpolate, rasterize

VIEWS = Path(__file__).parents[1] / "fixtures" / "render" / "orthographic_views.npz"


def triangles(seed: int, count: int, size: int, spread: float = 0.4):
    """Random triangles, some of them partly or wholly outside the picture."""
    generator = np.random.default_rng(seed)
    centre = generator.uniform(-0.2, 1.2, (count, 1, 2)) * size
    corners = centre + generator.normal(0, spread * size, (count, 3, 2))
    depth = generator.uniform(-5, 5, (count, 3, 1))
    positions = np.concatenate([corners, depth], axis=2).reshape(-1, 3)
    return positions, np.arange(3 * count).reshape(count, 3)


def brute_force(positions, faces, height, width):
    """Every pixel against every face, one at a time: barycentrics from a solved linear system."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    nearest = np.full((height, width), np.inf)
    ids = np.full((height, width), -1)
    for number, face in enumerate(faces):
        (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = positions[face][:, :3]
        matrix = np.array([[x1 - x0, x2 - x0], [y1 - y0, y2 - y0]])
        if abs(np.linalg.det(matrix)) < 1e-12:
            continue
        b, c = np.tensordot(np.linalg.inv(matrix), np.stack([columns - x0, rows - y0]), axes=1)
        a = 1 - b - c
        depth = a * z0 + b * z1 + c * z2
        closer = (a >= 0) & (b >= 0) & (c >= 0) & (depth < nearest)
        ids[closer], nearest[closer] = number, depth[closer]
    return ids, nearest


@pytest.mark.parametrize("spread", [0.03, 0.4, 3.0])
def test_ids_and_depth_are_those_of_brute_force(spread):
    positions, faces = triangles(1, 60, 48, spread)
    ids, barycentrics = rasterize(positions, faces, (40, 57))
    expected, nearest = brute_force(positions, faces, 40, 57)
    assert (expected >= 0).any()
    np.testing.assert_array_equal(ids, expected)
    covered = ids >= 0
    np.testing.assert_allclose(barycentrics.sum(axis=2), covered, atol=1e-9)
    assert barycentrics.min() >= 0
    depth = interpolate(positions[faces][:, :, 2:], ids, barycentrics)[..., 0]
    np.testing.assert_allclose(depth[covered], nearest[covered], atol=1e-9)


def test_barycentrics_lead_back_to_the_pixel_centre():
    positions, faces = triangles(2, 40, 64)
    ids, barycentrics = rasterize(positions, faces, 64)
    place = interpolate(positions[faces][:, :, :2], ids, barycentrics)
    rows, columns = np.nonzero(ids >= 0)
    np.testing.assert_allclose(place[rows, columns], np.stack([columns, rows], 1) + 0.5, atol=1e-9)


def test_perspective_barycentrics_meet_the_ray_through_the_pixel():
    generator = np.random.default_rng(3)
    world = generator.uniform(-1, 1, (90, 3)) + np.array((0, 0, 4))  # the eye at the origin looks along +Z
    faces = np.arange(90).reshape(30, 3)
    away = world[:, 2]
    positions = np.stack([32 + 90 * world[:, 0] / away, 32 - 90 * world[:, 1] / away, -1 / away, away], axis=1)
    ids, barycentrics = rasterize(positions, faces, 64)
    rows, columns = np.nonzero(ids >= 0)
    assert len(rows) > 500
    point = interpolate(world[faces], ids, barycentrics)[rows, columns]
    np.testing.assert_allclose(32 + 90 * point[:, 0] / point[:, 2], columns + 0.5, atol=1e-9)
    np.testing.assert_allclose(32 - 90 * point[:, 1] / point[:, 2], rows + 0.5, atol=1e-9)
    flat, _ = rasterize(positions[:, :3], faces, 64)
    np.testing.assert_array_equal(ids, flat)


def test_faces_behind_the_eye_are_left_out():
    positions = np.array([[0, 0, -1, 1], [9, 0, -1, 1], [0, 9, -1, -1]], float)
    ids, _ = rasterize(positions, np.array([[0, 1, 2]]), 8)
    assert (ids == -1).all()


def test_face_ids_agree_with_an_independent_rasterizer_on_a_real_mesh():
    """Five views at 128 px, drawn by Hunyuan3D-Paint's C++ rasterizer (its picture spans pixel centres 0 to 127)."""
    views = np.load(VIEWS)
    vertices, faces = views["vertices"].astype(np.float64), views["faces"]
    centred = vertices - (vertices.max(axis=0) + vertices.min(axis=0)) / 2
    centred *= 1.15 / (2 * np.linalg.norm(centred, axis=1).max())
    for (elevation, azimuth), expected in zip(views["views"], views["face_ids"], strict=True):
        seen = centred @ view_axes(float(azimuth), float(elevation)).T
        x, y = (seen[:, 0] / 1.2 + 0.5) * 127 + 0.5, (0.5 - seen[:, 1] / 1.2) * 127 + 0.5
        ids, _ = rasterize(np.stack([x, y, 1.45 - seen[:, 2]], axis=1), faces, 128)
        np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("with_w", [False, True])
@pytest.mark.parametrize("cull", [False, True])
def test_numpy_and_torch_agree_bit_by_bit(real, with_w, cull):
    torch = pytest.importorskip("torch")
    positions, faces = triangles(5, 300, 96, 0.1)
    if with_w:
        positions = np.column_stack([positions, np.random.default_rng(0).uniform(0.5, 3, len(positions))])
    positions = positions.astype(real)
    ids, barycentrics = rasterize(positions, faces, (96, 80), cull=cull)
    torch_ids, torch_barycentrics = rasterize(torch.from_numpy(positions), torch.from_numpy(faces), (96, 80), cull=cull)
    np.testing.assert_array_equal(ids, torch_ids.numpy())
    np.testing.assert_array_equal(barycentrics, torch_barycentrics.numpy())
    assert barycentrics.dtype == torch_barycentrics.numpy().dtype == real
    values = np.random.default_rng(1).random((len(faces), 3, 4)).astype(real)
    blended = interpolate(values, ids, barycentrics)
    torch_blended = interpolate(torch.from_numpy(values), torch_ids, torch_barycentrics)
    np.testing.assert_array_equal(blended, torch_blended.numpy())


@pytest.mark.gpu
def test_a_gpu_gives_the_same_picture():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    positions, faces = triangles(5, 2000, 256, 0.05)
    ids, barycentrics = rasterize(positions, faces, 256)
    found, shares = rasterize(torch.from_numpy(positions).cuda(), torch.from_numpy(faces).cuda(), 256)
    assert (found.cpu().numpy() == ids).mean() > 0.999  # fused multiply-adds may move an edge by a rounding
    same = found.cpu().numpy() == ids
    np.testing.assert_allclose(shares.cpu().numpy()[same], barycentrics[same], atol=1e-6)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_neighbours_leave_no_gap(real):
    """A jittered grid of triangles that covers the picture covers each pixel, whatever the rounding."""
    generator = np.random.default_rng(6)
    steps = 60
    rows, columns = np.mgrid[: steps + 1, : steps + 1]
    inner = ((rows % steps > 0) & (columns % steps > 0))[..., None]
    grid = np.stack([columns, rows], -1) + inner * generator.uniform(-0.3, 0.3, (steps + 1, steps + 1, 2))
    points = (grid.reshape(-1, 2) * (130 / steps) - 1).astype(real)
    corner = (rows[:-1, :-1] * (steps + 1) + columns[:-1, :-1]).ravel()
    right, below, across = corner + 1, corner + steps + 1, corner + steps + 2
    faces = np.concatenate([np.stack([corner, right, across], 1), np.stack([corner, across, below], 1)])
    ids, barycentrics = rasterize(np.column_stack([points, np.zeros(len(points), real)]), faces, 128)
    assert (ids >= 0).all()
    assert barycentrics.min() >= 0


def test_edges_belong_to_the_triangle():
    positions = np.array([[0.5, 0.5, 0], [3.5, 0.5, 0], [0.5, 3.5, 0]], float)  # through pixel centres
    ids, _ = rasterize(positions, np.array([[0, 1, 2]]), 5)
    rows, columns = np.mgrid[:5, :5]
    np.testing.assert_array_equal(ids >= 0, rows + columns <= 3)


def test_at_equal_depth_the_lower_id_wins_whatever_the_order():
    square = np.array([[0, 0, 1], [8, 0, 1], [0, 8, 1]], float)
    positions = np.tile(square, (4, 1))
    faces = np.arange(12).reshape(4, 3)
    for at_once in (1, 7, 10_000):
        ids, _ = rasterize(positions, faces, 8, fragments_at_once=at_once)
        assert set(np.unique(ids)) == {-1, 0}
    positions[6:9, 2] = 0.5  # the third is nearer
    ids, _ = rasterize(positions, faces, 8)
    assert set(np.unique(ids)) == {-1, 2}


def test_cull_keeps_what_faces_the_eye():
    towards = np.array([[1, 7, 0], [7, 7, 0], [4, 1, 0]], float)  # counter-clockwise to the eye, y down
    faces = np.array([[0, 1, 2]])
    both, _ = rasterize(towards, faces, 8)
    kept, _ = rasterize(towards, faces, 8, cull=True)
    gone, _ = rasterize(towards, faces[:, ::-1].copy(), 8, cull=True)
    np.testing.assert_array_equal(both, kept)
    assert (both >= 0).sum() > 10
    assert (gone == -1).all()


def test_the_size_of_the_steps_changes_nothing():
    positions, faces = triangles(7, 50, 64)
    ids, barycentrics = rasterize(positions, faces, 64)
    for at_once in (1, 100, 10**9):
        again, shares = rasterize(positions, faces, 64, fragments_at_once=at_once)
        np.testing.assert_array_equal(ids, again)
        np.testing.assert_array_equal(barycentrics, shares)


def test_memory_stays_bounded_for_many_faces_that_fill_the_picture():
    count, size = 60, 512  # 60 x 262,144 fragments: gigabytes if they were all there at once
    corner = np.array([[-size, -size], [3 * size, -size], [-size, 3 * size]], float)
    depth = np.repeat(np.arange(count, 0, -1.0), 3)[:, None]
    positions = np.hstack([np.tile(corner, (count, 1)), depth])
    tracemalloc.start()
    ids, _ = rasterize(positions, np.arange(3 * count).reshape(-1, 3), size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (ids == count - 1).all()
    assert peak < 150e6


def test_nothing_to_draw_gives_an_empty_picture():
    none = np.zeros((0, 3), int)
    ids, barycentrics = rasterize(np.zeros((0, 3)), none, (3, 4))
    assert ids.shape == (3, 4)
    assert (ids == -1).all()
    assert not barycentrics.any()
    line = np.array([[0, 0, 0], [4, 4, 0], [8, 8, 0]], float)
    assert (rasterize(line, np.array([[0, 1, 2]]), 8)[0] == -1).all()
    far = np.array([[1e30, 0, 0], [2e30, 0, 0], [1e30, 1e30, 0]])
    assert (rasterize(far, np.array([[0, 1, 2]]), 8)[0] == -1).all()


@pytest.mark.parametrize(
    ("positions", "faces", "size", "words"),
    [
        (np.zeros((3, 2)), np.zeros((1, 3), int), 8, "positions must be"),
        (np.zeros((3, 3)), np.zeros((1, 4), int), 8, "positions must be"),
        (np.zeros((3, 3)), np.zeros((1, 3), int), 0, "size must be"),
        (np.zeros((3, 3)), np.zeros((1, 3), int), (8, 20_000), "size must be"),
        (np.full((3, 3), np.nan), np.zeros((1, 3), int), 8, "finite"),
    ],
)
def test_wrong_input_is_refused(positions, faces, size, words):
    with pytest.raises(ValueError, match=words):
        rasterize(positions, faces, size)


def test_other_arrays_are_refused():
    class Other:
        ndim, shape = 2, (3, 3)

    with pytest.raises(TypeError, match="numpy array or a torch tensor"):
        rasterize(Other(), np.zeros((1, 3), int), 8)


def test_numpy_alone_does_not_import_torch():
    import subprocess

    code = (
        "import sys, numpy as np; from orfeas.render.raster import rasterize; import orfeas.render.still\n"
        "rasterize(np.eye(3), np.array([[0, 1, 2]]), 4); sys.exit('torch' in sys.modules or 'gradio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
