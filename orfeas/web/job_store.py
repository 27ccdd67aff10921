"""The jobs as the library's index keeps them, beyond this process."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from orfeas.index import StoredJob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orfeas.library import Library
    from orfeas.web.job import Job

TOKEN = re.compile(r"[0-9a-f]{32}")


class JobStore:
    """Everything here raises `OrfeasError` if the index, or the data folder, cannot be used now."""

    def __init__(self, library: Library):
        self.library = library

    def find(self, token: str) -> StoredJob | None:
        """The job as it was last entered, by whichever run of this server; None if there is none."""
        if not TOKEN.fullmatch(token) or not self.library.root.is_dir():
            return None
        with self.library.explain_index_errors():
            return self.library.index.find_job(token)

    def enter(self, job: Job) -> None:
        """Keep the job as it is now."""
        library = self.library
        with library.explain_index_errors(), self._entering(job):
            library.instance.announce()
            result_id = job.result.id if job.result else ""
            seconds = (job.ended or job.started) - job.started
            library.index.put_job(
                StoredJob(
                    job.token, library.instance.name, job.state, job.name, job.created, job.options, seconds,
                    result_id, job.error, job.code, job.picture, job.request_hash, job.account,
                )
            )  # fmt: skip

    def remove(self, token: str) -> None:
        """Forget the job; its result is the library's business."""
        with self.library.explain_index_errors():
            self.library.index.remove_job(token)

    def runs_elsewhere(self, stored: StoredJob) -> bool:
        """Whether another process, which a new version replaces, still does it."""
        here = self.library.instance
        return not stored.is_over and stored.instance != here.name and here.is_alive(stored.instance)

    @contextlib.contextmanager
    def _entering(self, job: Job) -> Iterator[None]:
        before, job.stored = job.stored, True  # at once: if the job ends meanwhile, that is to be entered as well
        try:
            yield
        except BaseException:
            job.stored = before
            raise
