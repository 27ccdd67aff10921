"""The network: a small U-Net over the picture that answers with the depth of the front and of the back of each cell.

The answers are corrections of the inflated silhouette, which is among the inputs: an untrained network is inflation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from orfeas.engines.sketch import learned

WIDTHS = (32, 96, 160, 224)  # channels at 64, 32, 16 and 8 cells; little is done at 64, where a layer costs most
# Outputs of the last layer to (front, back, normal): the optimizer moves every weight by about its rate a step, and a
# depth, which has to be right to a hundredth, must not jump by tenths.
SURFACE_SCALE = (0.05, 0.05, 1.0, 1.0, 1.0)


def _layer(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )  # batch normalization: a third faster to train here than group normalization, and folded into the convolution


class Residual(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = _layer(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)))


class Attention(nn.Module):
    """Self-attention over all cells, beside an identity."""

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm = nn.BatchNorm2d(channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        head = channels // self.heads
        mixed = self.query_key_value(self.norm(x)).reshape(batch, 3 * self.heads, head, height * width)
        query, key, value = mixed.split(self.heads, dim=1)
        weight = torch.softmax(query.transpose(-1, -2) @ key * head**-0.5, dim=-1)
        return x + self.out((value @ weight.transpose(-1, -2)).reshape(batch, channels, height, width))


class SketchNet(nn.Module):
    """(n, CHANNELS, 64, 64) picture -> (n, 5, 64, 64) front, back, normal.

    Depths are z in frame units, the normal is not normalized.
    """

    def __init__(self, widths: tuple[int, int, int, int] = WIDTHS):
        super().__init__()
        fine, half, quarter, coarse = widths
        self.stem = _layer(learned.CHANNELS, fine)
        self.down_half = nn.Sequential(_layer(fine, half, 2), Residual(half))
        self.down_quarter = nn.Sequential(_layer(half, quarter, 2), Residual(quarter), Residual(quarter))
        self.down_coarse = nn.Sequential(
            _layer(quarter, coarse, 2), Residual(coarse), Attention(coarse), Residual(coarse), Attention(coarse)
        )
        self.up_quarter = nn.Sequential(_layer(coarse + quarter, quarter), Residual(quarter))
        self.narrow_half = nn.Conv2d(quarter, half, 1)
        self.up_half = nn.Sequential(_layer(half + half, half), Residual(half))
        self.narrow_fine = nn.Conv2d(half, fine, 1)
        self.up_fine = _layer(fine + fine, 64)
        self.surface = nn.Conv2d(64, 5, 3, 1, 1)
        nn.init.normal_(self.surface.weight, std=1e-3)
        nn.init.zeros_(self.surface.bias)
        self.register_buffer("scale", torch.tensor(SURFACE_SCALE)[None, :, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.stem(x)
        half = self.down_half(fine)
        quarter = self.down_quarter(half)
        y = self.down_coarse(quarter)
        y = self.up_quarter(torch.cat([_enlarge(y), quarter], 1))
        y = self.up_half(torch.cat([_enlarge(self.narrow_half(y)), half], 1))
        y = self.up_fine(torch.cat([_enlarge(self.narrow_fine(y)), fine], 1))
        prior = x[:, 17:18] * 0.2
        surface = self.surface(y) * self.scale
        return torch.cat([surface[:, :2] + torch.cat([prior, -prior], 1), surface[:, 2:]], 1)


def _enlarge(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def parameter_count(network: nn.Module) -> int:
    """Numbers that are learned."""
    return int(np.sum([parameter.numel() for parameter in network.parameters()]))
