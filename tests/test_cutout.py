"""The subject is found as drawn, by the way that was promised; taps do what they say and nothing else."""

import hashlib
import io
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from orfeas.cutout import Cutout, cut_out, default_finders
from orfeas.cutout.border import flood_border
from orfeas.cutout.edges import clean_colours, drop_specks, sharpen_edges
from orfeas.cutout.finder import Found, Missed, to_lab
from orfeas.cutout.ground import correct_by_ground, model_ground
from orfeas.cutout.net import WEIGHTS, WEIGHTS_SHA256, SalientNet, find_with_u2netp
from orfeas.cutout.rembg_models import RembgModel, find_rembg_model
from orfeas.cutout.saliency import find_by_saliency
from orfeas.errors import BadPicture, BadRequest, BadWeights
from orfeas.picture import Picture, load_picture
from orfeas.request import Tap

SIDE = 240
BLUE, SAND, GREEN, WHITE = (60, 90, 190), (215, 190, 150), (40, 150, 70), (246, 246, 246)


def picture_of(pixels: np.ndarray) -> Picture:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return load_picture(file.getvalue())


def disc(x: float, y: float, radius: float, side: int = SIDE) -> np.ndarray:
    """(side, side) float cover of a disc, antialiased. x, y, radius in pixels."""
    rows, columns = np.mgrid[:side, :side]
    return np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1)


def paint(ground, *things) -> np.ndarray:
    """(h, w, 3) float: (cover, colour) pairs laid over ``ground`` (a colour or an array)."""
    pixels = np.zeros((SIDE, SIDE, 3)) + np.asarray(ground, float)
    for cover, colour in things:
        pixels = pixels * (1 - cover[..., None]) + np.asarray(colour, float) * cover[..., None]
    return pixels


