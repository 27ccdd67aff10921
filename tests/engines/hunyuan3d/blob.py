"""The fixture's tiny model, bent so that its field is a blob.

The fixture's weights are random, and so is their field: mostly it fills the whole box. Here one direction of the
geometry decoder's channels is tied to ``cos x + cos y + cos z``, which is largest in the middle of the box. All other
weights are the fixture's, so picture, seed and latents still shape the surface.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.engines.hunyuan3d.tiny import FIXTURE, WEIGHTS

STEEPNESS = 1.0
STRENGTH = 3.0
LEVEL = 2.8  # of the cosines' sum, on the surface: a radius of about 0.63


def write_blob_weights(folder: Path) -> Path:
    """``model.safetensors`` and ``config.json`` in ``folder``, as the engine and ORFEAS_HUNYUAN3D_PATH take them."""
    weights = load_file(WEIGHTS)
    prefix = "vae.geo_decoder."
    width = len(weights[prefix + "query_proj.bias"])
    direction = torch.tensor([1.0, -1.0]).repeat(width // 2)
    octaves = (weights[prefix + "query_proj.weight"].shape[1] - 3) // 6
    cosines = [3 + 3 * octaves + axis * octaves for axis in range(3)]  # of frequency 1, after the point and the sines
    weights[prefix + "query_proj.weight"][:, cosines] += STEEPNESS * direction[:, None]
    weights[prefix + "query_proj.bias"] -= STEEPNESS * LEVEL * direction
    gain = weights[prefix + "ln_post.weight"]
    weights[prefix + "output_proj.weight"] += STRENGTH * (direction / gain)
    weights[prefix + "output_proj.bias"] *= 0
    shift = weights[prefix + "ln_post.bias"] @ weights[prefix + "output_proj.weight"][0]
    weights[prefix + "output_proj.bias"] -= shift
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text((FIXTURE / "tiny_config.json").read_text(encoding="utf-8"), encoding="utf-8")
    return folder / "model.safetensors"
