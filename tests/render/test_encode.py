import io

import numpy as np
import pytest
from PIL import Image

from orfeas.render.encode import encode_png, encode_webp, turntable_strip


def frames(count: int) -> list[np.ndarray]:
    return [np.full((6, 8, 4), 10 * k + 5, np.uint8) for k in range(count)]


def test_a_strip_is_one_row_by_default():
    strip = turntable_strip(frames(5))
    assert strip.shape == (6, 40, 4)
    assert [int(strip[3, 8 * k + 4, 0]) for k in range(5)] == [5, 15, 25, 35, 45]


def test_a_grid_reads_like_text_and_leaves_the_rest_empty():
    grid = turntable_strip(frames(5), columns=3)
    assert grid.shape == (12, 24, 4)
    assert (grid[6:, 8:16] == 45).all()
    assert not grid[6:, 16:].any()


def test_strips_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="one frame or more"):
        turntable_strip([])
    with pytest.raises(ValueError, match="one frame or more"):
        turntable_strip([np.zeros((2, 2, 4), np.uint8), np.zeros((3, 2, 4), np.uint8)])
    with pytest.raises(ValueError, match="columns"):
        turntable_strip(frames(2), columns=3)
    with pytest.raises(ValueError, match="16383"):
        turntable_strip([np.zeros((1, 1024, 4), np.uint8)] * 17)


def test_png_keeps_every_bit_and_webp_nearly():
    ramp = np.zeros((32, 32, 4), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(32) * 8, np.arange(32)[:, None] * 8
    ramp[..., 3] = 255
    ramp[:8, :, 3] = 0
    with Image.open(io.BytesIO(encode_png(ramp))) as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), ramp)
    with Image.open(io.BytesIO(encode_webp(ramp))) as picture:
        assert picture.format == "WEBP"
        seen = np.asarray(picture).astype(int)
    np.testing.assert_array_equal(seen[..., 3], ramp[..., 3])
    assert np.abs(seen - ramp)[8:].mean() < 6


def test_the_same_picture_gives_the_same_bytes():
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 4), np.uint8)
    assert encode_webp(picture) == encode_webp(picture)
    assert encode_png(picture) == encode_png(picture)


def test_only_pictures_are_encoded():
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4)), np.zeros((4, 4, 2), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            encode_png(wrong)
