"""Published weights into our modules: which key goes where, in which order of rows, and nothing left over.

`RULES` is the whole of the mapping. A parameter of ours is made of one published tensor or of several: attention's
separate matrices are one here, and their rows, which the public model reads per head, are put in plain order; the
experts of a layer are stacked. All else is the tensor as it is, under a name of ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from orfeas.engines.hunyuan3d.checkpoint import PARTS, Checkpoint, open_checkpoint, split_parts
from orfeas.engines.hunyuan3d.config import RELEASED, ModelConfig
from orfeas.errors import BadWeights, OrfeasError

AS_IS, BY_HEAD, JOINED, STACKED = "as is", "by head", "joined", "stacked"

_DINO = "main_image_encoder.model."
_VAE_NAMES = (
    (r"norm(\d)\.(.*)", (r"ln_\1.\2",), AS_IS),
    (r"attention\.to_qkv\.weight", ("attn.c_qkv.weight",), BY_HEAD),
    (r"attention\.to_kv\.weight", ("attn.c_kv.weight",), BY_HEAD),
    (r"attention\.to_q\.weight", ("attn.c_q.weight",), AS_IS),
    (r"attention\.([qk]_norm)\.(.*)", (r"attn.attention.\1.\2",), AS_IS),
    (r"attention\.out_proj\.(.*)", (r"attn.c_proj.\1",), AS_IS),
    (r"mlp\.fc1\.(.*)", (r"mlp.c_fc.\1",), AS_IS),
    (r"mlp\.fc2\.(.*)", (r"mlp.c_proj.\1",), AS_IS),
)


def _below(ours: str, published: str, rules: tuple) -> tuple:
    """The same rules one level down; ``ours`` may hold one group."""
    shift = re.compile(ours).groups

    def renumber(template: str) -> str:
        return re.sub(r"\\(\d)", lambda match: f"\\{int(match[1]) + shift}", template)

    return tuple(
        (ours + pattern, tuple(published + renumber(template) for template in templates), layout)
        for pattern, templates, layout in rules
    )


# Our name (whole) -> published names -> how they become one. "{expert}" stands for every expert's number.
RULES: dict[str, tuple[tuple[str, tuple[str, ...], str], ...]] = {
    "model": (
        *_below(
            r"(blocks\.\d+)\.",
            r"\1.",
            (
                (
                    r"attn1\.to_qkv\.weight",
                    ("attn1.to_q.weight", "attn1.to_k.weight", "attn1.to_v.weight"),
                    BY_HEAD,
                ),
                (r"attn2\.to_kv\.weight", ("attn2.to_k.weight", "attn2.to_v.weight"), BY_HEAD),
                (r"ffn\.gate\.weight", ("moe.gate.weight",), AS_IS),
                (r"ffn\.experts\.up\.(.*)", (r"moe.experts.{expert}.net.0.proj.\1",), STACKED),
                (r"ffn\.experts\.down\.(.*)", (r"moe.experts.{expert}.net.2.\1",), STACKED),
                (r"ffn\.shared_fc1\.(.*)", (r"moe.shared_experts.net.0.proj.\1",), AS_IS),
                (r"ffn\.shared_fc2\.(.*)", (r"moe.shared_experts.net.2.\1",), AS_IS),
                (r"ffn\.(fc[12]\..*)", (r"mlp.\1",), AS_IS),
            ),
        ),
        (r"t_embedder\.fc1\.(.*)", (r"t_embedder.mlp.0.\1",), AS_IS),
        (r"t_embedder\.fc2\.(.*)", (r"t_embedder.mlp.2.\1",), AS_IS),
        (r"(.*)", (r"\1",), AS_IS),
    ),
    "vae": (
        (r"latent_decoder\.(post_kl\..*)", (r"\1",), AS_IS),
        *_below(r"latent_decoder\.blocks\.(\d+)\.", r"transformer.resblocks.\1.", _VAE_NAMES),
        *_below(r"geo_decoder\.block\.", "geo_decoder.cross_attn_decoder.", _VAE_NAMES),
        (r"(geo_decoder\..*)", (r"\1",), AS_IS),
    ),
    "conditioner": (
        (r"(cls_token|position_embeddings)", (_DINO + r"embeddings.\1",), AS_IS),
        (r"patch_embeddings\.(.*)", (_DINO + r"embeddings.patch_embeddings.projection.\1",), AS_IS),
        (r"norm\.(.*)", (_DINO + r"layernorm.\1",), AS_IS),
        *_below(
            r"layers\.(\d+)\.",
            _DINO + r"encoder.layer.\1.",
            (
                (
                    r"qkv\.(.*)",
                    tuple(rf"attention.attention.{name}.\1" for name in ("query", "key", "value")),
                    JOINED,
                ),
                (r"out\.(.*)", (r"attention.output.dense.\1",), AS_IS),
                (r"scale([12])", (r"layer_scale\1.lambda1",), AS_IS),
                (r"(fc[12]\..*)", (r"mlp.\1",), AS_IS),
                (r"(norm[12]\..*)", (r"\1",), AS_IS),
            ),
        ),
    ),
}

LISTED = 8  # keys that a sentence names; of a file of another model there are thousands
# Published, but of no use from picture to shape: one that has to be there, and those that need not.
_UNUSED_REQUIRED = {"conditioner": _DINO + "embeddings.mask_token"}
_UNUSED_OPTIONAL = {"vae": ("encoder.", "pre_kl.")}

# transformers 5 renamed what transformers 4 had named; the published file has the older names.
_NEWER_NAMES = (
    (re.compile(r"\.attention\.q_proj\."), ".attention.attention.query."),
    (re.compile(r"\.attention\.k_proj\."), ".attention.attention.key."),
    (re.compile(r"\.attention\.v_proj\."), ".attention.attention.value."),
    (re.compile(r"\.attention\.o_proj\."), ".attention.output.dense."),
)


@dataclass(frozen=True)
class Recipe:
    """How one parameter of ours is made: ``sources`` are published keys, each of shape ``source_shape``."""

    sources: tuple[str, ...]
    source_shape: tuple[int, ...]
    layout: str
    groups: int = 1  # how many matrices take turns within a head: query, key and value, or key and value
    heads: int = 1


def recipes(module: nn.Module, part: str) -> dict[str, Recipe]:
    """The recipe of every parameter of a `Dit` ("model"), `ShapeVae` ("vae") or `Conditioner` ("conditioner")."""
    return {name: _recipe(module, part, name, tuple(p.shape)) for name, p in module.named_parameters()}


def _recipe(module: nn.Module, part: str, name: str, shape: tuple[int, ...]) -> Recipe:
    for pattern, templates, layout in RULES[part]:
        match = re.fullmatch(pattern, name)
        if match is None:
            continue
        sources = tuple(match.expand(template) for template in templates)
        if layout == AS_IS:
            return Recipe(sources, shape, layout)
        if layout == STACKED:
            return Recipe(tuple(sources[0].format(expert=e) for e in range(shape[0])), shape[1:], layout)
        source_shape = (shape[0] // len(sources), *shape[1:])
        if layout == JOINED:
            return Recipe(sources, source_shape, layout)
        owner = module.get_submodule(name.rsplit(".", 2)[0])
        groups = 3 if "to_qkv" in name else 2
        return Recipe(sources, source_shape, layout, groups=groups, heads=owner.heads)
    raise KeyError(f"no rule for {part}: {name}")


def published_shapes(module: nn.Module, part: str) -> dict[str, tuple[int, ...]]:
    """Every published key that ``part`` has to have, with its shape."""
    shapes = {source: recipe.source_shape for recipe in recipes(module, part).values() for source in recipe.sources}
    if part in _UNUSED_REQUIRED:
        shapes[_UNUSED_REQUIRED[part]] = (1, module.config.width)
    return shapes


def load_part(
    module: nn.Module,
    source: str | Path | Checkpoint | Mapping[str, Tensor],
    part: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Fill ``module`` (built on ``meta``) from one part of a checkpoint and return it, ready to run on ``device``.

    ``source`` is a file, an opened `Checkpoint`, or tensors by the part's keys. Parameters are made one by one on the
    device, so the host needs memory for one at a time; on the CPU those that need no reordering stay mapped to the
    file. ``dtype`` None keeps the file's. Raises `BadWeights` naming all missing, unknown and misshapen keys at once.
    """
    name, tensors = _tensors_of(source, part)
    check_part(module, tensors, part, name)
    plan = recipes(module, part)
    dtype = dtype or next(iter(tensors.values())).dtype
    state = {ours: assemble(recipe, tensors, torch.device(device), dtype) for ours, recipe in plan.items()}
    # told before: on ZeroGPU what is assigned stands in for the weights, and being told would not reach those
    module.requires_grad_(False).load_state_dict(state, strict=True, assign=True)
    return module.eval()


