import cv2
import numpy as np
import pytest

from orfeas.engines.sketch import SketchEngine
from orfeas.errors import BadPicture
from orfeas.mesh import Mesh, face_cross
from orfeas.request import Quality
from orfeas.silhouette import bounding_box, subject_mask
from orfeas.texture.photo import project_photo
from tests.silhouettes import as_cutout, chair, disc, large, mug, star, wire

COARSE = Quality(grid=72, steps=1, faces=4000)


def make(rgba: np.ndarray) -> Mesh:
    *_, mesh = SketchEngine().shape(as_cutout(rgba), COARSE, 3)
    return mesh


def textured(rgba: np.ndarray, **options) -> Mesh:
    return project_photo(make(rgba), as_cutout(rgba), **options)


def look_up(mesh: Mesh, faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(k, 3) float: the texture's bilinear colour at barycentric places of faces."""
    height, width = mesh.texture.image.shape[:2]
    place = np.einsum("kij,ki->kj", mesh.texture.corner_uv[faces], weights) * (width, height) - 0.5
    place = np.clip(place, 0, [width - 1.001, height - 1.001])
    column, row = place.astype(int).T
    right, down = (place - place.astype(int)).T[..., None]
    image = mesh.texture.image.astype(float)
    upper = image[row, column] * (1 - right) + image[row, column + 1] * right
    lower = image[row + 1, column] * (1 - right) + image[row + 1, column + 1] * right
    return upper * (1 - down) + lower * down


def render(mesh: Mesh, shape: tuple[int, int], behind: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Colours (h, w, 3) seen from the front, or from behind (mirrored: x stays to the right), and what is covered."""
    from orfeas.render.raster import rasterize

    (left, bottom, _), (right, top, _) = mesh.bounds
    x = (mesh.vertices[:, 0] - left) / (right - left) * shape[1]
    y = (top - mesh.vertices[:, 1]) / (top - bottom) * shape[0]
    depth = mesh.vertices[:, 2] * (1 if behind else -1)
    face, weights = rasterize(np.stack([x, y, depth], axis=1), mesh.faces, shape)
    seen = face >= 0
    image = np.zeros((*shape, 3))
    image[seen] = look_up(mesh, face[seen], weights[seen])
    return image, seen


def crop(rgba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mask = subject_mask(rgba)
    left, top, right, bottom = bounding_box(mask)
    return rgba[top:bottom, left:right, :3], mask[top:bottom, left:right]


def test_what_was_taken_away_is_no_reason_to_move_the_photo():
    rgba = np.zeros((220, 500, 4), np.uint8)
    rgba[10:210, 10:210] = (200, 30, 30, 255)
    rgba[10:210, 110:210] = (30, 30, 200, 255)
    far = cv2.circle(np.zeros((220, 500), np.uint8), (450, 110), 30, 255, -1) > 0
    rgba[far] = (30, 200, 30, 255)
    whole = make(rgba)
    block = whole.vertices[:, 0] < 0.2
    face = block[whole.faces].all(axis=1)
    left = Mesh(whole.vertices[block], (np.cumsum(block) - 1)[whole.faces[face]].astype(np.int32))
    assert left.extents[0] < 0.6 * whole.extents[0]
    for bounds, moved in ((whole.bounds, False), (left.bounds, True), (None, True)):
        mesh = project_photo(left, as_cutout(rgba), whole=bounds)
        middle = left.bounds[:, 0].mean()
        front = left.vertices[:, 2] > 0.6 * left.bounds[1, 2]
        red, blue = (side & front for side in (left.vertices[:, 0] < middle - 0.1, left.vertices[:, 0] > middle + 0.1))
        right = (mesh.colors[red, 0] > 120).mean() > 0.95 and (mesh.colors[blue, 2] > 120).mean() > 0.95
        assert right is not moved
    noise = whole.bounds - np.array([[3, 0, 0], [0, 0, 0]])  # and what the picture never had counts for nothing
    plain, same = (project_photo(whole, as_cutout(rgba), whole=bounds) for bounds in (None, noise))
    np.testing.assert_array_equal(plain.colors, same.colors)


@pytest.mark.parametrize("draw", [disc, mug, star])
def test_from_the_front_it_is_the_photo(draw):
    rgba = draw()
    photo, mask = crop(rgba)
    seen, covered = render(textured(rgba), mask.shape)
    inside = cv2.erode((mask & covered).astype(np.uint8), np.ones((23, 23))) > 0
    assert inside.sum() > 1000
    error = np.mean((seen[inside] - photo[inside].astype(float)) ** 2)
    assert 10 * np.log10(255**2 / error) > 30
    whole = np.mean((seen[mask & covered] - photo[mask & covered].astype(float)) ** 2)
    assert 10 * np.log10(255**2 / whole) > 21  # the rim is softened on purpose


def test_a_mark_lies_where_it_was_drawn():
    rgba = disc()
    rgba[..., :3] = 90
    rgba[100:120, 170:200, :3] = (250, 20, 20)
    photo, mask = crop(rgba)
    seen, _ = render(textured(rgba), mask.shape)
    for image in (photo.astype(float), seen):
        red = np.argwhere((image[..., 0] > 180) & (image[..., 1] < 60))
        np.testing.assert_allclose(red.mean(axis=0), np.argwhere(photo[..., 0] > 180).mean(axis=0), atol=0.7)


def test_there_is_no_second_face_on_the_back():
    rgba = disc()
    rgba[..., :3] = (200, 160, 120)
    for x in (115, 185):
        cv2.circle(rgba, (x, 130), 14, (10, 10, 10, 255), -1)
    cv2.ellipse(rgba, (150, 195), (45, 18), 0, 0, 180, (150, 0, 0, 255), 6)
    mask = crop(rgba)[1]
    mesh = textured(rgba)
    behind, covered = render(mesh, mask.shape, behind=True)
    front, _ = render(mesh, mask.shape)
    inside = cv2.erode((mask & covered).astype(np.uint8), np.ones((5, 5))) > 0
    steps = [np.hypot(*np.gradient(image.mean(axis=2)))[inside].max() for image in (front, behind)]
    assert steps[0] > 40
    assert steps[1] < 4
    assert np.abs(behind[inside] - (200, 160, 120)).max() < 60


def test_no_background_shows_at_the_rim():
    rgba = disc()
    rgba[..., :3] = np.where(rgba[..., 3:] > 250, (200, 40, 40), (0, 255, 0))
    mesh = textured(rgba)
    assert mesh.texture.image[..., 1].max() < 60
    assert mesh.colors[:, 1].max() < 60


@pytest.mark.parametrize("draw", [disc, mug, star])
def test_both_halves_agree_where_they_meet(draw):
    rgba = draw()
    mesh = textured(rgba)
    on_front = mesh.texture.corner_uv[..., 0].max(axis=1) < 0.5
    assert 0.3 < on_front.mean() < 0.7
    corners = mesh.faces.ravel()
    colour = look_up(mesh, np.repeat(np.arange(len(mesh.faces)), 3), np.tile(np.eye(3), (len(mesh.faces), 1)))
    side = np.repeat(on_front, 3)
    sums = [
        np.stack([np.bincount(corners[side == half], colour[side == half, c], len(mesh.vertices)) for c in range(3)], 1)
        for half in (True, False)
    ]
    counts = [np.bincount(corners[side == half], minlength=len(mesh.vertices)) for half in (True, False)]
    shared = (counts[0] > 0) & (counts[1] > 0)
    assert shared.sum() > 50
    step = np.abs(sums[0][shared] / counts[0][shared, None] - sums[1][shared] / counts[1][shared, None])
    assert step.mean() < 3
    assert np.percentile(step, 99) < 16


def test_halves_follow_the_side_that_a_face_is_on():
    mesh = textured(mug())
    facing = face_cross(mesh.vertices, mesh.faces)[:, 2]
    on_front = mesh.texture.corner_uv[..., 0].max(axis=1) < 0.5
    assert on_front[facing <= 0].sum() == 0
    assert on_front[facing > 0].mean() > 0.99


def test_what_the_photo_does_not_see_is_not_given_its_colours():
    """Two plates, one behind the other: the photo shows only the near one."""
    rgba = np.zeros((60, 60, 4), np.uint8)
    rgba[10:50, 10:50] = (200, 200, 200, 255)
    rgba[25:35, 25:35, :3] = 0  # the mark on the near plate
    plate = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float) * 2 - (1, 1, 0)
    grid = np.linspace(-1, 1, 11)
    x, y = np.meshgrid(grid, grid)
    near = np.stack([x.ravel(), y.ravel(), np.full(121, 0.5)], axis=1)
    cell = np.arange(121).reshape(11, 11)
    a, b, c, d = (part.ravel() for part in (cell[:-1, :-1], cell[:-1, 1:], cell[1:, 1:], cell[1:, :-1]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    vertices = np.concatenate([near, near - (0, 0, 1), plate - (0, 0, 0.6)])
    faces = np.concatenate([faces, faces + 121, [[242, 244, 243], [242, 245, 244]]]).astype(np.int32)
    mesh = project_photo(Mesh(vertices, faces), as_cutout(rgba))
    on_front = mesh.texture.corner_uv[..., 0].max(axis=1) < 0.5
    assert on_front[:200].all()
    assert not on_front[200:].any()
    assert mesh.colors[:121].min() < 40
    assert mesh.colors[121:242].min() > 100


@pytest.mark.parametrize("draw", [disc, chair, wire, large])
def test_arrays_are_as_the_contract_says(draw):
    rgba = draw()
    mesh = make(rgba)
    result = project_photo(mesh, as_cutout(rgba))
    assert result.vertices is mesh.vertices
    assert result.faces is mesh.faces
    assert result.colors.shape == (len(mesh.vertices), 3)
    assert result.colors.dtype == np.uint8
    uv, image = result.texture.corner_uv, result.texture.image
    assert uv.shape == (len(mesh.faces), 3, 2)
    assert uv.dtype == np.float32
    assert 0 <= uv.min() <= uv.max() <= 1
    assert image.dtype == np.uint8
    assert 512 <= image.shape[0] <= 1040 or 1024 <= image.shape[1] <= 2080
    halves = uv[..., 0] < 0.5
    assert (halves.all(axis=1) | ~halves.any(axis=1)).all()  # no face reaches from one half into the other


def test_any_unit_and_place_give_the_same_colours():
    rgba = mug()
    mesh = make(rgba)
    moved = Mesh(mesh.vertices * 53.5 + (10, 200, -3), mesh.faces)
    here, there = (project_photo(given, as_cutout(rgba)) for given in (mesh, moved))
    np.testing.assert_allclose(here.texture.corner_uv, there.texture.corner_uv, atol=1e-5)
    assert np.abs(here.colors.astype(int) - there.colors).mean() < 0.5


def test_same_input_same_bytes():
    rgba = star()
    first, second = textured(rgba), textured(rgba)
    assert first.texture.image.tobytes() == second.texture.image.tobytes()
    assert first.texture.corner_uv.tobytes() == second.texture.corner_uv.tobytes()
    assert first.colors.tobytes() == second.colors.tobytes()


def test_a_wire_keeps_its_own_colour():
    rgba = wire()
    y, x = np.mgrid[:300, :300]
    rgba[..., :3] = np.where((np.hypot(x - 150, y - 150) < 42)[..., None], (220, 30, 30), (20, 40, 220))
    mesh = textured(rgba)
    far = np.hypot(*mesh.vertices[:, :2].T) > 0.5
    assert far.sum() > 100
    assert np.median(mesh.colors[far, 2]) > 180
    assert np.median(mesh.colors[far, 0]) < 60


def test_an_empty_cutout_is_refused_in_a_sentence():
    rgba = disc()
    mesh = make(rgba)
    rgba[..., 3] = 0
    with pytest.raises(BadPicture, match="empty"):
        project_photo(mesh, as_cutout(rgba))


def test_size_is_bounded_by_the_photo_and_the_option():
    assert textured(disc(100)).texture.image.shape[0] <= 512 + 16
    assert textured(disc(1000), texture_size=600).texture.image.shape[0] == 600 + 16
