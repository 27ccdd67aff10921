"""Sorted dispatch gives what asking every expert for every token would give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from orfeas.engines.hunyuan3d import moe
from orfeas.engines.hunyuan3d.config import DitConfig

CONFIG = DitConfig(width=32, experts=5, experts_per_token=2)


@pytest.fixture
def layer() -> moe.MixtureOfExperts:
    torch.manual_seed(0)
    layer = moe.MixtureOfExperts(CONFIG).requires_grad_(False)
    for parameter in layer.parameters():
        parameter.normal_(0, 0.2)
    return layer


def every_expert(layer: moe.MixtureOfExperts, x: torch.Tensor) -> torch.Tensor:
    tokens = x.reshape(-1, x.shape[-1])
    weights, chosen = layer.route(tokens)
    total = layer.share(tokens)
    for expert in range(CONFIG.experts):
        up, down = layer.experts.up, layer.experts.down
        inner = F.gelu(tokens @ up.weight[expert].t() + up.bias[expert])
        output = inner @ down.weight[expert].t() + down.bias[expert]
        total = total + output * (weights * (chosen == expert)).sum(-1, keepdim=True)
    return total.view(x.shape)


@pytest.mark.parametrize("shape", [(1, 1, 32), (2, 7, 32), (3, 50, 32)])
def test_dispatch_is_exact(layer, shape):
    x = torch.randn(shape)
    torch.testing.assert_close(layer(x), every_expert(layer, x), rtol=1e-5, atol=1e-5)


def test_experts_without_tokens_are_passed_over(layer):
    layer.gate.weight.zero_()
    layer.gate.weight[3], layer.gate.weight[1] = 1.0, 0.5
    x = torch.rand(2, 9, 32)
    _, chosen = layer.route(x.view(-1, 32))
    assert set(chosen.flatten().tolist()) == {1, 3}
    torch.testing.assert_close(layer(x), every_expert(layer, x), rtol=1e-5, atol=1e-5)


def test_sort_and_its_inverse():
    chosen = torch.tensor([[4, 0], [0, 2], [4, 2], [0, 4]])
    order, ends = moe.sort_by_expert(chosen, 5)
    assert ends.tolist() == [3, 3, 5, 5, 8]
    assert chosen.flatten()[order].tolist() == [0, 0, 0, 2, 2, 4, 4, 4]
    assert order.tolist() == [1, 2, 6, 3, 5, 0, 4, 7]  # stable
    assert order[moe.invert(order)].tolist() == list(range(8))


def test_same_bits_twice(layer):
    x = torch.randn(2, 64, 32)
    assert torch.equal(layer(x), layer(x))


def test_weights_of_a_token_are_not_scaled_to_one(layer):
    weights, chosen = layer.route(torch.randn(40, 32))
    assert weights.dtype == torch.float32
    assert chosen.shape == (40, 2)
    assert (weights.sum(-1) < 1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_close(layer, dtype):
    x = torch.randn(2, 16, 32)
    exact = layer(x)
    rounded = layer.to(dtype)(x.to(dtype))
    assert rounded.dtype == dtype
    assert (rounded.float() - exact).abs().max() < (0.02 if dtype == torch.float16 else 0.15) * exact.abs().max()
