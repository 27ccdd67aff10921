"""Uploads and copies that Gradio keeps for its pages, in a folder of ours: for a day, whoever wrote them.

Gradio's own ``delete_cache`` removes a process's files when it ends, although another version of the app, or the same
after a restart, is about to be asked for them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from orfeas.web.copies import RESULTS, made_folder, may_be_had
from orfeas.web.uploads import SHOWN, needed

if TYPE_CHECKING:
    import gradio as gr


KEPT_SECONDS = 86400.0  # since it was written, or handed out: Gradio renews its files then


class Leftovers:
    """The files below ``folder``, Gradio's. What the page itself needs, such as its examples, stays.

    Copies of results that are gone go at once.
    """

    def __init__(self, demo: gr.Blocks, folder: Path, clock: Callable[[], float] = time.time):
        self.folder = folder.resolve()
        self._demo = demo
        self._clock = clock

    def expire(self) -> int:
        """Remove what is older than a day, and folders that it leaves empty; returns how many files that were."""
        keep, removed = needed(self._demo), 0
        # uploads before what was drawn of them
        for file in sorted(self.folder.rglob("*")) if self.folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                if file.is_file() and file not in keep and file.name != RESULTS and self._has_expired(file):
                    file.unlink()
                    removed += 1
                    self._remove_if_empty(file.parent)
        return removed

    def _has_expired(self, file: Path) -> bool:
        if file.lstat().st_ctime < self._clock() - KEPT_SECONDS:
            return True
        shown = self.folder / SHOWN
        if file.is_relative_to(shown):
            upload = self.folder / file.relative_to(shown)
            return not upload.with_name(upload.name.removesuffix(".webp")).exists()
        return file.is_relative_to(made_folder(self.folder)) and not may_be_had(file)

    def _remove_if_empty(self, folder: Path) -> None:
        """The list of a copy's results stays as long as the copy."""
        if [file.name for file in folder.iterdir()] == [RESULTS]:
            (folder / RESULTS).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there is more in it
            folder.rmdir()
