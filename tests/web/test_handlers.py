"""The page's events, in the order that an impatient user gives them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from orfeas.errors import OrfeasError
from orfeas.request import MAX_TAPS, Tap
from orfeas.web.copies import to_cache
from orfeas.web.handlers import Corrections, Cutter, Desk, Handlers
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


def show(event, *arguments, desk):
    """(panel, cutout as shown, explanation) after an event of the page."""
    return asyncio.run(event(*arguments, desk))


def take(page, photo) -> Desk:
    """A page with a new picture."""
    desk = Desk()
    show(page.take_picture, photo, "auto", desk=desk)
    return desk


def tap(page, photo, desk, pixel, mode="include"):
    """(the cutout as shown, explanation) after a tap."""
    return asyncio.run(page.tap(photo, "auto", desk, mode, SimpleNamespace(index=pixel)))[1:]


def make(page, photo, desk, **others):
    """The request that Generate ran."""
    options = dict.fromkeys(("seed", "max_faces"))
    options |= {"quality": "draft", "format": "stl", "size_mm": 20, "background": "auto", "texture": "none", **others}
    request = SimpleNamespace(session_hash="someone")
    options |= {"base": "none", "orientation": "picture"}
    asyncio.run(page.make(TOKEN, "no", photo, **options, desk=desk, request=request, progress=None))
    return page.jobs.get(TOKEN).result.request


def test_a_picture_is_decoded_once_for_its_cutout(page, photo, monkeypatch):
    from orfeas import picture as room

    read = []
    load = room.load_picture
    monkeypatch.setattr(room, "load_picture", lambda source: read.append(source) or load(source))
    take(page, str(photo))
    assert len(read) == 1


def test_generate_uses_the_taps_of_its_picture(page, photo):
    desk = take(page, str(photo))
    _, note = tap(page, str(photo), desk, GROUND)
    assert "1 correction by hand" in note
    assert make(page, str(photo), desk).taps == desk.corrections.taps
    assert len(desk.corrections.taps) == 1


def test_a_refusal_calls_an_option_as_the_page_does(page, photo):
    wrong = (
        ("size_mm", 5000, "“Longest side, mm”"),
        ("max_faces", "3", "“At most so many faces”"),
        ("seed", "x", "“Seed”"),
    )
    for option, value, label in wrong:
        with pytest.raises(gr.Error, match=f"{label} cannot be {value!r}: use a "):
            make(page, str(photo), take(page, str(photo)), **{option: value})
    assert page.jobs.look(TOKEN)["error"].startswith("“Longest side, mm” cannot be"), "the first is kept for a reload"


def test_generate_at_once_after_another_picture_does_not_use_the_taps_of_the_last(page, photo, other_photo):
    desk = take(page, str(photo))
    tap(page, str(photo), desk, GROUND)
    assert make(page, other_photo, desk).taps == ()


def test_a_tap_on_the_last_picture_is_not_one_on_this(page, photo, other_photo):
    desk = take(page, str(photo))
    tap(page, str(photo), desk, GROUND)
    tapped, plain = desk.corrections, Desk()
    _, image, note = show(page.take_picture, other_photo, "auto", desk=plain)
    shown, again = tap(page, other_photo, desk, GROUND)
    assert (desk.corrections, again) == (plain.corrections, note)
    assert np.array_equal(shown, image)
    desk.put(tapped)
    *_, note = show(page.change_background, other_photo, "auto", desk=desk)
    assert "correction" not in note
    assert desk.corrections == plain.corrections


def test_reset_takes_all_taps_back(page, photo):
    desk = take(page, str(photo))
    tap(page, str(photo), desk, GROUND)
    *_, note = show(page.reset, str(photo), "auto", desk=desk)
    assert desk.corrections == take(page, str(photo)).corrections
    assert "correction" not in note


def test_one_tap_too_many_is_refused_and_the_others_stay(page, photo):
    desk = take(page, str(photo))
    for _ in range(MAX_TAPS):
        desk.put(desk.corrections.tapped(SUBJECT, True))
    before = desk.corrections
    _, note = tap(page, str(photo), desk, SUBJECT)
    assert f"at most {MAX_TAPS} are taken" in note
    assert desk.corrections == before
    *_, note = show(page.change_background, str(photo), "auto", desk=desk)
    assert f"{MAX_TAPS} corrections by hand" in note
    assert len(make(page, str(photo), desk).taps) == MAX_TAPS


def test_a_tap_that_leaves_nothing_is_taken_back(page, photo):
    desk = take(page, str(photo))
    before = desk.corrections
    _, note = tap(page, str(photo), desk, SUBJECT, "exclude")
    assert 'class="note bad"' in note
    assert desk.corrections == before


def test_a_picture_without_a_cutout_does_not_show_the_last_one_s(page, photo, tmp_path):
    import cv2

    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), np.full((300, 300, 3), 200, np.uint8))
    desk = take(page, str(photo))
    panel, image, note = show(page.take_picture, str(blank), "auto", desk=desk)
    assert panel["visible"]
    assert image is None
    assert 'class="note bad"' in note
    assert desk.corrections.taps == ()


def test_a_picture_that_is_taken_slowly_does_not_undo_what_came_after_it(page, photo, other_photo, monkeypatch):
    """As when a result is opened while the cutout of a picture that was just chosen is under way."""
    leave = threading.Event()
    look = page.cutter.studio.look
    taps = (Tap(0.1, 0.5, True),)

    def look_slowly(picture, *options):
        if str(picture) == other_photo:
            assert leave.wait(30)
        return look(picture, *options)

    monkeypatch.setattr(page.cutter.studio, "look", look_slowly)

    async def play():
        desk = Desk()
        slow = asyncio.create_task(page.take_picture(other_photo, "auto", desk))
        await asyncio.sleep(0)
        desk.put(Corrections(str(photo), taps))  # as History.restore does
        leave.set()
        late = await slow
        assert all("value" not in update for update in late), "nothing is drawn of it"
        assert desk.corrections.taps == taps
        *_, note = await page.take_picture(str(photo), "auto", desk)
        assert "1 correction by hand" in note

    asyncio.run(play())


def test_a_result_that_expired_while_its_job_is_known_is_not_shown(page, photo, monkeypatch):
    """Whether it went before the page was reloaded, or just now; a script is told the same in a sentence."""
    make(page, str(photo), take(page, str(photo)))
    result = page.jobs.get(TOKEN).result

    def resume(draws: str) -> bool:
        """Whether anything was shown."""
        updates = asyncio.run(page.resume(TOKEN, draws, SimpleNamespace(session_hash="someone")))
        return any(update != gr.skip() for update in updates)

    assert resume("yes")
    assert page.jobs.studio.library.remove(result.id)
    assert not resume("yes")
    assert not resume("no")
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    assert not resume("no")
    with pytest.raises(gr.Error, match="This result is no longer there: make it anew"):
        resume("yes")
    with pytest.raises(OrfeasError, match=r"no longer there: make it anew\.$"):
        to_cache(result.files["model"], [result.folder])


def test_a_result_is_made_again_with_one_thing_changed(page, photo):
    desk = take(page, str(photo))
    tap(page, str(photo), desk, GROUND)
    first = make(page, str(photo), desk)
    result = page.jobs.get(TOKEN).result
    request = SimpleNamespace(session_hash="someone")

    def again(token, change):
        asyncio.run(page.again(token, "no", result.id, change, request=request, progress=None))
        return page.jobs.get(token).result.request.options()

    other_seed, other_quality = again("1" * 32, ""), again("2" * 32, "quality:high")
    with_base = again("3" * 32, "base:plinth")
    assert with_base.pop("base") == "plinth"
    assert with_base == {key: value for key, value in first.options().items() if key != "base"}
    turned = again("5" * 32, "orientation:standing")
    assert turned.pop("orientation") == "standing"
    assert turned == {key: value for key, value in first.options().items() if key != "orientation"}
    assert other_seed.pop("seed") != first.seed
    assert other_quality.pop("quality") == "high"
    expected = first.options()
    assert other_quality == {key: value for key, value in expected.items() if key != "quality"}
    assert other_seed == {key: value for key, value in expected.items() if key != "seed"}
    assert len(expected["taps"]) == 1


@pytest.mark.parametrize("change", ["size_mm:3", "base", "base:../cut", "orientation:upright", "nothing"])
def test_only_quality_seed_base_and_orientation_are_changed_by_a_button(page, photo, change):
    make(page, str(photo), take(page, str(photo)))
    request = SimpleNamespace(session_hash="someone")
    with pytest.raises(
        gr.Error, match=r"reload it and try again|use none, cut or plinth|use picture, standing or flattest"
    ):
        asyncio.run(page.again("4" * 32, "no", page.jobs.get(TOKEN).result.id, change, request=request, progress=None))


def test_a_result_that_is_gone_cannot_be_made_again_and_the_page_is_told(page):
    with pytest.raises(gr.Error, match="choose its picture again"):
        asyncio.run(page.again(TOKEN, "no", "0" * 32, "", request=SimpleNamespace(session_hash=""), progress=None))
    assert page.jobs.look(TOKEN)["error"] == "This result is no longer there: choose its picture again."
