"""The flow-matching transformer: noisy latents, a time and the picture's features to a velocity.

A U-shaped stack: the first half's states are popped, last first, by the second half. Time enters as one more token.
There are no positions: latents are a set. What is computed is what the public model computes; how is not:

* query, key and value of self-attention are one product. The published rows are interleaved per head across the three
  matrices; `weights` puts them in order once, when they are loaded.
* the picture's keys and values never change while sampling, so `prepare_context` makes them once.
* rows without a picture see zeros. Keys and values have no bias, so all they attend to is zero and cross-attention
  gives exactly its output bias: it is added, and nothing is attended to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orfeas.engines.hunyuan3d.config import DitConfig
from orfeas.engines.hunyuan3d.moe import MixtureOfExperts

EPSILON = 1e-6


@dataclass(frozen=True)
class DitContext:
    """Normalised keys and values of C pictures for every block, each (C, heads, S, head width)."""

    rows: int
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    def without_pictures(self) -> DitContext:
        """The context of a batch that sees no picture at all."""
        return DitContext(0, tuple(k[:0] for k in self.keys), tuple(v[:0] for v in self.values))


class Dit(nn.Module):
    """The whole network. Build on ``meta`` and fill with `weights.load_part`."""

    def __init__(self, config: DitConfig):
        super().__init__()
        self.config = config
        self.x_embedder = nn.Linear(config.channels, config.width)
        self.t_embedder = TimeEmbedder(config)
        self.blocks = nn.ModuleList(Block(config, number) for number in range(config.depth))
        self.final_layer = FinalLayer(config)

    def prepare_context(self, context: Tensor) -> DitContext:
        """(C, S, context width) of the conditioner to the keys and values that every step reads."""
        context = context.to(self.x_embedder.weight.dtype)
        pairs = [block.attn2.project_context(context) for block in self.blocks]
        return DitContext(len(context), tuple(key for key, _ in pairs), tuple(value for _, value in pairs))

    def forward(self, x: Tensor, t: Tensor, context: DitContext) -> Tensor:
        """Velocity (B, T, channels), float32, at ``x`` (B, T, channels) and times ``t`` (B,), 0 noise to 1 data.

        The first ``context.rows`` rows of the batch see their picture; the others see none (zeros).
        """
        if len(x) < context.rows:
            raise ValueError(f"the context has {context.rows} rows, the batch only {len(x)}")
        time_token = self.t_embedder(t)
        x = torch.cat([time_token, self.x_embedder(x.to(time_token.dtype))], dim=1)
        saved: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            skip = saved.pop() if block.skip_linear is not None else None
            x = block(x, context.keys[number], context.values[number], skip)
            if number < self.config.depth // 2:
                saved.append(x)
        return self.final_layer(x).float()


class Block(nn.Module):
    def __init__(self, config: DitConfig, number: int):
        super().__init__()
        width = config.width
        self.skip_linear = self.skip_norm = None
        if number > config.depth // 2:
            self.skip_linear = nn.Linear(2 * width, width)
            self.skip_norm = nn.LayerNorm(width, EPSILON)
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.attn1 = SelfAttention(config)
        self.norm2 = nn.LayerNorm(width, EPSILON)
        self.attn2 = CrossAttention(config)
        self.norm3 = nn.LayerNorm(width, EPSILON)
        sparse = number >= config.depth - config.moe_layers
        self.ffn = MixtureOfExperts(config) if sparse else Mlp(width, config.mlp_ratio * width)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, skip: Tensor | None) -> Tensor:
        if self.skip_linear is not None:
            x = self.skip_norm(self.skip_linear(torch.cat([skip, x], dim=-1)))
        x = x + self.attn1(self.norm1(x))
        rows = len(keys)
        # In place is safe from here on: x is this block's own tensor, no longer the one a later block will pop.
        if rows:
            x[:rows] += self.attn2(self.norm2(x[:rows]), keys, values)
        if rows < len(x):
            x[rows:] += self.attn2.out_proj.bias
        x += self.ffn(self.norm3(x))
        return x


class SelfAttention(nn.Module):
    def __init__(self, config: DitConfig):
        super().__init__()
        self.heads, self.head_width = config.heads, config.width // config.heads
        self.to_qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.q_norm = nn.RMSNorm(self.head_width, EPSILON)
        self.k_norm = nn.RMSNorm(self.head_width, EPSILON)
        self.out_proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        query, key, value = self.to_qkv(x).view(batch, tokens, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(self.q_norm(query), self.k_norm(key), value)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class CrossAttention(nn.Module):
    def __init__(self, config: DitConfig):
        super().__init__()
        self.heads, self.head_width = config.heads, config.width // config.heads
        self.to_q = nn.Linear(config.width, config.width, bias=False)
        self.to_kv = nn.Linear(config.context_width, 2 * config.width, bias=False)
        self.q_norm = nn.RMSNorm(self.head_width, EPSILON)
        self.k_norm = nn.RMSNorm(self.head_width, EPSILON)
        self.out_proj = nn.Linear(config.width, config.width)

    def project_context(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised keys and values (C, heads, S, head width) of the context, which itself is not normalised."""
        rows, tokens, _ = context.shape
        key, value = self.to_kv(context).view(rows, tokens, 2, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        return self.k_norm(key).contiguous(), value.contiguous()

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        query = self.q_norm(self.to_q(x).view(batch, tokens, self.heads, self.head_width).transpose(1, 2))
        mixed = F.scaled_dot_product_attention(query, keys, values)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class TimeEmbedder(nn.Module):
    """Times (B,) to one token each, (B, 1, width)."""

    def __init__(self, config: DitConfig):
        super().__init__()
        self.width = config.width
        self.fc1 = nn.Linear(config.width, config.mlp_ratio * config.width)
        self.fc2 = nn.Linear(config.mlp_ratio * config.width, config.width)

    def forward(self, t: Tensor) -> Tensor:
        waves = embed_time(t, self.width).to(self.fc1.weight.dtype)
        return self.fc2(F.gelu(self.fc1(waves))).unsqueeze(1)


def embed_time(t: Tensor, width: int) -> Tensor:
    """(B,) times in [0, 1] as (B, width) float32: sines, then cosines. The time is not stretched to 0..1000."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(10000) / half))
    angles = t.float().unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class FinalLayer(nn.Module):
    def __init__(self, config: DitConfig):
        super().__init__()
        self.norm_final = nn.LayerNorm(config.width, EPSILON)
        self.linear = nn.Linear(config.width, config.channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm_final(x[:, 1:]))  # the time token is dropped