def shaded(cover: np.ndarray, colour) -> np.ndarray:
    """A ball's shading in ``colour`` where ``cover`` is."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    return np.asarray(colour) * (1.25 - 0.7 * columns - 0.3 * rows)[..., None].clip(0.3, 1.05)


def textured(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(90, 220, (12, 12, 3)).astype(np.float32)
    return cv2.GaussianBlur(cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST), (0, 0), 5)


def iou(cutout: Cutout, truth: np.ndarray) -> float:
    found = cutout.rgba[..., 3] >= 128
    return float((found & (truth >= 0.5)).sum() / (found | (truth >= 0.5)).sum())


def mask_finder(cover: np.ndarray):
    """A stand-in that has found ``cover``."""
    return [("stand-in", lambda rgb: Found(cover.astype(np.float32), "Found by a stand-in."))]


# --- which way is used ---------------------------------------------------------------------------------------------


def test_alpha_is_taken_as_it_is():
    cover = disc(120, 110, 60) * 0.9 + disc(30, 200, 5)  # soft all over, and a speck: both are meant
    pixels = np.dstack([paint(BLUE), cover * 255]).round()
    cutout = cut_out(picture_of(pixels))
    assert cutout.method == "alpha"
    np.testing.assert_array_equal(cutout.rgba[..., 3], pixels[..., 3])
    np.testing.assert_array_equal(cutout.rgba[cutout.rgba[..., 3] > 0][:, :3], pixels[pixels[..., 3] > 0][:, :3])
    assert cutout.coverage == pytest.approx((cover >= 0.45).mean())  # half of what its inside has
    assert not cutout.touches_frame


def test_glass_is_a_subject_too():
    pixels = np.dstack([paint(BLUE), 110 * disc(120, 120, 70)])
    cutout = cut_out(picture_of(pixels))
    assert cutout.method == "alpha"
    assert cutout.coverage == pytest.approx((disc(120, 120, 70) >= 0.5).mean(), rel=0.01)
    for alpha in (9 * disc(120, 120, 70), disc(120, 120, 70) * 0):
        with pytest.raises(BadPicture) as caught:
            cut_out(picture_of(np.dstack([paint(BLUE), alpha])))
        assert caught.value.code == "empty_foreground"


def test_plain_ground_is_flooded_to_the_pixel():
    cover = np.maximum(disc(120, 120, 70), disc(60, 60, 30))
    cutout = cut_out(picture_of(paint(SAND, (cover, BLUE))))
    assert cutout.method == "border"
    assert iou(cutout, cover) > 0.985
    assert cutout.coverage == pytest.approx((cover >= 0.5).mean(), rel=0.02)


def test_soft_shadow_is_not_flooded():
    shadow = cv2.GaussianBlur(disc(150, 175, 60), (0, 0), 9)
    cover = disc(110, 110, 60)
    pixels = paint(paint(WHITE, (0.35 * shadow, (0, 0, 0))), (cover, shaded(cover, GREEN)))
    assert isinstance(flood_border(pixels.astype(np.uint8)), Missed)
    cutout = cut_out(picture_of(pixels))
    assert cutout.method == "u2netp"
    assert iou(cutout, cover) > 0.9
    assert "shadow" in cutout.explanation


def test_white_thing_on_white_ground_is_not_eaten():
    cover = disc(120, 120, 70)
    pixels = paint(WHITE, (cover, shaded(cover, (250, 250, 250))))
    assert isinstance(flood_border(pixels.astype(np.uint8)), Missed)
    assert iou(cut_out(picture_of(pixels)), cover) > 0.9


def test_enclosed_ground_is_left_to_the_network():
    ring = disc(120, 120, 80) - disc(120, 120, 45)
    assert isinstance(flood_border(paint(SAND, (ring, BLUE)).astype(np.uint8)), Missed)


def test_network_finds_a_thing_on_texture():
    cover = np.maximum(disc(120, 140, 55), disc(120, 70, 35))
    cutout = cut_out(picture_of(paint(textured(), (cover, shaded(cover, (200, 40, 40))))))
    assert cutout.method == "u2netp"
    assert "U²-Netp" in cutout.explanation
    assert iou(cutout, cover) > 0.9


def test_saliency_answers_where_the_network_does_not(tmp_path):
    cover = disc(120, 125, 60)
    picture = picture_of(paint(textured(), (cover, (200, 30, 30))))
    finders = default_finders()
    finders[1] = ("u2netp", SalientNet(tmp_path / "gone.onnx").find)
    cutout = cut_out(picture, finders=finders)
    assert cutout.method == "saliency"
    assert "gone.onnx is missing" in cutout.explanation
    assert "guess" in cutout.explanation
    assert iou(cutout, cover) > 0.8


def test_damaged_network_is_an_error(tmp_path):
    path = tmp_path / "u2netp.onnx"
    data = bytearray(WEIGHTS.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadWeights, match=r"u2netp\.onnx is damaged"):
        SalientNet(path).find(np.full((64, 64, 3), 90, np.uint8))
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == WEIGHTS_SHA256
    assert WEIGHTS_SHA256 in (WEIGHTS.parent / "README.md").read_text("utf-8")


def test_background_remove_ignores_the_alpha():
    cover = disc(120, 120, 50)
    everything = np.full((SIDE, SIDE), 255.0)
    everything[:, :60] = 0  # an alpha that is no cutout
    pixels = np.dstack([paint(SAND, (cover, BLUE)), everything])
    assert cut_out(picture_of(pixels), "auto").method == "alpha"
    cutout = cut_out(picture_of(pixels), "remove")
    assert cutout.method != "alpha"
    assert iou(cutout, cover) > 0.85


def test_next_to_opaque_alpha_is_no_cutout():
    cover = disc(120, 120, 50)
    alpha = np.full((SIDE, SIDE), 255.0)
    alpha[0, :3] = 0  # the round corner of a screenshot
    pixels = np.dstack([paint(SAND, (cover, BLUE)), alpha])
    cutout = cut_out(picture_of(pixels))
    assert cutout.method == "border"
    assert any("not taken for a cutout" in note for note in cutout.notes)


# --- the ground's colour corrects a network --------------------------------------------------------------------------

EXAMPLES = Path(__file__).parents[1] / "assets" / "examples"
RING, HOLE = disc(120, 120, 80) - disc(120, 120, 45), disc(120, 120, 45)


def slope(first, second) -> np.ndarray:
    """(side, side, 3) float: a ground that turns from one colour into another."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    return np.asarray(first) + (np.asarray(second, float) - first) * (0.4 * columns + 0.6 * rows)[..., None]


