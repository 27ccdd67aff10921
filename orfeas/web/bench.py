"""Work outside the lane, such as cutouts: a few threads, and a bound on what waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from orfeas.errors import OrfeasError
from orfeas.telemetry import Observer
from orfeas.telemetry.logs import carrying_ids
from orfeas.web.access import follow


class Bench:
    """Does ``threads`` things at a time, while at most ``limit`` wait. ``things``: what the sentences call them."""

    def __init__(self, things: str, threads: int, limit: int, observer: Observer | None = None):
        self.things = things
        self.observer = observer or Observer()
        self.limit = limit
        self._places = threads + limit
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=things)
        self._there: set[Future] = set()
        self._closed = False

    @property
    def is_full(self) -> bool:
        return len(self._there) >= self._places

    @property
    def depth(self) -> int:
        """How many things are done or wait."""
        return len(self._there)

    @property
    def full_sentence(self) -> str:
        return f"The queue is full, {self.limit} {self.things} are waiting: try again in a few minutes."

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What ``work`` returns, from a thread. Raises what it raises, and `OrfeasError` when it is not done at all."""
        follow()
        if self._closed:
            self.observer.refused("draining")
            raise _stopping()
        if self.is_full:
            self.observer.refused("queue_full")
            raise OrfeasError(self.full_sentence, "queue_full")
        future = self._pool.submit(carrying_ids(self._do), work, *arguments)
        self._there.add(future)
        future.add_done_callback(self._there.discard)  # not when its caller goes: the thread works on
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if self._closed and future.cancelled():
                raise _stopping() from None
            raise

    def _do(self, work: Callable[..., Any], *arguments: Any) -> Any:
        began, outcome = time.perf_counter(), "bug"
        try:
            made = work(*arguments)
            outcome = "done"
            return made
        except OrfeasError:
            outcome = "failed"
            raise
        finally:
            self.observer.worked(self.things, outcome, time.perf_counter() - began)

    def close(self) -> None:
        """Take no more, and drop what waits; what is being done ends by itself."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)


def _stopping() -> OrfeasError:
    return OrfeasError("This server is about to restart: try again in a minute.", "draining")
