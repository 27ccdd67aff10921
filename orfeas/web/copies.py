"""Files that the app itself hands out through Gradio: copies of results, archives, cutouts.

They lie in a folder of their own within Gradio's cache. Whatever else is there came from outside, and
`orfeas.web.uploads` hands out none of it as it came, also after a restart.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from gradio.utils import get_upload_folder

from orfeas.errors import DISK_FULL, OrfeasError

FOLDER = "made"  # Gradio names the folders of uploads by 64 hexadecimal digits
RESULTS = ".results.json"  # beside a copy: the folders of the results that it has something of


def made_folder(cache: str | None = None) -> Path:
    """Where copies lie. cache: Gradio's folder."""
    return Path(cache or get_upload_folder()) / FOLDER


def to_cache(file: Path, results: Sequence[Path] = ()) -> str:
    """``file`` where Gradio serves files from, in a folder whose name cannot be guessed.

    Raises `OrfeasError` as `in_cache` does, and (no_result) where the file has gone, as a result's may at any time.

    results: their folders; without any one of them the copy is no longer handed out.
    """
    with in_cache(file.name, results) as path:
        try:
            os.link(file, path)
        except OSError:  # another disk, or one that has no links
            try:
                shutil.copyfile(file, path)
            except FileNotFoundError:
                raise OrfeasError("This result is no longer there: make it anew.", "no_result") from None
    return str(path)


@contextlib.contextmanager
def in_cache(name: str, results: Sequence[Path] = ()) -> Iterator[Path]:
    """A path to write a file to that Gradio will serve. Raises `OrfeasError` (disk_full) and leaves no half of one."""
    path = made_folder() / secrets.token_hex(32) / name
    try:
        path.parent.mkdir(parents=True)
        if results:
            (path.parent / RESULTS).write_text(json.dumps([str(result) for result in results]))
        yield path
    except BaseException as error:
        shutil.rmtree(path.parent, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OrfeasError(DISK_FULL, "disk_full") from error
        raise


def may_be_had(copy: Path) -> bool:
    """Whether the results that ``copy`` was made of are all still there."""
    try:
        results = json.loads((copy.parent / RESULTS).read_text())
    except FileNotFoundError:
        return True
    return all(Path(result).is_dir() for result in results)