def believe(cover: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """(side, side) bool: what of a network's ``cover`` stays subject, in a picture that was compressed."""
    _, data = cv2.imencode(
        ".jpg", pixels.clip(0, 255).round().astype(np.uint8)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90]
    )
    picture = load_picture(data.tobytes())
    finders = [("stand-in", lambda rgb: Found(cv2.GaussianBlur(cover, (0, 0), 1).astype(np.float32), "", True))]
    return cut_out(picture, finders=finders).rgba[..., 3] >= 128


@pytest.mark.parametrize("ground", [SAND, slope(SAND, (150, 170, 190)), slope((20, 60, 40), (90, 110, 70))])
def test_enclosed_ground_is_opened(ground):
    found = believe(RING + HOLE, paint(ground, (RING, BLUE)))
    assert (found & (RING >= 0.5)).sum() / (found | (RING >= 0.5)).sum() > 0.96
    slats = np.zeros((SIDE, SIDE))
    slats[60:75, 60:180] = slats[165:180, 60:180] = 1
    for left in range(60, 180, 28):
        slats[60:180, left : left + 8] = 1
    back = np.zeros((SIDE, SIDE))
    back[60:180, 60:180] = 1
    found = believe(back, paint(ground, (slats, (130, 80, 30))))
    assert (found & (slats >= 0.5)).sum() / (found | (slats >= 0.5)).sum() > 0.92


@pytest.mark.parametrize("tint", [(6, 6, 6), (-6, -6, -6), (8, 0, -4), (-5, 5, 10)])
@pytest.mark.parametrize("ground", [SAND, slope(SAND, (150, 170, 190))])
def test_a_part_in_nearly_the_ground_s_colour_stays(ground, tint):
    pixels = paint(paint(ground, (HOLE, paint(ground) + tint)), (RING, BLUE))
    assert believe(RING + HOLE, pixels)[HOLE > 0.5].all()


def test_the_white_inside_of_a_white_mug_stays():
    body, inside = disc(120, 140, 70), disc(120, 95, 40)
    pixels = paint(WHITE, (body, shaded(body, (235, 235, 235))), (inside, shaded(inside, (250, 250, 250))))
    pixels += np.random.default_rng(0).normal(0, 1.5, pixels.shape)
    assert believe(np.maximum(body, inside), pixels)[np.maximum(body, inside) > 0.5].mean() > 0.98


def test_dots_of_another_colour_and_specks_stay():
    cap = disc(120, 120, 70)
    dots = [disc(100, 90, 12), disc(150, 130, 10), disc(100, 150, 8)]
    speck = disc(140, 90, 2)  # of the ground's colour: a reflection
    pixels = paint(slope(GREEN, (80, 190, 110)), (cap, (200, 20, 20)), *((dot, WHITE) for dot in dots), (speck, GREEN))
    assert believe(cap, pixels)[cap > 0.5].mean() > 0.995


def test_ground_that_cannot_be_predicted_changes_nothing():
    ring = paint(textured(5), (RING, BLUE)).clip(0, 255).astype(np.uint8)
    mask = (RING + HOLE).astype(np.float32)
    np.testing.assert_array_equal(correct_by_ground(mask, ring), mask)
    everywhere = np.ones((SIDE, SIDE), np.float32)
    assert correct_by_ground(everywhere, ring) is everywhere


