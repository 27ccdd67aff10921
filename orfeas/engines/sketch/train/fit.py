"""Training: a clock for a budget, checkpoints that can be resumed, an average of the weights, losses on record.

Several processes may train one network together: each learns from batches of its own, and gradients are averaged.
"""

from __future__ import annotations

import copy
import json
import math
import queue
import threading
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional

from orfeas.engines.sketch import learned
from orfeas.engines.sketch.train.dataset import Batch, Shards, make_batch
from orfeas.engines.sketch.train.network import SketchNet
from orfeas.engines.sketch.train.optimize import Muon

BATCH = 12  # samples a step, for each process
PEAK_RATE = 1.2e-3  # of AdamW, for the first and last layers and all vectors
MUON_RATE = 0.01  # for the convolutions between
WARM_UP = 100  # steps
AVERAGE = 0.998  # of the weights' moving average, per step
CHECKPOINT_SECONDS = 300.0
VALIDATED = 128  # held-out samples scored at every checkpoint
WEIGHTS = {"solid": 2.0, "overlap": 0.5, "front": 6.0, "back": 4.0, "place": 0.5, "slope": 8.0, "normal": 0.5}


def losses(volume: Tensor, surface: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The terms of the loss, unweighted, over the cells inside the true mask.

    solid: cross entropy of the voxels. overlap: 1 - Dice, per object. front, back: absolute depth error once
    the whole object is moved to where it fits best, for its distance cannot be told; place: that move. slope: the
    same of the differences between neighbours, bounded so that steps in depth do not rule. normal: 1 - cosine.
    """
    mask = batch["mask"]
    inside = mask > 0.5
    owner = inside.nonzero()[:, 0]
    columns = volume.permute(0, 2, 3, 1)[inside].float()  # (cells, layers): a third of the volume
    truth = batch["solid"].permute(0, 2, 3, 1)[inside]
    # Faces lie anywhere within a voxel: targets softened along z make logits that grow evenly through the surface.
    soft = functional.avg_pool1d(functional.pad(truth[:, None], (1, 1)), 3, 1)[:, 0] * 0.5 + truth * 0.5
    chance = torch.sigmoid(columns)
    count = len(mask)

    def per_object(values: Tensor) -> Tensor:
        return torch.zeros(count, dtype=values.dtype).index_add_(0, owner, values)

    both, total = per_object((chance * truth).sum(1)), per_object((chance + truth).sum(1))
    surface = surface.float()
    front, back = (surface[:, 0] - batch["front"]) * mask, (surface[:, 1] - batch["back"]) * mask
    cells = mask.sum()
    place = (front + back).sum((1, 2)) / (2 * mask.sum((1, 2)).clamp(min=1))
    front, back = ((error - place[:, None, None]) * mask for error in (front, back))
    across, down = mask[:, :, 1:] * mask[:, :, :-1], mask[:, 1:] * mask[:, :-1]
    slope = 0.0
    for error in (front, back):
        slope = slope + ((error[:, :, 1:] - error[:, :, :-1]) * across).abs().clamp(max=0.1).sum() / across.sum()
        slope = slope + ((error[:, 1:] - error[:, :-1]) * down).abs().clamp(max=0.1).sum() / down.sum()
    cosine = (functional.normalize(surface[:, 2:], dim=1) * batch["normals"]).sum(1)
    return {
        "solid": functional.binary_cross_entropy_with_logits(columns, soft),
        "overlap": (1 - (2 * both + 1) / (total + 1)).mean(),
        "front": front.abs().sum() / cells,
        "back": back.abs().sum() / cells,
        "place": place.abs().mean(),
        "slope": slope / 2,
        "normal": ((1 - cosine) * mask).sum() / cells,
    }


def total_loss(terms: dict[str, Tensor]) -> Tensor:
    """The weighted sum that is minimized."""
    return sum(WEIGHTS[name] * value for name, value in terms.items())


def tensors(batch: Batch) -> dict[str, Tensor]:
    """The arrays of a batch as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in vars(batch).items()}


