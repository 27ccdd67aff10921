"""What happened, counted for Prometheus. The state at the moment of a scrape is added by `orfeas.web.scrape`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram

from orfeas.errors import BadPicture, BadRequest
from orfeas.telemetry.observer import Observer, is_refusal

if TYPE_CHECKING:
    from orfeas.errors import OrfeasError
    from orfeas.progress import Progress
    from orfeas.request import GenerationRequest
    from orfeas.web.job import Job

STAGE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
JOB_BUCKETS = (0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
WAIT_BUCKETS = (0.1, 1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600)
HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 120)
WAITING = "waiting"


@dataclass
class _Run:
    """A job that has not ended: the stage it is in, since when, and when it last made a step (by the clock)."""

    stage: str
    since: float
    began: float
    moved: float


class Metrics(Observer):
    """Counters and histograms of one server, in ``registry``. ``clock``: seconds that only ever grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.registry = CollectorRegistry()
        self._clock = clock
        self._runs: dict[str, _Run] = {}
        to = {"registry": self.registry}
        self._jobs = Counter(
            "orfeas_jobs",
            "jobs that ended: done, failed or cancelled, and the stage in which they did",
            ("outcome", "stage", "quality"),
            **to,
        )
        self._failures = Counter(
            "orfeas_job_failures",
            "jobs that failed, by the code of their error, and whether the request was at fault or the server",
            ("code", "fault"),
            **to,
        )
        for code in ("internal", "stalled"):  # from 0 on: an increase is only seen of a series that was there before
            self._failures.labels(code, "server")
        self._stages = Histogram(
            "orfeas_stage_seconds",
            "seconds of each finished stage",
            ("stage", "quality"),
            buckets=STAGE_BUCKETS,
            **to,
        )
        self._seconds = Histogram(
            "orfeas_job_seconds", "seconds of each job that was done, without the wait", ("quality",),
            buckets=JOB_BUCKETS, **to,
        )  # fmt: skip
        self._waits = Histogram(
            "orfeas_wait_seconds", "seconds from a job's start to its first stage", buckets=WAIT_BUCKETS, **to
        )
        self._refusals = Counter("orfeas_refusals", "requests turned away, by reason", ("reason",), **to)
        self._work = Histogram(
            "orfeas_work_seconds", "seconds of work outside the lane: cutouts, meshes and so on", ("things", "outcome"),
            buckets=STAGE_BUCKETS, **to,
        )  # fmt: skip
        self._requests = Counter("orfeas_http_requests", "requests answered", ("method", "path", "status"), **to)
        self._answers = Histogram(
            "orfeas_http_seconds", "seconds to the end of each answer; event streams last as long as their job",
            ("path",), buckets=HTTP_BUCKETS, **to,
        )  # fmt: skip

    def job_started(self, job: Job, request: GenerationRequest) -> None:
        super().job_started(job, request)
        now = self._clock()
        self._runs[job.token] = _Run(WAITING, now, now, now)

    def job_progressed(self, job: Job, progress: Progress) -> None:
        super().job_progressed(job, progress)
        run = self._runs.get(job.token)
        if run is None:
            return
        run.moved = self._clock()
        if progress.stage != run.stage:
            self._leave_stage(job, run)
            run.stage, run.since = progress.stage, run.moved

    def job_ended(self, job: Job, error: OrfeasError | None = None) -> None:
        super().job_ended(job, error)
        if is_refusal(job):
            return
        now = self._clock()
        run = self._runs.pop(job.token, None) or _Run(WAITING, now, now, now)  # of a group, and stopped before its turn
        quality = _quality(job)
        if job.state == "done":
            run.moved = self._clock()
            self._leave_stage(job, run)
            self._seconds.labels(quality).observe(run.moved - run.began)
        elif job.state == "failed":
            fault = "request" if isinstance(error, (BadPicture, BadRequest)) else "server"
            self._failures.labels(job.code, fault).inc()
        self._jobs.labels(job.state, run.stage, quality).inc()

    def refused(self, reason: str) -> None:
        super().refused(reason)
        self._refusals.labels(reason).inc()

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        super().answered(method, path, status, seconds)
        self._requests.labels(method, path, str(status)).inc()
        self._answers.labels(path).observe(seconds)

    def worked(self, things: str, outcome: str, seconds: float) -> None:
        super().worked(things, outcome, seconds)
        self._work.labels(things, outcome).observe(seconds)

    def seconds_without_progress(self) -> float:
        """The longest that a job which has the lane has gone without a step; 0 if none has it."""
        now = self._clock()
        return max((now - run.moved for run in list(self._runs.values()) if run.stage != WAITING), default=0.0)

    def _leave_stage(self, job: Job, run: _Run) -> None:
        spent = run.moved - run.since
        if run.stage == WAITING:
            self._waits.observe(spent)
            run.began = run.moved
        else:
            self._stages.labels(run.stage, _quality(job)).observe(spent)


def _quality(job: Job) -> str:
    return str(job.options.get("quality", ""))