def test_a_half_seen_sole_is_taken_in_and_a_half_seen_shadow_is_not():
    ground = slope((235, 180, 155), (225, 165, 140))
    shoe, sole, shadow = np.zeros((3, SIDE, SIDE))
    shoe[80:150, 50:190] = sole[150:164, 50:190] = shadow[164:178, 60:200] = 1
    shadow = cv2.GaussianBlur(shadow, (0, 0), 3) * (shoe + sole == 0)
    pixels = paint(ground * (1 - 0.3 * shadow[..., None]), (shoe, BLUE), (sole, (238, 226, 215)))
    found = believe(shoe + 0.3 * sole + 0.3 * (shadow > 0.3), pixels)
    assert found[(shoe + sole) > 0].mean() > 0.97
    assert found[170:178, 70:180].mean() < 0.05


def test_the_ground_is_followed_under_the_subject_and_its_error_is_known():
    ground = slope(SAND, (150, 170, 190))
    for back, honest in ((ground, True), (textured(5), False)):
        lab = to_lab(paint(back, (RING + HOLE, BLUE)).clip(0, 255).astype(np.uint8))
        model = model_ground(lab, (RING + HOLE).astype(np.float32))
        assert model.colour.shape == lab.shape
        off = np.linalg.norm(model.colour - to_lab(back.clip(0, 255).astype(np.uint8)), axis=2)[HOLE > 0.5]
        error = model.error[HOLE > 0.5]
        assert (off.mean() < 1.5 and error.max() < 4) if honest else error.mean() > 0.5 * off.mean() > 5


@pytest.mark.parametrize(
    ("name", "ground", "subject"),
    [  # (x, y) in the frame
        ("chair.jpg", [(0.333, 0.308), (0.405, 0.298), (0.475, 0.287), (0.52, 0.283)], [(0.4, 0.14), (0.5, 0.47)]),
        ("teapot.jpg", [(0.33, 0.29), (0.52, 0.3)], [(0.33, 0.2), (0.4, 0.4), (0.5, 0.5), (0.437, 0.3)]),
        ("mug.jpg", [(0.75, 0.41)], [(0.33, 0.2), (0.5, 0.2), (0.6, 0.2), (0.4, 0.82)]),
        ("mushroom.jpg", [], [(0.4, 0.4), (0.5, 0.7), (0.5, 0.3)]),
        ("shoe.jpg", [], [(0.25, 0.588), (0.35, 0.625), (0.5, 0.675), (0.6, 0.71), (0.5, 0.64)]),
    ],
)
def test_our_own_examples(name, ground, subject):
    alpha = cut_out(load_picture(EXAMPLES / name)).rgba[..., 3]
    height, width = alpha.shape
    assert {spot: alpha[int(spot[1] * height), int(spot[0] * width)] for spot in ground} == dict.fromkeys(ground, 0)
    assert all(alpha[int(y * height), int(x * width)] > 240 for x, y in subject)


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", ["auto", "remove"])
def test_blank_picture_is_refused_before_anything_is_tried(background):
    def must_not_run(rgb):
        raise AssertionError

    noise = np.random.default_rng(0).normal(0, 1.5, (SIDE, SIDE, 1))
    for colour in (BLUE, WHITE, (0, 0, 0)):
        with pytest.raises(BadPicture) as caught:
            cut_out(picture_of((paint(colour) + noise).clip(0, 255)), background, finders=[("none", must_not_run)])
        assert caught.value.code == "empty_foreground"


def test_keep_needs_an_alpha():
    with pytest.raises(BadPicture, match="no transparency to keep") as caught:
        cut_out(picture_of(paint(SAND, (disc(120, 120, 50), BLUE))), "keep")
    assert caught.value.code == "full_frame"


@pytest.mark.parametrize(
    ("margin", "code"), [(0, "full_frame"), (1, "full_frame"), (2, None), (100, None), (118, "empty_foreground")]
)
def test_bounds_of_a_found_subject(margin, code):
    cover = np.zeros((SIDE, SIDE))
    cover[margin : SIDE - margin, margin : SIDE - margin] = 1
    picture = picture_of(paint(SAND, (cover, BLUE), (disc(120, 120, 3), GREEN)))
    if code is None:
        assert cut_out(picture, finders=mask_finder(cover)).coverage == pytest.approx(cover.mean(), rel=0.05)
        return
    with pytest.raises(BadPicture) as caught:
        cut_out(picture, finders=mask_finder(cover))
    assert caught.value.code == code


