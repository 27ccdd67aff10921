"""The networks once more, as plainly as they can be written: float64, one matrix at a time, nothing cached or fused.

Written from the published description and over the published keys, so that it shares no code with the engine: heads
are cut out of joined channels, every token visits every expert, the half without a picture attends to zeros, and the
step of no length is taken. `write_fixture` makes a parity fixture of any size with it.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from orfeas.engines.hunyuan3d.config import ModelConfig
from orfeas.engines.hunyuan3d.preprocess import prepare_image
from orfeas.engines.hunyuan3d.weights import write_safetensors
from tests.engines.hunyuan3d.tiny import random_weights


class Plain:
    def __init__(self, flat: dict[str, Tensor], config: ModelConfig):
        self.weights = {key: tensor.double() for key, tensor in flat.items()}
        self.config = config
        self.seen: dict[str, Tensor] = {}

    def linear(self, x: Tensor, key: str) -> Tensor:
        return F.linear(x, self.weights[f"{key}.weight"], self.weights.get(f"{key}.bias"))

    def layer_norm(self, x: Tensor, key: str, epsilon: float = 1e-6) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()
        return scaled * self.weights[f"{key}.weight"] + self.weights[f"{key}.bias"]

    def rms_norm(self, x: Tensor, key: str) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self.weights[f"{key}.weight"]

    def mlp(self, x: Tensor, first: str, second: str) -> Tensor:
        inner = self.linear(x, first)
        return self.linear(inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2))), second)

    @staticmethod
    def attend(queries: list[Tensor], keys: list[Tensor], values: list[Tensor]) -> Tensor:
        """One (B, T, d) tensor a head."""
        mixed = []
        for q, k, v in zip(queries, keys, values, strict=True):
            scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
            mixed.append(scores.softmax(-1) @ v)
        return torch.cat(mixed, dim=-1)

    @staticmethod
    def cut_heads(joined: Tensor, heads: int, groups: int) -> list[tuple[Tensor, ...]]:
        """Joined channels head by head, each [q | k | v] or [k | v]."""
        return [head.chunk(groups, dim=-1) for head in joined.chunk(heads, dim=-1)]

    # Conditioner

    def normalize(self, pixels: Tensor) -> Tensor:
        size = self.config.conditioner.image_size
        x = F.interpolate((pixels.double() + 1) / 2, (size, size), mode="bilinear", antialias=True)
        mean = torch.tensor([0.485, 0.456, 0.406]).double().view(1, 3, 1, 1)
        return (x - mean) / torch.tensor([0.229, 0.224, 0.225]).double().view(1, 3, 1, 1)

    def embed(self, normalized: Tensor) -> Tensor:
        root, patch = "conditioner.main_image_encoder.model.embeddings", self.config.conditioner.patch_size
        columns = F.unfold(normalized, patch, stride=patch).transpose(1, 2)
        kernel = self.weights[f"{root}.patch_embeddings.projection.weight"].flatten(1)
        patches = columns @ kernel.t() + self.weights[f"{root}.patch_embeddings.projection.bias"]
        tokens = torch.cat([self.weights[f"{root}.cls_token"], patches], dim=1)
        return tokens + self.weights[f"{root}.position_embeddings"]

    def condition(self, pixels: Tensor) -> Tensor:
        x = self.embed(self.normalize(pixels))
        dino, root = self.config.conditioner, "conditioner.main_image_encoder.model"
        for number in range(dino.layers):
            key = f"{root}.encoder.layer.{number}"
            h = self.layer_norm(x, f"{key}.norm1")
            q, k, v = (self.linear(h, f"{key}.attention.attention.{name}") for name in ("query", "key", "value"))
            mixed = self.attend(*(list(part.chunk(dino.heads, dim=-1)) for part in (q, k, v)))
            x = x + self.weights[f"{key}.layer_scale1.lambda1"] * self.linear(mixed, f"{key}.attention.output.dense")
            h = self.mlp(self.layer_norm(x, f"{key}.norm2"), f"{key}.mlp.fc1", f"{key}.mlp.fc2")
            x = x + self.weights[f"{key}.layer_scale2.lambda1"] * h
        return self.layer_norm(x, f"{root}.layernorm")

    # Transformer

    def velocity(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """``context`` (B, S, width): zeros for rows without a picture."""
        dit = self.config.dit
        half = dit.width // 2
        angles = t.double()[:, None] * torch.tensor([10000.0 ** (-n / half) for n in range(half)]).double()
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        time_token = self.mlp(waves, "model.t_embedder.mlp.0", "model.t_embedder.mlp.2")[:, None]
        embedded = self.linear(x.double(), "model.x_embedder")
        self.seen |= {"dit.t_emb": time_token, "dit.x_emb": embedded}
        x = torch.cat([time_token, embedded], dim=1)
        states = []
        for number in range(dit.depth):
            key, name = f"model.blocks.{number}", f"dit.block{number}"
            if number > dit.depth // 2:
                pair = torch.cat([states[2 * (dit.depth // 2) - number], x], dim=-1)
                x = self.layer_norm(self.linear(pair, f"{key}.skip_linear"), f"{key}.skip_norm")
            attn1 = self.self_attention(self.layer_norm(x, f"{key}.norm1"), f"{key}.attn1")
            x = x + attn1
            attn2 = self.cross_attention(self.layer_norm(x, f"{key}.norm2"), context, f"{key}.attn2")
            x = x + attn2
            h = self.layer_norm(x, f"{key}.norm3")
            if number < dit.depth - dit.moe_layers:
                ffn = self.mlp(h, f"{key}.mlp.fc1", f"{key}.mlp.fc2")
            else:
                ffn = self.mixture(h, f"{key}.moe")
            x = x + ffn
            states.append(x)
            self.seen |= {f"{name}.attn1": attn1, f"{name}.attn2": attn2, f"{name}.ffn": ffn, name: x}
        return self.linear(self.layer_norm(x, "model.final_layer.norm_final")[:, 1:], "model.final_layer.linear")

    def self_attention(self, x: Tensor, key: str) -> Tensor:
        joined = torch.cat([self.linear(x, f"{key}.to_{name}") for name in "qkv"], dim=-1)
        heads = self.cut_heads(joined, self.config.dit.heads, 3)
        queries = [self.rms_norm(q, f"{key}.q_norm") for q, _, _ in heads]
        keys = [self.rms_norm(k, f"{key}.k_norm") for _, k, _ in heads]
        return self.linear(self.attend(queries, keys, [v for _, _, v in heads]), f"{key}.out_proj")

    def cross_attention(self, x: Tensor, context: Tensor, key: str) -> Tensor:
        joined = torch.cat([self.linear(context.double(), f"{key}.to_{name}") for name in "kv"], dim=-1)
        heads = self.cut_heads(joined, self.config.dit.heads, 2)
        queries = self.linear(x, f"{key}.to_q").chunk(self.config.dit.heads, dim=-1)
        queries = [self.rms_norm(q, f"{key}.q_norm") for q in queries]
        keys = [self.rms_norm(k, f"{key}.k_norm") for k, _ in heads]
        return self.linear(self.attend(queries, keys, [v for _, v in heads]), f"{key}.out_proj")

    def mixture(self, x: Tensor, key: str) -> Tensor:
        likelihood = self.linear(x, f"{key}.gate").softmax(-1)
        least = likelihood.sort(dim=-1, descending=True).values[..., self.config.dit.experts_per_token - 1, None]
        weight = torch.where(likelihood >= least, likelihood, 0)
        total = self.mlp(x, f"{key}.shared_experts.net.0.proj", f"{key}.shared_experts.net.2")
        for expert in range(self.config.dit.experts):
            each = self.mlp(x, f"{key}.experts.{expert}.net.0.proj", f"{key}.experts.{expert}.net.2")
            total = total + weight[..., expert, None] * each
        return total

    def sample(self, noise: Tensor, context: Tensor, steps: int, guidance: float) -> list[Tensor]:
        """The state after each of ``steps`` steps, the last of no length."""
        sigmas = [n / (steps - 1) for n in range(steps)] + [1.0]
        pair = torch.cat([context, torch.zeros_like(context)])
        x, trace = noise.double(), []
        for now, then in pairwise(sigmas):
            with_picture, without = self.velocity(x.repeat(2, 1, 1), torch.tensor([now, now]), pair).chunk(2)
            x = x + (then - now) * (without + guidance * (with_picture - without))
            trace.append(x)
        return trace

    # Decoder

    def decode(self, latents: Tensor) -> Tensor:
        vae = self.config.vae
        x = self.linear(latents.double() / vae.scale_factor, "vae.post_kl")
        for number in range(vae.layers):
            key = f"vae.transformer.resblocks.{number}"
            heads = self.cut_heads(self.linear(self.layer_norm(x, f"{key}.ln_1"), f"{key}.attn.c_qkv"), vae.heads, 3)
            queries = [self.layer_norm(q, f"{key}.attn.attention.q_norm") for q, _, _ in heads]
            keys = [self.layer_norm(k, f"{key}.attn.attention.k_norm") for _, k, _ in heads]
            x = x + self.linear(self.attend(queries, keys, [v for _, _, v in heads]), f"{key}.attn.c_proj")
            x = x + self.mlp(self.layer_norm(x, f"{key}.ln_2"), f"{key}.mlp.c_fc", f"{key}.mlp.c_proj")
        return x

    def logits(self, points: Tensor, decoded: Tensor) -> Tensor:
        """(1, n, 3) to (1, n, 1)."""
        vae, key = self.config.vae, "vae.geo_decoder.cross_attn_decoder"
        angles = [points[..., axis, None].double() * 2**n for axis in range(3) for n in range(vae.frequencies)]
        angles = torch.cat(angles, dim=-1)
        features = torch.cat([points.double(), angles.sin(), angles.cos()], dim=-1)
        h = self.linear(features, "vae.geo_decoder.query_proj")
        self.seen |= {"geo.fourier": features, "geo.query_proj": h}
        queries = self.linear(self.layer_norm(h, f"{key}.ln_1"), f"{key}.attn.c_q").chunk(vae.heads, dim=-1)
        heads = self.cut_heads(self.linear(self.layer_norm(decoded, f"{key}.ln_2"), f"{key}.attn.c_kv"), vae.heads, 2)
        queries = [self.layer_norm(q, f"{key}.attn.attention.q_norm") for q in queries]
        keys = [self.layer_norm(k, f"{key}.attn.attention.k_norm") for k, _ in heads]
        attended = self.linear(self.attend(queries, keys, [v for _, v in heads]), f"{key}.attn.c_proj")
        h = h + attended
        h = h + self.mlp(self.layer_norm(h, f"{key}.ln_3"), f"{key}.mlp.c_fc", f"{key}.mlp.c_proj")
        last = self.layer_norm(h, "vae.geo_decoder.ln_post", 1e-5)
        self.seen |= {"geo.attn": attended, "geo.block": h, "geo.ln_post": last}
        return self.linear(last, "vae.geo_decoder.output_proj")


def write_fixture(
    folder: Path, document: dict, config: ModelConfig, rgba: Tensor, seed: int, cells: int
) -> dict[str, Tensor]:
    """A parity fixture with random weights, its numbers from `Plain`; returns them. ``document`` is the configuration.

    The picture's preparation is our own: that it is right is the public fixture's to say. There is no mesh either.
    """
    flat = random_weights(config, seed)
    plain = Plain(flat, config)
    generator = torch.Generator().manual_seed(seed + 1)
    opaque = rgba.clone()
    opaque[:, :, 3] = 255
    image = torch.from_numpy(prepare_image(rgba.numpy(), config))
    noise = torch.randn(config.latent_shape, generator=torch.Generator().manual_seed(document["noise_seed"]))
    context = plain.condition(image)
    pair = torch.cat([context, torch.zeros_like(context)])
    x = torch.randn((2, *config.latent_shape[1:]), generator=generator)
    t = torch.full((2,), 0.61)
    velocity = plain.velocity(x, t, pair)
    seen = {key: value for key, value in plain.seen.items() if key.startswith("dit.")}
    trace = plain.sample(noise, context, document["steps"], document["guidance"])
    decoded = plain.decode(trace[-1])
    axis = torch.linspace(-config.box, config.box, cells + 1)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).view(1, -1, 3)
    volume = plain.logits(grid, decoded).view(1, cells + 1, cells + 1, cells + 1)
    points = torch.rand((1, 70, 3), generator=generator) * 2 - 1
    logits = plain.logits(points, decoded)
    sigmas = torch.tensor([n / (document["steps"] - 1) for n in range(document["steps"])] + [1.0])
    values = {
        **seen,
        **{key: value for key, value in plain.seen.items() if key.startswith("geo.")},
        "pre.rgba": rgba,
        "pre.image": image,
        "pre.image_rgb_no_alpha": torch.from_numpy(prepare_image(opaque.numpy(), config)),
        "cond.pixel_values": plain.normalize(image),
        "cond.embeddings": plain.embed(plain.normalize(image)),
        "cond.main": context,
        "dit.x": x,
        "dit.t": t,
        "dit.context": pair,
        "dit.out": velocity,
        "sample.noise": noise,
        "sample.sigmas": sigmas,
        "sample.model_t": sigmas[:-1, None].expand(-1, 2).contiguous(),
        "sample.trace": torch.stack(trace),
        "sample.latents": trace[-1],
        "vae.decoded": decoded,
        "geo.queries": points,
        "geo.logits": logits,
        f"vol.vanilla{cells}": volume,
    }
    values = {key: value if value.dtype == torch.uint8 else value.float() for key, value in values.items()}
    folder.mkdir()
    (folder / "other_config.json").write_text(json.dumps(document))
    write_safetensors(flat, folder / "other_weights.safetensors")
    save_file(values, folder / "other_io.safetensors")
    return values
