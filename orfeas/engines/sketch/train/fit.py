"""Training: a clock for a budget, checkpoints that can be resumed, an average of the weights, losses on record.

On the processor, or on a GPU that other processes keep in batches. Several processes may train one network together:
each learns from batches of its own, and gradients are averaged.
"""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional

from orfeas.engines.sketch import learned
from orfeas.engines.sketch.train.dataset import BATCH, Shards, make_batch
from orfeas.engines.sketch.train.feed import Feed, tensors
from orfeas.engines.sketch.train.network import SketchNet
from orfeas.engines.sketch.train.optimize import Muon
from orfeas.engines.sketch.train.restore import restore
from orfeas.engines.sketch.train.sample import LAYERS, Z_START

PEAK_RATE = 1.2e-3  # of AdamW, for the first and last layers and all vectors
MUON_RATE = 0.01  # for the convolutions between
WARM_UP = 40  # steps
AVERAGE = 0.997  # of the weights' moving average, per step
CHECKPOINT_SECONDS = 300.0
MEASURED = 96  # samples for the statistics of a network that comes from a file
VALIDATED = 128  # held-out samples scored at every checkpoint
SHIFTS = range(-3, 4)  # cells along z around the mean error, among which the best fit is sought
STRIDES = (1, 2, 4, 8)  # cells between the neighbours whose slopes are compared
WEIGHTS = {"union": 2.0, "front": 4.0, "back": 3.0, "place": 0.5, "slope": 8.0, "normal": 0.5}


