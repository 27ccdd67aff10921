"""One job of this server, as its thread and those who ask for it see it."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orfeas.web.callers import Caller

if TYPE_CHECKING:
    from orfeas.index import StoredJob
    from orfeas.progress import Progress
    from orfeas.result import Result


@dataclass
class Job:
    """One job. ``state``: waiting, running, stopping, then done, failed, cancelled or lost."""

    token: str
    session: str = ""
    caller: Caller = field(default_factory=Caller)
    callers: int = 0  # how many wait for it: one request may be sent twice
    readers: list[object] = field(default_factory=list)  # of pages that were reloaded: one for each that waits for it
    reuse: bool = False
    request_hash: str = ""  # of a request that came under a key: see `orfeas.web.repeats`
    name: str = ""
    picture: str = ""  # the path of what was uploaded
    options: dict[str, Any] = field(default_factory=dict)  # as asked, and the engine's name
    created: float = 0.0  # seconds since 1970, by the library's clock
    outlives_page: bool = False  # a page that is reloaded finds it again; a script that ends does not come back
    group: str = ""  # of jobs that take one place in the queue together
    held: bool = False  # of a group, before its turn
    ran: bool = False
    stored: bool = False  # in the library's index
    state: str = "waiting"
    progress: Progress | None = None
    result: Result | None = None
    error: str = ""
    code: str = ""
    started: float = field(default_factory=time.monotonic)
    asked_for: float = -math.inf  # when a page last asked how it goes
    in_stage_since: float = field(default_factory=time.monotonic)
    moved: float = field(default_factory=time.monotonic)  # when it was last heard of
    ended: float | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    future: Future = field(default_factory=Future)  # done when the job is; its value is the job

    @property
    def account(self) -> str:
        return self.caller.account

    @property
    def is_over(self) -> bool:
        return self.ended is not None

    def to_dict(self) -> dict[str, Any]:
        """What a page needs to draw the job, JSON values."""
        seconds = (self.ended or time.monotonic()) - self.started
        state = {"state": self.state, "seconds": round(seconds, 1), **describe(self)}
        if self.progress:
            state |= {
                "stage": self.progress.stage,
                "fraction": round(self.progress.fraction, 4),
                "message": self.progress.message,
            }
        if self.error:
            state |= {"error": self.error, "code": self.code}
        if self.result:
            state["result"] = self.result.id
        return state


def describe(job: Job | StoredJob) -> dict[str, Any]:
    """What was asked for, as both kinds of job say it."""
    return {"name": job.name, "options": dict(job.options), "created": round(job.created, 3)}
