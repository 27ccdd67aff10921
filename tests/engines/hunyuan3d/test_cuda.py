"""The networks on a GPU against the same on the CPU. Needs a CUDA device: ``pytest -m gpu``."""

from __future__ import annotations

import pytest
import torch

from orfeas.engines.hunyuan3d import sampler
from orfeas.engines.hunyuan3d.vae import GeoField
from orfeas.engines.hunyuan3d.weights import build_meta, load_part
from tests.engines.hunyuan3d.tiny import WEIGHTS, tiny_config

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def load(part: str, device: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    return load_part(build_meta(tiny_config())[part], WEIGHTS, part, device=device, dtype=dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float16, 0.1)])
def test_latents_and_field_agree_with_the_cpu(dtype, tolerance):
    context = torch.randn(1, 17, 32, generator=torch.Generator().manual_seed(1))
    noise = sampler.draw_noise(2, (1, 24, 8))
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
    results = []
    for device, kind in (("cpu", torch.float32), ("cuda", dtype)):
        dit, vae = load("model", device, kind), load("vae", device, kind)
        *progress, latents = sampler.sample(dit, context.to(device), steps=5, noise=noise)
        assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert latents.dtype == torch.float32
        assert latents.device.type == device
        logits = GeoField(vae.geo_decoder, vae.latent_decoder(latents))(points)
        results.append((latents.cpu(), logits.cpu()))
    for ours, expected in zip(results[1], results[0], strict=True):
        assert (ours - expected).abs().max() < tolerance * expected.abs().max()


def test_a_step_waits_for_nothing_but_the_counts_of_experts():
    """No operation that blocks the host; the counts are waited for by an event, while the device has work."""
    dit = load("model", "cuda", torch.float16)
    context = dit.prepare_context(torch.randn(1, 17, 32, device="cuda"))
    x = torch.randn(1, 24, 8, device="cuda")
    expected = sampler.guided_velocity(dit, x, 0.5, context, 5.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        velocity = sampler.guided_velocity(dit, x, 0.5, context, 5.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(velocity, expected)
