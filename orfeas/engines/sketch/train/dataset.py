"""Samples on disk, in shards that are written whole, and batches drawn from them for training.

A shard is a folder with one ``.npy`` file a field, read through memory maps. Shards may be added while training runs.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from orfeas.engines.sketch import learned
from orfeas.engines.sketch.train import families
from orfeas.engines.sketch.train.sample import Sample, draw_sample

SHARD = 256  # samples a shard
BATCH = 48  # samples a step, of each process that trains
FIELDS = ("rgba", "prior", "front", "back", "normals", "solid")
MIRRORED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]
VALIDATION = 1_000_000  # shards from this number on hold the held-out families


def pack(samples: list[Sample]) -> dict[str, np.ndarray]:
    """The fields of samples as small arrays: depths in float16 (NaN outside), normals in int8, solid in bits."""
    stacked = {name: np.stack([getattr(sample, name) for sample in samples]) for name in FIELDS}
    for name in ("prior", "front", "back"):
        stacked[name] = stacked[name].astype(np.float16)
    stacked["normals"] = np.round(stacked["normals"] * 127).astype(np.int8)
    stacked["solid"] = np.packbits(stacked["solid"], axis=-1)
    return stacked


def write_shard(folder: Path, number: int, count: int = SHARD) -> Path:
    """Draw and keep shard ``number``: deterministic, skipped if it is there already. Returns its folder."""
    target = folder / f"shard-{number:07d}"
    if target.is_dir():
        return target
    held_out = number >= VALIDATION
    kinds = families.HELD_OUT if held_out else (None,)
    samples = [draw_sample((number, index), kinds[index % len(kinds)]) for index in range(count)]
    partial = folder / f".shard-{number:07d}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed, where numbers come again
    partial.mkdir(parents=True)
    for name, values in pack(samples).items():
        np.save(partial / f"{name}.npy", values)
    if target.is_dir():  # another process was quicker
        shutil.rmtree(partial)
    else:
        partial.rename(target)
    return target


def read_shard(folder: Path) -> dict[str, np.ndarray]:
    """The fields of one shard, memory-mapped."""
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in FIELDS}


@dataclass(frozen=True)
class Batch:
    """Arrays of one training step, float32 but for ``solid``.

    inputs: (n, CHANNELS, GRID, GRID). front, back: (n, GRID, GRID), 0 outside. mask: (n, GRID, GRID), 1 inside.
    normals: (n, 3, GRID, GRID). solid: (n, LAYERS, GRID, GRID / 8) uint8, eight voxels a byte, as `numpy.packbits`
    leaves them: a thirty-second of what goes between processes and to a device.
    """

    inputs: np.ndarray
    front: np.ndarray
    back: np.ndarray
    mask: np.ndarray
    normals: np.ndarray
    solid: np.ndarray


def make_batch(rows: list[dict[str, np.ndarray]], random: np.random.Generator | None) -> Batch:
    """A batch from packed samples, one dictionary of `FIELDS` each.

    random: if given, the pictures get another light and other colours, and half of the samples are mirrored.
    """
    inputs, fronts, backs, normals, solids = [], [], [], [], []
    for row in rows:
        alpha = row["rgba"][..., 3]
        rgba = row["rgba"].astype(np.float32) / 255
        prior, front, back = (row[name].astype(np.float32) for name in ("prior", "front", "back"))
        normal = row["normals"].astype(np.float32).transpose(2, 0, 1) / 127
        solid = row["solid"]
        if random is not None:
            rgba[..., :3] = recolour(relight(row["rgba"][..., :3], row["normals"], random), random)
            if random.random() < 0.5:
                alpha, rgba, prior, front, back = (values[:, ::-1] for values in (alpha, rgba, prior, front, back))
                normal = normal[..., ::-1] * np.array([-1, 1, 1], np.float32)[:, None, None]
                solid = MIRRORED[solid[..., ::-1]]
        distance = learned.outline_distance(alpha)
        inputs.append(learned.network_input(rgba, distance, prior))
        fronts.append(front)
        backs.append(back)
        normals.append(normal)
        solids.append(solid)
    front, back = np.stack(fronts), np.stack(backs)
    mask = np.isfinite(front)
    return Batch(
        np.stack(inputs),
        np.where(mask, front, 0),
        np.where(mask, back, 0),
        mask.astype(np.float32),
        np.stack(normals),
        np.stack(solids),
    )


def recolour(colour: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(h, w, 3) float32 from uint8: another exposure, white balance, saturation, now and then other channels."""
    gamma, gain = np.exp(random.normal(0, 0.2)), np.exp(random.normal(0, 0.12, 3))
    table = (np.arange(256)[:, None] / 255) ** gamma * gain
    changed = np.stack([table[:, channel].astype(np.float32)[colour[..., channel]] for channel in range(3)], -1)
    grey = np.float32(max(0.0, random.uniform(-0.5, 1.0)))
    changed = changed * (1 - grey) + changed.mean(-1, keepdims=True) * grey
    if random.random() < 0.2:
        changed = changed[..., random.permutation(3)]
    return changed.clip(0, 1)


