"""Published keys, file kinds and refusals."""

from __future__ import annotations

import ast
import gzip
import json
import math
import os
import random
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from orfeas.engines.hunyuan3d import weights
from orfeas.engines.hunyuan3d.checkpoint import PARTS, open_checkpoint
from orfeas.engines.hunyuan3d.config import RELEASED
from orfeas.errors import BadWeights, OrfeasError
from tests.engines.hunyuan3d.tiny import FIXTURES, WEIGHTS, tiny_config, write_random_weights

HOSTILE = FIXTURES / "hostile_ckpt"


@pytest.fixture(scope="module")
def flat() -> dict[str, torch.Tensor]:
    return load_file(WEIGHTS)


def by_part(flat: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in PARTS}
    for key, tensor in flat.items():
        part, _, rest = key.partition(".")
        parts[part][rest] = tensor
    return parts


def load(source, part: str) -> torch.nn.Module:
    return weights.load_part(weights.build_meta(tiny_config())[part], source, part)


def inventory() -> dict[str, dict[str, tuple[int, ...]]]:
    lines = gzip.decompress((FIXTURES / "hunyuan3d_shape_keys.txt.gz").read_bytes()).decode().splitlines()
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for line in lines:
        part, key, shape = line.split("\t")
        parts.setdefault(part, {})[key] = ast.literal_eval(shape)
    return parts


def test_full_size_has_exactly_the_published_keys():
    published = inventory()
    assert {part: len(keys) for part, keys in published.items()} == {"model": 752, "vae": 410, "conditioner": 439}
    modules = weights.build_meta(RELEASED)
    for part, module in modules.items():
        assert all(parameter.is_meta for parameter in module.parameters())
        unused = ("encoder.", "pre_kl.") if part == "vae" else ()
        needed = {key: shape for key, shape in published[part].items() if not key.startswith(unused or ("\0",))}
        assert weights.published_shapes(module, part) == needed
        # All the published keys are accepted, the unused too, by shape alone.
        tensors = {key: torch.empty(shape, device="meta") for key, shape in published[part].items()}
        weights.check_part(module, tensors, part)
    counts = {part: sum(p.numel() for p in module.parameters()) for part, module in modules.items()}
    assert counts["model"] == 3_050_758_720
    assert counts["vae"] == 66_560 + 201_494_528 + 12_651_777
    assert counts["conditioner"] == 304_368_640 - 1024  # the mask token


@pytest.mark.parametrize("part", PARTS)
def test_every_published_value_is_used_once(part, flat):
    """Our parameters are a rearrangement of the published ones: the same values, each as often."""
    module = load(WEIGHTS, part)
    ours = torch.cat([parameter.flatten() for parameter in module.parameters()])
    needed = weights.published_shapes(module, part)
    unused = {"main_image_encoder.model.embeddings.mask_token"}
    theirs = torch.cat([flat[f"{part}.{key}"].flatten() for key in needed if key not in unused])
    assert torch.equal(ours.sort().values, theirs.sort().values)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not module.training


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("part", PARTS)
def test_published_zip_and_flat_file_and_tensors_are_the_same(part, flat, tmp_path):
    torch.save(by_part(flat), tmp_path / "model.fp16.ckpt")
    expected = load(WEIGHTS, part)
    assert same(load(tmp_path / "model.fp16.ckpt", part), expected)
    assert same(load(open_checkpoint(tmp_path / "model.fp16.ckpt"), part), expected)
    assert same(load(by_part(flat)[part], part), expected)


def test_newer_names_of_the_encoder_load_too(flat):
    newer = {}
    for key, tensor in by_part(flat)["conditioner"].items():
        for old, new in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            key = key.replace(f"attention.attention.{old}", f"attention.{new}")
        newer[key.replace("attention.output.dense", "attention.o_proj")] = tensor
    assert sum("_proj" in key for key in newer) == 8 * tiny_config().conditioner.layers
    assert same(load(newer, "conditioner"), load(WEIGHTS, "conditioner"))
    both = newer | by_part(flat)["conditioner"]
    with pytest.raises(BadWeights, match=r"unknown conditioner.*q_proj"):
        load(both, "conditioner")


