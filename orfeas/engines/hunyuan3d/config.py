"""The sizes of the three networks: `RELEASED` for Hunyuan3D-2.1, or read from a configuration file.

Source of the released values: the public ``Tencent-Hunyuan/Hunyuan3D-2.1`` configuration; the byte counts of the
published files prove them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orfeas.errors import BadWeights


@dataclass(frozen=True)
class DitConfig:
    """The flow-matching transformer. Widths in channels; ``moe_layers`` counts blocks from the end."""

    channels: int = 64
    width: int = 2048
    context_width: int = 1024
    depth: int = 21
    heads: int = 16
    moe_layers: int = 6
    experts: int = 8
    experts_per_token: int = 2
    mlp_ratio: int = 4


@dataclass(frozen=True)
class VaeConfig:
    """The decoding half of the shape autoencoder. ``frequencies`` is per coordinate, in octaves, without pi."""

    tokens: int = 4096
    channels: int = 64
    width: int = 1024
    heads: int = 16
    layers: int = 16
    frequencies: int = 8
    scale_factor: float = 1.0039506158752403
    mlp_ratio: int = 4


@dataclass(frozen=True)
class DinoConfig:
    """The DINOv2 picture encoder. ``image_size`` and ``patch_size`` in pixels."""

    width: int = 1024
    layers: int = 24
    heads: int = 16
    patch_size: int = 14
    image_size: int = 518
    channels: int = 3
    mlp_ratio: int = 4
    epsilon: float = 1e-6

    @property
    def tokens(self) -> int:
        """The class token and one token a patch."""
        return 1 + (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class ModelConfig:
    """All three networks, ``image_size`` in pixels of the prepared picture, and ``box``, half the side of the field."""

    dit: DitConfig = DitConfig()
    vae: VaeConfig = VaeConfig()
    conditioner: DinoConfig = DinoConfig()
    image_size: int = 512
    border_ratio: float = 0.15
    box: float = 1.01

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(1, tokens, channels): the shape of the noise and of the latents."""
        return (1, self.vae.tokens, self.vae.channels)


RELEASED = ModelConfig()

# What the networks here do without a switch. A configuration that says otherwise is another model.
_FIXED = {
    "dit": {
        "qk_norm": True,
        "qk_norm_type": "rms",
        "qkv_bias": False,
        "use_pos_emb": False,
        "use_attention_pooling": False,
        "with_decoupled_ca": False,
    },
    "vae": {
        "include_pi": False,
        "qkv_bias": False,
        "qk_norm": True,
        "geo_decoder_ln_post": True,
        "geo_decoder_downsample_ratio": 1,
        "geo_decoder_mlp_expand_ratio": 4,
    },
    "conditioner": {"hidden_act": "gelu", "qkv_bias": True, "use_swiglu_ffn": False},
}


def load_config(path: str | Path) -> ModelConfig:
    """Read a JSON configuration with the sections ``dit``, ``vae`` and ``conditioner`` in the public project's words.

    Raises `BadWeights` if the file cannot be read, lacks a value, or asks for a network that is not built here.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        return parse_config(document)
    except OSError as error:
        raise BadWeights(f"The model configuration {path} cannot be read: {error.strerror}.", "missing_file") from error
    except ValueError as error:
        raise BadWeights(f"The model configuration {path} is not valid JSON: {error}.", "bad_config") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise BadWeights(f"The model configuration {path} lacks or misstates {error}.", "bad_config") from error


def parse_config(document: dict[str, Any]) -> ModelConfig:
    """`load_config` for a document already read. Raises KeyError or TypeError for a value that is not there."""
    dit, vae = document["dit"], document["vae"]
    encoder = document["conditioner"]["main_image_encoder"]["kwargs"]
    dino = encoder["config"]
    for section, values in (("dit", dit), ("vae", vae), ("conditioner", dino)):
        _refuse_other_models(section, values)
    if encoder.get("use_cls_token", True) is not True:
        raise BadWeights(
            "The model configuration drops the class token; only Hunyuan3D-2.1 is built here.", "bad_config"
        )
    config = ModelConfig(
        dit=DitConfig(
            channels=dit["in_channels"],
            width=dit["hidden_size"],
            context_width=dit["context_dim"],
            depth=dit["depth"],
            heads=dit["num_heads"],
            moe_layers=dit["num_moe_layers"],
            experts=dit["num_experts"],
            experts_per_token=dit["moe_top_k"],
            mlp_ratio=dit.get("mlp_ratio", 4),
        ),
        vae=VaeConfig(
            tokens=vae["num_latents"],
            channels=vae["embed_dim"],
            width=vae["width"],
            heads=vae["heads"],
            layers=vae["num_decoder_layers"],
            frequencies=vae["num_freqs"],
            scale_factor=vae["scale_factor"],
        ),
        conditioner=DinoConfig(
            width=dino["hidden_size"],
            layers=dino["num_hidden_layers"],
            heads=dino["num_attention_heads"],
            patch_size=dino["patch_size"],
            image_size=encoder.get("image_size", dino["image_size"]),
            channels=dino.get("num_channels", 3),
            mlp_ratio=dino["mlp_ratio"],
            epsilon=dino["layer_norm_eps"],
        ),
        image_size=document["image_size"],
        border_ratio=document.get("border_ratio", 0.15),
        box=document.get("box", 1.01),
    )
    _refuse_contradictions(config)
    return config


def _refuse_other_models(section: str, values: dict[str, Any]) -> None:
    for key, expected in _FIXED[section].items():
        if values.get(key, expected) != expected:
            raise BadWeights(
                f"The model configuration sets {section}.{key} to {values[key]!r}, but only {expected!r} is built here:"
                " only Hunyuan3D-2.1 can be run.",
                "bad_config",
            )


def _refuse_contradictions(config: ModelConfig) -> None:
    dit, vae, dino = config.dit, config.vae, config.conditioner
    problems = [
        f"{name} of width {part.width} cannot have {part.heads} heads"
        for name, part in (("dit", dit), ("vae", vae), ("conditioner", dino))
        if part.heads < 1 or part.width % part.heads
    ]
    if dit.channels != vae.channels:
        problems.append(f"dit has {dit.channels} latent channels, vae {vae.channels}")
    if dit.context_width != dino.width:
        problems.append(f"dit reads a context of width {dit.context_width}, the conditioner gives {dino.width}")
    if dino.image_size % dino.patch_size:
        problems.append(f"{dino.image_size} pixels are not whole patches of {dino.patch_size}")
    if not 0 <= dit.moe_layers <= dit.depth or not 1 <= dit.experts_per_token <= dit.experts:
        problems.append("dit asks for more expert layers or experts than it has")
    if problems:
        raise BadWeights(f"The model configuration contradicts itself: {'; '.join(problems)}.", "bad_config")
