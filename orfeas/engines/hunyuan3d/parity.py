"""Compare every stage with numbers that the public implementation gave: ``python -m orfeas.engines.hunyuan3d.parity``.

A fixture is a folder with ``*config.json``, ``*weights.safetensors`` (all parts, flat) and ``*io.safetensors`` (what
went in and came out of each stage, float32, made on a CPU). Sizes and seeds are the fixture's. What runs here are the
fast formulations that the engine runs, in float32 on the CPU, each stage on the fixture's own input. The public
project's hierarchical volumes (``vol.flash*``) are not compared: that approximation is not built here.

One JSON line a stage: stage, max_abs_error, tolerance, ok, and which tensor is missing if one is. A stage whose numbers
the fixture lacks has failed, but for the mesh, which not every fixture has. Exit status 0 if all agree, 1 if one does
not, 2 if the folder is no fixture.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.spatial import cKDTree
from torch import Tensor, nn

from orfeas.engines.hunyuan3d import dino, dit, preprocess, sampler, surface, vae, volume, weights
from orfeas.engines.hunyuan3d.checkpoint import Checkpoint, open_checkpoint
from orfeas.engines.hunyuan3d.config import ModelConfig, parse_config
from orfeas.errors import BadWeights, OrfeasError

RELATIVE_TOLERANCE = 2e-5  # of the greater of 1 and the stage's greatest value; float32 noise was seen to be a tenth


@dataclass(frozen=True)
class Stage:
    """One comparison. ``max_abs_error`` is None where there is none to state: another shape, or not a number.

    missing: the tensor that the fixture lacks; where it was an input, ``stage`` is the group that ended there.
    """

    stage: str
    max_abs_error: float | None
    tolerance: float
    ok: bool
    missing: str = ""


class MissingTensor(BadWeights):
    """The fixture lacks the tensor ``key``."""

    def __init__(self, key: str):
        super().__init__(f"The fixture has no tensor {key!r}, so that stage cannot be compared.", "bad_fixture")
        self.key = key


@dataclass(frozen=True)
class Fixture:
    config: ModelConfig
    steps: int
    guidance: float
    noise_seed: int
    checkpoint: Checkpoint
    values: dict[str, Tensor]

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.values:
            raise MissingTensor(key)
        return self.values[key]

    def compare(self, key: str, ours: Tensor, exact: bool = False) -> Stage:
        """`compare` with the fixture's tensor of that name."""
        if key not in self.values:
            return Stage(key, None, 0.0, False, key)
        return compare(key, ours, self.values[key], exact)

    def load(self, module: nn.Module, part: str) -> nn.Module:
        return weights.load_part(module, self.checkpoint, part, dtype=torch.float32)


