import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import label
from torch import nn

from orfeas.engines.choose import choose_engine
from orfeas.engines.sketch import SketchEngine, learned
from orfeas.engines.sketch.learned import (
    LearnedShape,
    frame_picture,
    half_width,
    inflated_depth,
    outline_distance,
    settle,
    soften,
    trust,
)
from orfeas.engines.sketch.subject import crop_subject, grid_subject
from orfeas.engines.sketch.train.export import to_onnx
from orfeas.engines.sketch.train.network import SketchNet
from orfeas.errors import BadRequest, BadWeights
from orfeas.mesh import signed_volume
from orfeas.request import QUALITIES
from orfeas.settings import load_settings
from orfeas.silhouette import bounding_box, subject_mask
from tests.engines.test_sketch import seen_from_front, unmatched_edges
from tests.silhouettes import as_cutout, chair, disc, mug

DRAFT = QUALITIES["sketch"]["draft"]


def any_network(strength: float) -> SketchNet:
    """Random weights and statistics; ``strength`` scales what is added to inflation."""
    torch.manual_seed(3)
    network = SketchNet()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    nn.init.normal_(network.surface.weight, std=0.05 * strength)
    return network.eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Files of an untrained network, which is inflation, and of one with random answers."""
    folder = tmp_path_factory.mktemp("models")
    for name, strength in (("still", 0.0), ("wild", 1.0)):
        (folder / f"{name}.onnx").write_bytes(to_onnx(any_network(strength)))
    return folder


def shape(rgba: np.ndarray, source=None, seed: int = 1):
    *_, mesh = SketchEngine(source=source).shape(as_cutout(rgba), DRAFT, seed)
    return mesh


def test_exported_network_answers_like_the_trained_one(models):
    picture = frame_picture(disc(200))[0]
    distance = outline_distance(picture[..., 3])
    inputs = learned.network_input(picture.astype(np.float32) / 255, distance, inflated_depth(distance))
    with torch.no_grad():
        expected = any_network(1.0)(torch.from_numpy(inputs[None]))
    found = LearnedShape(models / "wild.onnx")._run(inputs)
    assert np.ptp(expected.numpy()) > 0.1
    np.testing.assert_allclose(found, expected[0].numpy(), atol=4e-3)  # weights in half precision


def test_prior_of_a_disc_is_a_ball():
    y, x = (np.mgrid[:128, :128] + 0.5 - 64) / 128
    distance = outline_distance((np.hypot(x, y) < 0.4).astype(np.uint8) * 255)
    y, x = (np.mgrid[:64, :64] + 0.5 - 32) / 64
    ball = np.sqrt(np.maximum(0.4**2 - x**2 - y**2, 0))
    inner = np.hypot(x, y) < 0.36
    np.testing.assert_allclose(inflated_depth(distance)[inner], ball[inner], atol=0.006)
    np.testing.assert_allclose(distance, 0.4 - np.hypot(x, y), atol=0.008)
    assert not inflated_depth(np.full((64, 64), -0.5, np.float32)).any()


@pytest.mark.parametrize("size", [(300, 90), (90, 300), (41, 40), (1, 200)])
def test_frame_holds_the_crop_in_its_middle(size):
    crop = np.full((*size, 4), 200, np.uint8)
    crop[..., 3] = 255
    picture, (left, top, width, height) = frame_picture(crop)
    assert max(width, height) == 115
    rows, columns = np.nonzero(picture[..., 3])
    assert (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1) == (left, top, width, height)
    assert abs((left + width / 2) - 64) <= 0.5
    assert abs((top + height / 2) - 64) <= 0.5
    assert np.abs(picture[top : top + height, left : left + width].astype(int) - crop[0, 0]).max() <= 1


@pytest.mark.parametrize("drawn", [disc(200), mug()], ids=["disc", "mug"])
def test_untrained_network_is_inflation(models, drawn):
    inflated = shape(drawn)
    mesh = shape(drawn, LearnedShape(models / "still.onnx"))
    ours, theirs = (signed_volume(m.vertices, m.faces) for m in (mesh, inflated))
    assert ours == pytest.approx(theirs, rel=0.12)


def test_learned_shape_keeps_the_engines_contract(models):
    drawn = chair()
    source = LearnedShape(models / "wild.onnx")
    mesh = shape(drawn, source)
    assert unmatched_edges(mesh.faces) == 0
    assert signed_volume(mesh.vertices, mesh.faces) > 0
    mask = subject_mask(drawn)
    left, top, right, bottom = bounding_box(mask)
    assert mesh.extents[:2].max() == pytest.approx(2.0)
    seen = seen_from_front(mesh, (bottom - top, right - left))
    assert np.mean(seen == mask[top:bottom, left:right]) > 0.95  # a random network makes bumps
    again = shape(drawn, LearnedShape(models / "wild.onnx"))
    np.testing.assert_array_equal(again.vertices, mesh.vertices)
    assert not np.array_equal(shape(drawn, source, seed=2).vertices[:100], mesh.vertices[:100])


def test_round_things_are_inflated(models):
    source = LearnedShape(models / "wild.onnx")
    stalk = disc(200)
    stalk[:60, 98:104] = 255
    egg = np.ascontiguousarray(np.repeat(disc(120), 2, axis=0))
    for drawn in (disc(200), stalk, egg):
        prediction = source.predict(frame_crop(drawn))
        assert np.abs(prediction.middle).max() == np.abs(prediction.half).max() == 0
    square = np.full((100, 120, 4), 255, np.uint8)
    for drawn in (square, chair()):
        assert trust(frame_picture(frame_crop(drawn))[0][..., 3]) == 1
        assert np.ptp(source.predict(frame_crop(drawn)).middle) > 1e-3


def frame_crop(rgba: np.ndarray) -> np.ndarray:
    left, top, right, bottom = bounding_box(rgba[..., 3] > 127)
    return rgba[top:bottom, left:right]


def test_mirrored_picture_gives_the_mirrored_answer(models):
    # so wide and high that it lies in the middle of the network's picture to the pixel
    crop = cv2.resize(frame_crop(chair()), (80, 115), interpolation=cv2.INTER_AREA)
    source = LearnedShape(models / "wild.onnx")
    here, there = source.predict(crop), source.predict(crop[:, ::-1])
    assert here.box == (24, 6, 80, 115)
    np.testing.assert_allclose(there.middle, here.middle[:, ::-1], atol=1e-4)
    np.testing.assert_allclose(there.half, here.half[:, ::-1], atol=1e-4)


def odd_outline(kind: str) -> np.ndarray:
    rgba, mask = np.full((200, 200, 4), 140, np.uint8), np.zeros((200, 200), np.uint8)
    if kind == "dot":
        mask[100, 100] = 255
    elif kind == "line":
        cv2.line(mask, (5, 5), (190, 150), 255, 1)
    elif kind == "comb":
        mask[20:30, 20:176] = mask[20:180, 20:176:6] = 255
    elif kind == "noise":
        mask[np.random.default_rng(0).random(mask.shape) < 0.6] = 255
    elif kind == "two":
        mask[10:60, 10:60] = mask[130:180, 130:180] = 255
    else:
        mask[:] = 255
    rgba[..., 3] = mask
    return rgba


@pytest.mark.parametrize("kind", ["dot", "line", "comb", "noise", "two", "full"])
def test_odd_outlines_become_closed_solids(kind):
    mesh = shape(odd_outline(kind), LearnedShape())
    assert unmatched_edges(mesh.faces) == 0
    assert signed_volume(mesh.vertices, mesh.faces) > 0
    assert np.isfinite(mesh.vertices).all()
    assert mesh.extents[:2].max() == pytest.approx(2.0)


def test_a_hair_that_the_network_cannot_see_is_as_deep_as_it_is_thick():
    rgba = np.full((1200, 1200, 4), 140, np.uint8)
    rgba[..., 3] = cv2.line(np.zeros((1200, 1200), np.uint8), (5, 5), (1194, 1194), 255, 4)
    width, height, depth = shape(rgba, LearnedShape()).extents
    assert width == pytest.approx(height, rel=0.01)
    assert depth < 0.05 * width


def test_the_shipped_network_answers_alike_on_any_number_of_threads():
    threads, found = cv2.getNumThreads(), []
    try:
        for count in (1, 2):
            cv2.setNumThreads(count)
            found.append(shape(chair(), LearnedShape()).vertices)
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(found[0], found[1])


def test_softening_rounds_blocks_and_keeps_wires():
    z, y, x = np.mgrid[-16:17, -30:31, -30:31].astype(np.float32)
    distance = np.maximum(12 - np.maximum(abs(x + 15), abs(y)), 0.9 - abs(x - 12))[0]  # a block, and a wire beside it
    values = np.minimum(distance, 8 - abs(z))
    sharp = values.copy()
    soften(values, distance)
    np.testing.assert_array_equal(values[..., 40:], sharp[..., 40:])
    assert values[16, 30, 15] == pytest.approx(sharp[16, 30, 15], abs=1.3)  # deep inside
    assert sharp[24, 18, 15] == 0  # on an edge of the block
    assert values[24, 18, 15] < -0.3
    assert values[24, 30, 15] == pytest.approx(0, abs=0.05)  # in the middle of a face


def test_softening_leaves_a_handle_on_its_block():
    z, y, x = np.mgrid[-16:17, -30:31, -30:31].astype(np.float32)
    distance = np.maximum(12 - np.maximum(abs(x + 15), abs(y)), np.minimum(1.2 - abs(y), 20 - abs(x)))[0]
    values = np.minimum(distance, np.where(x > -3, 1.2, 8) - abs(z))
    soften(values, distance)
    assert (values[16, 30, 10:50] > 0.5).all()
    assert label(values > 0)[1] == 1


def test_thin_parts_lie_where_what_holds_them_does():
    """The network's noise there counts for next to nothing, and they are as thick as inflation makes them."""
    random = np.random.default_rng(5)
    mask = np.zeros((128, 128), bool)
    mask[20:60, 20:60] = mask[70:110, 70:110] = True  # two blocks
    line = np.arange(55, 76)
    for offset in (-1, 0, 1):
        mask[line, line + offset] = True  # and a thin slanting bar from one to the other
    known = mask[::2, ::2]
    middle = np.where(np.add.outer(np.arange(64), np.arange(64)) < 64, -0.2, 0.2)
    bar = np.zeros((64, 64), bool)
    bar[30:35, 30:35] = True
    noisy = (middle + bar * random.normal(0, 0.5, (64, 64))).astype(np.float32)
    settled, half = settle(noisy, np.full((64, 64), 0.1, np.float32), known, mask)
    assert settled[40, 40] == pytest.approx(-0.2, abs=0.01)
    assert settled[90, 90] == pytest.approx(0.2, abs=0.01)
    along = settled[line, line]
    assert (np.diff(along) > 0).all()
    assert np.diff(along).max() < 0.06
    assert half[40, 40] == pytest.approx(0.1, abs=0.01)
    assert half[65, 65] < 0.02


