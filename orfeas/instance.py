"""Which processes use a data folder, and which of them have died: each holds a lock that the system gives back for it.

A process number would not do: in a container every app is number 1, before a restart and after it.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
from pathlib import Path

from filelock import FileLock, Timeout

PROBE_SECONDS = 10.0  # another process may hold our lock for the moment in which it asks whether we are alive
_NAME = re.compile(r"[0-9a-f]{16}")


class Instance:
    """This process among those that use ``folder``. Threads may share it.

    ``name``: 16 hexadecimal digits, new each time.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.name = secrets.token_hex(8)
        self._lock: FileLock | None = None
        self._taking = threading.Lock()

    def announce(self) -> None:
        """Take the lock, once, until the process ends or `leave`. Raises `OSError` if the folder cannot be written."""
        with self._taking:  # the first two jobs may come at once, and the second would find the file locked
            while self._lock is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = _lock(self.folder, self.name)
                lock.acquire(timeout=PROBE_SECONDS)
                if Path(lock.lock_file).exists():
                    self._lock = lock
                else:  # it was taken for one of the dead's just before we locked it
                    lock.release()

    def leave(self) -> None:
        with self._taking:
            if self._lock is not None:
                self._lock.release()
                Path(self._lock.lock_file).unlink(missing_ok=True)
                self._lock = None

    def is_alive(self, name: str) -> bool:
        """Whether the process of that name still runs; one that nobody heard of does not."""
        if name == self.name:
            return True
        if not _NAME.fullmatch(name) or not (self.folder / f"{name}.lock").is_file():
            return False
        try:
            with _lock(self.folder, name).acquire(blocking=False):
                return False
        except Timeout:
            return True

    def forget_dead(self) -> None:
        """Remove the lock files of those that died. Call it after what they left has been seen to."""
        for file in self.folder.glob("*.lock") if self.folder.is_dir() else ():
            if file.stem != self.name and _NAME.fullmatch(file.stem):
                with contextlib.suppress(Timeout), _lock(self.folder, file.stem).acquire(blocking=False):
                    file.unlink(missing_ok=True)


def _lock(folder: Path, name: str) -> FileLock:
    return FileLock(folder / f"{name}.lock", thread_local=False)
