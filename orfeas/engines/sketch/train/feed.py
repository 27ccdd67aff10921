"""Batches of training samples, drawn at random and made ahead by processes of their own."""

from __future__ import annotations

import itertools
import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from orfeas.engines.sketch.train.dataset import Batch, Shards, make_batch

if TYPE_CHECKING:
    from torch import Tensor

AHEAD = 3  # batches that are kept ready for each process
REFRESHED = 64  # batches after which a process looks for new shards

# Of a process that makes batches; these never load torch, which takes them seconds.
_shards: Shards
_drawn: Iterator[int]


def tensors(batch: Batch) -> dict[str, Tensor]:
    """The arrays of a batch as tensors."""
    import torch

    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in vars(batch).items()}


class Feed:
    """Batches without end from the training shards of a folder, the same for the same seed; use it in ``with``.

    batch: samples in each. processes: that make them. pinned: in memory that a GPU copies from by itself.
    """

    def __init__(self, folder: Path, seed: tuple[int, ...], batch: int, processes: int = 1, pinned: bool = False):
        # started anew, not forked: what torch's threads hold in this process would be held in theirs for ever
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, spawn, initializer=_open, initargs=(folder,))
        self._ahead = AHEAD * processes
        self._numbers = itertools.count()
        self._coming: deque[Future] = deque()
        self._seed, self._batch, self._pinned = seed, batch, pinned

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def draw(self) -> dict[str, Tensor]:
        """The next batch. Raises `concurrent.futures.BrokenExecutor` if a process was killed."""
        while len(self._coming) <= self._ahead:
            self._coming.append(self._pool.submit(_draw, (*self._seed, next(self._numbers)), self._batch))
        drawn = tensors(self._coming.popleft().result())
        return {name: values.pin_memory() for name, values in drawn.items()} if self._pinned else drawn


def _open(folder: Path) -> None:
    global _shards, _drawn
    cv2.setNumThreads(1)
    _shards, _drawn = Shards(folder), itertools.count(1)


def _draw(seed: tuple[int, ...], count: int) -> Batch:
    random = np.random.default_rng(seed)
    if next(_drawn) % REFRESHED == 0:
        _shards.refresh()
    chosen = random.integers(0, len(_shards), count)
    return make_batch([_shards.row(int(index)) for index in chosen], random)
