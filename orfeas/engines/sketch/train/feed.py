"""Batches of training samples, drawn at random and made ahead by processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from orfeas.engines.sketch.train.dataset import Batch, Shards, make_batch

AHEAD = 3  # batches that each process keeps ready
REFRESHED = 64  # batches after which a process looks for new shards


def tensors(batch: Batch) -> dict[str, Tensor]:
    """The arrays of a batch as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in vars(batch).items()}


class Draws(IterableDataset):
    """Batches without end from the training shards of ``folder``, other ones for each process and seed."""

    def __init__(self, folder: Path, seed: tuple[int, ...], batch: int):
        self.folder, self.seed, self.batch = folder, seed, batch

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        cv2.setNumThreads(1)
        process = get_worker_info().id
        random = np.random.default_rng((*self.seed, process))
        shards, drawn = Shards(self.folder), 0
        while True:
            if drawn % REFRESHED == 0:
                shards.refresh()
            drawn += 1
            chosen = random.integers(0, len(shards), self.batch)
            yield tensors(make_batch([shards.row(int(index)) for index in chosen], random))


def feed(folder: Path, seed: tuple[int, ...], batch: int, processes: int, pinned: bool) -> Iterator[dict[str, Tensor]]:
    """An iterator over `Draws`; its processes end with it. pinned: in memory that a GPU copies from by itself."""
    # started anew, not forked: what torch's threads hold in this process would be held in theirs for ever
    loader = DataLoader(
        Draws(folder, seed, batch),
        batch_size=None,
        num_workers=processes,
        prefetch_factor=AHEAD,
        multiprocessing_context="spawn",
        pin_memory=pinned,
    )
    return iter(loader)
