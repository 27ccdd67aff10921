import numpy as np

from orfeas.texture.fill import blur_within, draw_inwards, spread_nearest


def checker(side: int = 64) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.repeat((((x // 8 + y // 8) % 2) * 200.0)[..., None], 3, axis=2).astype(np.float32)


def test_nearest_keeps_the_known_and_takes_the_closest():
    image = checker()
    known = np.zeros((64, 64), bool)
    known[10, 10] = known[10, 50] = True
    image[10, 10], image[10, 50] = (1, 2, 3), (4, 5, 6)
    filled = spread_nearest(image, known)
    np.testing.assert_array_equal(filled[:, :29], np.broadcast_to([1, 2, 3], (64, 29, 3)))
    np.testing.assert_array_equal(filled[:, 32:], np.broadcast_to([4, 5, 6], (64, 32, 3)))


def test_blur_sees_only_what_has_a_weight():
    image = checker()
    image[:, 32:] = 1e6
    weight = np.zeros((64, 64), np.float32)
    weight[:, :32] = 1
    for sigma in (2.0, 20.0):
        blurred = blur_within(image, weight, sigma)
        assert blurred.shape == image.shape
        assert 0 <= blurred.min() <= blurred.max() <= 200.01


def test_blur_of_a_constant_is_that_constant():
    weight = np.zeros((50, 70), np.float32)
    weight[20:30, 5:9] = 0.3
    np.testing.assert_allclose(blur_within(np.full((50, 70, 3), 77.0, np.float32), weight, 3.0), 77.0, rtol=1e-4)


def test_drawn_inwards_agrees_with_the_band_and_softens_with_depth():
    side = 200
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    depth = np.maximum(90 - np.hypot(x, y), 0).astype(np.float32)
    angle = np.arctan2(y, x)
    image = np.repeat((128 + 100 * np.sin(3 * angle))[..., None], 3, axis=2).astype(np.float32)
    band = ((depth > 0) & (depth < 6)).astype(np.float32)
    drawn = draw_inwards(image, band, depth, side)
    rim, middle = (depth > 0) & (depth < 5), depth > 60
    assert np.abs(drawn - image)[rim].mean() < 6
    assert np.ptp(drawn[middle]) < 60
    steps = np.hypot(*np.gradient(drawn[..., 0]))[depth > 6]
    assert steps.max() < 10
