"""What happens to jobs and other work, told to whoever keeps count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orfeas.telemetry.logs import log, short

if TYPE_CHECKING:
    from orfeas.errors import OrfeasError
    from orfeas.progress import Progress
    from orfeas.request import GenerationRequest
    from orfeas.web.job import Job


class Observer:
    """Logs what it is told. `orfeas.telemetry.metrics.Metrics` counts it as well. Called from any thread; never raises.

    A job that ran is told of by `job_started`, `job_progressed` and `job_ended`; one that did not by `job_ended` alone,
    with ``job.ran`` False: it was not admitted, or stopped before its turn in a group.
    """

    def job_started(self, job: Job, request: GenerationRequest) -> None:
        log.info("job_started", job=short(job.token))

    def job_progressed(self, job: Job, progress: Progress) -> None:
        """``progress`` is new; called at each step of the job."""

    def job_ended(self, job: Job, error: OrfeasError | None = None) -> None:
        """``job`` has its last state; ``error``: what ended it, where something did."""
        if is_refusal(job):
            self.refused(job.code)
            return
        fields = {"code": job.code} if job.code else {}
        if job.progress:
            fields["stage"] = job.progress.stage
        log.info(
            "job_ended", job=short(job.token), state=job.state, seconds=round(job.ended - job.started, 3), **fields
        )

    def refused(self, reason: str) -> None:
        """A request was turned away. reason: a stable word, the ``code`` of an `OrfeasError`."""
        log.info("refused", reason=reason)

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """A request was answered. path: the template of its route, never what a caller wrote."""

    def worked(self, things: str, outcome: str, seconds: float) -> None:
        """Work outside the lane ended.

        things: what a `orfeas.web.bench.Bench` calls them, such as "cutouts". outcome: "done", "failed" or "bug".
        """
        log.debug("worked", things=things, outcome=outcome, seconds=round(seconds, 3))


def is_refusal(job: Job) -> bool:
    """Whether a job that ended was never admitted."""
    return not job.ran and job.state == "failed"