def relight(colour: np.ndarray, normals: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(h, w, 3) uint8 in another light: glaze, varnish and metal show lamps, windows and the room, which are no shape.

    normals: (GRID, GRID, 3) int8 unit normals times 127, x right, y up, z to the viewer, 0 outside the object.
    """
    lit, glossy, mirrors = random.random(3) < (0.4, 0.45, 0.2)
    if not (lit or glossy or mirrors):
        return colour
    normal = cv2.resize(normals.astype(np.float32), colour.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    length = np.linalg.norm(normal, axis=2, keepdims=True)
    inside = (length > 30).astype(np.float32)
    normal /= np.maximum(length, 1)
    changed = colour.astype(np.float32) / 255
    if lit:  # a second, coloured lamp
        lamp = _direction(random)
        brightness = random.uniform(-0.4, 0.7) * (normal @ lamp + random.uniform(-0.3, 0.3)).clip(-1, 1)
        changed *= 1 + inside * brightness[..., None] * _tint(random)
    seen = 2 * normal[..., 2:] * normal - np.array([0, 0, 1], np.float32)  # what the surface mirrors
    if mirrors:
        waves = random.normal(0, random.uniform(1, 6), (3, 3)).astype(np.float32)
        room = 0.5 + 0.5 * np.sin(seen @ waves + random.uniform(0, 6.3, 3).astype(np.float32))
        room = room.mean(-1, keepdims=True) if random.random() < 0.6 else room
        grazing = (1 - normal[..., 2:].clip(0, 1)) ** random.uniform(2, 5)
        weight = inside * (random.uniform(0, 0.5) + 0.5 * grazing).clip(0, 1)
        changed += weight * (room.astype(np.float32) - changed * random.uniform(0.2, 1))
    if glossy:
        for _ in range(random.integers(1, 4)):
            lamp = _direction(random)
            towards = (seen @ lamp).clip(0, 1)
            if random.random() < 0.6:  # round, from sharp to broad
                spot = towards ** np.float32(np.exp(random.uniform(1, 5.5)))
            else:  # a window or a soft box
                across = np.cross(lamp, [0, 1, 0.01]).astype(np.float32)
                across /= np.linalg.norm(across)
                along = np.cross(lamp, across).astype(np.float32)
                width, height = random.uniform(0.06, 0.5, 2)
                soft = random.uniform(0.02, 0.15)
                spot = ((width - np.abs(seen @ across)) / soft).clip(0, 1)
                spot *= ((height - np.abs(seen @ along)) / soft).clip(0, 1) * (towards > 0)
            changed += random.uniform(0.15, 1) * inside * spot[..., None] * _tint(random)
    return (changed.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _direction(random: np.random.Generator) -> np.ndarray:
    """(3,) float32 unit vector to a lamp before the object, more often above it."""
    towards = np.array([random.normal(0, 0.7), random.normal(0.4, 0.6), random.uniform(0.05, 1)], np.float32)
    return towards / np.linalg.norm(towards)


def _tint(random: np.random.Generator) -> np.ndarray:
    """(3,) float32, nearly white."""
    return 1 - random.uniform(0, 0.25, 3).astype(np.float32)


class Shards:
    """The training shards of a folder; `refresh` takes in those that were added."""

    def __init__(self, folder: Path, held_out: bool = False):
        self.folder = folder
        self.held_out = held_out
        self._shards: dict[str, dict[str, np.ndarray]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Open the shards that are new."""
        for path in sorted(self.folder.glob("shard-*")):
            number = int(path.name.removeprefix("shard-"))
            if path.name not in self._shards and (number >= VALIDATION) == self.held_out:
                self._shards[path.name] = read_shard(path)

    def __len__(self) -> int:
        return sum(len(shard["rgba"]) for shard in self._shards.values())

    def row(self, index: int) -> dict[str, np.ndarray]:
        """The packed sample of an index below ``len(self)``."""
        for shard in self._shards.values():
            count = len(shard["rgba"])
            if index < count:
                return {name: np.array(values[index]) for name, values in shard.items()}
            index -= count
        raise IndexError(index)
