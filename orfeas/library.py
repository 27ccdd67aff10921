"""Results on disk: a folder each, written aside and renamed into place, so that none is ever half there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from orfeas.errors import OrfeasError

_ID = re.compile(r"[0-9a-f]{32}")


class Library:
    """The results below ``root/results``. Folders are made when the first result is written, not before."""

    def __init__(self, root: Path):
        self.root = Path(root).expanduser().absolute()
        self.results = self.root / "results"
        self.staging = self.root / "staging"

    def new_id(self) -> str:
        """32 hexadecimal digits, 128 random bits: who does not know it cannot guess it."""
        return secrets.token_hex(16)

    @contextlib.contextmanager
    def write(self, result_id: str) -> Iterator[Path]:
        """A folder to write a result into; on leaving it is renamed to its place, on an exception it is removed.

        Raises `OrfeasError` (disk_full, data_dir) if the data folder cannot take it.
        """
        folder = self.staging / f"{os.getpid()}-{result_id}"
        try:
            with _explain_disk_errors(self.root):
                folder.mkdir(parents=True)
                yield folder
                self.results.mkdir(exist_ok=True)
                os.rename(folder, self.results / result_id)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def add(self, result_id: str, name: str) -> Iterator[Path]:
        """A path to write one more file of a finished result to; on leaving it is renamed to ``name`` in its folder.

        Raises `FileNotFoundError` if the result is no longer there, `OrfeasError` as `write` does.
        """
        folder = self.staging / f"{os.getpid()}-{self.new_id()}"
        try:
            with _explain_disk_errors(self.root):
                folder.mkdir(parents=True)
                yield folder / name
                os.replace(folder / name, self.results / result_id / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def find(self, result_id: str) -> Path | None:
        """The folder of a finished result, or None."""
        if not _ID.fullmatch(result_id):
            return None
        folder = self.results / result_id
        return folder if folder.is_dir() else None

    def clean(self) -> int:
        """Remove what processes that died left in the staging folder; returns how many such folders there were."""
        removed = 0
        for folder in self.staging.glob("*-*") if self.staging.is_dir() else ():
            pid = folder.name.split("-")[0]
            if pid.isdigit() and not _is_running(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
        return removed


@contextlib.contextmanager
def _explain_disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OrfeasError(
                f"The disk is full: free some space on the volume of {root} and try again.", "disk_full"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR):
            raise OrfeasError(
                f"The data folder {root} cannot be written to: set ORFEAS_DATA_DIR to one that can.",
                "data_dir",
            ) from error
        raise


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
