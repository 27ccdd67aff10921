"""Which processes use a data folder, and which of them have died: each holds a lock that the system gives back for it.

A process number would not do: in a container every app is number 1, before a restart and after it.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from filelock import FileLock, Timeout

_NAME = re.compile(r"[0-9a-f]{16}")


class Instance:
    """This process among those that use ``folder``. ``name``: 16 hexadecimal digits, new each time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.name = secrets.token_hex(8)
        self._lock: FileLock | None = None

    def announce(self) -> None:
        """Take the lock, once, until the process ends or `leave`. Raises `OSError` if the folder cannot be written."""
        if self._lock is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = _lock(self.folder, self.name)
            lock.acquire(blocking=False)
            self._lock = lock

    def leave(self) -> None:
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
        lock = _lock(self.folder, name)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        lock.release()
        return False

    def forget_dead(self) -> None:
        """Remove the lock files of those that died. Call it after what they left has been seen to."""
        for file in self.folder.glob("*.lock") if self.folder.is_dir() else ():
            if not self.is_alive(file.stem):
                file.unlink(missing_ok=True)


def _lock(folder: Path, name: str) -> FileLock:
    return FileLock(folder / f"{name}.lock", thread_local=False)
