"""Stand-ins for the two classes of the public project that the benchmark times, with their arguments and keys.

They compute with `plain.Plain` over parameters under the published names. Unlike the public transformer they take no
argument that they do not know, so a misspelt one is noticed. `write_checkout` makes a folder laid out like a checkout.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from orfeas.engines.hunyuan3d.config import RELEASED, DitConfig, ModelConfig, VaeConfig
from orfeas.engines.hunyuan3d.weights import build_meta, published_shapes
from tests.engines.hunyuan3d.plain import Plain

HERE = "tests.engines.hunyuan3d.public_modules"


class Named(nn.Module):
    """Parameters under dotted names, below submodules of the names between the dots."""

    def add(self, shapes: dict[str, tuple[int, ...]]) -> None:
        for key, shape in shapes.items():
            *path, name = key.split(".")
            owner = self
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, Named())
                owner = owner._modules[part]
            owner.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def plain(self, prefix: str, config: ModelConfig) -> Plain:
        return Plain({prefix + key: value for key, value in self.state_dict().items()}, config)


class HunYuanDiTPlain(Named):
    def __init__(
        self, input_size=1024, in_channels=4, hidden_size=1024, context_dim=1024, depth=24, num_heads=16,
        mlp_ratio=4.0, norm_type="layer", qk_norm_type="rms", qk_norm=False, text_len=257, with_decoupled_ca=False,
        additional_cond_hidden_state=768, decoupled_ca_dim=16, decoupled_ca_weight=1.0, use_pos_emb=False,
        use_attention_pooling=True, guidance_cond_proj_dim=None, qkv_bias=True, num_moe_layers=6, num_experts=8,
        moe_top_k=2,
    ):  # fmt: skip
        super().__init__()
        assert (norm_type, qk_norm_type, qk_norm, mlp_ratio) == ("layer", "rms", True, 4)
        assert (with_decoupled_ca, use_pos_emb, use_attention_pooling, qkv_bias) == (False,) * 4
        dit = DitConfig(in_channels, hidden_size, context_dim, depth, num_heads, num_moe_layers, num_experts, moe_top_k)
        self.config = replace(RELEASED, dit=dit)
        self.add(published_shapes(build_meta(self.config)["model"], "model"))

    def forward(self, x: Tensor, t: Tensor, contexts: dict[str, Tensor], **kwargs) -> Tensor:
        return self.plain("model.", self.config).velocity(x, t, contexts["main"]).to(x.dtype)


class CrossAttentionDecoder(Named):
    def forward(self, queries=None, query_embeddings=None, latents=None) -> Tensor:
        return self.plain("vae.geo_decoder.", self.config).logits(queries, latents.double()).to(latents.dtype)


class ShapeVAE(Named):
    def __init__(
        self, *, num_latents, embed_dim, width, heads, num_decoder_layers, num_encoder_layers=8, pc_size=5120,
        pc_sharpedge_size=5120, point_feats=3, downsample_ratio=20, geo_decoder_downsample_ratio=1,
        geo_decoder_mlp_expand_ratio=4, geo_decoder_ln_post=True, num_freqs=8, include_pi=True, qkv_bias=True,
        qk_norm=False, label_type="binary", drop_path_rate=0.0, scale_factor=1.0, use_ln_post=True, ckpt_path=None,
    ):  # fmt: skip
        super().__init__()
        assert (geo_decoder_downsample_ratio, geo_decoder_mlp_expand_ratio, geo_decoder_ln_post) == (1, 4, True)
        assert (include_pi, qkv_bias, qk_norm) == (False, False, True)
        # The decoder is given latents that the pipeline has divided by the scale factor.
        vae = VaeConfig(num_latents, embed_dim, width, heads, num_decoder_layers, num_freqs, scale_factor=1.0)
        self.config = replace(RELEASED, vae=vae)
        self.geo_decoder = CrossAttentionDecoder()
        self.geo_decoder.config = self.config
        self.add(published_shapes(build_meta(self.config)["vae"], "vae"))
        self.add({"encoder.input_proj.weight": (width, 3 + 6 * num_freqs + point_feats)})
        self.add({"pre_kl.weight": (2 * embed_dim, width), "pre_kl.bias": (2 * embed_dim,)})

    def forward(self, latents: Tensor) -> Tensor:
        return self.plain("vae.", self.config).decode(latents).to(latents.dtype)


def write_checkout(folder: Path) -> Path:
    """A checkout's folders, whose modules are the stand-ins above."""
    models = folder / "hy3dshape" / "hy3dshape" / "models"
    files = {
        models.parent / "__init__.py": "",
        models / "__init__.py": "",
        models / "autoencoders" / "__init__.py": "from .model import ShapeVAE\n",
        models / "autoencoders" / "model.py": f"from {HERE} import ShapeVAE\n",
        models / "denoisers" / "__init__.py": "",
        models / "denoisers" / "hunyuandit.py": f"from {HERE} import HunYuanDiTPlain\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
