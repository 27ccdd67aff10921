"""Uploads and copies that Gradio keeps for its pages, below the data folder: for a day, whoever wrote them.

Gradio's own ``delete_cache`` removes a process's files when it ends, although another version of the app, or the same
after a restart, is about to be asked for them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from orfeas.web.uploads import MARK

if TYPE_CHECKING:
    import gradio as gr

KEPT_SECONDS = 86400.0  # since it was written, or handed out: Gradio renews its files then


class Leftovers:
    """The files below ``folder``. What the page itself needs, such as its examples, stays."""

    def __init__(self, demo: gr.Blocks, folder: Path, clock: Callable[[], float] = time.time):
        self.folder = folder
        self._demo = demo
        self._clock = clock

    def expire(self) -> int:
        """Remove what is older than a day, and folders that it leaves empty; returns how many files that were."""
        needed = {file for block in list(self._demo.blocks.values()) for file in getattr(block, "keep_in_cache", ())}
        oldest, removed = self._clock() - KEPT_SECONDS, 0
        for file in sorted(self.folder.rglob("*")) if self.folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                if file.is_file() and str(file) not in needed and file.lstat().st_ctime < oldest and file.name != MARK:
                    file.unlink()
                    removed += 1
                    _remove_if_empty(file.parent)
        return removed


def _remove_if_empty(folder: Path) -> None:
    """A mark stays as long as what it marks."""
    if [file.name for file in folder.iterdir()] == [MARK]:
        (folder / MARK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # there is more in it
        folder.rmdir()
