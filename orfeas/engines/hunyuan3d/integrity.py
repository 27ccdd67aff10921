"""Whether a file of weights is, byte for byte, what it was published or converted as.

Seven gigabytes are hashed once: that a file was, and was right, is remembered with its size and its time of change.
Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

from orfeas.verify import hash_file

SIDECAR = ".sha256"  # behind the name of a converted file, in the form that `sha256sum --check` reads


def write_sidecar(path: Path, sha256: str) -> None:
    """Write beside ``path`` what its SHA-256 has to be."""
    path.with_name(path.name + SIDECAR).write_text(f"{sha256}  {path.name}\n", encoding="utf-8")


def remove_sidecar(path: Path) -> None:
    path.with_name(path.name + SIDECAR).unlink(missing_ok=True)


def read_sidecar(path: Path) -> str:
    """What the SHA-256 of ``path`` has to be, in hex; "" if that is not written beside it."""
    try:
        text = path.with_name(path.name + SIDECAR).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    found = re.match(r"[0-9a-f]{64}\b", text)
    return found[0] if found else ""


class Memory:
    """Which files were hashed, in a JSON file. Where it cannot be read or written, none is remembered."""

    def __init__(self, file: Path):
        self._file = file

    def knows(self, path: Path, sha256: str) -> bool:
        """Whether ``path`` had that SHA-256 and has not changed since, as its size and time tell."""
        return self._read().get(str(path.resolve())) == _state(path, sha256)

    def add(self, path: Path, sha256: str) -> None:
        text = json.dumps({**self._read(), str(path.resolve()): _state(path, sha256)}, indent=1)
        aside = self._file.with_name(f"{self._file.name}.{os.getpid()}.part")
        with contextlib.suppress(OSError):  # then it is hashed again the next time
            self._file.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(text, encoding="utf-8")
            os.replace(aside, self._file)

    def _read(self) -> dict:
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def explain_change(path: Path, sha256: str, memory: Memory) -> str:
    """How the file's SHA-256 is not ``sha256``, half a sentence; "" if it is. Hashes what ``memory`` does not know."""
    if memory.knows(path, sha256):
        return ""
    found = hash_file(path)
    if found != sha256:
        return f"its SHA-256 is {found} instead of {sha256}"
    memory.add(path, sha256)
    return ""


def _state(path: Path, sha256: str) -> list:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, sha256]
