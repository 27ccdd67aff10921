import numpy as np
import pytest

from orfeas.errors import BadPicture
from orfeas.silhouette import bounding_box, subject_level, subject_mask
from tests.silhouettes import disc, glass, star


def test_outline_is_at_half_of_the_full_coverage():
    np.testing.assert_array_equal(subject_mask(star()), star()[..., 3] >= 128)
    np.testing.assert_array_equal(subject_mask(glass()), glass()[..., 3] >= 43)
    assert subject_level(glass()).max() == 1.0


def test_box_is_in_pixel_edges():
    rgba = np.zeros((40, 60, 4), np.uint8)
    rgba[5:12, 20:50, 3] = 255
    assert bounding_box(subject_mask(rgba)) == (20, 5, 50, 12)


def test_specks_are_left_out_but_parts_are_not():
    rgba = disc(300, 0.3)
    rgba[2:5, 2:5, 3] = 255
    assert not subject_mask(rgba)[2:5, 2:5].any()
    rgba[2:40, 2:40, 3] = 255
    assert subject_mask(rgba)[2:40, 2:40].all()


def test_a_broken_wire_is_held_together_by_its_faint_pixels():
    rgba = disc(300, 0.2)
    rgba[150, :, 3] = np.maximum(rgba[150, :, 3], 60)
    rgba[150, ::3, 3] = 255
    assert bounding_box(subject_mask(rgba))[:1] == (0,)


def test_only_specks_keep_the_largest():
    rgba = np.zeros((100, 100, 4), np.uint8)
    rgba[::10, ::10, 3] = 255
    rgba[40:43, 40:43, 3] = 255
    assert subject_mask(rgba)[41, 41]


def test_nothing_is_refused_in_a_sentence():
    with pytest.raises(BadPicture, match="empty") as refusal:
        subject_mask(np.zeros((10, 10, 4), np.uint8))
    assert refusal.value.code == "empty_cutout"