def test_unused_half_of_the_vae_may_be_there_or_not(flat):
    tensors = by_part(flat)["vae"]
    less = {key: value for key, value in tensors.items() if not key.startswith(("encoder.", "pre_kl."))}
    assert len(less) < len(tensors)
    assert same(load(less, "vae"), load(tensors, "vae"))


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("model", "blocks.3.attn1.to_k.weight"),
        ("model", "blocks.5.moe.experts.2.net.0.proj.bias"),
        ("vae", "transformer.resblocks.1.attn.attention.k_norm.bias"),
        ("conditioner", "main_image_encoder.model.embeddings.mask_token"),
        ("conditioner", "main_image_encoder.model.encoder.layer.1.attention.attention.value.weight"),
    ],
)
def test_one_error_names_the_missing_the_unknown_and_the_misshapen(flat, part, key):
    tensors = by_part(flat)[part]
    missing = next(other for other in tensors if other != key and not other.startswith(("encoder.", "pre_kl.")))
    del tensors[missing]
    tensors["something.else"] = torch.zeros(2)
    tensors[key] = tensors[key].flatten()[1:]
    with pytest.raises(BadWeights) as caught:
        load(tensors, part)
    message = str(caught.value)
    assert f"lacks {part}.{missing};" in message
    assert f"has the unknown {part}.something.else;" in message
    assert f"has misshapen {part}.{key} (" in message
    assert caught.value.code == "wrong_keys"


def test_each_key_is_needed(flat):
    """Without any one of them the part is refused, by that name."""
    for part, module in weights.build_meta(tiny_config()).items():
        tensors = by_part(flat)[part]
        for key in weights.published_shapes(module, part):
            rest = {other: tensor for other, tensor in tensors.items() if other != key}
            with pytest.raises(BadWeights) as caught:
                weights.check_part(module, rest, part)
            assert f"{part}.{key}." in str(caught.value)


def test_integers_are_no_weights(flat):
    tensors = by_part(flat)["vae"]
    tensors["post_kl.bias"] = torch.zeros(64, dtype=torch.int64)
    with pytest.raises(BadWeights, match=r"post_kl\.bias of type torch\.int64"):
        load(tensors, "vae")


def test_a_file_of_another_model_is_told_by_its_parts(flat, tmp_path):
    torch.save(by_part(flat)["vae"], tmp_path / "vae.ckpt")  # the stand-alone VAE: no parts
    with pytest.raises(BadWeights, match="has no part 'model'"):
        load(tmp_path / "vae.ckpt", "model")
    with pytest.raises(BadWeights, match="has no part 'model'"):
        weights.check_checkpoint(open_checkpoint(tmp_path / "vae.ckpt"), tiny_config())


def checkpoint_of(parts, tmp_path):
    torch.save(parts, tmp_path / "model.ckpt")
    return open_checkpoint(tmp_path / "model.ckpt")


def test_one_error_names_what_is_wrong_in_all_parts(flat, tmp_path):
    parts = by_part(flat)
    weights.check_checkpoint(checkpoint_of(parts, tmp_path), tiny_config())
    del parts["model"]["blocks.0.norm1.weight"]
    parts["vae"]["post_kl.extra"] = torch.zeros(2)
    del parts["conditioner"]
    parts["ema"] = {f"x{number}": torch.zeros(2) for number in range(10)}
    parts |= {"dotless": torch.zeros(1), "flat.key": torch.zeros(1)}
    with pytest.raises(BadWeights) as caught:
        weights.check_checkpoint(checkpoint_of(parts, tmp_path), tiny_config())
    assert caught.value.code == "wrong_keys"
    assert str(caught.value) == (
        "model.ckpt does not fit Hunyuan3D-2.1: it lacks model.blocks.0.norm1.weight; has the unknown"
        " vae.post_kl.extra; lacks the whole part conditioner; has ema.x0, ema.x1, ema.x2, ema.x3, ema.x4, ema.x5,"
        " ema.x6, ema.x7 and 4 more of no part that is known. Use the published checkpoint, or one made from it."
    )