def check_part(module: nn.Module, tensors: Mapping[str, Tensor], part: str, name: str = "The checkpoint") -> None:
    """Raise one `BadWeights` that names what is missing, unknown and misshapen (by published, older names)."""
    _refuse(name, _find_problems(module, tensors, part))


def _find_problems(module: nn.Module, tensors: Mapping[str, Tensor], part: str) -> list[str]:
    """What `check_part` refuses, as ends of a sentence that begins with "it"."""
    expected = published_shapes(module, part)
    optional = _UNUSED_OPTIONAL.get(part, ())
    missing = [key for key in expected if key not in tensors]
    unknown = [key for key in tensors if key not in expected and not key.startswith(optional or ("\0",))]
    misshapen = []
    for key, shape in expected.items():
        tensor = tensors.get(key)
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            misshapen.append(f"{key} {tuple(tensor.shape)} instead of {shape}")
        elif not tensor.dtype.is_floating_point:
            misshapen.append(f"{key} of type {tensor.dtype}")
    found = [("lacks", missing), ("has the unknown", unknown), ("has misshapen", misshapen)]
    return [f"{verb} {_enumerate([f'{part}.{key}' for key in keys])}" for verb, keys in found if keys]


def _refuse(name: str, problems: list[str]) -> None:
    if problems:
        raise BadWeights(
            f"{name} does not fit Hunyuan3D-2.1: it {'; '.join(problems)}. Use the published checkpoint, or one made"
            " from it.",
            "wrong_keys",
        )