def test_slants_stay_and_noise_goes():
    random = np.random.default_rng(7)
    mask = np.zeros((128, 128), bool)
    mask[20:100, 30:110] = True
    slant = np.add.outer(0.4 * np.arange(64), -0.3 * np.arange(64)).astype(np.float32) / 64
    fine = cv2.resize(slant, (128, 128), interpolation=cv2.INTER_LINEAR)
    plain, _ = settle(slant, slant, mask[::2, ::2], mask)
    assert np.abs(plain - fine)[mask].mean() < 1e-3  # up to the outline; smoothing of differences makes it 3e-3
    within = np.zeros_like(mask)
    within[28:92, 38:102] = True
    noisy, _ = settle(slant + random.normal(0, 0.05, slant.shape).astype(np.float32), slant, mask[::2, ::2], mask)
    assert np.std((noisy - fine)[within]) < 0.015


def test_values_do_not_leave_what_they_belong_to():
    mask = np.zeros((128, 128), bool)
    mask[20:100, 20:60] = mask[20:100, 64:104] = True
    middle = np.where(np.arange(64) < 31, -0.3, 0.3)[None].repeat(64, 0).astype(np.float32)
    settled, _ = settle(middle, middle, mask[::2, ::2], mask)
    np.testing.assert_allclose(settled[mask & (np.arange(128) < 62)], -0.3, atol=1e-5)
    np.testing.assert_allclose(settled[mask & (np.arange(128) > 62)], 0.3, atol=1e-5)


