"""How long a job will still take, from what the last jobs on this machine took. None before one has ended."""

from __future__ import annotations

import heapq
import json
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orfeas.engines import Engine
    from orfeas.library import Library

KEPT = 20  # jobs of each quality: enough for a median, few enough to follow a machine that got slower


@dataclass(frozen=True)
class Estimate:
    """``seconds`` that are left, going by the last ``jobs`` jobs. 0 seconds: it takes longer than those did."""

    seconds: float
    jobs: int


class History:
    """The seconds of each stage of the last `KEPT` jobs of each quality. Threads may share it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._jobs: dict[str, deque[Mapping[str, float]]] = {}

    def add(self, quality: str, facts: Mapping[str, Any]) -> None:
        """Remember a finished job by its result's facts; one that skipped its diffusion says nothing of others."""
        seconds = {stage: spent for stage, spent in facts.get("seconds", {}).items() if stage != "total"}
        if seconds and not facts.get("remeshed"):
            with self._lock:
                self._jobs.setdefault(quality, deque(maxlen=KEPT)).append(seconds)

    def read(self, library: Library, engine: Engine) -> None:
        """Remember the newest results that ``engine`` made on the same device and left on this disk."""
        for recipe in reversed(_newest_recipes(library, KEPT * 3)):
            facts = recipe.get("facts", {})
            if (facts.get("engine"), facts.get("device")) == (engine.name, engine.device):
                self.add(recipe["request"]["quality"], facts)

    def estimate(self, quality: str, stage: str = "", seconds_in_stage: float = 0.0) -> Estimate | None:
        """What is left of a job that has been ``seconds_in_stage`` in ``stage``; of a whole job without a stage.

        The stages are taken in the order in which jobs went through them. None where no job of ``quality`` is known.
        """
        with self._lock:
            jobs = list(self._jobs.get(quality, ()))
        if not jobs:
            return None
        stages = list(jobs[-1])
        typical = {name: median(job.get(name, 0.0) for job in jobs) for name in stages}
        if stage not in typical:
            return Estimate(sum(typical.values()), len(jobs))
        later = sum(typical[name] for name in stages[stages.index(stage) + 1 :])
        return Estimate(later + max(0.0, typical[stage] - seconds_in_stage), len(jobs))


def last_end(seconds: Sequence[float], slots: int) -> float:
    """When the last of jobs that take ``seconds`` each, begun in that order on ``slots`` slots, will be over."""
    free, end = [0.0] * slots, 0.0  # when each slot will be
    for each in seconds:
        end = free[0] + each
        heapq.heapreplace(free, end)
    return end


def _newest_recipes(library: Library, count: int) -> list[Mapping[str, Any]]:
    """The recipes of the newest results, newest first; one that cannot be read is left out."""
    if not library.results.is_dir():
        return []
    with os.scandir(library.results) as entries:
        folders = sorted(entries, key=lambda entry: entry.stat().st_mtime, reverse=True)[:count]
    recipes = []
    for folder in folders:
        try:
            with open(os.path.join(folder.path, "recipe.json"), encoding="utf-8") as file:
                recipe = json.load(file)
            recipe["request"]["quality"]
        except (OSError, ValueError, TypeError, KeyError):
            continue
        recipes.append(recipe)
    return recipes
