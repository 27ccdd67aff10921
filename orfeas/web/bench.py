"""Work outside the lane, such as cutouts: a few threads, and a bound on what waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from orfeas.errors import OrfeasError


class Bench:
    """Does ``threads`` things at a time, while at most ``limit`` wait. ``things``: what the sentences call them."""

    def __init__(self, things: str, threads: int, limit: int):
        self.things = things
        self.limit = limit
        self._places = threads + limit
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=things)
        self._there: set[Future] = set()
        self._closed = False

    @property
    def is_full(self) -> bool:
        return len(self._there) >= self._places

    @property
    def full_sentence(self) -> str:
        return f"The queue is full, {self.limit} {self.things} are waiting: try again in a few minutes."

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What ``work`` returns, from a thread. Raises what it raises, and `OrfeasError` when it is not done at all."""
        if self._closed:
            raise _stopping()
        if self.is_full:
            raise OrfeasError(self.full_sentence, "queue_full")
        future = self._pool.submit(work, *arguments)
        self._there.add(future)
        future.add_done_callback(self._there.discard)  # not when its caller goes: the thread works on
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if self._closed and future.cancelled():
                raise _stopping() from None
            raise

    def close(self) -> None:
        """Take no more, and drop what waits; what is being done ends by itself."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)


def _stopping() -> OrfeasError:
    return OrfeasError("This server is about to restart: try again in a minute.", "draining")
