"""Sees jobs that no longer move, and gives them up, so that the others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from orfeas.telemetry import log, report_bug
from orfeas.telemetry.logs import short

if TYPE_CHECKING:
    from orfeas.web.job import Job
    from orfeas.web.jobs import Jobs


class Watchdog:
    """A thread that gives up each job that runs and has not moved for ``seconds``; 0: none.

    Shapes that Hunyuan3D makes on a CPU are left alone.

    on_lost: called once a job cannot be given up without a new process.
    """

    def __init__(self, jobs: Jobs, seconds: float, on_lost: Callable[[], None]):
        self._jobs = jobs
        self._seconds = seconds
        self._on_lost = on_lost
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="watchdog", daemon=True)
        if seconds:
            self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _work(self) -> None:
        while not self._closed.wait(min(5.0, self._seconds / 4)):
            for job in self._jobs.active():
                if self._hangs(job):
                    log.error("stalled", job=short(job.token), stage=job.progress.stage, seconds=self._seconds)
                    if not self._give_up(job):
                        self._on_lost()

    def _give_up(self, job: Job) -> bool:
        try:
            return self._jobs.give_up(job, self._seconds)
        except Exception as bug:  # a thread that ended would see no other job
            report_bug(bug)
            return False

    def _hangs(self, job: Job) -> bool:
        if job.progress is None or job.progress.stage == "waiting" or self._is_slow(job.progress.stage):
            return False
        return time.monotonic() - job.moved > self._seconds

    def _is_slow(self, stage: str) -> bool:
        """Whether nobody can tell a step from a hang: on a CPU one step of Hunyuan3D may take longer than any limit."""
        engine = self._jobs.studio.engine
        return stage == "shape" and (engine.name, engine.device) == ("hunyuan3d", "cpu")
