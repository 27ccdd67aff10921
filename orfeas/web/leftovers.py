"""Uploads and copies that Gradio keeps for its pages, in a folder of ours: for a day, whoever wrote them, or until the
disk is full.

Gradio's own ``delete_cache`` removes a process's files when it ends, although another version of the app, or the same
after a restart, is about to be asked for them.
"""

from __future__ import annotations

import contextlib
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from orfeas.web.copies import RESULTS, made_folder, may_be_had
from orfeas.web.uploads import SHOWN, needed

if TYPE_CHECKING:
    import gradio as gr


KEPT_SECONDS = 86400.0  # since it was written, or handed out: Gradio renews its files then
KEPT_WHEN_SHORT_SECONDS = 900.0  # where the disk has no room for anybody's work any more


class Leftovers:
    """The files below ``folder``, Gradio's. What the page itself needs, such as its examples, stays.

    Copies of results that are gone go at once.

    is_short: whether the disk has too little room at this moment. in_use: files that jobs need still.
    """

    def __init__(
        self,
        demo: gr.Blocks,
        folder: Path,
        clock: Callable[[], float] = time.time,
        is_short: Callable[[], bool] = lambda: False,
        in_use: Callable[[], set[Path]] = set,
    ):
        self.folder = folder.resolve()
        self._demo = demo
        self._clock = clock
        self._is_short = is_short
        self._in_use = in_use

    def expire(self) -> int:
        """Remove what is older than a day, and while the disk is short the oldest of what is older than
        `KEPT_WHEN_SHORT_SECONDS`; folders that it leaves empty go too. Returns how many files that were.
        """
        return self._expire_old() + self._make_room()

    def _make_room(self) -> int:
        """Else whoever uploads a lot would keep everybody from work for a day."""
        if not self._is_short():
            return 0
        keep, removed = needed(self._demo) | {file.resolve() for file in self._in_use()}, 0
        for file in self._oldest():
            if not self._is_short():
                break
            if file not in keep:
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()
                    removed += 1
                    self._remove_if_empty(file.parent)
        return removed

    def _oldest(self) -> list[Path]:
        """The files whose removal makes room, the oldest first; that of a link to a result's file would make none."""
        latest, found = self._clock() - KEPT_WHEN_SHORT_SECONDS, []
        for file in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                facts = file.lstat()
                if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_ctime < latest:
                    found.append((facts.st_ctime, file))
        return [file for _, file in sorted(found) if file.name != RESULTS]

    def _expire_old(self) -> int:
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
