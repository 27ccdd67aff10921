import numpy as np
import pytest

from orfeas.render.camera import frame_points, view_axes

CORNERS = np.array([(x, y, z) for x in (-1.0, 2.0) for y in (0.0, 3.0) for z in (-1.0, 1.0)])


@pytest.mark.parametrize(
    ("azimuth", "elevation", "back"),
    [(0, 0, (0, 0, 1)), (90, 0, (1, 0, 0)), (180, 0, (0, 0, -1)), (0, 90, (0, 1, 0)), (0, -90, (0, -1, 0))],
)
def test_the_eye_stands_where_the_angles_say(azimuth, elevation, back):
    axes = view_axes(azimuth, elevation)
    np.testing.assert_allclose(axes[2], back, atol=1e-12)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)  # right-handed


def test_from_the_front_x_goes_right_and_y_goes_up():
    for field_of_view in (24.0, None):
        camera = frame_points(CORNERS, [0.0], 0.0, field_of_view_degrees=field_of_view)[0]
        placed = camera.project(np.array([[0.5, 1.5, 0], [1.5, 1.5, 0], [0.5, 2.5, 0], [0.5, 1.5, 0.9]]), 100)
        assert placed[1, 0] > placed[0, 0] + 5
        assert placed[2, 1] < placed[0, 1] - 5
        assert placed[3, 2] < placed[0, 2]  # nearer to the eye, smaller depth


@pytest.mark.parametrize("field_of_view", [None, 10.0, 24.0, 60.0])
@pytest.mark.parametrize("elevation", [-30.0, 0.0, 20.0, 90.0])
def test_one_view_is_centred_and_fills_the_picture(field_of_view, elevation):
    generator = np.random.default_rng(0)
    points = generator.normal(0, (1, 3, 0.5), (200, 3)) + np.array((5, -2, 30))
    camera = frame_points(points, [35.0], elevation, margin=1.25, field_of_view_degrees=field_of_view)[0]
    placed = camera.project(points, 200)[:, :2]
    low, high = placed.min(axis=0), placed.max(axis=0)
    np.testing.assert_allclose((low + high) / 2, 100, atol=1.5)
    assert (high - low).max() == pytest.approx(200 / 1.25, abs=1.5)


def test_a_turn_keeps_its_scale_and_shows_everything():
    cameras = frame_points(CORNERS * (3, 1, 1), list(range(0, 360, 15)), 12.0, margin=1.1)
    assert len({camera.half_height for camera in cameras}) == 1
    placed = np.concatenate([camera.project(CORNERS * (3, 1, 1), 320)[:, :2] for camera in cameras])
    assert placed.min() > 0
    assert placed.max() < 320
    assert np.abs(placed - 160).max() == pytest.approx(160 / 1.1, abs=1)


@pytest.mark.parametrize("field_of_view", [None, 24.0])
def test_rays_run_through_what_is_projected(field_of_view):
    camera = frame_points(CORNERS, [25.0], 15.0, field_of_view_degrees=field_of_view)[0]
    placed = camera.project(CORNERS, 64)
    origin, direction = camera.rays(placed[:, 0], placed[:, 1], 64)
    gap = np.cross(CORNERS - origin, direction)
    assert np.abs(gap).max() < 1e-9 * np.abs(direction).max() * 100


def test_points_behind_the_eye_get_a_negative_w():
    camera = frame_points(CORNERS, [0.0], 0.0)[0]
    behind = camera.target + camera.axes[2] * (camera.distance + 1)
    assert camera.project(behind[None], 64)[0, 3] < 0


def test_a_single_point_can_be_framed():
    camera = frame_points(np.array([[1.0, 2.0, 3.0]]), [0.0], 0.0)[0]
    np.testing.assert_allclose(camera.project(np.array([[1.0, 2.0, 3.0]]), 64)[0, :2], 32)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="elevation"):
        view_axes(0, 91)
    with pytest.raises(ValueError, match="nothing"):
        frame_points(np.zeros((0, 3)), [0.0], 0.0)
    with pytest.raises(ValueError, match="margin"):
        frame_points(CORNERS, [0.0], 0.0, margin=0.5)