def open_fixture(folder: str | Path) -> Fixture:
    """Raises `OrfeasError` if ``folder`` is no fixture."""
    found = {}
    for pattern in ("*config.json", "*weights.safetensors", "*io.safetensors"):
        matches = sorted(Path(folder).glob(pattern))
        if len(matches) != 1:
            raise BadWeights(
                f"{folder} is no parity fixture: it has {len(matches)} files {pattern} and needs exactly 1.",
                "bad_fixture",
            )
        found[pattern] = matches[0]
    try:
        document = json.loads(found["*config.json"].read_text(encoding="utf-8"))
        return Fixture(
            config=parse_config(document),
            steps=document["steps"],
            guidance=document["guidance"],
            noise_seed=document["noise_seed"],
            checkpoint=open_checkpoint(found["*weights.safetensors"]),
            values=load_file(found["*io.safetensors"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise BadWeights(f"The parity fixture {folder} cannot be read: {error!r}.", "bad_fixture") from error


def compare(name: str, ours: Tensor, expected: Tensor, exact: bool = False) -> Stage:
    """Greatest difference against 2e-5 of the scale, or against 0."""
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    tolerance = 0.0 if exact else RELATIVE_TOLERANCE * max(1.0, scale)
    if ours.shape != expected.shape:
        return Stage(name, None, tolerance, False)
    error = float((ours.double() - expected.double()).abs().max()) if ours.numel() else 0.0
    if not math.isfinite(error):
        return Stage(name, None, tolerance, False)
    return Stage(name, error, tolerance, error <= tolerance)


def compare_preprocess(fixture: Fixture) -> Iterator[Stage]:
    """Bit for bit: the cutout, an opaque picture, and the released size where the fixture has it."""
    rgba = fixture["pre.rgba"].numpy()
    opaque = rgba.copy()
    opaque[:, :, 3] = 255
    cases = [("pre.image", rgba, fixture.config), ("pre.image_rgb_no_alpha", opaque, fixture.config)]
    if "pre.image512" in fixture.values:
        cases.append(("pre.image512", rgba, replace(fixture.config, image_size=512)))
    for key, picture, config in cases:
        ours = torch.from_numpy(preprocess.prepare_image(picture, config))
        yield fixture.compare(key, ours, exact=True)


def compare_conditioner(fixture: Fixture) -> Iterator[Stage]:
    with torch.device("meta"):
        conditioner = dino.Conditioner(fixture.config.conditioner)
    fixture.load(conditioner, "conditioner")
    normalized = conditioner.normalize(fixture["pre.image"])
    yield fixture.compare("cond.pixel_values", normalized)
    yield fixture.compare("cond.embeddings", conditioner.embed(normalized))
    yield fixture.compare("cond.main", conditioner(fixture["pre.image"]))


def compare_dit(fixture: Fixture) -> Iterator[Stage]:
    """One forward pass of a guided batch, looked into at every block."""
    network = _load_dit(fixture)
    context = fixture["dit.context"]
    pictures = context[: _rows_with_picture(context)]
    watched = {"dit.t_emb": network.t_embedder, "dit.x_emb": network.x_embedder}
    for number, block in enumerate(network.blocks):
        name = f"dit.block{number}"
        watched |= {f"{name}.attn1": block.attn1, f"{name}.attn2": block.attn2, f"{name}.ffn": block.ffn, name: block}
    with Recorder(watched) as seen:
        velocity = network(fixture["dit.x"], fixture["dit.t"], network.prepare_context(pictures))
    for number, block in enumerate(network.blocks):
        # Rows without a picture are given the bias alone and never pass through the layer.
        attended = seen.outputs.get(f"dit.block{number}.attn2", torch.empty(0, *seen.outputs[name].shape[1:]))
        rest = block.attn2.out_proj.bias.expand(len(velocity) - len(attended), *attended.shape[1:])
        seen.outputs[f"dit.block{number}.attn2"] = torch.cat([attended, rest])
    for key in watched:
        yield fixture.compare(key, seen.outputs[key])
    yield fixture.compare("dit.out", velocity)


def compare_sampler(fixture: Fixture) -> Iterator[Stage]:
    """The schedule, the noise, every state of a guided run and its end."""
    network = _load_dit(fixture)
    steps, context, noise = fixture.steps, fixture["cond.main"], fixture["sample.noise"]
    times = sampler.flow_times(steps)
    yield fixture.compare("sample.sigmas", times)
    expected_times = fixture["sample.model_t"]
    told = sampler.model_times(times[:-1]).unsqueeze(1).expand(-1, expected_times.shape[1])
    yield compare("sample.model_t", told, expected_times)
    drawn = sampler.draw_noise(fixture.noise_seed, tuple(noise.shape), torch.float32)
    yield compare("sample.noise", drawn, noise)
    states = list(sampler.integrate(network, network.prepare_context(context), noise, times, guidance=fixture.guidance))
    expected_trace = fixture["sample.trace"]
    # The public pipeline also takes the last step, of no length; here the state simply stays.
    states += states[-1:] * (len(expected_trace) - len(states))
    yield compare("sample.trace", torch.stack(states), expected_trace)
    *_, latents = sampler.sample(network, context, steps=steps, noise=noise, guidance=fixture.guidance)
    yield fixture.compare("sample.latents", latents)


def compare_vae(fixture: Fixture) -> Iterator[Stage]:
    """The latent decoder, then the field at the fixture's points, looked into at every layer."""
    decoder = _load_vae(fixture)
    yield fixture.compare("vae.decoded", decoder.latent_decoder(fixture["sample.latents"]))
    geo = decoder.geo_decoder
    watched = {
        "geo.query_proj": geo.query_proj,
        "geo.attn": geo.block.attention,
        "geo.block": geo.block,
        "geo.ln_post": geo.ln_post,
    }
    points = fixture["geo.queries"][0]
    yield fixture.compare("geo.fourier", vae.embed_points(points, geo.frequencies)[None])
    with Recorder(watched) as seen:
        logits = vae.GeoField(geo, fixture["vae.decoded"])(points)
    for key in watched:
        yield fixture.compare(key, seen.outputs[key])
    yield fixture.compare("geo.logits", logits.view(1, -1, 1))


def compare_volume(fixture: Fixture) -> Iterator[Stage]:
    """The field at every sample of the fixture's dense grid, x slowest."""
    name = _name_of_dense_volume(fixture)
    expected = fixture[name]
    field = vae.GeoField(_load_vae(fixture).geo_decoder, fixture["vae.decoded"])
    decoding = volume.dense(field, expected.shape[-1] - 1, half_extent=fixture.config.box)
    while True:
        try:
            next(decoding)
        except StopIteration as finished:
            values, _ = finished.value.to_dense()
            break
    yield compare(name, values[None], expected)


def compare_mesh(fixture: Fixture) -> Iterator[Stage]:
    """Vertices on grid edges, each against the nearest of the other mesh, where the public project would put ours.

    Nothing where the fixture has no mesh.

    That is too low by R / (R + 1): it divides by the samples along an axis where we divide by the cells. Its mesh is
    open at the box and ours is closed, so what lies on the box is left out.
    """
    if "mesh.v" not in fixture.values:
        return
    samples, box = fixture[_name_of_dense_volume(fixture)], fixture.config.box
    cells = samples.shape[-1] - 1
    made = surface.extract_surface(volume.DenseVolume(cells, box, samples.flatten()).surface_cells())
    end = made.start.scatter_add(1, made.axis[:, None], torch.ones_like(made.axis)[:, None])
    inside = ((made.start >= 0) & (end <= cells)).all(dim=1)
    ours = made.vertices[: len(made.axis)][inside].numpy()
    index = (fixture["mesh.v"].double().numpy() + box) / (2 * box) * (cells + 1)
    on_edge = (np.abs(index - np.rint(index)) < 1e-3).sum(axis=1) >= 2
    theirs = index[on_edge] / cells * (2 * box) - box
    tolerance = surface.MARGIN * 2 * box / cells  # ours keep off the samples by this much
    if len(ours) == 0 or len(theirs) == 0:
        yield Stage("mesh.v", None, tolerance, False)
        return
    there, back = cKDTree(theirs).query(ours)[0], cKDTree(ours).query(theirs)[0]
    error = float(max(there.max(), back.max()))
    yield Stage("mesh.v", error, tolerance, error <= tolerance)


GROUPS: dict[str, Callable[[Fixture], Iterator[Stage]]] = {
    "preprocess": compare_preprocess,
    "conditioner": compare_conditioner,
    "dit": compare_dit,
    "sampler": compare_sampler,
    "vae": compare_vae,
    "volume": compare_volume,
    "mesh": compare_mesh,
}


def compare_all(fixture: Fixture) -> Iterator[Stage]:
    """Every stage of every group, in the order in which a picture passes them. Raises `BadWeights` if one cannot run.

    A group that lacks an input, or makes no finite numbers, ends in a failed stage of its name.
    """
    with torch.inference_mode():
        for name, group in GROUPS.items():
            try:
                yield from group(fixture)
            except MissingTensor as error:
                yield Stage(name, None, 0.0, False, error.key)
            except BadWeights:
                raise
            except OrfeasError:
                yield Stage(name, None, 0.0, False)


class Recorder:
    """Keeps what the watched modules return while it is open."""

    def __init__(self, modules: dict[str, nn.Module]):
        self.modules, self.outputs = modules, {}

    def __enter__(self) -> Recorder:
        self.handles = [
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: self.outputs.update({name: output})
            )
            for name, module in self.modules.items()
        ]
        return self

    def __exit__(self, *_exception) -> None:
        for handle in self.handles:
            handle.remove()


def _load_dit(fixture: Fixture) -> dit.Dit:
    with torch.device("meta"):
        network = dit.Dit(fixture.config.dit)
    return fixture.load(network, "model")


def _load_vae(fixture: Fixture) -> vae.ShapeVae:
    with torch.device("meta"):
        decoder = vae.ShapeVae(fixture.config.vae)
    return fixture.load(decoder, "vae")


def _name_of_dense_volume(fixture: Fixture) -> str:
    return next((key for key in sorted(fixture.values) if key.startswith("vol.vanilla")), "vol.vanilla")


def _rows_with_picture(context: Tensor) -> int:
    """How many rows come before those that are all zeros to the end of the batch."""
    filled = np.flatnonzero(context.abs().amax(dim=(1, 2)).numpy())
    return int(filled[-1]) + 1 if filled.size else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m orfeas.engines.hunyuan3d.parity", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folder", help="a fixture: *config.json, *weights.safetensors and *io.safetensors")
    folder = parser.parse_args(arguments).folder
    all_ok = True
    try:
        for stage in compare_all(open_fixture(folder)):
            all_ok = all_ok and stage.ok
            line = {name: value for name, value in asdict(stage).items() if name != "missing" or value}
            print(json.dumps(line), flush=True)
    except OrfeasError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if all_ok else 1


if __name__ == "__main__":
    sys.exit(main())
