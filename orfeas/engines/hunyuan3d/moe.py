"""Mixture of experts: each token goes to the two of eight experts that its router favours, and to a shared one.

Tokens are sorted by expert once, so each expert works on one slice. Where the slices end is known only on the device:
the eight ends (64 bytes) travel to the host while the shared expert keeps the device busy, then each expert's slice is
an ordinary matrix product, and the inner activations of only one expert exist at a time. That is all that the host
learns in a step (a test runs the steps with tensors without values). On every GPU it waits so once in each of the six
layers; by count, the shared expert's 0.55 TFLOP give it 9 ms at 60 TFLOP/s and 0.9 ms at 600 to answer before the
device would idle, and launching an expert takes tens of microseconds.

What would not wait costs more. torch's grouped product reads the ends on the device for bfloat16 only (from 2.8 on with
compute capability 9.0, later also above) and would round the published float16 weights; for float16 it copies the ends
to the host itself, up to 2.13, and waits without work in between. On the CPU it gives the same bits and is no faster.
(Its source has float16 on the device with CUDA 13.3 and compute capability 9 to 11: to be tried with a torch that has
it.) Blocks of rows of one size, each with a copy of its expert's weights, add half to the experts' time (by count, RTX
3090); windows of a guessed size add their margin and a second try.

The sum over a token's experts is gathered, not scattered, so the same input gives the same bits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orfeas.engines.hunyuan3d.config import DitConfig


class MixtureOfExperts(nn.Module):
    """(B, T, width) to the same shape: routed experts, weighted, plus the shared expert, unweighted."""

    def __init__(self, config: DitConfig):
        super().__init__()
        width, inner = config.width, config.mlp_ratio * config.width
        self.experts_per_token = config.experts_per_token
        self.gate = nn.Linear(width, config.experts, bias=False)
        self.experts = Experts(config.experts, width, inner)
        self.shared_fc1 = nn.Linear(width, inner)
        self.shared_fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, x.shape[-1])
        weights, chosen = self.route(tokens)
        order, ends = sort_by_expert(chosen, self.gate.out_features)
        sorted_tokens = tokens[order // self.experts_per_token]
        pending = HostCopy(ends)
        shared = self.share(tokens)
        sorted_outputs = self.experts(sorted_tokens, pending.wait())
        outputs = sorted_outputs[invert(order)].view(len(tokens), self.experts_per_token, -1)
        routed = (outputs * weights.to(outputs.dtype).unsqueeze(-1)).sum(dim=1)
        return (routed + shared).view(x.shape)

    def route(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(N, width) to the weights, float32, and the numbers of the experts of each token, both (N, k).

        The softmax is over all experts and the chosen weights are not scaled to sum to 1.
        """
        likelihood = self.gate(tokens).float().softmax(dim=-1)
        return likelihood.topk(self.experts_per_token, dim=-1)

    def share(self, tokens: Tensor) -> Tensor:
        return self.shared_fc2(F.gelu(self.shared_fc1(tokens)))


class Experts(nn.Module):
    """All routed experts, their weights stacked."""

    def __init__(self, count: int, width: int, inner: int):
        super().__init__()
        self.up = StackedLinear(count, width, inner)
        self.down = StackedLinear(count, inner, width)

    def forward(self, rows: Tensor, ends: list[int]) -> Tensor:
        """(n, width) to the same. Rows come sorted by expert; ``ends[e]`` is one past the last row of expert e."""
        outputs = torch.empty_like(rows)
        start = 0
        for expert, end in enumerate(ends):
            if end > start:
                outputs[start:end] = self.down(F.gelu(self.up(rows[start:end], expert)), expert)
            start = end
        return outputs


class StackedLinear(nn.Module):
    """The same linear layer of each expert: weight (experts, outputs, inputs), bias (experts, outputs)."""

    def __init__(self, count: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(count, outputs))

    def forward(self, rows: Tensor, expert: int) -> Tensor:
        return F.linear(rows, self.weight[expert], self.bias[expert])


def sort_by_expert(chosen: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """(N, k) expert numbers to the order (N*k,) that sorts the flattened pairs, and the ends (experts,) of the slices.

    Stable, so the result does not depend on the device. Waits for nothing: a histogram would.
    """
    sorted_experts, order = chosen.flatten().sort(stable=True)
    numbers = torch.arange(experts, device=chosen.device, dtype=chosen.dtype)
    return order, torch.searchsorted(sorted_experts, numbers, right=True)


def invert(order: Tensor) -> Tensor:
    """The permutation that undoes ``order``."""
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


class HostCopy:
    """A small tensor on its way to the host while the device works on."""

    def __init__(self, values: Tensor):
        self.values, self.arrived = values, None
        if values.is_cuda:
            self.values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self.values.copy_(values, non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record(torch.cuda.current_stream(values.device))

    def wait(self) -> list[int]:
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.values.tolist()