def check_checkpoint(checkpoint: Checkpoint, config: ModelConfig) -> None:
    """Raise one `BadWeights` that names what does not fit ``config`` in any part, and what is of no part.

    Of each kind and part at most `LISTED` keys are named, then how many more there are. Reads no tensor.
    """
    if not any(checkpoint.parts.get(part) for part in PARTS):
        checkpoint.part(PARTS[0])  # raises: it is of another model, and all its keys are unknown
    problems = []
    for part, module in build_meta(config).items():
        if checkpoint.parts.get(part):
            problems += _find_problems(module, _tensors_of(checkpoint, part)[1], part)
        else:
            problems.append(f"lacks the whole part {part}")
    strange = [
        f"{part}.{key}" if key else part
        for part, tensors in checkpoint.parts.items()
        if part not in PARTS
        for key in tensors or ("",)
    ]
    if strange:
        problems.append(f"has {_enumerate(strange)} of no part that is known")
    _refuse(checkpoint.name, problems)


def identify(checkpoint: Checkpoint) -> str:
    """Twelve hexadecimal digits that stand for the values of a checkpoint, in whichever kind of file they lie.

    Of each tensor that is used the first values count: training changes them, and it takes no time. Damage elsewhere is
    not noticed. Raises `BadWeights` for a file without one of the parts.
    """
    digest = hashlib.sha256()
    for part in PARTS:
        unused = _UNUSED_OPTIONAL.get(part, ())
        tensors = {key: value for key, value in _tensors_of(checkpoint, part)[1].items() if not key.startswith(unused)}
        for key, tensor in sorted(tensors.items()):
            digest.update(f"{part}.{key} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            digest.update(tensor.flatten()[:64].view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def assemble(recipe: Recipe, tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
    """One parameter of ours on ``device``."""

    def fetch(key: str) -> Tensor:
        return tensors[key].to(device).to(dtype)  # moved first: half the bytes, and the device converts faster

    if recipe.layout == STACKED:
        stacked = torch.empty((len(recipe.sources), *recipe.source_shape), device=device, dtype=dtype)
        for slot, key in zip(stacked, recipe.sources, strict=True):
            slot.copy_(tensors[key])
        return stacked
    joined = torch.cat([fetch(key) for key in recipe.sources]) if len(recipe.sources) > 1 else fetch(recipe.sources[0])
    if recipe.layout == BY_HEAD:
        return order_by_matrix(joined, recipe.heads, recipe.groups)
    return joined


def order_by_matrix(rows: Tensor, heads: int, groups: int) -> Tensor:
    """Rows (heads * groups * d, inputs) in which the matrices take turns within each head, one matrix after the other.

    The public model joins the outputs of its matrices, whatever they are called, and then reads them head by head as
    [q | k | v] (or [k | v]).
    """
    return rows.unflatten(0, (heads, groups, -1)).transpose(0, 1).flatten(0, 2).contiguous()


def convert(
    source: str | Path,
    destination: str | Path,
    config: ModelConfig = RELEASED,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Write the published checkpoint once more as flat safetensors, ``<part>.<key>``, less the unused half of the VAE.

    Returns the new file's SHA-256 in hex.

    The whole file is checked against ``config`` first. Tensors are written one by one and the file appears only when it
    is whole. ``progress`` is told (bytes written, bytes in all). Raises `BadWeights`, or `OrfeasError` if the disk is
    too small.
    """
    checkpoint = open_checkpoint(source)
    check_checkpoint(checkpoint, config)
    flat: dict[str, Tensor] = {}
    for part, module in build_meta(config).items():
        _, tensors = _tensors_of(checkpoint, part)
        flat |= {f"{part}.{key}": tensors[key] for key in published_shapes(module, part)}
    return write_safetensors(flat, Path(destination), progress)


def build_meta(config: ModelConfig) -> dict[str, nn.Module]:
    """The three networks without memory for their weights, by part."""
    from orfeas.engines.hunyuan3d.dino import Conditioner
    from orfeas.engines.hunyuan3d.dit import Dit
    from orfeas.engines.hunyuan3d.vae import ShapeVae

    with torch.device("meta"):
        modules = (Dit(config.dit), ShapeVae(config.vae), Conditioner(config.conditioner))
    return dict(zip(PARTS, modules, strict=True))


_SAFETENSORS_TYPES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"}


def write_safetensors(
    tensors: Mapping[str, Tensor], destination: Path, progress: Callable[[int, int], None] | None = None
) -> str:
    """Write tensors one at a time: the public writer would hold all of them in memory. Returns the file's SHA-256.

    Format: https://huggingface.co/docs/safetensors — eight bytes of header length, a JSON header, the data without
    gaps; wider types first, so that each tensor lies on its own alignment.
    """
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    order = sorted(tensors, key=lambda key: (-tensors[key].element_size(), key))
    total = 0
    for key in order:
        tensor, start = tensors[key], total
        total += tensor.numel() * tensor.element_size()
        header[key] = {
            "dtype": _SAFETENSORS_TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, total],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    destination.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(destination.parent).free
    if free < total + len(text):
        raise OrfeasError(
            f"{destination.parent} has {free / 1e9:.1f} GB free, but the converted weights take {total / 1e9:.1f} GB;"
            " make room or choose another folder.",
            "disk_full",
        )
    partial = destination.with_name(destination.name + ".partial")
    try:
        with partial.open("wb") as file:
            start = len(text).to_bytes(8, "little") + text
            file.write(start)
            digest, done = hashlib.sha256(start), 0
            for key in order:
                data = memoryview(tensors[key].contiguous().flatten().view(torch.uint8).numpy())
                done += file.write(data)
                digest.update(data)
                if progress is not None:
                    progress(done, total)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, destination)
        return digest.hexdigest()
    finally:
        partial.unlink(missing_ok=True)


def _tensors_of(source: str | Path | Checkpoint | Mapping[str, Tensor], part: str) -> tuple[str, dict[str, Tensor]]:
    """A name for messages, and the part's tensors under the older names."""
    if isinstance(source, (str, Path)):
        source = open_checkpoint(source)
    if isinstance(source, Checkpoint):
        name, tensors = source.name, source.part(part)
    else:
        name, tensors = "The checkpoint", split_parts("The checkpoint", {part: dict(source)})[part]
    if part == "conditioner":
        renamed: dict[str, Tensor] = {}
        for key, tensor in tensors.items():
            older = key
            for pattern, replacement in _NEWER_NAMES:
                older = pattern.sub(replacement, older)
            # A file with both names of one tensor is odd: keep the newer as it is, to be reported as unknown.
            renamed[key if older != key and older in tensors else older] = tensor
        tensors = renamed
    return name, tensors


def _enumerate(keys: list[str]) -> str:
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(keys[:LISTED]) + more
