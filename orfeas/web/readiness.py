"""Whether this server should get new work, and if not, why."""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orfeas.errors import DISK_FULL, OrfeasError
from orfeas.telemetry import log, report_bug

if TYPE_CHECKING:
    from orfeas.library import Library
    from orfeas.web.jobs import Jobs

LOOK_SECONDS = 1.0


class Readiness:
    """Loads the engine, and answers for `GET /ready`. min_free: bytes of disk below which no new work is wanted."""

    def __init__(self, jobs: Jobs, min_free: int):
        self.jobs = jobs
        self.min_free = min_free
        self._load_error: OrfeasError | None = None

    def load(self) -> threading.Thread:
        """Make the engine ready, in a thread: the page and `GET /health` answer meanwhile."""
        thread = threading.Thread(target=self._load, name="load", daemon=True)
        thread.start()
        return thread

    def find_problem(self) -> OrfeasError | None:
        """What stands in the way of new work now, as a sentence with its code; None if nothing does."""
        if self.jobs.draining:
            return OrfeasError("This server is about to restart.", "draining")
        if not self.jobs.studio.is_loaded:
            return self._load_error or OrfeasError("The engine is being loaded.", "loading")
        try:
            check_storage(self.jobs.studio.library, self.min_free)
        except OrfeasError as error:
            return error
        health = self.jobs.studio.engine.health()
        if health.get("ready") is False:
            said = health.get("problem", "No worker of the engine runs now: see `serve status` on the cluster.")
            return OrfeasError(said, "broken_gpu" if "problem" in health else "no_worker")
        if self.jobs.is_full:
            return OrfeasError(self.jobs.full_sentence, "queue_full")
        return None

    def _load(self) -> None:
        try:
            self.jobs.studio.load()
        except OrfeasError as error:
            log.error("engine_not_loaded", error=str(error), code=error.code)
            self._load_error = error
        except Exception as bug:
            self._load_error = OrfeasError(report_bug(bug), "internal")


class Room:
    """Whether work that writes may begin: the volumes of ``folders`` have ``min_free`` bytes left, when last looked at.

    Threads may share it; it asks the system at most every `LOOK_SECONDS`. on_short: called when it turns out that they
    have not, by whoever asked; it must not take long.
    """

    def __init__(self, folders: Sequence[Path], min_free: int, clock: Callable[[], float] = time.monotonic):
        self._folders = folders
        self._min_free = min_free
        self._clock = clock
        self._looked = -math.inf
        self._is_short = False
        self.on_short: Callable[[], None] = lambda: None

    @property
    def is_short(self) -> bool:
        if self._min_free and self._clock() - self._looked >= LOOK_SECONDS:
            before, self._looked = self._is_short, self._clock()
            self._is_short = self.measure(*self._folders)
            if self._is_short and not before:
                self.on_short()
        return self._is_short

    def measure(self, *folders: Path) -> bool:
        """Whether there is too little at this moment on the volume of any of ``folders``."""
        return min(shutil.disk_usage(nearest_folder(folder)).free for folder in folders) < self._min_free

    def check(self) -> None:
        """Raise `OrfeasError` (disk_full) where there is too little."""
        if self.is_short:
            raise OrfeasError(DISK_FULL, "disk_full")


def check_storage(library: Library, min_free: int) -> None:
    """Raise `OrfeasError` (disk_full, data_dir) if the data folder cannot be written to or has too little room.

    Where the folder is there, a file without a name is written into it; where it is not, none is made.
    """
    with library.explain_disk_errors():
        there = nearest_folder(library.root)
        if there != library.root:
            if not there.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
            if not os.access(there, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))
        else:
            with tempfile.TemporaryFile(dir=there) as probe:
                probe.write(bytes(4096))
        free = shutil.disk_usage(there).free
    if free < min_free:
        raise OrfeasError(
            f"Only {free / 1e6:.0f} MB are free on the volume of {library.root}, fewer than ORFEAS_MIN_FREE_MB"
            f" ({min_free / 1e6:.0f}): make room.",
            "disk_full",
        )


def nearest_folder(path: Path) -> Path:
    """``path``, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
