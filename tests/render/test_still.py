import numpy as np
import pytest

from orfeas.mesh import Mesh, Texture
from orfeas.render.light import bake_ambient, sample_surface, spread_directions
from orfeas.render.still import prepare, render_poster, render_still, render_turntable, sample_texture


def ball(rings: int = 32, around: int = 64, radius: float = 1.0) -> Mesh:
    """A closed sphere, counter-clockwise seen from outside."""
    polar, turn = np.meshgrid(
        np.linspace(0, np.pi, rings + 1)[1:-1], np.arange(around) * 2 * np.pi / around, indexing="ij"
    )
    body = np.stack([np.sin(polar) * np.sin(turn), np.cos(polar), np.sin(polar) * np.cos(turn)], -1).reshape(-1, 3)
    vertices = np.vstack([body, [(0, 1, 0), (0, -1, 0)]]) * radius
    k = np.arange((rings - 2) * around).reshape(rings - 2, around)
    right = np.roll(k, -1, axis=1)
    a, b, c, d = k.ravel(), right.ravel(), k.ravel() + around, right.ravel() + around
    top, bottom, n = k[0], k[-1] + around, len(body)
    faces = [np.stack([a, c, b], 1), np.stack([b, c, d], 1)]
    faces += [np.stack([top, np.roll(top, -1), np.full(around, n)], 1)]
    faces += [np.stack([np.roll(bottom, -1), bottom, np.full(around, n + 1)], 1)]
    return Mesh(vertices, np.concatenate(faces).astype(np.int32))


def square(color=None, texture=None) -> Mesh:
    """A square in the plane z = 0 that faces the front."""
    vertices = np.array([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)], float)
    return Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]], np.int32), color, texture)


def test_a_ball_is_a_disc_with_a_soft_edge():
    picture = render_still(ball(), size=128, supersample=4)
    assert picture.shape == (128, 128, 4)
    assert picture.dtype == np.uint8
    alpha = picture[..., 3] / 255
    radius = 64 / 1.12
    assert alpha.sum() == pytest.approx(np.pi * radius**2, rel=0.01)
    rows, columns = np.mgrid[:128, :128] + 0.5 - 64
    distance = np.hypot(rows, columns)
    assert (alpha[distance < radius - 2] == 1).all()
    assert (alpha[distance > radius + 2] == 0).all()
    assert len(np.unique(alpha)) > 8  # antialiased


def test_it_is_lit_from_above():
    picture = render_still(ball(), azimuth_degrees=0, elevation_degrees=0, size=128)[..., :3].mean(axis=2)
    assert picture[25:45, 54:74].mean() > picture[85:105, 54:74].mean() + 20


def test_scale_and_place_do_not_matter():
    one = render_still(ball(), size=64)
    far = ball(radius=40.0)
    other = render_still(Mesh(far.vertices + np.array((100, -50, 700)), far.faces), size=64)
    assert np.abs(one.astype(int) - other).max() <= 2


def test_vertex_colours_show_where_they_are():
    mesh = ball()
    left = mesh.vertices[:, 0] < 0
    colors = np.where(left[:, None], (220, 30, 30), (30, 30, 220)).astype(np.uint8)
    picture = render_still(Mesh(mesh.vertices, mesh.faces, colors), azimuth_degrees=0, elevation_degrees=0, size=96)
    red, _, blue = (picture[..., k].astype(int) for k in range(3))
    assert (red[30:66, 15:40] > blue[30:66, 15:40] + 50).all()
    assert (blue[30:66, 56:80] > red[30:66, 56:80] + 50).all()
    behind = render_still(Mesh(mesh.vertices, mesh.faces, colors), azimuth_degrees=180, elevation_degrees=0, size=96)
    assert behind[48, 25, 2] > behind[48, 25, 0] + 50  # from behind the sides have changed


def test_a_texture_is_the_right_way_up_and_goes_before_vertex_colours():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32], image[:32, 32:] = (230, 20, 20), (20, 230, 20)
    image[32:, :32], image[32:, 32:] = (20, 20, 230), (230, 230, 20)
    place = np.array([(0, 1), (1, 1), (1, 0), (0, 0)], np.float32)  # the image's top left at the square's top left
    mesh = square(np.zeros((4, 3), np.uint8))
    mesh = Mesh(mesh.vertices, mesh.faces, mesh.colors, Texture(place[mesh.faces], image))
    picture = render_still(mesh, azimuth_degrees=0, elevation_degrees=0, size=64)[..., :3].astype(int)
    for row, column, strong in ((20, 20, (0,)), (20, 44, (1,)), (44, 20, (2,)), (44, 44, (0, 1))):
        for channel in range(3):
            assert (picture[row, column, channel] > 120) == (channel in strong)


def test_texture_is_blended_between_texels_in_linear_light():
    texture = np.array([[[0, 0, 0], [1, 1, 1]]], np.float32)
    uv = np.array([(0.25, 0.5), (0.5, 0.5), (0.75, 0.5), (0, 0), (1, 1)], np.float32)
    np.testing.assert_allclose(sample_texture(texture, uv)[:, 0], [0, 0.5, 1, 0, 1], atol=1e-6)


def test_without_colours_it_is_neutral_clay():
    picture = render_still(ball(), size=64)
    inside = picture[picture[..., 3] == 255][:, :3].astype(int)
    assert np.ptp(inside, axis=1).max() < 45
    assert 100 < inside.mean() < 235