def test_half_width_is_that_of_the_part():
    mask = np.zeros((128, 128), bool)
    mask[30:90, 30:90] = True
    mask[58:62, 90:120] = True
    width = half_width(mask)
    assert width[60, 60] == learned.STOUT[1]
    assert 1.5 <= width[60, 110] <= 2.5
    assert width[10, 10] == 0


@pytest.mark.parametrize("thick", [8, 12])
def test_thin_parts_that_lean_towards_the_viewer_hold_together(thick):
    rgba = np.zeros((240, 240, 4), np.uint8)
    rgba[120 : 120 + thick, 20:220] = 255  # a wire
    rgba[100:140, 100:140] = 255
    subject = grid_subject(crop_subject(rgba), 100)
    lean = np.abs(np.linspace(-1, 1, learned.PICTURE, dtype=np.float32))[None].repeat(learned.PICTURE, 0) * 1.6
    box = frame_picture(subject.rgba)[1]
    # faces that cross: the network sees less than nothing, and only the least thickness is left
    seen = learned.Prediction(lean, np.full_like(lean, -0.5), box)
    field = learned.build_field(seen, subject, 0)
    parts, count = label(field.values > 0, np.ones((3, 3, 3)))
    assert count == 1
    assert np.ptp(np.nonzero(parts)[0]) > 60  # it does lean


def test_setting_chooses_the_shipped_network():
    assert choose_engine(load_settings(engine="sketch", sketch_shape="inflation")).version == "sketch-2"
    engine = choose_engine(load_settings(engine="sketch", sketch_shape="learned"))
    assert engine.version == "sketch-2+learned-6"
    assert learned.MODEL.stat().st_size < 16e6
    *_, mesh = engine.shape(as_cutout(chair()), DRAFT, 1)
    assert unmatched_edges(mesh.faces) == 0
    assert not np.array_equal(mesh.faces, shape(chair()).faces)
    with pytest.raises(BadRequest, match="ORFEAS_SKETCH_SHAPE"):
        load_settings(sketch_shape="clay")


def test_missing_and_damaged_models_are_named(tmp_path):
    with pytest.raises(BadWeights, match=r"absent\.onnx is missing.*ORFEAS_SKETCH_SHAPE"):
        LearnedShape(tmp_path / "absent.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    with pytest.raises(BadWeights, match=r"broken\.onnx is damaged"):
        shape(disc(100), LearnedShape(broken))