def test_cutout_cropped_to_its_subject_passes():
    alpha = np.full((SIDE, SIDE), 255.0)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):  # a phone with round corners: 99 % of the frame
        rows = slice(0, 12) if corner[0] == 0 else slice(-12, None)
        columns = slice(0, 12) if corner[1] == 0 else slice(-12, None)
        alpha[rows, columns] = 0
    cutout = cut_out(picture_of(np.dstack([paint(BLUE), alpha])))
    assert cutout.coverage == pytest.approx(0.99)
    assert cutout.touches_frame


def test_subject_at_the_frame_is_told():
    cover = np.zeros((SIDE, SIDE))
    cover[100:, 80:160] = 1
    picture = picture_of(paint(SAND, (cover, BLUE)))
    cutout = cut_out(picture, finders=mask_finder(cover))
    assert cutout.touches_frame
    assert any("cut off" in note for note in cutout.notes)
    inside = cut_out(picture, finders=mask_finder(disc(120, 120, 40)))
    assert not inside.touches_frame
    assert not inside.notes


def test_unknown_background_is_refused():
    with pytest.raises(BadRequest, match="auto, keep, remove"):
        cut_out(picture_of(paint(BLUE)), "maybe")


# --- taps ----------------------------------------------------------------------------------------------------------

BODY, ARM, FAR = disc(110, 120, 50), disc(185, 120, 24), disc(30, 30, 14)


@pytest.mark.parametrize("ground", ["plain", "textured"])
@pytest.mark.parametrize("arm_colour", [GREEN, (110, 40, 110)])
def test_tap_adds_what_was_tapped_and_changes_nothing_far_away(ground, arm_colour):
    arm = np.clip(ARM - BODY, 0, 1)
    scene = paint(SAND if ground == "plain" else textured(), (BODY, BLUE), (arm, arm_colour), (FAR, BLUE))
    picture = picture_of(scene)
    before = cut_out(picture, finders=mask_finder(BODY))
    after = cut_out(picture, finders=mask_finder(BODY), taps=[Tap(188 / SIDE, 0.5, True)])
    assert iou(before, np.maximum(BODY, arm)) < 0.85
    assert iou(after, np.maximum(BODY, arm)) > 0.95
    rows, columns = np.mgrid[:SIDE, :SIDE]
    far = np.hypot(columns - 188, rows - 120) > 0.32 * SIDE
    np.testing.assert_array_equal(after.rgba[..., 3][far], before.rgba[..., 3][far])
    assert "1 correction by hand changed it." in after.explanation
    idle = cut_out(picture, finders=mask_finder(BODY), taps=[Tap(110 / SIDE, 0.5, True)])  # what is in already
    np.testing.assert_array_equal(idle.rgba[..., 3], before.rgba[..., 3])
    assert "1 correction by hand changed nothing." in idle.explanation


def test_tap_takes_away_what_was_tapped():
    arm = np.clip(ARM - BODY, 0, 1)
    both = np.maximum(BODY, arm)
    picture = picture_of(paint(SAND, (BODY, BLUE), (arm, GREEN)))
    after = cut_out(picture, finders=mask_finder(both), taps=[Tap(190 / SIDE, 0.5, False)])
    assert iou(after, BODY) > 0.95


def test_taps_are_applied_in_order_and_undo_each_other():
    arm = np.clip(ARM - BODY, 0, 1)
    picture = picture_of(paint(SAND, (BODY, BLUE), (arm, GREEN)))
    spot = (190 / SIDE, 0.5)
    there_and_back = [Tap(*spot, True), Tap(*spot, False)]
    assert iou(cut_out(picture, finders=mask_finder(BODY), taps=there_and_back), BODY) > 0.95
    assert iou(cut_out(picture, finders=mask_finder(BODY), taps=there_and_back[::-1]), np.maximum(BODY, arm)) > 0.95


