"""The transformer's short cuts change nothing."""

from __future__ import annotations

import pytest
import torch

from orfeas.engines.hunyuan3d.dit import Dit
from orfeas.engines.hunyuan3d.weights import build_meta, load_part
from tests.engines.hunyuan3d.tiny import WEIGHTS, tiny_config


@pytest.fixture(scope="module")
def network() -> Dit:
    return load_part(build_meta(tiny_config())["model"], WEIGHTS, "model")


def batch(network: Dit, rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 24, network.config.channels, generator=generator)
    context = torch.randn(rows, 17, network.config.context_width, generator=generator)
    return x, torch.full((rows,), 0.3), context


def test_row_without_a_picture_sees_zeros(network):
    """Skipping its cross-attention gives what attending to zeros gives."""
    x, t, context = batch(network, 2)
    context[1] = 0
    attended = network(x, t, network.prepare_context(context))
    skipped = network(x, t, network.prepare_context(context[:1]))
    torch.testing.assert_close(skipped, attended, rtol=1e-5, atol=1e-5)


def test_rows_do_not_know_each_other(network):
    x, t, context = batch(network, 3)
    together = network(x, t, network.prepare_context(context))
    for row in range(3):
        part = slice(row, row + 1)
        alone = network(x[part], t[part], network.prepare_context(context[part]))
        torch.testing.assert_close(together[part], alone, rtol=1e-5, atol=1e-5)


def test_latents_are_a_set(network):
    x, t, context = batch(network, 1)
    prepared = network.prepare_context(context)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        network(x[:, order], t, prepared), network(x, t, prepared)[:, order], rtol=1e-5, atol=1e-5
    )


def test_context_without_pictures(network):
    x, t, context = batch(network, 2)
    none = network.prepare_context(context).without_pictures()
    assert none.rows == 0
    zeros = network.prepare_context(torch.zeros_like(context))
    torch.testing.assert_close(network(x, t, none), network(x, t, zeros), rtol=1e-5, atol=1e-5)


def test_inputs_and_context_are_left_alone(network):
    x, t, context = batch(network, 2)
    prepared = network.prepare_context(context)
    before = [tensor.clone() for tensor in (x, t, context, *prepared.keys, *prepared.values)]
    first = network(x, t, prepared)
    assert torch.equal(first, network(x, t, prepared))
    after = (x, t, context, *prepared.keys, *prepared.values)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_more_pictures_than_rows_is_a_mistake(network):
    x, t, context = batch(network, 2)
    with pytest.raises(ValueError, match="2 rows"):
        network(x[:1], t[:1], network.prepare_context(context))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_float32_near_the_exact_velocity(network, dtype):
    half = load_part(build_meta(tiny_config())["model"], WEIGHTS, "model", dtype=dtype)
    x, t, context = batch(network, 2)
    exact = network(x, t, network.prepare_context(context[:1]))
    rounded = half(x, t, half.prepare_context(context[:1]))
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < (0.02 if dtype == torch.float16 else 0.2) * exact.abs().max()
