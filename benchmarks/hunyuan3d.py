"""Hunyuan3D's shape engine, stage by stage: seconds, rate against the counted work, and peak memory.

    python benchmarks/hunyuan3d.py [--device cuda] [--grids 256 384 512] [--steps 30 50] [--residency sequential]
    python benchmarks/hunyuan3d.py --tiny                       # a small model on the CPU, to see that it runs
    python benchmarks/hunyuan3d.py --reference ~/Hunyuan3D-2.1  # and the public modules of your own checkout

Weights are random and made on the device: speed and memory do not depend on their values. A random field has no
surface worth the name, so the geometry decoder runs in full for every point and then an analytic blob answers: real
cost, realistic sparsity. The reference's decode is timed on some chunks and scaled up to its dense grid; everything
else is run whole. Its picture encoder and its surface on the CPU are not timed, so what is said of the whole way is a
lower bound. On the way its numbers are compared with ours. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orfeas.engines.hunyuan3d.approximations import Approximations
from orfeas.engines.hunyuan3d.config import RELEASED, DinoConfig, DitConfig, ModelConfig, VaeConfig
from orfeas.engines.hunyuan3d.engine import VOLUMES, Hunyuan3DEngine
from orfeas.engines.hunyuan3d.residency import (
    INT8,
    POLICIES,
    SEQUENTIAL,
    Networks,
    Residency,
    choose_residency,
    free_gigabytes,
    load_int8_experts,
    model_gigabytes,
)
from orfeas.engines.hunyuan3d.vae import GeoDecoder, GeoField
from orfeas.engines.hunyuan3d.volume import level_cells
from orfeas.engines.hunyuan3d.weights import assemble, build_meta, published_shapes, recipes
from orfeas.request import Quality

TINY = ModelConfig(
    dit=DitConfig(channels=8, width=64, context_width=32, depth=7, heads=4, moe_layers=2, experts=4),
    vae=VaeConfig(tokens=24, channels=8, width=64, heads=4, layers=3),
    conditioner=DinoConfig(width=32, layers=3, heads=4, image_size=56),
    image_size=48,
)
REFERENCE_CHUNK = 8000  # points, the public default
REFERENCE_CHUNKS_TIMED = 20


# --- counted work: two operations a multiply-add, linear layers and attention; the rest is under one percent ---------


def dit_flops(config: ModelConfig) -> dict[str, float]:
    """Operations of one guided step: "public" as the public code does it, "ours" without what changes nothing."""
    c = config.dit
    tokens, context, width = config.vae.tokens + 1, config.conditioner.tokens, c.width
    inner = c.mlp_ratio * width
    self_attention = 2 * tokens * width * 4 * width + 4 * tokens * tokens * width
    cross_attention = 2 * tokens * width * 2 * width + 4 * tokens * context * width
    picture = 2 * context * c.context_width * 2 * width
    dense = 4 * tokens * width * inner
    expert = dense * (c.experts_per_token + 1)
    skips = (c.depth // 2) * 2 * tokens * 2 * width * width
    common = c.depth * self_attention + (c.depth - c.moe_layers) * dense + c.moe_layers * expert + skips
    public = 2 * (common + c.depth * (cross_attention + picture))
    return {"public": public, "ours": 2 * common + c.depth * cross_attention}


def dino_flops(config: ModelConfig) -> float:
    """Operations of the picture encoder, once."""
    c = config.conditioner
    layer = 2 * c.tokens * c.width * (4 + 2 * c.mlp_ratio) * c.width + 4 * c.tokens**2 * c.width
    return c.layers * layer + 2 * (c.tokens - 1) * 3 * c.patch_size**2 * c.width


def decoder_flops(config: ModelConfig) -> float:
    """Operations of the latent decoder, once."""
    c = config.vae
    return c.layers * (2 * c.tokens * c.width * (4 + 2 * c.mlp_ratio) * c.width + 4 * c.tokens**2 * c.width)


def point_flops(config: ModelConfig) -> float:
    """Operations of one point of the field."""
    c = config.vae
    linear = (3 + 6 * c.frequencies) * c.width + (2 + 2 * c.mlp_ratio) * c.width**2 + c.width
    return 2 * linear + 4 * c.tokens * c.width


# --- random weights ---------------------------------------------------------------------------------------------------


class RandomTensors(Mapping):
    """Published keys -> tensors drawn on the device when asked for, the same each time."""

    def __init__(self, module, part: str, device: torch.device, dtype: torch.dtype):
        self.shapes = published_shapes(module, part)
        self.part, self.device, self.dtype = part, device, dtype

    def __getitem__(self, key: str) -> Tensor:
        shape = self.shapes[key]
        generator = torch.Generator(self.device).manual_seed(zlib.crc32(f"{self.part}.{key}".encode()))
        values = torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)
        if len(shape) > 1:
            return values * math.prod(shape[1:]) ** -0.5
        return values * 0.1 if key.endswith("bias") else 1 + 0.1 * values

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


class BlobDecoder(GeoDecoder):
    """The whole geometry decoder, whose answer is then replaced by an analytic blob, scaled as a trained field is."""

    def forward(self, points: Tensor, *latents) -> Tensor:
        spent = super().forward(points, *latents)
        bumps = 0.08 * torch.sin(7 * points[:, 0]) * torch.sin(6 * points[:, 1] + 1) * torch.sin(5 * points[:, 2])
        distance = 0.6 + bumps - points.norm(dim=1)
        return torch.tanh(20 * distance) + 0 * spent.nan_to_num(0, 0, 0)


def make_network(config: ModelConfig, part: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """One of our networks with `RandomTensors`, ready to run."""
    module = build_meta(config)[part]
    tensors = RandomTensors(module, part, device, dtype)
    state = {ours: assemble(recipe, tensors, device, dtype) for ours, recipe in recipes(module, part).items()}
    module.load_state_dict(state, strict=True, assign=True)
    return module.requires_grad_(False).eval()


class RandomNetworks(Networks):
    """`Networks` that makes its weights instead of reading them."""

    def __init__(self, config: ModelConfig, device: torch.device, dtype: torch.dtype, residency: Residency):
        self.config, self.device, self.dtype, self.residency = config, device, dtype, residency
        self._here = {}

    def _bring(self, part: str):
        if part == "model" and self.residency.name == INT8:
            module = build_meta(self.config)[part]
            load_int8_experts(
                module, RandomTensors(module, part, self.device, self.dtype), self.device, self.dtype
            ).eval()
        else:
            module = make_network(self.config, part, self.device, self.dtype)
        if part == "vae":
            module.geo_decoder.__class__ = BlobDecoder
        return module


# --- measuring --------------------------------------------------------------------------------------------------------


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_call(call, device: torch.device, repeats: int) -> float:
    """Seconds of one call: the least of ``repeats`` after one to warm up."""
    call()
    best = math.inf
    for _ in range(repeats):
        synchronize(device)
        began = time.perf_counter()
        call()
        synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best


def measure_matmul(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of one large matrix product: what the card can do."""
    side = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / time_call(lambda: a @ b, device, 5) / 1e12


