"""Muon: steps whose directions are all equally long (Jordan and others 2024, https://kellerjordan.github.io/posts/muon).

The momentum of each weight matrix is replaced by the nearest orthogonal one, so that rare directions learn as fast as
frequent ones. In this training it was worth more than its price, a fifth of the time of a step.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration: the singular values end between 0.7 and 1.2
ITERATIONS = 5


def orthogonalize(matrix: Tensor) -> Tensor:
    """(rows, columns) float32: about U V^T of the singular value decomposition, by a Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).float()


class Muon(torch.optim.Optimizer):
    """For convolutions' weights, taken as (out, everything else) matrices; other parameters need another optimizer."""

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 0.01, momentum: float = 0.95, weight_decay: float = 0.01
    ):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every parameter."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].mul_(group["momentum"]).add_(parameter.grad)
                ahead = parameter.grad + group["momentum"] * momentum  # Nesterov's
                matrix = orthogonalize(ahead.reshape(len(ahead), -1))
                scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(matrix.reshape(parameter.shape), alpha=-group["lr"] * scale)