class Trainer:
    """Network, its average, optimizers and clock; everything that a checkpoint holds."""

    def __init__(self, seed: int = 0, budget_seconds: float = 3600.0):
        torch.manual_seed(seed)
        self.seed = seed
        self.budget_seconds = budget_seconds
        self.elapsed_seconds = 0.0
        self.step = 0
        self.network = SketchNet().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        between, others = [], []
        for name, parameter in self.network.named_parameters():
            outermost = name.startswith(("stem", "volume", "surface"))
            (between if parameter.ndim == 4 and not outermost else others).append(parameter)
        self.muon = Muon(between, MUON_RATE)
        self.adam = torch.optim.AdamW(others, PEAK_RATE, (0.9, 0.98), weight_decay=0.02)

    def rate(self) -> float:
        """Share of the peak learning rates now: a short warm-up, then a cosine over the budget of time."""
        share = min(1.0, self.elapsed_seconds / self.budget_seconds)
        return min(1.0, (self.step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * share)) + 2e-3

    def learn(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One step on a batch; returns the unweighted losses before it."""
        self.network.train()
        for optimizer, peak in ((self.adam, PEAK_RATE), (self.muon, MUON_RATE)):
            optimizer.param_groups[0]["lr"] = peak * self.rate()
        inputs = batch["inputs"].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            volume, surface = self.network(inputs)
        terms = losses(volume, surface, batch)
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
        return {name: value.item() for name, value in terms.items()}

    def _agree(self) -> None:
        """Average the gradients of all processes, and take the first one's clock."""
        gradients = [parameter.grad for parameter in self.network.parameters()]
        clock = torch.tensor([self.elapsed_seconds if distributed.get_rank() == 0 else 0.0])
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
    def load(cls, path: Path) -> Trainer:
        """Go on from a checkpoint."""
        state = torch.load(path, weights_only=True)
        trainer = cls(state["seed"], state["budget_seconds"])
        trainer.elapsed_seconds, trainer.step = state["elapsed_seconds"], state["step"]
        for name in ("network", "average", "adam", "muon"):
            getattr(trainer, name).load_state_dict(state[name])
        return trainer


def validate(network: SketchNet, shards: Shards, count: int = VALIDATED) -> dict[str, float]:
    """Mean losses, and overlap of volumes with the truth, on the first ``count`` samples in the network's own grid."""
    scores: dict[str, list[float]] = {}
    for start in range(0, min(count, len(shards)), 16):
        rows = [shards.row(index) for index in range(start, min(start + 16, count, len(shards)))]
        batch = tensors(make_batch(rows, None))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            volume, surface = network(batch["inputs"].contiguous(memory_format=torch.channels_last))
        for name, value in losses(volume, surface, batch).items():
            scores.setdefault(name, []).append(value.item() * len(rows))
        inside = batch["mask"][:, None] > 0.5
        z = learned.Z_START + (torch.arange(learned.LAYERS) + 0.5)[None, :, None, None] / learned.GRID
        prior = batch["inputs"][:, 17:18] * 0.2
        between = (z <= surface[:, 0:1].float()) & (z >= surface[:, 1:2].float())
        guesses = {
            "iou volume": volume > 0,
            "iou volume -0.5": volume > -0.5,
            "iou depth": between,
            "iou inflation": z.abs() <= prior,
        }
        truth = batch["solid"] > 0.5
        for name, guess in guesses.items():
            guess = guess & inside
            overlap = (guess & truth).sum((1, 2, 3)) / (guess | truth).sum((1, 2, 3)).clamp(min=1)
            scores.setdefault(name, []).append(overlap.sum().item())
    return {name: round(sum(values) / min(count, len(shards)), 4) for name, values in scores.items()}


def feed(shards: Shards, seed: tuple[int, ...], stop: threading.Event) -> queue.Queue:
    """Batches drawn at random from the shards, made ahead in a thread."""
    batches: queue.Queue = queue.Queue(4)
    random = np.random.default_rng(seed)

    def work() -> None:
        drawn = 0
        while not stop.is_set():
            if drawn % 64 == 0:
                shards.refresh()
            drawn += 1
            rows = [shards.row(int(index)) for index in random.integers(0, len(shards), BATCH)]
            batch = tensors(make_batch(rows, random))
            while not stop.is_set():
                try:
                    batches.put(batch, timeout=1.0)
                    break
                except queue.Full:
                    continue

    threading.Thread(target=work, daemon=True).start()
    return batches


def fit(data: Path, checkpoint: Path, budget_seconds: float, seed: int = 0) -> Trainer:
    """Train until the budget is spent, from the checkpoint if there is one; the budget given now counts.

    Where a `torch.distributed` group is set up, all its processes train together; the first one keeps the records.
    """
    trainer = Trainer.load(checkpoint) if checkpoint.exists() else Trainer(seed, budget_seconds)
    trainer.budget_seconds = budget_seconds
    worker = distributed.get_rank() if distributed.is_initialized() else 0
    shards, held_out = Shards(data), Shards(data, held_out=True)
    stop = threading.Event()
    batches = feed(shards, (seed, trainer.step, worker), stop)
    began, before, saved, recent = time.monotonic(), trainer.elapsed_seconds, time.monotonic(), []

    def record(**values) -> None:
        if worker == 0:
            print(json.dumps({"step": trainer.step, "seconds": round(trainer.elapsed_seconds), **values}), flush=True)

    while trainer.elapsed_seconds < budget_seconds:
        if worker == 0:
            trainer.elapsed_seconds = before + time.monotonic() - began
        recent.append(trainer.learn(batches.get()))
        if trainer.step % 50 == 0:
            record(samples=len(shards), **{name: round(np.mean([r[name] for r in recent]), 4) for name in recent[0]})
            recent = []
        if worker == 0 and time.monotonic() - saved > CHECKPOINT_SECONDS:
            trainer.save(checkpoint)
            saved = time.monotonic()
            record(validation=validate(trainer.average, held_out))
    stop.set()
    if worker == 0:
        trainer.save(checkpoint)
        record(validation=validate(trainer.average, held_out, len(held_out)))
    return trainer