@pytest.mark.parametrize("extra", [{"ema.x": torch.zeros(1)}, {"dotless": torch.zeros(1)}, {"fourth": {}}])
def test_what_is_of_no_part_is_refused_by_check_and_conversion(flat, tmp_path, extra):
    (key,) = extra
    path = tmp_path / "model.ckpt"
    torch.save(by_part(flat) | extra, path)
    with pytest.raises(BadWeights, match=rf"has {key} of no part"):
        weights.check_checkpoint(open_checkpoint(path), tiny_config())
    with pytest.raises(BadWeights, match=rf"has {key} of no part"):
        weights.convert(path, tmp_path / "out.safetensors", tiny_config())


def test_type_is_the_files_unless_asked(flat, tmp_path):
    half = {part: {key: t.half() for key, t in tensors.items()} for part, tensors in by_part(flat).items()}
    torch.save(half, tmp_path / "half.ckpt")
    assert {p.dtype for p in load(tmp_path / "half.ckpt", "model").parameters()} == {torch.float16}
    module = weights.build_meta(tiny_config())["model"]
    weights.load_part(module, tmp_path / "half.ckpt", "model", dtype=torch.float32)
    assert {p.dtype for p in module.parameters()} == {torch.float32}


# Files


@pytest.mark.parametrize("entry", json.loads((HOSTILE / "manifest.json").read_text()), ids=lambda entry: entry["file"])
def test_hostile_files(entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = HOSTILE / entry["file"]
    if entry["verdict"] == "accept":
        assert open_checkpoint(path).parts["w"][""].shape == (2, 2)
        return
    with pytest.raises(BadWeights) as caught:
        open_checkpoint(path)
    assert caught.value.code == entry["code"]
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert list(tmp_path.iterdir()) == []  # no payload ran: it would have made ORFEAS_PICKLE_EXECUTED


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_payload_inside_a_well_made_checkpoint_does_not_run(tmp_path, monkeypatch, flat):
    monkeypatch.chdir(tmp_path)
    torch.save(by_part(flat) | {"optimizer": Payload()}, "evil.ckpt")
    with pytest.raises(BadWeights) as caught:
        load(tmp_path / "evil.ckpt", "model")
    assert caught.value.code == "unsafe_checkpoint"
    assert not (tmp_path / "executed").exists()


def test_cut_short_at_any_place_is_refused(tmp_path, flat):
    torch.save(by_part(flat), tmp_path / "whole.ckpt")
    for source in (tmp_path / "whole.ckpt", WEIGHTS):
        whole = source.read_bytes()
        for size in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
            cut = tmp_path / f"cut{source.suffix}"
            cut.write_bytes(whole[:size])
            with pytest.raises(BadWeights) as caught:
                open_checkpoint(cut)
            assert caught.value.code == "corrupt_checkpoint", (source, size)


def test_flipped_bytes_are_read_or_refused_but_never_crash(tmp_path, flat):
    """Damage where the structure is: the pickle and the directory of a zip, the header of a flat file."""
    torch.save({"model": dict(list(by_part(flat)["model"].items())[:20])}, tmp_path / "whole.ckpt")
    save_file({key: flat[key] for key in list(flat)[:20]}, tmp_path / "whole.safetensors")
    generator = random.Random(0)
    refused = 0
    for source in (tmp_path / "whole.ckpt", tmp_path / "whole.safetensors"):
        whole = source.read_bytes()
        for _ in range(60):
            damaged = bytearray(whole)
            for _ in range(3):
                place = generator.choice((generator.randrange(2000), -1 - generator.randrange(1500)))
                damaged[place] = generator.randrange(256)
            path = tmp_path / f"damaged{source.suffix}"
            path.write_bytes(damaged)
            try:
                open_checkpoint(path)
            except BadWeights:
                refused += 1
    assert refused > 40


def test_lfs_pointer_says_what_to_do():
    with pytest.raises(BadWeights, match="git lfs pull"):
        open_checkpoint(HOSTILE / "lfs_pointer.safetensors")


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.ckpt", tmp_path):
        with pytest.raises(BadWeights) as caught:
            open_checkpoint(path)
        assert caught.value.code == "missing_file"


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"model": [1]}, {"model": {"x": 3}}, {3: torch.zeros(1)}, {"model": {3: torch.zeros(1)}}]
)
def test_a_pickle_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(BadWeights) as caught:
        open_checkpoint(tmp_path / "odd.ckpt")
    assert caught.value.code == "corrupt_checkpoint"