def test_tap_where_nothing_is_to_change_changes_nothing():
    picture = picture_of(paint(SAND, (BODY, BLUE)))
    before = cut_out(picture, finders=mask_finder(BODY))
    after = cut_out(picture, finders=mask_finder(BODY), taps=[Tap(0.46, 0.5, True), Tap(0.95, 0.95, False)])
    np.testing.assert_array_equal(after.rgba, before.rgba)


def test_tap_always_acts_even_on_the_frame():
    picture = picture_of(paint(SAND, (BODY, BLUE)))
    for x, y in ((0, 0), (1, 1), (1, 0), (0.5, 1)):
        alpha = cut_out(picture, finders=mask_finder(BODY), taps=[Tap(x, y, True)]).rgba[..., 3]
        assert alpha[min(int(y * SIDE), SIDE - 1), min(int(x * SIDE), SIDE - 1)] >= 128


def test_taps_can_make_the_subject_where_none_was_found():
    nothing = [("stand-in", lambda rgb: Missed("Nothing here."))]
    picture = picture_of(paint(SAND, (BODY, BLUE)))
    with pytest.raises(BadPicture) as caught:
        cut_out(picture, finders=nothing)
    assert caught.value.code == "empty_foreground"
    assert iou(cut_out(picture, finders=nothing, taps=[Tap(0.46, 0.5, True)]), BODY) > 0.95


# --- edges and colours ---------------------------------------------------------------------------------------------


def test_specks_go_and_soft_rims_stay():
    alpha = np.maximum(disc(120, 120, 60), np.maximum(disc(30, 30, 3), disc(200, 60, 20))) * 255
    alpha[115:117, 115:117] = 0  # a pinhole
    cleaned = drop_specks(alpha.astype(np.uint8))
    assert cleaned[25:36, 25:36].max() == 0
    assert cleaned[60, 200] == 255  # a second part of some size
    assert cleaned[116, 116] == 255
    rim = (alpha > 0) & (alpha < 255) & (disc(120, 120, 62) > 0)
    np.testing.assert_array_equal(cleaned[rim], alpha.astype(np.uint8)[rim])


def test_coarse_mask_gets_the_edge_of_the_picture():
    cover = disc(120, 120, 60)
    coarse = cv2.resize(cv2.GaussianBlur(disc(118, 121, 62), (0, 0), 2), (48, 48), interpolation=cv2.INTER_AREA)
    pixels = paint(SAND, (cover, BLUE)).astype(np.uint8)
    blunt = cv2.resize(coarse, (SIDE, SIDE)) >= 0.5
    sharp = sharpen_edges(coarse.astype(np.float32), pixels) >= 128
    truth = cover >= 0.5
    assert (sharp ^ truth).sum() < 0.5 * (blunt ^ truth).sum()


def test_no_background_colour_at_the_rim():
    """Red on green: nothing that is kept, or that lies just outside, has any green."""
    cover = disc(120, 120, 60)
    cutout = cut_out(picture_of(paint((20, 230, 20), (cover, (200, 20, 20)))))
    outside = disc(120, 120, 62) > 0
    assert cutout.rgba[outside][:, 1].max() <= 40
    assert cutout.rgba[0, 0].tolist() == [0, 0, 0, 0]
    plain = clean_colours(np.full((40, 40, 3), 7, np.uint8), np.zeros((40, 40), np.uint8))
    assert plain.shape == (40, 40, 3)


# --- steadiness ----------------------------------------------------------------------------------------------------


