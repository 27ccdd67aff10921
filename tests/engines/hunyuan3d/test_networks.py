"""Configuration, preparation of the picture, the conditioner and the field."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from orfeas.engines.hunyuan3d import config as configuration
from orfeas.engines.hunyuan3d.config import RELEASED, load_config
from orfeas.engines.hunyuan3d.dino import Conditioner
from orfeas.engines.hunyuan3d.preprocess import prepare_image, resize_cubic
from orfeas.engines.hunyuan3d.vae import GeoField, ShapeVae
from orfeas.engines.hunyuan3d.weights import build_meta, load_part
from orfeas.errors import BadPicture, BadWeights
from tests.engines.hunyuan3d.tiny import FIXTURE, WEIGHTS, tiny_config


def test_importing_the_package_imports_no_torch():
    names = ("", ".config", ".preprocess")
    program = "; ".join(f"import orfeas.engines.hunyuan3d{name}" for name in names)
    program += "; import sys; assert 'torch' not in sys.modules and 'gradio' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


# Configuration


def test_released_configuration_is_consistent():
    configuration._refuse_contradictions(RELEASED)
    assert RELEASED.latent_shape == (1, 4096, 64)
    assert RELEASED.conditioner.tokens == 1370


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("dit", "qk_norm_type", "layer", "only 'rms' is built"),
        ("dit", "num_heads", 5, "cannot have 5 heads"),
        ("dit", "in_channels", 9, "9 latent channels"),
        ("dit", "context_dim", 33, "context of width 33"),
        ("dit", "moe_top_k", 9, "more expert layers or experts"),
        ("vae", "include_pi", True, "only False is built"),
        ("vae", "width", None, "lacks or misstates"),
        ("dit", "depth", ..., "'depth'"),
    ],
)
def test_other_models_are_refused(tmp_path, section, key, value, says):
    document = json.loads((FIXTURE / "tiny_config.json").read_text())
    if value is ...:
        del document[section][key]
    else:
        document[section][key] = value
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(BadWeights, match=says):
        load_config(tmp_path / "config.json")


def test_configuration_that_cannot_be_read(tmp_path):
    with pytest.raises(BadWeights, match="cannot be read"):
        load_config(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(BadWeights, match="not valid JSON"):
        load_config(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(BadWeights, match="lacks"):
        load_config(tmp_path / "list.json")


# Preparation of the picture


def disc(side: int = 100) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    rgba = np.zeros((side, side, 4), np.uint8)
    rgba[(x - 30) ** 2 + (y - 60) ** 2 < 20**2] = (200, 30, 30, 255)
    return rgba


def test_subject_is_centred_on_white_with_a_border():
    image = prepare_image(disc(), RELEASED)
    assert image.shape == (1, 3, 512, 512)
    assert image.dtype == np.float32
    assert image.min() >= -1
    assert image.max() == 1
    rows, columns = np.nonzero(image[0, 1] < 0)
    for lines in (rows, columns):
        assert lines.min() == pytest.approx(512 * 0.075, abs=4)
        assert lines.max() == pytest.approx(512 * 0.925, abs=4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2000, 2)])
def test_subject_too_thin_to_draw(shape):
    rgba = np.zeros((2100, 2100, 4), np.uint8)
    rgba[5 : 5 + shape[0], 5 : 5 + shape[1]] = 255
    with pytest.raises(BadPicture, match=f"{shape[1]} x {shape[0]} pixels"):
        prepare_image(rgba, RELEASED)


def test_nothing_left():
    with pytest.raises(BadPicture, match="Nothing is left"):
        prepare_image(np.zeros((64, 64, 4), np.uint8), RELEASED)


@pytest.mark.parametrize("array", [np.zeros((5, 5, 3), np.uint8), np.zeros((5, 5, 4), np.float32)])
def test_other_arrays_are_a_mistake(array):
    with pytest.raises(ValueError, match="uint8"):
        prepare_image(array, RELEASED)


@pytest.mark.parametrize(("source", "size"), [(90, 512), (512, 512), (700, 512), (37, 64), (3, 9)])
def test_cubic_resize_is_opencvs_to_one_level(source, size):
    picture = np.random.default_rng(source).integers(0, 256, (source, source, 3), dtype=np.uint8)
    ours = resize_cubic(picture, size).astype(int)
    theirs = cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC).astype(int)
    assert np.abs(ours - theirs).max() <= 1
    assert (ours != theirs).mean() < 0.1


# Conditioner and field


@pytest.fixture(scope="module")
def decoder() -> ShapeVae:
    return load_part(build_meta(tiny_config())["vae"], WEIGHTS, "vae")


def test_conditioner_takes_pictures_of_any_size():
    conditioner = load_part(build_meta(tiny_config())["conditioner"], WEIGHTS, "conditioner")
    assert isinstance(conditioner, Conditioner)
    tokens = conditioner(torch.rand(2, 3, 100, 100) * 2 - 1)
    assert tokens.shape == (2, 17, 32)
    assert conditioner.normalize(torch.ones(1, 3, 48, 48))[0, :, 5, 5].tolist() == pytest.approx(
        [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], abs=1e-5
    )


def field_of(decoder: ShapeVae, seed: int = 0) -> GeoField:
    latents = torch.randn(1, 24, 8, generator=torch.Generator().manual_seed(seed))
    return GeoField(decoder.geo_decoder, decoder.latent_decoder(latents))


def test_field_answers_points_one_by_one_as_together(decoder):
    field = field_of(decoder)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    together = field(points)
    assert together.shape == (50,)
    assert together.dtype == torch.float32
    alone = torch.cat([field(part) for part in points.split(7)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=2e-4)
    assert field(points[:0]).shape == (0,)


def test_keys_and_values_are_made_once(decoder):
    calls = []
    hook = decoder.geo_decoder.block.attention.to_kv.register_forward_hook(lambda *_: calls.append(1))
    field = field_of(decoder)
    for _ in range(3):
        field(torch.zeros(4, 3))
    hook.remove()
    assert len(calls) == 1


def test_field_does_not_depend_on_the_order_of_latents(decoder):
    latents = torch.randn(1, 24, 8, generator=torch.Generator().manual_seed(2))
    decoded = decoder.latent_decoder(latents)
    points = torch.rand(20, 3) * 2 - 1
    turned = GeoField(decoder.geo_decoder, decoded.flip(1))(points)
    torch.testing.assert_close(turned, GeoField(decoder.geo_decoder, decoded)(points), rtol=1e-5, atol=2e-4)


def test_points_closer_than_half_precision_are_told_apart_by_half_precision_weights():
    half = load_part(build_meta(tiny_config())["vae"], WEIGHTS, "vae", dtype=torch.float16)
    field = field_of(half)
    near = torch.tensor([[0.9, 0.9, 0.9], [0.9, 0.9, 0.9 + 1e-4]])
    assert near.half()[0].equal(near.half()[1])
    seen = []
    hook = half.geo_decoder.query_proj.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    logits = field(near)
    hook.remove()
    assert logits.dtype == torch.float32
    assert seen[0].dtype == torch.float16
    assert not seen[0][0, 0].equal(seen[0][0, 1])


def test_scale_factor_divides(decoder):
    doubled = build_meta(replace(tiny_config(), vae=replace(tiny_config().vae, scale_factor=2 * 1.0039506158752403)))
    load_part(doubled["vae"], WEIGHTS, "vae")
    latents = torch.randn(1, 24, 8)
    torch.testing.assert_close(doubled["vae"].latent_decoder(2 * latents), decoder.latent_decoder(latents))