def test_the_back_of_a_face_is_not_drawn():
    assert not render_still(square(), azimuth_degrees=180, elevation_degrees=0, size=32)[..., 3].any()


def test_normals_view_shows_directions():
    front = render_still(square(), azimuth_degrees=0, elevation_degrees=0, size=32, shading="normals")[16, 16]
    np.testing.assert_allclose(front[:3].astype(int), (128, 128, 255), atol=1)
    picture = render_still(ball(), azimuth_degrees=70, elevation_degrees=0, size=128, shading="normals").astype(int)
    assert picture[64, 110, 0] > 210  # right of the picture faces right
    assert picture[16, 64, 1] > 210  # its top faces up


def test_background_fills_what_is_empty():
    picture = render_still(ball(), size=64, background=(10, 200, 30))
    assert (picture[..., 3] == 255).all()
    np.testing.assert_array_equal(picture[0, 0], (10, 200, 30, 255))


def test_the_shadow_lies_beneath_and_fades_before_the_border():
    plain, shaded = render_still(ball(), size=128), render_still(ball(), size=128, shadow=True)
    added = shaded[..., 3].astype(int) - plain[..., 3]
    assert added.min() >= 0
    assert added.max() > 20
    assert added[64:].sum() > 20 * added[:64].sum()
    assert max(shaded[0, :, 3].max(), shaded[-1, :, 3].max(), shaded[:, 0, 3].max(), shaded[:, -1, 3].max()) <= 2
    np.testing.assert_array_equal(shaded[plain[..., 3] == 255], plain[plain[..., 3] == 255])
    below = render_still(ball(), elevation_degrees=-20, size=128, shadow=True)
    np.testing.assert_array_equal(below, render_still(ball(), elevation_degrees=-20, size=128))


def test_folds_are_darker_than_open_surfaces():
    mesh = ball()
    normals = mesh.vertices.astype(np.float32)
    vertices = mesh.vertices.astype(np.float32)
    faces = mesh.faces
    alone = bake_ambient(vertices, normals, faces, sample_surface(vertices, faces, 5000))
    roof = np.array([(-2, 1.3, -2), (2, 1.3, -2), (2, 1.3, 2), (-2, 1.3, 2)], np.float32)
    covered = np.vstack([vertices, roof])
    lid = np.vstack([faces, np.array([[0, 2, 1], [0, 3, 2]]) + len(vertices)])
    up = np.vstack([normals, np.tile(np.float32([0, 1, 0]), (4, 1))])
    shaded = bake_ambient(covered, up, lid, sample_surface(covered, lid, 20_000))[: len(vertices)]
    top = vertices[:, 1] > 0.9
    assert alone[top].mean() > 0.85
    assert shaded[top].mean() < 0.5 * alone[top].mean()
    assert alone[vertices[:, 1] < -0.9].mean() < 0.7 * alone[top].mean()


def test_directions_are_spread_evenly():
    directions = spread_directions(48)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(directions.mean(axis=0), 0, atol=0.02)


def test_a_turn_starts_at_the_front_and_walks_to_the_positive_x_side():
    mesh = ball()
    x, z = mesh.vertices[:, 0], mesh.vertices[:, 2]
    colors = np.zeros((len(x), 3), np.uint8) + 60
    colors[z > 0.8], colors[x > 0.8] = (250, 0, 0), (0, 0, 250)
    frames = render_turntable(Mesh(mesh.vertices, mesh.faces, colors), frames=8, size=48, elevation_degrees=0)
    assert len(frames) == 8
    assert all(frame.shape == (48, 48, 4) for frame in frames)
    assert frames[0][24, 24, 0] > 150 > 60 > frames[0][24, 24, 2]
    assert frames[2][24, 24, 2] > 150 > 60 > frames[2][24, 24, 0]


def test_pictures_are_the_same_every_time():
    first, second = render_turntable(ball(), frames=3, size=48), render_turntable(ball(), frames=3, size=48)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(render_poster(ball(), 64), render_poster(ball(), 64))


def test_a_stray_vertex_takes_no_room():
    mesh = ball()
    stray = Mesh(np.vstack([mesh.vertices, [(50.0, 50, 50)]]), mesh.faces)
    assert np.abs(render_still(stray, size=64).astype(int) - render_still(mesh, size=64)).max() <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 8}, "size must be"),
        ({"size": 5000}, "size must be"),
        ({"supersample": 0}, "supersample must be"),
        ({"size": 2048, "supersample": 4}, "supersample must be"),
        ({"elevation_degrees": 100}, "elevation"),
        ({"azimuth_degrees": float("nan")}, "azimuth"),
        ({"shading": "pretty"}, "shading must be"),
    ],
)
def test_numbers_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        render_still(square(), **options)


def test_what_cannot_be_drawn_is_refused():
    empty = Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32))
    with pytest.raises(ValueError, match="empty"):
        render_poster(empty)
    with pytest.raises(ValueError, match="finite"):
        prepare(Mesh(np.full((3, 3), np.inf), np.array([[0, 1, 2]], np.int32)))
    with pytest.raises(ValueError, match="frames must be"):
        render_turntable(square(), frames=0)
    with pytest.raises(ValueError, match="frames must be"):
        render_turntable(square(), frames=1000)


def test_a_flat_and_a_point_like_mesh_can_be_drawn():
    assert render_poster(square(), 32)[..., 3].any()
    point = Mesh(np.ones((3, 3)), np.array([[0, 1, 2]], np.int32))
    assert render_still(point, size=32).shape == (32, 32, 4)
