"""Removes results and uploads that were kept long enough, and frees memory, now and then, while the server runs."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from orfeas.errors import OrfeasError
from orfeas.telemetry import log
from orfeas.web.heap import give_back

if TYPE_CHECKING:
    from orfeas.library import Library
    from orfeas.web.leftovers import Leftovers
    from orfeas.web.sessions import Remains

EVERY_SECONDS = 600.0


class Housekeeper:
    """A thread that calls `Library.expire`, `Leftovers.expire`, `Remains.forget` and `heap.give_back` at once, every
    ``seconds``, and when it is called.
    """

    def __init__(
        self,
        library: Library,
        uploads: Leftovers | None = None,
        seconds: float = EVERY_SECONDS,
        remains: Remains | None = None,
    ):
        self._library = library
        self._uploads = uploads
        self._remains = remains
        self._seconds = seconds
        self._closed, self._called = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="housekeeper", daemon=True)
        self._thread.start()

    def call(self) -> None:
        """Do it now."""
        self._called.set()

    def close(self) -> None:
        self._closed.set()
        self._called.set()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        while not self._closed.is_set():
            self._tidy("results", self._library.expire)
            if self._uploads:
                self._tidy("uploads", self._uploads.expire)
            if self._remains:
                self._remains.forget()
            give_back()
            self._called.wait(self._seconds)
            self._called.clear()  # before it is asked whether that was the end

    def _tidy(self, what: str, expire: Callable[[], list[str] | int]) -> None:
        """Trouble with the one is no reason to leave the other."""
        try:
            removed = expire()
        except (OrfeasError, OSError, sqlite3.Error) as trouble:
            log.warning(f"{what}_not_removed", error=str(trouble))
            return
        if count := removed if isinstance(removed, int) else len(removed):
            log.info(f"{what}_expired", count=count)
