"""Every bound of a request, and its sentence."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from orfeas.errors import BadRequest
from orfeas.request import FORMATS, QUALITIES, QUALITY_NAMES, GenerationRequest, Tap, number_name

PICTURE = b"not judged here"


def test_defaults_are_those_of_the_documentation():
    one = GenerationRequest(PICTURE)
    assert (one.quality, one.format, one.size_mm, one.background, one.texture) == (
        "standard", "stl", 100.0, "auto", "photo",
    )  # fmt: skip
    assert one.max_faces is None
    assert 0 <= one.seed < 2**32


def test_options_that_came_later_are_recorded_only_where_they_are_used():
    """So that a request from before is still the same one, and a version from before can read it."""
    before = {"quality", "format", "size_mm", "seed", "background", "texture", "base", "max_faces", "name", "taps"}
    assert set(GenerationRequest(PICTURE).options()) == before
    lying = GenerationRequest(PICTURE, orientation="flattest").options()
    assert set(lying) == {*before, "orientation"}
    assert GenerationRequest.from_options(PICTURE, lying).orientation == "flattest"


def test_a_seed_that_is_not_given_is_drawn_anew():
    assert len({GenerationRequest(PICTURE).seed for _ in range(8)}) > 1


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("quality", "ultra", "draft, standard or high"),
        ("quality", None, "draft, standard or high"),
        ("format", "exe", "stl, glb, obj, ply or 3mf"),
        ("format", "STL", "stl, glb, obj, ply or 3mf"),
        ("background", "blur", "auto, keep or remove"),
        ("texture", True, "photo or none"),
        ("base", "round", "none, cut or plinth"),
        ("orientation", "upright", "picture, standing or flattest"),
        ("size_mm", 0.99, "1 to 1,000 millimetres"),
        ("size_mm", 1000.5, "1 to 1,000 millimetres"),
        ("size_mm", float("nan"), "1 to 1,000 millimetres"),
        ("size_mm", float("inf"), "1 to 1,000 millimetres"),
        ("size_mm", "ten", "1 to 1,000 millimetres"),
        ("size_mm", True, "1 to 1,000 millimetres"),
        ("size_mm", None, "1 to 1,000 millimetres"),
        ("seed", -1, "0 to 4294967295"),
        ("seed", 2**32, "0 to 4294967295"),
        ("seed", 1.5, "0 to 4294967295"),
        ("seed", "x", "0 to 4294967295"),
        ("seed", float("nan"), "0 to 4294967295"),
        ("seed", [], "0 to 4294967295"),
        ("max_faces", 99, "100 to 2000000"),
        ("max_faces", 2_000_001, "100 to 2000000"),
        ("max_faces", "many", "100 to 2000000"),
        ("taps", "here", "include"),
        ("taps", [[0.5, 0.5]], "include"),
        ("taps", [[0.5, 0.5, "maybe"]], "include"),
        ("taps", [[1.5, 0.5, "include"]], "from 0 to 1"),
        ("taps", [[0.5, 0.5, "include"]] * 65, "at most 64"),
    ],
)
def test_what_is_out_of_range_is_refused_with_the_range(option, value, allowed):
    with pytest.raises(BadRequest) as refused:
        GenerationRequest(PICTURE, **{option: value})
    assert allowed in str(refused.value)
    assert option.rstrip("s") in str(refused.value)
    assert str(refused.value).endswith(".")


def test_what_was_written_is_quoted():
    with pytest.raises(BadRequest, match=r"size_mm cannot be 'abc'"):
        GenerationRequest(PICTURE, size_mm="abc")


@pytest.mark.parametrize(
    ("option", "value", "kept"),
    [
        ("size_mm", 1, 1.0),
        ("size_mm", "1000", 1000.0),
        ("seed", 0, 0),
        ("seed", 2**32 - 1, 2**32 - 1),
        ("seed", 7.0, 7),
        ("seed", "42", 42),
        ("max_faces", 100, 100),
        ("max_faces", "", None),
        ("taps", [[0.25, 1, "exclude"]], (Tap(0.25, 1.0, False),)),
    ],
)
def test_bounds_are_inclusive_and_numbers_may_be_written_as_text(option, value, kept):
    assert getattr(GenerationRequest(PICTURE, **{option: value}), option) == kept


@pytest.mark.parametrize("picture", [None, 3, ["a.png"]])
def test_a_picture_is_needed(picture):
    with pytest.raises(BadRequest, match="No picture was given"):
        GenerationRequest(picture)


def test_a_request_is_frozen_and_hides_its_picture():
    one = GenerationRequest(PICTURE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.seed = 3
    assert "not judged" not in repr(one)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("my mug (2).final", "my-mug-2-final"),
        ("../../etc/passwd", "etc-passwd"),
        ("\u202egpj.exe\n", "gpj-exe"),
        ("---", "model"),
        ("", "model"),
        ("x" * 500, "x" * 60),
        ("猫", "猫"),
        ("Mu\u0308ller", "Müller"),  # as macOS writes it, in two characters
        ("my fish ü", "my-fish-ü"),
        ("हिन्दी प्याला", "हिन्दी-प्याला"),
        ("\u0301..\u0301/\u2067a\u200bb\u3164", "a-b"),
        ("猫\udcff\x7f", "猫"),
        ("𠮷" * 60, "𠮷" * 45),  # of four bytes each
    ],
)
def test_names_are_safe_in_paths_and_headers(given, name):
    assert GenerationRequest(PICTURE, name=given).name == name


def test_a_numbered_name_differs_however_long_it_is():
    for name in ("cup", "x" * 60, "𠮷" * 45):
        names = {GenerationRequest(PICTURE, name=number_name(name, number)).name for number in range(2, 12)}
        assert len(names) == 10
        assert max(len(one.encode()) for one in names) <= 180


def test_the_name_comes_from_the_path():
    assert GenerationRequest(Path("photos/red mug.jpeg")).name == "red-mug"
    assert GenerationRequest("photos/red mug.jpeg").picture == Path("photos/red mug.jpeg")


def test_options_make_the_same_request_again():
    one = GenerationRequest(PICTURE, quality="draft", size_mm=42, seed=5, taps=[[0.1, 0.2, "include"]], name="cup")
    assert GenerationRequest.from_options(PICTURE, one.options()) == one


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(BadRequest, match="Unknown option 'steps'"):
        GenerationRequest.from_options(PICTURE, {"steps": 10**9})


def test_every_engine_has_every_quality_and_they_ascend():
    for table in QUALITIES.values():
        assert tuple(table) == QUALITY_NAMES
        rows = list(table.values())
        assert all(a.grid < b.grid and a.faces < b.faces for a, b in itertools.pairwise(rows))


def test_a_standard_stl_is_two_to_five_megabytes():
    for table in QUALITIES.values():
        assert 2e6 <= 84 + 50 * table["standard"].faces <= 5.1e6
    assert FORMATS[0] == "stl"
