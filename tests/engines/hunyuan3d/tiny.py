"""A whole model, small enough for a CPU in a test: the fixture's, and random ones of any size."""

from __future__ import annotations

from pathlib import Path

import torch

from orfeas.engines.hunyuan3d.config import ModelConfig, load_config
from orfeas.engines.hunyuan3d.weights import build_meta, published_shapes, write_safetensors

FIXTURES = Path(__file__).parents[2] / "fixtures"
FIXTURE = FIXTURES / "hunyuan3d_shape_tiny"
WEIGHTS = FIXTURE / "tiny_weights.safetensors"  # flat safetensors with all three parts


def tiny_config() -> ModelConfig:
    return load_config(FIXTURE / "tiny_config.json")


def random_weights(config: ModelConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    """Flat ``<part>.<key>`` float32 tensors under the published names, sized so that activations stay near 1."""
    generator = torch.Generator().manual_seed(seed)
    flat = {}
    for part, module in build_meta(config).items():
        for key, shape in published_shapes(module, part).items():
            values = torch.randn(shape, generator=generator)
            if key.endswith("weight") and len(shape) > 1:
                values *= values[0].numel() ** -0.5
            elif key.endswith("bias"):
                values *= 0.1
            else:
                values = 1 + 0.2 * values  # gains of norms and layer scales
            flat[f"{part}.{key}"] = values
    return flat


def write_random_weights(path: Path, config: ModelConfig, seed: int = 0) -> Path:
    """`random_weights` as a file that the engine can load."""
    write_safetensors(random_weights(config, seed), path)
    return path
