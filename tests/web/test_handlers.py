"""The page's events, in the order that an impatient user gives them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from orfeas.request import MAX_TAPS
from orfeas.web.handlers import Cutter, Handlers
from orfeas.web.jobs import Jobs
from tests.conftest import PacedEngine
from tests.web.conftest import write_photo

TOKEN = "0123456789abcdef" * 2
GROUND, SUBJECT = (10, 200), (200, 160)  # pixels of the photo as it is shown


@pytest.fixture
def page(make_studio) -> Handlers:
    studio = make_studio(PacedEngine())
    return Handlers(Jobs(studio, 2), Cutter(studio, 2))


@pytest.fixture
def other_photo(tmp_path):
    return str(write_photo(tmp_path / "blue egg.jpg", (200, 90, 40)))


def take(page, photo):
    """The corrections that the page remembers of a new picture."""
    return asyncio.run(page.take_picture(photo, "auto"))[3]


def tap(page, photo, corrections, pixel, mode="include"):
    """(the cutout as shown, explanation, corrections) after a tap."""
    event = SimpleNamespace(index=pixel)
    return asyncio.run(page.tap(photo, "auto", corrections, mode, event))[1:]


def make(page, photo, corrections):
    """The request that Generate ran."""
    options = dict.fromkeys(("seed", "max_faces"))
    options |= {"quality": "draft", "format": "stl", "size_mm": 20, "background": "auto", "texture": "none"}
    request = SimpleNamespace(session_hash="someone")
    asyncio.run(
        page.make(TOKEN, "no", photo, **options, base="none", corrections=corrections, request=request, progress=None)
    )
    return page.jobs.get(TOKEN).result.request


def test_a_picture_is_decoded_once_for_its_cutout(page, photo, monkeypatch):
    from orfeas import picture as room

    read = []
    load = room.load_picture
    monkeypatch.setattr(room, "load_picture", lambda source: read.append(source) or load(source))
    take(page, str(photo))
    assert len(read) == 1


def test_generate_uses_the_taps_of_its_picture(page, photo):
    _, note, corrections = tap(page, str(photo), take(page, str(photo)), GROUND)
    assert "1 correction by hand" in note
    assert make(page, str(photo), corrections).taps == corrections.taps
    assert len(corrections.taps) == 1


def test_generate_at_once_after_another_picture_does_not_use_the_taps_of_the_last(page, photo, other_photo):
    *_, corrections = tap(page, str(photo), take(page, str(photo)), GROUND)
    assert make(page, other_photo, corrections).taps == ()


def test_a_tap_on_the_last_picture_is_not_one_on_this(page, photo, other_photo):
    *_, corrections = tap(page, str(photo), take(page, str(photo)), GROUND)
    _, image, note, plain = asyncio.run(page.take_picture(other_photo, "auto"))
    shown, again, after = tap(page, other_photo, corrections, GROUND)
    assert (after, again) == (plain, note)
    assert np.array_equal(shown, image)
    *_, note, after = asyncio.run(page.change_background(other_photo, "auto", corrections))
    assert "correction" not in note
    assert after == plain


def test_reset_takes_all_taps_back(page, photo):
    *_, corrections = tap(page, str(photo), take(page, str(photo)), GROUND)
    *_, note, after = asyncio.run(page.reset(str(photo), "auto", corrections))
    assert after == take(page, str(photo))
    assert "correction" not in note


def test_one_tap_too_many_is_refused_and_the_others_stay(page, photo):
    corrections = take(page, str(photo))
    for _ in range(MAX_TAPS):
        corrections = corrections.tapped(SUBJECT, True)
    _, note, after = tap(page, str(photo), corrections, SUBJECT)
    assert f"at most {MAX_TAPS} are taken" in note
    assert after == corrections
    *_, note, _ = asyncio.run(page.change_background(str(photo), "auto", after))
    assert f"{MAX_TAPS} corrections by hand" in note
    assert len(make(page, str(photo), after).taps) == MAX_TAPS


def test_a_tap_that_leaves_nothing_is_taken_back(page, photo):
    before = take(page, str(photo))
    _, note, after = tap(page, str(photo), before, SUBJECT, "exclude")
    assert 'class="note bad"' in note
    assert after == before


def test_a_picture_without_a_cutout_does_not_show_the_last_one_s(page, photo, tmp_path):
    import cv2

    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), np.full((300, 300, 3), 200, np.uint8))
    panel, image, note, corrections = asyncio.run(page.take_picture(str(blank), "auto"))
    assert panel["visible"]
    assert image is None
    assert 'class="note bad"' in note
    assert corrections.taps == ()


def test_a_result_is_made_again_with_one_thing_changed(page, photo):
    *_, corrections = tap(page, str(photo), take(page, str(photo)), GROUND)
    first = make(page, str(photo), corrections)
    result = page.jobs.get(TOKEN).result
    request = SimpleNamespace(session_hash="someone")

    def again(token, quality):
        asyncio.run(page.again(token, "no", result.id, quality, request=request, progress=None))
        return page.jobs.get(token).result.request.options()

    other_seed, other_quality = again("1" * 32, ""), again("2" * 32, "high")
    assert other_seed.pop("seed") != first.seed
    assert other_quality.pop("quality") == "high"
    expected = first.options()
    assert other_quality == {key: value for key, value in expected.items() if key != "quality"}
    assert other_seed == {key: value for key, value in expected.items() if key != "seed"}
    assert len(expected["taps"]) == 1


def test_a_result_that_is_gone_cannot_be_made_again_and_the_page_is_told(page):
    with pytest.raises(gr.Error, match="choose its picture again"):
        asyncio.run(page.again(TOKEN, "no", "0" * 32, "", request=SimpleNamespace(session_hash=""), progress=None))
    assert page.jobs.look(TOKEN)["error"] == "This result is no longer there: choose its picture again."
