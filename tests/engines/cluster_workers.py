"""Engines for the workers of the tests: the quality sets their pace, for they run in processes of their own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

from orfeas.engines import Step
from orfeas.errors import BadPicture
from tests.conftest import PacedEngine, sphere

GATE = "TIMED_ENGINE_GATE"  # a variable that names a file: while it is there, no job goes beyond its first step


class TimedEngine:
    """``quality.steps`` steps of ``quality.grid`` milliseconds; the seeds below `FAILURES` end in an exception."""

    name, title, device, version, slots = "sketch", "Timed", "cpu", "test-1", 1
    reason = "the test asked for it"
    caveat = ""
    failures = (BadPicture("Nothing is left of it.", "empty"), MemoryError(), ZeroDivisionError("a bug"))

    def __init__(self):
        self._steps_done = 0  # of the job before

    def load(self):
        pass

    def health(self):
        return {}

    def close(self):
        pass

    def shape(self, cutout, quality, seed) -> Iterator:
        from orfeas.mesh import Mesh

        before, self._steps_done = self._steps_done, 0
        gate = os.environ.get(GATE, "")
        for step in range(quality.steps):
            while step and os.path.exists(gate):
                time.sleep(0.005)
            time.sleep(quality.grid / 1000)
            self._steps_done += 1
            if seed < len(self.failures):
                raise self.failures[seed]
            facts = {"pid": os.getpid(), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "steps_before": before}
            yield Step((step + 1) / quality.steps, f"step {step + 1}", facts)
        vertices, faces = sphere(24 + seed % 5)
        yield Mesh(vertices * (0.8, 0.6, 0.5), faces)


def make_timed(plan) -> TimedEngine:
    return TimedEngine()


def make_paced(plan) -> PacedEngine:
    """For a worker in the test's own process."""
    return PacedEngine(pace=threading.Semaphore(0))
