"""How far the approximations are from the exact way: the figures that `approximations` states, measured again."""

import pytest
import torch

from orfeas.engines.hunyuan3d import sampler
from orfeas.engines.hunyuan3d.approximations import Approximations
from orfeas.engines.hunyuan3d.residency import INT8, RESIDENT, Networks, Residency
from orfeas.engines.hunyuan3d.top_latents import TopLatentsField
from orfeas.engines.hunyuan3d.vae import GeoField
from tests.engines.hunyuan3d.tiny import WEIGHTS, tiny_config, write_random_weights

STEPS = 30
LATENTS, FIELD = 0, 1  # what the stated figure is about


@pytest.fixture(scope="module", params=["fixture", "random"])
def measured(request, tmp_path_factory):
    """Name -> the deviations of (latents, field), one pair for each of two pictures."""
    config, cpu = tiny_config(), torch.device("cpu")
    path = tmp_path_factory.mktemp("random") / "model.safetensors"
    weights = WEIGHTS if request.param == "fixture" else write_random_weights(path, config)
    exact, small = (Networks(weights, config, cpu, torch.float32, Residency(name, "")) for name in (RESIDENT, INT8))
    vae = exact.get("vae")
    points = torch.rand((2000, 3), generator=torch.Generator().manual_seed(9)) * 2 - 1

    def make(networks, names, context, noise):
        how = Approximations.parse(names)
        *_, latents = sampler.sample(
            networks.get("model"),
            context,
            steps=how.count_steps(STEPS),
            noise=noise,
            solver=how.solver,
            guidance_interval=how.guidance_interval,
        )
        decoded = vae.latent_decoder(latents)
        if how.top_latents:
            return latents, TopLatentsField(vae.geo_decoder, decoded, config.vae.tokens // 3, config.box)(points)
        return latents, GeoField(vae.geo_decoder, decoded)(points)

    deviations = {name: [] for name in ("solver", "guidance", "latents", INT8)}
    with torch.inference_mode():
        for seed in range(2):
            size = config.image_size
            pixels = torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(50 + seed)) * 2 - 1
            given = exact.get("conditioner")(pixels), sampler.draw_noise(seed, config.latent_shape)
            expected = make(exact, "", *given)
            for name, seen in deviations.items():
                networks, names = (small, "") if name == INT8 else (exact, name)
                pairs = zip(make(networks, names, *given), expected, strict=True)
                seen.append([float((ours - true).norm() / true.norm()) for ours, true in pairs])
    return deviations


@pytest.mark.parametrize(
    ("name", "of", "least", "most"),
    [
        ("solver", LATENTS, 0.016, 0.043),
        ("guidance", LATENTS, 0.16, 0.34),
        ("latents", FIELD, 0.016, 0.15),
        (INT8, LATENTS, 0.003, 0.039),
    ],
)
def test_deviation_is_what_is_stated(measured, name, of, least, most):
    assert all(least * 0.9 < pair[of] < most * 1.1 for pair in measured[name])
    if of == FIELD:
        assert all(pair[LATENTS] == 0 for pair in measured[name])
