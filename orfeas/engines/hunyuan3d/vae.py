"""From latents to a field: the decoding half of the shape autoencoder.

`LatentDecoder` lets the latents attend to each other, once. `GeoField` then answers for any points in space, and the
field's positive side is the inside. Its keys and values depend on the latents alone and are made once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from orfeas.engines.hunyuan3d.config import VaeConfig

EPSILON = 1e-6
LN_POST_EPSILON = 1e-5  # the one norm of the model that was trained with another epsilon

Attend = Callable[[Tensor], Tensor]  # normalised queries (1, heads, n, head width) -> mixed values, of the same shape


class ShapeVae(nn.Module):
    """Both halves of decoding, so that one file part fills one module."""

    def __init__(self, config: VaeConfig):
        super().__init__()
        self.latent_decoder = LatentDecoder(config)
        self.geo_decoder = GeoDecoder(config)


class LatentDecoder(nn.Module):
    """Sampled latents to what the field is asked with."""

    def __init__(self, config: VaeConfig):
        super().__init__()
        self.scale_factor = config.scale_factor
        self.post_kl = nn.Linear(config.channels, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(self, latents: Tensor) -> Tensor:
        """(B, T, channels) as the sampler leaves them to (B, T, width) in the weights' dtype."""
        x = self.post_kl((latents.float() / self.scale_factor).to(self.post_kl.weight.dtype))
        for block in self.blocks:
            x = block(x)
        return x


class Block(nn.Module):
    def __init__(self, config: VaeConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, EPSILON)
        self.attention = SelfAttention(config)
        self.norm2 = nn.LayerNorm(config.width, EPSILON)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SelfAttention(nn.Module):
    def __init__(self, config: VaeConfig):
        super().__init__()
        self.heads, self.head_width = config.heads, config.width // config.heads
        self.to_qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.q_norm = nn.LayerNorm(self.head_width, EPSILON)
        self.k_norm = nn.LayerNorm(self.head_width, EPSILON)
        self.out_proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        query, key, value = self.to_qkv(x).view(batch, tokens, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(self.q_norm(query), self.k_norm(key), value)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    def __init__(self, config: VaeConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp_ratio * config.width)
        self.fc2 = nn.Linear(config.mlp_ratio * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class GeoDecoder(nn.Module):
    """Points, each for itself, attend to the decoded latents."""

    def __init__(self, config: VaeConfig):
        super().__init__()
        self.frequencies = config.frequencies
        self.query_proj = nn.Linear(3 + 6 * config.frequencies, config.width)
        self.block = CrossBlock(config)
        self.ln_post = nn.LayerNorm(config.width, LN_POST_EPSILON)
        self.output_proj = nn.Linear(config.width, 1)

    def forward(self, points: Tensor, attend: Attend) -> Tensor:
        """Logits (n,), float32, at ``points`` (n, 3). ``attend`` is what their queries do."""
        return self.output_proj(self.ln_post(self.block(self.project(points), attend))).view(-1).float()

    def project(self, points: Tensor) -> Tensor:
        """(n, 3) to (1, n, width) in the weights' dtype."""
        features = embed_points(points, self.frequencies).unsqueeze(0)
        return self.query_proj(features.to(self.query_proj.weight.dtype))


class CrossBlock(nn.Module):
    def __init__(self, config: VaeConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, EPSILON)
        self.norm2 = nn.LayerNorm(config.width, EPSILON)
        self.attention = CrossAttention(config)
        self.norm3 = nn.LayerNorm(config.width, EPSILON)
        self.mlp = Mlp(config)

    def project_latents(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised keys and values (1, heads, T, head width) of decoded latents (1, T, width)."""
        return self.attention.project_latents(self.norm2(latents))

    def project_points(self, h: Tensor) -> Tensor:
        """Normalised queries (1, heads, n, head width) of points (1, n, width)."""
        return self.attention.project_points(self.norm1(h))

    def forward(self, h: Tensor, attend: Attend) -> Tensor:
        h = h + self.attention(self.norm1(h), attend)
        return h + self.mlp(self.norm3(h))


class CrossAttention(nn.Module):
    def __init__(self, config: VaeConfig):
        super().__init__()
        self.heads, self.head_width = config.heads, config.width // config.heads
        self.to_q = nn.Linear(config.width, config.width, bias=False)
        self.to_kv = nn.Linear(config.width, 2 * config.width, bias=False)
        self.q_norm = nn.LayerNorm(self.head_width, EPSILON)
        self.k_norm = nn.LayerNorm(self.head_width, EPSILON)
        self.out_proj = nn.Linear(config.width, config.width)

    def project_latents(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        batch, tokens, _ = latents.shape
        key, value = self.to_kv(latents).view(batch, tokens, 2, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        return self.k_norm(key).contiguous(), value.contiguous()

    def project_points(self, h: Tensor) -> Tensor:
        batch, points, _ = h.shape
        return self.q_norm(self.to_q(h).view(batch, points, self.heads, self.head_width).transpose(1, 2))

    def forward(self, h: Tensor, attend: Attend) -> Tensor:
        return self.out_proj(attend(self.project_points(h)).transpose(1, 2).reshape(h.shape))


def embed_points(points: Tensor, frequencies: int) -> Tensor:
    """(n, 3) as (n, 3 + 6 * frequencies) float32: the point, sines, cosines; x's octaves first, then y's, then z's.

    In float32 always: half precision would move points by up to a third of a voxel.
    """
    points = points.float()
    octaves = 2.0 ** torch.arange(frequencies, dtype=torch.float32, device=points.device)
    angles = (points.unsqueeze(-1) * octaves).flatten(1)
    return torch.cat([points, angles.sin(), angles.cos()], dim=1)


class GeoField:
    """The field of one shape: ``field(points)``, points (n, 3) float32 in about [-1, 1], gives logits (n,) float32.

    A logit above 0 is inside. Points are taken all at once; the caller cuts them into chunks that fit its memory
    (`bytes_per_point` says how much one takes).
    """

    def __init__(self, geo_decoder: GeoDecoder, decoded_latents: Tensor):
        """``decoded_latents`` (1, T, width) from `LatentDecoder`."""
        self.decoder = geo_decoder
        self.keys, self.values = geo_decoder.block.project_latents(decoded_latents)

    @property
    def device(self) -> torch.device:
        return self.keys.device

    @property
    def bytes_per_point(self) -> int:
        """Working memory of one point at the widest place, the inner layer of the MLP with its activation."""
        inner = self.decoder.block.mlp.fc1
        return (2 * inner.out_features + 6 * inner.in_features) * self.keys.element_size()

    def __call__(self, points: Tensor) -> Tensor:
        return self.decoder(points.to(self.device), self._attend)

    def _attend(self, queries: Tensor) -> Tensor:
        return attend_to_latents(queries, self.keys, self.values)


def attend_to_latents(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of ever other numbers of points, without cuDNN's, which newer GPUs get first: it would draw up a plan
    for every number, some 30 ms each, and again in every thread."""
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
        return F.scaled_dot_product_attention(queries, keys, values)