def test_same_answer_in_every_thread_and_after_other_random_numbers():
    cover = disc(120, 125, 60)
    picture = picture_of(paint(textured(3), (cover, shaded(cover, (200, 30, 30)))))
    results = {}

    def work(number):
        cv2.setRNGSeed(number * 77)
        results[number] = (
            cut_out(picture, finders=[("u2netp", find_with_u2netp)]).rgba,
            cut_out(picture, finders=[("saliency", find_by_saliency)]).rgba,
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for first, other in zip(results[0], results[1], strict=True):
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("shape", [(40, 790), (790, 40), (32, 32)])
def test_long_and_tiny_pictures(shape):
    pixels = np.zeros((*shape, 3), np.uint8) + np.array(SAND, np.uint8)
    pixels[shape[0] // 4 : 3 * shape[0] // 4, shape[1] // 4 : 3 * shape[1] // 4] = BLUE
    cutout = cut_out(picture_of(pixels), taps=[Tap(0.5, 0.5, True), Tap(0.02, 0.02, False)])
    assert cutout.rgba.shape == (*shape, 4)
    assert 0.15 < cutout.coverage < 0.35


# --- rembg ---------------------------------------------------------------------------------------------------------


def test_rembg_is_used_only_with_its_weights_on_disk(tmp_path):
    there = {"U2NET_HOME": str(tmp_path)}

    def yes(name):
        return object()

    assert find_rembg_model(yes, there) is None
    broken = tmp_path / "isnet-general-use.onnx"
    broken.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert find_rembg_model(yes, there) is None  # a pointer, not a model
    with broken.open("r+b") as file:
        file.truncate(178_000_000)  # sparse: takes no room
    assert find_rembg_model(yes, there).name == "isnet-general-use"
    assert find_rembg_model(lambda name: None, there) is None
    assert find_rembg_model(lambda name: object() if name == "rembg" else None, there) is None
    best = tmp_path / "models" / "birefnet-general" / "birefnet-general.onnx"
    best.parent.mkdir(parents=True)
    with best.open("wb") as file:
        file.truncate(973_000_000)
    assert find_rembg_model(yes, there).name == "birefnet-general"
    assert find_rembg_model(yes, {"XDG_DATA_HOME": str(tmp_path / "none")}) is None


def test_rembg_model_is_asked_and_named(tmp_path):
    cover = disc(120, 120, 60)
    asked = []

    class Session:
        def predict(self, image):
            assert image.mode == "RGB"
            return [Image.fromarray((cover * 255).astype(np.uint8)).resize(image.size)]

    def open_session(name, path):
        asked.append((name, path))
        return Session()

    model = RembgModel("isnet-general-use", tmp_path / "x.onnx", open_session)
    picture = picture_of(paint(textured(), (cover, BLUE)))
    finders = [(f"rembg:{model.name}", model.find)]
    for _ in range(2):
        cutout = cut_out(picture, finders=finders)
    assert cutout.method == "rembg:isnet-general-use"
    assert "isnet-general-use" in cutout.explanation
    assert iou(cutout, cover) > 0.97
    assert asked == [("isnet-general-use", tmp_path / "x.onnx")]  # opened once


def test_a_rembg_that_does_not_run_leaves_the_job_to_the_others(tmp_path):
    def open_session(name, path):
        raise RuntimeError("protobuf parsing failed")

    model = RembgModel("isnet-general-use", tmp_path / "x.onnx", open_session)
    finders = [(f"rembg:{model.name}", model.find), *mask_finder(disc(120, 120, 60))]
    cutout = cut_out(picture_of(paint(textured(), (disc(120, 120, 60), BLUE))), finders=finders)
    assert cutout.method == "stand-in"
    assert cutout.explanation.startswith(
        "The model isnet-general-use of the installed rembg package does not run here."
    )


def test_import_is_light():
    code = (
        "import sys, orfeas.cutout, orfeas.picture\n"
        "from orfeas.cutout import default_finders\n"
        "default_finders()\n"
        "print([name for name in ('torch', 'onnxruntime', 'rembg', 'gradio', 'skimage') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_was_taken_away_leaves_no_colour_behind():
    arm = np.clip(ARM - BODY, 0, 1)
    pixels = np.dstack([paint((0, 0, 0), (BODY, BLUE), (arm, GREEN)), np.maximum(BODY, arm) * 255])
    cutout = cut_out(picture_of(pixels), taps=[Tap(195 / SIDE, 0.5, False)])
    assert cutout.method == "alpha"
    assert cutout.rgba[120, 195].tolist() == [0, 0, 0, 0]
    assert not (cutout.rgba[:, 190:, 1] == GREEN[1]).any()