# The engine's messages: those that tell what is done, and those that announce what begins.
DONE = {"Diffusion step": "diffusion", "Decoding the volume": "volume", "Sharpening": "surface"}
BEGUN = {
    "Reading the weights of the transformer": "diffusion",
    "Starting the diffusion": "diffusion",
    "Reading the weights of the decoder": "decoding",
    "Decoding the latents": "decoding",
    "Drawing": "surface",
}


@dataclass
class _Subject:
    rgba: np.ndarray


def draw_subject() -> _Subject:
    rows, columns = np.mgrid[:512, :512]
    inside = ((columns - 256) / 180) ** 2 + ((rows - 256) / 220) ** 2 < 1
    return _Subject(np.dstack([rows // 2, columns // 2, 0 * rows + 90, inside * 255]).astype(np.uint8))


def run_engine(device: torch.device, running, config: ModelConfig, steps: int, grid: int) -> dict:
    """Let one job run; its seconds by stage without the making of weights, rates, and peak memory by stage."""
    stage, peaks = "features", {}
    began = time.perf_counter()
    for event in running:
        message = getattr(event, "message", "")
        stage = next((name for start, name in DONE.items() if message.startswith(start)), stage)
        if device.type == "cuda":
            peaks[stage] = max(peaks.get(stage, 0.0), torch.cuda.max_memory_reserved(device) / 1e9)
            torch.cuda.reset_peak_memory_stats(device)
        stage = next((name for start, name in BEGUN.items() if message.startswith(start)), stage)
        facts = getattr(event, "facts", None) or {}
        if facts:
            kept = facts
    wall = time.perf_counter() - began
    mesh = event
    seconds = dict(kept["shape_seconds"])
    making = seconds.pop("weights", 0.0)
    work = {
        "features": dino_flops(config),
        "decoding": decoder_flops(config),
        "volume": kept["field_evaluations"] * point_flops(config),
    }
    if not kept["approximations"]:
        work["diffusion"] = (steps - 1) * dit_flops(config)["ours"]
    return {
        "grid": grid,
        "steps": steps,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "total_seconds": round(sum(seconds.values()), 4),
        "making_weights_seconds": making,
        "wall_seconds": round(wall, 3),
        "tflops": {name: round(work[name] / max(seconds[name], 1e-9) / 1e12, 3) for name in work if name in seconds},
        "peak_vram_gb": {name: round(value, 3) for name, value in peaks.items()},  # that the allocator holds
        "other_vram_gb": round(outside_allocator(device), 3),
        "evaluated_fraction": round(kept["field_evaluations"] / (grid + 1) ** 3, 4),
        "refined": kept["vertices_refined"],
        "faces": len(mesh.faces),
        "latent": kept["latent"],
    }


def outside_allocator(device: torch.device) -> float:
    """GB taken on the GPU but for the allocator's: CUDA's context and libraries, and other programs."""
    if device.type != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info(device)
    return (total - free - torch.cuda.memory_reserved(device)) / 1e9


def import_reference(path: Path) -> tuple[type, type]:
    """The public transformer's and autoencoder's classes. Raises SystemExit with the reason if there are none."""
    package = path / "hy3dshape"
    if not (package / "hy3dshape").is_dir():
        raise SystemExit(f"--reference {path}: no checkout of Hunyuan3D-2.1, it has no folder hy3dshape/hy3dshape.")
    sys.path.insert(0, str(package))
    try:
        from hy3dshape.models.autoencoders import ShapeVAE
        from hy3dshape.models.denoisers.hunyuandit import HunYuanDiTPlain
    except ImportError as error:
        raise SystemExit(
            f"--reference {path}: its modules cannot be imported here ({error}): install what its requirements.txt"
            " names into this environment, or run this in one that has both."
        ) from error
    return HunYuanDiTPlain, ShapeVAE


def measure_reference(path: Path, config: ModelConfig, device: torch.device, dtype: torch.dtype, repeats: int) -> dict:
    """The public modules on the same random weights: seconds, and how far our results are from theirs.

    path: a checkout of Tencent-Hunyuan/Hunyuan3D-2.1. "seconds" of one guided "step", one "decoding" of the latents and
    one "point"; "deviation" of "velocity", "latents" and "field": the greatest difference over the greatest value.
    """
    public_dit, public_vae = import_reference(path)
    c, v = config.dit, config.vae
    built = build_meta(config)

    def fill(module: nn.Module, part: str) -> nn.Module:
        tensors = RandomTensors(built[part], part, device, dtype)
        missing, unknown = module.load_state_dict({key: tensors[key] for key in tensors}, strict=False, assign=True)
        wrong = [key for key in missing if not key.startswith(("encoder.", "pre_kl."))] + list(unknown)
        if wrong:
            raise SystemExit(f"--reference {path}: its keys differ from the published ones ({wrong[:3]}).")
        hollow = [key for key, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]
        if hollow:
            raise SystemExit(
                f"--reference {path}: its module {type(module).__name__} makes tensors that no checkpoint holds"
                f" ({', '.join(hollow[:3])}), and they are empty here, where it is built without memory: it cannot be"
                " timed; use a checkout of the public revision."
            )
        return module.to(device=device, dtype=dtype)  # in training mode, as the public pipeline leaves it

    x = torch.randn(2, v.tokens, c.channels, device=device, dtype=dtype)
    t = torch.full((2,), 0.5, device=device, dtype=dtype)
    context = torch.randn(2, config.conditioner.tokens, c.context_width, device=device, dtype=dtype)
    context[1] = 0
    latents = torch.randn(1, v.tokens, v.channels, device=device, dtype=dtype)
    chunks = torch.rand(REFERENCE_CHUNKS_TIMED, 1, REFERENCE_CHUNK, 3, device=device, dtype=dtype) * 2 - 1
    seconds, deviation = {}, {}
    with torch.no_grad():
        with torch.device("meta"):  # every weight is given; 12 GB of others would be drawn first
            dit = public_dit(
                input_size=v.tokens, in_channels=c.channels, hidden_size=c.width, context_dim=c.context_width,
                depth=c.depth, num_heads=c.heads, mlp_ratio=c.mlp_ratio, qk_norm=True, qk_norm_type="rms",
                text_len=config.conditioner.tokens, with_decoupled_ca=False, use_attention_pooling=False,
                qkv_bias=False, use_pos_emb=False, num_moe_layers=c.moe_layers, num_experts=c.experts,
                moe_top_k=c.experts_per_token,
            )  # fmt: skip
        dit = fill(dit, "model")
        seconds["step"] = time_call(lambda: dit(x, t, {"main": context}), device, repeats)
        theirs = dit(x, t, {"main": context})
        dit = None
        dit = make_network(config, "model", device, dtype)
        deviation["velocity"] = deviate(dit(x, t, dit.prepare_context(context[:1])), theirs)
        dit = None
        vae = public_vae(
            num_latents=v.tokens, embed_dim=v.channels, width=v.width, heads=v.heads, num_decoder_layers=v.layers,
            num_freqs=v.frequencies, include_pi=False, qkv_bias=False, qk_norm=True, scale_factor=v.scale_factor,
            num_encoder_layers=1, point_feats=4, pc_size=81920, pc_sharpedge_size=0, geo_decoder_mlp_expand_ratio=4,
            geo_decoder_downsample_ratio=1, geo_decoder_ln_post=True,
        )  # fmt: skip
        vae = fill(vae, "vae")
        seconds["decoding"] = time_call(lambda: vae(latents), device, repeats)
        decoded = vae(latents)

        def decode_chunks():
            for chunk in chunks:
                logits = vae.geo_decoder(queries=chunk, latents=decoded)
            return logits

        seconds["point"] = time_call(decode_chunks, device, repeats) / (REFERENCE_CHUNKS_TIMED * REFERENCE_CHUNK)
        theirs = decode_chunks()
        ours = make_network(config, "vae", device, dtype)
        # Our decoder divides by the scale factor itself; the public pipeline does it before.
        deviation["latents"] = deviate(ours.latent_decoder(latents.float() * v.scale_factor), decoded)
        deviation["field"] = deviate(GeoField(ours.geo_decoder, decoded)(chunks[-1, 0]), theirs.flatten())
    return {"seconds": seconds, "deviation": deviation}


def deviate(ours: Tensor, theirs: Tensor) -> float:
    """The greatest difference over the greatest value."""
    return float((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max())


def compare(runs: list[dict], reference: dict[str, float]) -> list[dict]:
    """How many times faster than the reference each run was, by stage; its decode is dense and scaled up.

    "whole_at_least": its stages that were timed over all of ours.
    """
    ratios = []
    for run in runs:
        theirs = {
            "diffusion": run["steps"] * reference["step"],
            "decoding": reference["decoding"],
            "volume": (run["grid"] + 1) ** 3 * reference["point"],
        }
        row = {"grid": run["grid"], "steps": run["steps"], "approximations": run["approximations"]}
        row |= {name: round(value / run["seconds"][name], 2) for name, value in theirs.items()}
        row["whole_at_least"] = round(sum(theirs.values()) / run["total_seconds"], 2)
        ratios.append(row)
    return ratios


def judge_goals(runs: list[dict], ratios: list[dict] | None, matmul: float, hardware: str, residency: str) -> list:
    """What this project set itself for one GPU, R = 384 and 50 steps: {"goal", "value", "reached"}, None if unknown."""

    def find(rows, approximated: bool):
        matching = [row for row in rows or () if (row["grid"], row["steps"]) == (384, 50)]
        return next((row for row in matching if bool(row["approximations"]) is approximated), None)

    exact, exact_ratio, approximate_ratio = find(runs, False), find(ratios, False), find(ratios, True)
    rate = round(exact["tflops"]["diffusion"] / matmul, 3) if exact else None
    peak = None
    if exact and residency == SEQUENTIAL:
        peak = round(max(exact["peak_vram_gb"].values()) + exact["other_vram_gb"], 3)
    goals = [
        ("times the reference, exact", exact_ratio and exact_ratio["whole_at_least"], 2.3, True),
        ("times the reference, approximated", approximate_ratio and approximate_ratio["whole_at_least"], 4.0, True),
        ("seconds on an H200", exact["total_seconds"] if exact and "H200" in hardware else None, 4.0, False),
        ("diffusion, of a large matrix product's rate", rate, 0.6, True),
        ("GB of VRAM, sequential", peak, 8.0, False),
    ]
    return [
        {
            "goal": f"{what}: {'at least' if least else 'under'} {bound:g}",
            "value": value,
            "reached": None if value is None else bool(value >= bound if least else value < bound),
        }
        for what, value, bound, least in goals
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--grids", type=int, nargs="+", default=None, help="R (default: 256 384 512; 48 128 when tiny)")
    parser.add_argument("--steps", type=int, nargs="+", default=None, help="default: 30 50; 4 when tiny")
    parser.add_argument("--residency", choices=POLICIES, help="default: by free memory")
    parser.add_argument("--volume", choices=VOLUMES, default=VOLUMES[0], help="how the field is asked")
    parser.add_argument("--approximate", action="store_true", help="also with all approximations")
    parser.add_argument("--reference", type=Path, help="a checkout of Tencent-Hunyuan/Hunyuan3D-2.1 to compare with")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a small model: shows that it runs, no more")
    options = parser.parse_args(argv)
    config = TINY if options.tiny else RELEASED
    grids = options.grids or ([48, 128] if options.tiny else [256, 384, 512])
    step_counts = options.steps or ([4] if options.tiny else [30, 50])
    device = torch.device("cuda:0" if options.device == "cuda" else options.device)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)

    if options.residency:
        residency = Residency(options.residency, "asked for")
    else:
        residency = choose_residency(free_gigabytes(device), model_gigabytes(config, dtype), str(device))
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    print(f"{hardware}, PyTorch {torch.__version__}, {dtype}; {residency.name}: {residency.reason}")
    flops = dit_flops(config)
    print(
        f"counted: guided step {flops['public'] / 1e12:.4g} TFLOP public, {flops['ours'] / 1e12:.4g} ours; features"
        f" {dino_flops(config) / 1e12:.4g}, latents {decoder_flops(config) / 1e12:.4g}; a point"
        f" {point_flops(config) / 1e6:.4g} MFLOP"
    )
    matmul = measure_matmul(device, torch.bfloat16 if device.type == "cuda" else dtype)
    print(f"matrix product: {matmul:.4g} TFLOP/s")

    runs, subject = [], draw_subject()
    for approximations in (None, Approximations.parse("solver,guidance,latents")) if options.approximate else (None,):
        networks = RandomNetworks(config, device, dtype, residency)
        engine = Hunyuan3DEngine(
            Path("random"), config=config, device=str(device), networks=networks, approximations=approximations,
            volume=options.volume,
        )  # fmt: skip
        *_, warm, _ = engine.shape(subject, Quality(grid=grids[0], steps=3, faces=0), 0)
        for grid in grids[1:]:  # each asks for other numbers of points
            list(engine.remesh(warm.facts["latent"], Quality(grid=grid, steps=3, faces=0)))
        for steps in step_counts if approximations is None else [max(step_counts)]:
            engine._features.clear()
            job = engine.shape(subject, Quality(grid=grids[0], steps=steps, faces=0), 0)
            run = run_engine(device, job, config, steps, grids[0])
            runs.append(run)
            for grid in grids[1:]:
                again = engine.remesh(run["latent"], Quality(grid=grid, steps=steps, faces=0))
                more = run_engine(device, again, config, steps, grid)
                for kind in ("seconds", "tflops", "peak_vram_gb"):  # the same diffusion serves every grid
                    kept = {name: run[kind][name] for name in ("features", "diffusion") if name in run[kind]}
                    more[kind] = kept | more[kind]
                more["total_seconds"] = round(sum(more["seconds"].values()), 4)
                runs.append(more)
        for run in runs:
            run.setdefault("approximations", engine.health()["approximations"])
        engine.close()
    for run in runs:
        del run["latent"]
        levels = "/".join(map(str, level_cells(run["grid"]))) if options.volume == "hierarchical" else "dense"
        print(f"\nR {run['grid']} ({levels}), {run['steps']} steps, {', '.join(run['approximations']) or 'exact'}:")
        for stage, seconds in run["seconds"].items():
            rate, peak = run["tflops"].get(stage), run["peak_vram_gb"].get(stage)
            print(
                f"  {stage:<10}{seconds:9.3f} s"
                + (f"{rate:9.3g} TFLOP/s ({rate / matmul:.0%} of the product)" if rate else "")
                + (f", peak {peak:.2f} GB" if peak else "")
            )
        print(f"  {'total':<10}{run['total_seconds']:9.3f} s, {run['evaluated_fraction']:.1%} of the grid asked,"
              f" {run['faces']:,} faces")  # fmt: skip

    reference = ratios = None
    if options.reference:
        reference = measure_reference(options.reference, config, device, dtype, options.repeats)
        seconds = reference["seconds"]
        ratios = compare(runs, seconds)
        print(
            f"\nreference: step {seconds['step']:.4g} s, latents {seconds['decoding']:.4g} s, a point"
            f" {seconds['point'] * 1e9:.4g} ns (dense decode scaled up from {REFERENCE_CHUNKS_TIMED} chunks)"
        )
        apart = ", ".join(f"{name} {value:.2g}" for name, value in reference["deviation"].items())
        print(f"  ours differ from its numbers, of the greatest, by: {apart}")
        for row in ratios:
            print("  times faster:", row)
    has_gpu = device.type == "cuda"
    goals = judge_goals(runs if has_gpu else [], ratios if has_gpu else None, matmul, hardware, residency.name)
    unknown = "not measured" if has_gpu else "not measured: no GPU"
    print("\ngoals:")
    for goal in goals:
        reached = {None: unknown, True: "reached", False: "missed"}[goal["reached"]]
        print(f"  {goal['goal']}: {reached}" + (f" ({goal['value']})" if goal["reached"] is not None else ""))
    document = {
        "benchmark": "hunyuan3d",
        "hardware": hardware,
        "torch": torch.__version__,
        "dtype": str(dtype),
        "model": "tiny" if options.tiny else "released",
        "residency": residency.name,
        "volume": options.volume,
        "matmul_tflops": round(matmul, 3),
        "counted_tflop": {
            "guided_step_public": flops["public"] / 1e12,
            "guided_step_ours": flops["ours"] / 1e12,
            "features": dino_flops(config) / 1e12,
            "latents": decoder_flops(config) / 1e12,
            "point": point_flops(config) / 1e12,
        },
        "runs": runs,
        "reference": reference,
        "reference_ratios": ratios,
        "goals": goals,
    }
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
