"""What .env says of this server, and the record of its releases."""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")  # as Docker has it


class Failed(Exception):
    """One sentence for the operator: what is wrong and what to do."""


class Config:
    """``.env`` of ``root``; variables of the environment win, as they do for Compose."""

    def __init__(self, root: Path, environment: Mapping[str, str] = os.environ):
        self.root = root
        self.env_file = root / ".env"
        if not self.env_file.is_file():
            raise Failed(f"{self.env_file} is missing: copy .env.example to it and fill it in.")
        self._file = read_env(self.env_file)
        self._environment = environment

    def get(self, name: str, default: str = "") -> str:
        return self._environment.get(name) or self._file.get(name) or default

    def path(self, name: str, default: str) -> Path:
        return (self.root / Path(self.get(name, default)).expanduser()).absolute()

    def number(self, name: str, default: int) -> int:
        """Rounded up: the app takes 90.5, too. Raises `Failed`."""
        try:
            return math.ceil(float(self.get(name, str(default))))
        except (ValueError, OverflowError):  # OverflowError: inf
            raise Failed(f"{name} is {self.get(name)!r} in .env: it has to be a number.") from None

    def all(self) -> dict[str, str]:
        """The environment of what is started: that of this process, and .env."""
        return {**self._file, **self._environment}

    @property
    def backups(self) -> Path:
        return self.path("ORFEAS_BACKUPS", "backups")

    def write_tag(self, tag: str) -> None:
        """Set ORFEAS_TAG in .env; all else in it stays as it is."""
        lines = self.env_file.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if not ((found := _LINE.match(line)) and found[1] == "ORFEAS_TAG")]
        part = self.env_file.with_name(".env.part")
        part.touch(mode=self.env_file.stat().st_mode & 0o777)
        part.write_text("\n".join([*kept, f"ORFEAS_TAG={tag}"]) + "\n", encoding="utf-8")
        part.replace(self.env_file)

    # --- the record ----------------------------------------------------------------------------------------------

    def releases(self) -> list[dict[str, Any]]:
        """Releases and rollbacks (kind), oldest first: tag, time, previous tag, the archive of the data before it."""
        try:
            return json.loads((self.backups / "releases.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []

    def record(self, **release: Any) -> None:
        self.backups.mkdir(parents=True, exist_ok=True)
        part = self.backups / "releases.part"
        part.write_text(json.dumps([*self.releases(), {"time": time.time(), **release}], indent=1), encoding="utf-8")
        part.replace(self.backups / "releases.json")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One operator at a time."""
        self.backups.mkdir(parents=True, exist_ok=True)
        with (self.backups / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Failed("Another release, rollback or restore is under way: wait for it to end.") from None
            yield


def read_env(path: Path) -> dict[str, str]:
    """NAME=value lines; quotes around a value are removed, comments left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.lstrip().startswith("#") and (match := _LINE.match(line)):
            value = match[2]
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            else:
                value = re.split(r"\s+#", value)[0]
            found[match[1]] = value
    return found


def check_tag(tag: str) -> str:
    if not TAG.fullmatch(tag) or tag == "latest":
        raise Failed(f"{tag!r} cannot be a version: take letters, digits, dots and dashes, such as v1.2.0.")
    return tag
