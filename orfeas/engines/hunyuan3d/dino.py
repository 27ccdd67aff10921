"""The picture's features: DINOv2-Large, class token first, every patch kept.

Architecture: Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision" (2023); pre-norm transformer
with layer scale. The guidance's other half is zeros, so no blank picture is ever encoded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orfeas.engines.hunyuan3d.config import DinoConfig

MEAN = (0.485, 0.456, 0.406)
STANDARD_DEVIATION = (0.229, 0.224, 0.225)


class Conditioner(nn.Module):
    """Prepared pictures to tokens. Build on ``meta`` and fill with `weights.load_part`."""

    def __init__(self, config: DinoConfig):
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.position_embeddings = nn.Parameter(torch.empty(1, config.tokens, config.width))
        self.patch_embeddings = nn.Conv2d(config.channels, config.width, config.patch_size, config.patch_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, config.epsilon)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, size, size) in [-1, 1] to (B, S, width) in the weights' dtype."""
        x = self.embed(self.normalize(pixels))
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels in [-1, 1] at the encoder's size with the training set's mean and deviation, in float32."""
        unit = (pixels.float() + 1) / 2
        size = (self.config.image_size, self.config.image_size)
        if unit.shape[-2:] != size:
            # The position table has one row a patch of this size; antialiasing acts only where a picture shrinks.
            unit = F.interpolate(unit, size, mode="bilinear", align_corners=False, antialias=True)
        mean = torch.tensor(MEAN, device=unit.device).view(1, 3, 1, 1)
        deviation = torch.tensor(STANDARD_DEVIATION, device=unit.device).view(1, 3, 1, 1)
        return (unit - mean) / deviation

    def embed(self, normalized: Tensor) -> Tensor:
        """Normalised pixels to tokens with positions, (B, S, width)."""
        patches = self.patch_embeddings(normalized.to(self.patch_embeddings.weight.dtype)).flatten(2).transpose(1, 2)
        cls_token = self.cls_token.expand(len(patches), -1, -1)
        return torch.cat([cls_token, patches], dim=1) + self.position_embeddings


class Layer(nn.Module):
    def __init__(self, config: DinoConfig):
        super().__init__()
        width, inner = config.width, config.mlp_ratio * config.width
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(width, config.epsilon)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.scale1 = nn.Parameter(torch.empty(width))
        self.norm2 = nn.LayerNorm(width, config.epsilon)
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.scale2 = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale1 * self.attend(self.norm1(x))
        return x + self.scale2 * self.fc2(F.gelu(self.fc1(self.norm2(x))))

    def attend(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