# Conversion


def test_convert_keeps_names_and_values_and_leaves_out_the_unused(flat, tmp_path):
    torch.save(by_part(flat), tmp_path / "in.ckpt")
    seen = []
    weights.convert(
        tmp_path / "in.ckpt", tmp_path / "new" / "out.safetensors", tiny_config(), lambda *n: seen.append(n)
    )
    out = load_file(tmp_path / "new" / "out.safetensors")
    assert set(out) == {key for key in flat if not key.startswith(("vae.encoder.", "vae.pre_kl."))}
    assert all(torch.equal(out[key], flat[key]) for key in out)
    assert seen[-1] == (sum(t.nbytes for t in out.values()),) * 2
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.safetensors"]
    for part in PARTS:
        assert same(load(tmp_path / "new" / "out.safetensors", part), load(WEIGHTS, part))


def test_convert_refuses_a_wrong_checkpoint_and_writes_nothing(flat, tmp_path):
    parts = by_part(flat)
    del parts["conditioner"]["main_image_encoder.model.layernorm.bias"]
    torch.save(parts, tmp_path / "in.ckpt")
    with pytest.raises(BadWeights, match=r"layernorm\.bias"):
        weights.convert(tmp_path / "in.ckpt", tmp_path / "out.safetensors", tiny_config())
    assert [path.name for path in tmp_path.iterdir()] == ["in.ckpt"]


def test_no_room_is_said_before_writing(tmp_path, monkeypatch):
    full = type("usage", (), {"free": 10})
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _folder: full)
    with pytest.raises(OrfeasError, match="make room") as caught:
        weights.write_safetensors({"a": torch.zeros(100)}, tmp_path / "a.safetensors")
    assert caught.value.code == "disk_full"
    assert list(tmp_path.iterdir()) == []


def test_written_file_is_read_by_the_public_reader(tmp_path):
    tensors = {
        "b": torch.randn(3, 5).half(),
        "a": torch.randn(7),
        "c": torch.randn(2, 2, 2).bfloat16(),
        "turned": torch.randn(4, 6).t(),
        "none": torch.zeros(0, 3),
    }
    weights.write_safetensors(tensors, tmp_path / "x.safetensors")
    back = load_file(tmp_path / "x.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], tensors[key]) and back[key].dtype == tensors[key].dtype for key in tensors)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    save_file(back, tmp_path / "y.safetensors")


def test_random_weights_fill_every_part(tmp_path):
    path = write_random_weights(tmp_path / "random.safetensors", tiny_config(), seed=3)
    for part in PARTS:
        assert all(p.isfinite().all() for p in load(path, part).parameters())


def anonymous_mb() -> float:
    """This process's memory without the page cache."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("RssAnon")).split()[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_an_opened_file_is_mapped(tmp_path):
    torch.save({f"model.{n}": torch.ones(2, 1024, 1024) for n in range(8)}, tmp_path / "big.ckpt")
    before = anonymous_mb()
    part = open_checkpoint(tmp_path / "big.ckpt").part("model")
    assert sum(float(tensor[0, 0].sum()) for tensor in part.values()) == 8 * 1024
    assert anonymous_mb() - before < 16


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_bringing_the_released_sizes_to_a_device_keeps_host_memory_low(tmp_path):
    """A file with a hole for its 7.1 GB of values, to a device without memory: what the host takes is the way's own."""
    path, header, total = tmp_path / "released.safetensors", {}, 0
    for part, module in weights.build_meta(RELEASED).items():
        for key, shape in weights.published_shapes(module, part).items():
            end = total + 2 * math.prod(shape)
            header[f"{part}.{key}"] = {"dtype": "F16", "shape": list(shape), "data_offsets": [total, end]}
            total = end
    assert total > 7.1e9
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + total)
    before, seen, done = anonymous_mb(), [], threading.Event()

    def watch():
        while not done.wait(0.01):
            seen.append(anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        checkpoint = open_checkpoint(path)
        for part, module in weights.build_meta(RELEASED).items():
            weights.load_part(module, checkpoint, part, device="meta", dtype=torch.float16)
    finally:
        done.set()
        watcher.join()
        path.unlink()
    assert seen
    assert max(seen) - before < 150
