"""The pictures that a visitor clicks first."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[1] / "assets" / "examples"
PICTURES = sorted(path for path in FOLDER.iterdir() if path.suffix in {".jpg", ".webp", ".png"})


def test_there_are_enough_and_they_are_small():
    assert len(PICTURES) >= 8
    assert sum(path.stat().st_size for path in PICTURES) < 1_500_000


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_each_is_a_large_enough_clean_picture(path):
    with Image.open(path) as picture:
        picture.load()
        assert {".jpg": "JPEG", ".webp": "WEBP", ".png": "PNG"}[path.suffix] == picture.format
        assert min(picture.size) >= 512
        assert not picture.getexif()
        assert not {"icc_profile", "xmp", "exif", "comment", "photoshop"} & set(picture.info)
        pixels = np.asarray(picture.convert("RGBA"))
    assert pixels[..., :3].std() > 10  # something is there


def test_some_have_a_transparent_ground():
    found = 0
    for path in PICTURES:
        with Image.open(path) as picture:
            if picture.mode == "RGBA":
                alpha = np.asarray(picture)[..., 3]
                assert alpha[0, 0] == alpha[-1, -1] == 0
                assert 0.05 < (alpha == 255).mean() < 0.9
                found += 1
    assert found >= 1


def test_the_licence_and_the_making_are_told():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "CC0" in text
    assert "make_examples.py" in text
    for path in PICTURES:
        assert path.name in text