def losses(surface: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The terms of the loss, unweighted, over the cells inside the true mask.

    front, back: absolute depth error once the whole object is moved to where it fits best, for its distance cannot be
    told; place: that move. union: 1 - intersection over union, per object, of what lies between the two faces with the
    truth, moved to where that is greatest: the score of a final mesh. slope: as front and back, of the differences
    between neighbours near and farther, bounded so that steps in depth do not rule. normal: 1 - cosine.
    """
    mask = batch["mask"]
    inside = mask > 0.5
    owner = inside.nonzero()[:, 0]
    truth = unpack(batch["solid"]).permute(0, 2, 3, 1)[inside].float()  # (cells, layers)
    count = len(mask)
    surface = surface.float()
    front, back = (surface[:, 0] - batch["front"]) * mask, (surface[:, 1] - batch["back"]) * mask
    cells = mask.sum()
    place = (front + back).sum((1, 2)) / (2 * mask.sum((1, 2)).clamp(min=1))
    front, back = ((error - place[:, None, None]) * mask for error in (front, back))
    ahead = surface[:, 0][inside], surface[:, 1][inside]
    union = _union(*(face - place[owner].detach() for face in ahead), truth, owner, count)
    slope = 0.0
    for step in STRIDES:
        across, down = mask[:, :, step:] * mask[:, :, :-step], mask[:, step:] * mask[:, :-step]
        for error in (front, back):
            for difference, both in (
                (error[:, :, step:] - error[:, :, :-step], across),
                (error[:, step:] - error[:, :-step], down),
            ):
                steepness = (difference.abs() / step).clamp(max=0.1 / step**0.5)
                slope = slope + (steepness * both).sum() / (both.sum().clamp(min=1) * len(STRIDES))
    cosine = (functional.normalize(surface[:, 2:], dim=1) * batch["normals"]).sum(1)
    return {
        "union": union.mean(),
        "front": front.abs().sum() / cells,
        "back": back.abs().sum() / cells,
        "place": place.abs().mean(),
        "slope": slope / 2,
        "normal": ((1 - cosine) * mask).sum() / cells,
    }


def unpack(solid: Tensor) -> Tensor:
    """(..., n) uint8 to (..., 8 n) uint8 of 0 and 1, the inverse of `numpy.packbits`."""
    bits = torch.arange(7, -1, -1, dtype=torch.uint8, device=solid.device)
    return ((solid[..., None] >> bits) & 1).flatten(-2)


def _per_object(values: Tensor, owner: Tensor, count: int) -> Tensor:
    """(count,) sums of a value a column over the columns of each object; owner: (columns,) the object's number."""
    return torch.zeros(count, dtype=values.dtype, device=values.device).index_add_(0, owner, values)


def _union(front: Tensor, back: Tensor, truth: Tensor, owner: Tensor, count: int) -> Tensor:
    """(objects,) 1 - intersection over union of columns from ``back`` to ``front``, in frame units, with ``truth``.

    truth: (columns, LAYERS), 1 where solid. The columns of an object are moved together to where they fit best.
    """
    filled = functional.pad(truth.cumsum(1), (1, 0))  # of a column, up to each layer's end

    def below(z: Tensor) -> Tensor:
        place = ((z - Z_START) * learned.GRID).clamp(0, LAYERS - 1e-3)
        low = place.detach().floor().long()[:, None]
        start, end = filled.gather(1, low)[:, 0], filled.gather(1, low + 1)[:, 0]
        return start + (end - start) * (place - low[:, 0])

    def apart(front: Tensor, back: Tensor) -> Tensor:
        both = _per_object((below(front) - below(back)).clamp(min=0), owner, count)
        either = _per_object((front - back).clamp(min=0) * learned.GRID + filled[:, -1], owner, count) - both
        return 1 - both / either.clamp(min=1)

    with torch.no_grad():
        shifts = [shift / learned.GRID for shift in SHIFTS]
        best = torch.stack([apart(front + shift, back + shift) for shift in shifts]).argmin(0)
        shift = torch.tensor(shifts, device=best.device)[best][owner]
    return apart(front + shift, back + shift)


def total_loss(terms: dict[str, Tensor]) -> Tensor:
    """The weighted sum that is minimized."""
    return sum(WEIGHTS[name] * value for name, value in terms.items())


class Trainer:
    """Network, its average, optimizers and clock; everything that a checkpoint holds."""

    def __init__(self, seed: int = 0, budget_seconds: float = 3600.0, device: str = "cpu"):
        torch.manual_seed(seed)
        self.device = torch.device(device)
        self.seed = seed
        self.budget_seconds = budget_seconds
        self.peak = 1.0  # factor on both rates: a network that is nearly there is only shaken by the whole
        self.elapsed_seconds = 0.0
        self.step = 0
        self.network = SketchNet().to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        between, others = [], []
        for name, parameter in self.network.named_parameters():
            outermost = name.startswith(("stem", "surface"))
            (between if parameter.ndim == 4 and not outermost else others).append(parameter)
        self.muon = Muon(between, MUON_RATE)
        self.adam = torch.optim.AdamW(others, PEAK_RATE, (0.9, 0.98), weight_decay=0.02)

    def begin_with(self, network: SketchNet) -> None:
        """Take over the weights of a network."""
        for ours in (self.network, self.average):
            ours.load_state_dict(network.state_dict())

    def rate(self) -> float:
        """Share of the peak learning rates now: a short warm-up, then a cosine over the budget of time."""
        share = min(1.0, self.elapsed_seconds / self.budget_seconds)
        return min(1.0, (self.step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * share)) + 2e-3

    def learn(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One step on a batch; returns the unweighted losses before it."""
        self.network.train()
        batch = on_device(batch, self.device)
        for optimizer, peak in ((self.adam, PEAK_RATE), (self.muon, MUON_RATE)):
            optimizer.param_groups[0]["lr"] = self.peak * peak * self.rate()
        inputs = batch["inputs"].contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16):
            surface = self.network(inputs)
        terms = losses(surface, batch)
        self.network.zero_grad()
        total_loss(terms).backward()
        if distributed.is_initialized():
            self._agree()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.adam.step()
        self.muon.step()
        self.step += 1
        keep = min(AVERAGE, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(now, 1 - keep)
        return dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))

    def _agree(self) -> None:
        """Average the gradients of all processes, and take the first one's clock."""
        gradients = [parameter.grad for parameter in self.network.parameters()]
        clock = torch.tensor([self.elapsed_seconds if distributed.get_rank() == 0 else 0.0], device=self.device)
        flat = torch.cat([clock, *(gradient.flatten() for gradient in gradients)])
        distributed.all_reduce(flat)
        self.elapsed_seconds = flat[0].item()
        mean = flat[1:] / distributed.get_world_size()
        for gradient, values in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(values.view_as(gradient))

    def save(self, path: Path) -> None:
        """Write a checkpoint, aside and then in place."""
        state = {
            "seed": self.seed,
            "budget_seconds": self.budget_seconds,
            "elapsed_seconds": self.elapsed_seconds,
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "adam": self.adam.state_dict(),
            "muon": self.muon.state_dict(),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.rename(path)

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> Trainer:
        """Go on from a checkpoint, whatever device it was made on."""
        state = torch.load(path, map_location=device, weights_only=True)
        trainer = cls(state["seed"], state["budget_seconds"], device)
        trainer.elapsed_seconds, trainer.step = state["elapsed_seconds"], state["step"]
        for name in ("network", "average", "adam", "muon"):
            getattr(trainer, name).load_state_dict(state[name])
        return trainer


def on_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The batch on its way to a device."""
    return {name: values.to(device, non_blocking=True) for name, values in batch.items()}


def validate(network: SketchNet, shards: Shards, count: int = VALIDATED) -> dict[str, float]:
    """Mean losses, and overlap of volumes with the truth, on the first ``count`` samples in the network's own grid."""
    scores: dict[str, list[float]] = {}
    device = next(network.parameters()).device
    for start in range(0, min(count, len(shards)), 16):
        rows = [shards.row(index) for index in range(start, min(start + 16, count, len(shards)))]
        batch = on_device(tensors(make_batch(rows, None)), device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            surface = network(batch["inputs"].contiguous(memory_format=torch.channels_last))
        for name, value in losses(surface, batch).items():
            scores.setdefault(name, []).append(value.item() * len(rows))
        inside = batch["mask"][:, None] > 0.5
        z = Z_START + (torch.arange(LAYERS, device=device) + 0.5)[None, :, None, None] / learned.GRID
        prior = batch["inputs"][:, 17:18] * 0.2
        between = (z <= surface[:, 0:1].float()) & (z >= surface[:, 1:2].float())
        guesses = {
            "iou depth": between,
            "iou inflation": z.abs() <= prior,
        }
        truth = unpack(batch["solid"]) > 0
        for name, guess in guesses.items():
            guess = guess & inside
            overlap = (guess & truth).sum((1, 2, 3)) / (guess | truth).sum((1, 2, 3)).clamp(min=1)
            scores.setdefault(name, []).append(overlap.sum().item())
    return {name: round(sum(values) / min(count, len(shards)), 4) for name, values in scores.items()}


def fit(
    data: Path,
    checkpoint: Path,
    budget_seconds: float,
    seed: int = 0,
    start: Path | None = None,
    peak: float = 1.0,
    device: str = "cpu",
    batch: int = BATCH,
    feeders: int = 1,
) -> Trainer:
    """Train until the budget is spent, from the checkpoint if there is one; the budget given now counts.

    start: an exported network to begin with where there is no checkpoint yet. peak: factor on the learning rates.
    device: of torch. batch: samples a step. feeders: processes that make batches.

    Where a `torch.distributed` group is set up, all its processes train together; the first one keeps the records.
    """
    trainer = Trainer.load(checkpoint, device) if checkpoint.exists() else Trainer(seed, budget_seconds, device)
    trainer.budget_seconds, trainer.peak = budget_seconds, peak
    worker = distributed.get_rank() if distributed.is_initialized() else 0
    shards, held_out = Shards(data), Shards(data, held_out=True)
    if start is not None and not checkpoint.exists():
        rows = [shards.row(index) for index in range(min(MEASURED, len(shards)))]
        trainer.begin_with(restore(start, torch.from_numpy(make_batch(rows, None).inputs)))
    began, before, saved, recent = time.monotonic(), trainer.elapsed_seconds, time.monotonic(), []

    def record(**values) -> None:
        if worker == 0:
            print(json.dumps({"step": trainer.step, "seconds": round(trainer.elapsed_seconds), **values}), flush=True)

    with Feed(data, (seed, trainer.step, worker), batch, feeders, pinned=trainer.device.type == "cuda") as feed:
        while trainer.elapsed_seconds < budget_seconds:
            if worker == 0:
                trainer.elapsed_seconds = before + time.monotonic() - began
            recent.append(trainer.learn(feed.draw()))
            if trainer.step % 20 == 0:
                shards.refresh()
                means = {name: round(np.mean([terms[name] for terms in recent]), 4) for name in recent[0]}
                record(samples=len(shards), **means)
                recent = []
            if worker == 0 and time.monotonic() - saved > CHECKPOINT_SECONDS:
                trainer.save(checkpoint)
                saved = time.monotonic()
                record(validation=validate(trainer.average, held_out))
    if worker == 0:
        trainer.save(checkpoint)
        record(validation=validate(trainer.average, held_out, len(held_out)))
    return trainer
