"""The networks and the engine on a GPU against the CPU. Needs a CUDA device: ``pytest -m gpu``.

What can is run on the CPU as well, so that what is here is known to run.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from orfeas.engines.hunyuan3d import sampler
from orfeas.engines.hunyuan3d.engine import Hunyuan3DEngine
from orfeas.engines.hunyuan3d.residency import INT8, RESIDENT, SEQUENTIAL
from orfeas.engines.hunyuan3d.vae import GeoField
from orfeas.engines.hunyuan3d.weights import build_meta, load_part
from orfeas.request import Quality
from tests.engines.hunyuan3d.blob import write_blob_weights
from tests.engines.hunyuan3d.test_engine import Subject
from tests.engines.hunyuan3d.tiny import WEIGHTS, tiny_config

on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def load(part: str, device: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    return load_part(build_meta(tiny_config())[part], WEIGHTS, part, device=device, dtype=dtype)


@pytest.mark.parametrize(
    ("place", "dtype", "tolerance"),
    [
        ("cpu", torch.float16, 0.1),
        pytest.param("cuda", torch.float32, 1e-3, marks=on_gpu),
        pytest.param("cuda", torch.float16, 0.1, marks=on_gpu),
    ],
)
def test_latents_and_field_agree_with_the_cpu(place, dtype, tolerance):
    context = torch.randn(1, 17, 32, generator=torch.Generator().manual_seed(1))
    noise = sampler.draw_noise(2, (1, 24, 8))
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
    results = []
    for device, kind in (("cpu", torch.float32), (place, dtype)):
        dit, vae = load("model", device, kind), load("vae", device, kind)
        *progress, latents = sampler.sample(dit, context.to(device), steps=5, noise=noise)
        assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert latents.dtype == torch.float32
        assert latents.device.type == device
        logits = GeoField(vae.geo_decoder, vae.latent_decoder(latents))(points)
        results.append((latents.cpu(), logits.cpu()))
    for ours, expected in zip(results[1], results[0], strict=True):
        assert (ours - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_waits_for_nothing_but_the_counts_of_experts():
    """No operation that blocks the host; the counts are waited for by an event, while the device has work."""
    dit = load("model", "cuda", torch.float16)
    context = dit.prepare_context(torch.randn(1, 17, 32, device="cuda"))
    x = torch.randn(1, 24, 8, device="cuda")
    expected = sampler.guided_velocity(dit, x, 0.5, context, 5.0)
    try:
        with warnings.catch_warnings():  # that the mode is a prototype: once in a process
            warnings.filterwarnings("ignore", "Synchronization debug mode")
            torch.cuda.set_sync_debug_mode("error")
        velocity = sampler.guided_velocity(dit, x, 0.5, context, 5.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(velocity, expected)


@pytest.mark.parametrize(
    ("device", "policy"),
    [("cpu", SEQUENTIAL), *(pytest.param("cuda", name, marks=on_gpu) for name in (RESIDENT, SEQUENTIAL, INT8))],
)
def test_the_engine_makes_the_cpus_shape(tmp_path, device, policy):
    weights, quality = write_blob_weights(tmp_path), Quality(grid=40, steps=4, faces=1000)
    made = []
    for place, residency in (("cpu", RESIDENT), (device, policy)):
        engine = Hunyuan3DEngine(weights, config=tiny_config(), device=place, residency=residency, refine_from=40)
        *_, last, mesh = engine.shape(Subject(), quality, seed=1)
        made.append((last.facts, mesh))
        engine.close()
    (_, expected), (facts, mesh) = made
    assert (facts["residency"], facts["vertices_refined"]) == (policy, True)
    assert np.abs(mesh.vertices.max(0) - expected.vertices.max(0)).max() < 0.02
    assert np.abs(mesh.vertices.min(0) - expected.vertices.min(0)).max() < 0.02
    assert len(mesh.faces) == pytest.approx(len(expected.faces), rel=0.02)
    assert ("peak_vram_mb" in facts) is (device == "cuda")
