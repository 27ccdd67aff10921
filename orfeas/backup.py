"""The library in one archive and back: ``python -m orfeas backup`` and ``restore``.

The archive is a plain tar: ``orfeas-backup.json`` first, then the index, the results, and last of all ``SHA256SUMS`` of
everything before it. Uploads and what is half-written are left out. It is written and read as a stream, so that it can
go through a pipe, and while the app runs: a finished result never changes but for whole files.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import sqlite3
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from orfeas import __version__
from orfeas.errors import BadRequest, OrfeasError
from orfeas.instance import Instance
from orfeas.library import Library

HEADER, SUMS, INDEX = "orfeas-backup.json", "SHA256SUMS", "library.sqlite3"
FORMAT = 1
_RESULT = re.compile(r"[0-9a-f]{32}")
_MEMBER = re.compile(rf"{re.escape(HEADER)}|{re.escape(INDEX)}|results/[0-9a-f]{{32}}/[^/\0]+")
_PIECE = 1 << 20


@dataclass(frozen=True)
class Archived:
    """What an archive holds: how many results, files and bytes."""

    results: int
    files: int
    bytes: int


# --- writing ---------------------------------------------------------------------------------------------------------


def check_library(root: Path) -> None:
    """Raise `BadRequest` if there is no library below ``root``."""
    if not (root / INDEX).is_file() and not (root / "results").is_dir():
        raise BadRequest(f"There is no library in {root}: set ORFEAS_DATA_DIR to the app's data folder.", "no_library")


def write_backup(root: Path, target: BinaryIO) -> Archived:
    """Write the library below ``root`` to ``target``, which need not seek. Raises `BadRequest` if there is none."""
    check_library(root)
    results, index = root / "results", root / INDEX
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        archive = _Writer(tar)
        about = {"format": FORMAT, "orfeas": __version__, "created": time.time()}
        archive.add(HEADER, io.BytesIO(json.dumps(about).encode()))
        if index.is_file():
            with _copy_of(index) as copy:
                archive.add(INDEX, copy)
        count = 0
        for folder in sorted(results.glob("*")) if results.is_dir() else ():
            if _RESULT.fullmatch(folder.name):
                count += _add_result(archive, folder)
        archive.add_sums()
    return Archived(count, len(archive.sums), archive.bytes)


def _add_result(archive: _Writer, folder: Path) -> bool:
    """Add a result whole; False if it was removed meanwhile. Open files stay readable when they are removed."""
    with contextlib.ExitStack() as stack:
        try:
            files = {file.name: stack.enter_context(file.open("rb")) for file in sorted(folder.iterdir())}
        except FileNotFoundError:
            return False
        for name, file in files.items():
            archive.add(f"results/{folder.name}/{name}", file)
    return True


@contextlib.contextmanager
def _copy_of(index: Path) -> Iterator[BinaryIO]:
    """The index as it was at one moment, although other processes write to it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / INDEX
        with contextlib.closing(sqlite3.connect(index)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        with copy.open("rb") as file:
            yield file


class _Writer:
    def __init__(self, tar: tarfile.TarFile):
        self._tar = tar
        self.sums: dict[str, str] = {}
        self.bytes = 0

    def add(self, name: str, file: IO[bytes]) -> None:
        member = tarfile.TarInfo(name)
        member.size = file.seek(0, os.SEEK_END)
        member.mtime = int(time.time())
        file.seek(0)
        hashed = _Hashed(file)
        self._tar.addfile(member, hashed)
        self.sums[name] = hashed.digest
        self.bytes += member.size

    def add_sums(self) -> None:
        text = "".join(f"{digest}  {name}\n" for name, digest in self.sums.items()).encode()
        member = tarfile.TarInfo(SUMS)
        member.size = len(text)
        self._tar.addfile(member, io.BytesIO(text))


class _Hashed:
    """A file whose content is hashed while it is read."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._hash.update(piece)
        return piece

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


# --- reading ---------------------------------------------------------------------------------------------------------


def restore_backup(root: Path, source: BinaryIO) -> tuple[Archived, Path | None]:
    """Put an archive's library in the place of that below ``root``, which is kept beside it: (what, kept folder).

    The archive is unpacked and checked whole before anything is moved. Raises `BadRequest` if it is damaged or none, or
    if an app uses the folder.
    """
    instances = Instance(root / "instances")
    if any(instances.is_alive(lock.stem) for lock in instances.folder.glob("*.lock")):
        raise BadRequest(f"An app uses {root}: stop it, then restore.", "library_in_use")
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="restoring-", dir=root))
    try:
        archived = unpack_backup(source, folder)
        kept = _unused(root / f"before-restore-{time.strftime('%Y%m%d-%H%M%S')}")
        old = [path for path in (root / "results", *root.glob(f"{INDEX}*")) if path.exists()]
        for path in old:
            kept.mkdir(exist_ok=True)
            path.rename(kept / path.name)
        for path in (folder / "results", folder / INDEX):
            if path.exists():
                path.rename(root / path.name)
        with contextlib.closing(Library(root)) as library:
            library.clean()  # what was made while the archive was written is entered, jobs that ran then are lost
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return archived, kept if old else None


def _unused(path: Path) -> Path:
    """The path, with a number behind it if there is something already: of another restore in the same second."""
    names = itertools.chain([path.name], (f"{path.name}-{number}" for number in itertools.count(2)))
    return next(free for name in names if not (free := path.with_name(name)).exists())


def unpack_backup(source: BinaryIO, folder: Path) -> Archived:
    """Unpack an archive into ``folder`` and check every file. Raises `BadRequest` if it is damaged or none."""
    found: dict[str, str] = {}
    sums, size = None, 0
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            for member in tar:
                if sums is not None or not member.isreg():
                    raise BadRequest(f"The backup holds {member.name!r}, which no backup of ours does.", "bad_backup")
                content = tar.extractfile(member)
                if member.name == SUMS:
                    sums = dict(reversed(line.split("  ", 1)) for line in content.read().decode().splitlines())
                    continue
                found[member.name] = _unpack(member.name, content, folder)
                size += member.size
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise BadRequest(f"The backup cannot be read ({error}): it is damaged, or no backup.", "bad_backup") from error
    if sums is None:
        raise BadRequest("The backup is cut off: its last part, SHA256SUMS, is missing.", "bad_backup")
    for name in sorted(sums.keys() | found.keys()):
        if sums.get(name) != found.get(name):
            raise BadRequest(f"The backup is damaged: {name} is not what SHA256SUMS says.", "bad_backup")
    about = json.loads((folder / HEADER).read_text(encoding="utf-8")) if HEADER in found else {}
    if about.get("format") != FORMAT:
        raise BadRequest(
            f"The backup has the format {about.get('format')}, and this version reads {FORMAT}.", "bad_backup"
        )
    return Archived(len({name.split("/")[1] for name in found if "/" in name}), len(found), size)


def _unpack(name: str, content: IO[bytes], folder: Path) -> str:
    """Write one file and return its SHA-256."""
    if not _MEMBER.fullmatch(name) or name.endswith(("/.", "/..")):
        raise BadRequest(f"The backup holds {name!r}, which no backup of ours does.", "bad_backup")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    hashed = _Hashed(content)
    with path.open("xb") as file:
        while piece := hashed.read(_PIECE):
            file.write(piece)
    return hashed.digest


# --- the command line ------------------------------------------------------------------------------------------------


def add_backup_parser(commands) -> None:
    parser = commands.add_parser("backup", help="write the library into one archive; the app may run")
    parser.add_argument("file", help="the archive, a new file; - for standard output")
    parser.set_defaults(func=run_backup)


def add_restore_parser(commands) -> None:
    parser = commands.add_parser("restore", help="put an archive in the place of the library; the app must not run")
    parser.add_argument("file", help="the archive; - for standard input")
    parser.set_defaults(func=run_restore)


def run_backup(arguments: argparse.Namespace) -> int:
    root, started = _root(), time.monotonic()
    if arguments.file == "-":
        archived = write_backup(root, sys.stdout.buffer)
    else:
        path = Path(arguments.file)
        part = path.with_name(path.name + ".part")
        if path.exists():
            raise BadRequest(f"{path} exists already: name a new file.", "bad_output")
        try:
            with part.open("wb") as file:
                archived = write_backup(root, file)
                os.fsync(file.fileno())
            part.rename(path)
        except OSError as error:
            raise OrfeasError(f"{path} cannot be written ({error.strerror}).", "bad_output") from error
        finally:
            part.unlink(missing_ok=True)
    _say("backed up", archived, started)
    return 0


def run_restore(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            piped = arguments.file == "-"
            source = sys.stdin.buffer if piped else stack.enter_context(Path(arguments.file).open("rb"))
            archived, kept = restore_backup(_root(), source)
    except OSError as error:
        raise OrfeasError(f"{arguments.file} cannot be restored ({error.strerror}).", "bad_backup") from error
    _say("restored", archived, started)
    if kept:
        print(f"what was there before is in {kept}: remove it when you need it no more", file=sys.stderr)
    return 0


def _root() -> Path:
    from orfeas.settings import load_settings

    return load_settings().data_dir.expanduser().absolute()


def _say(done: str, archived: Archived, started: float) -> None:
    print(
        f"{done}: {archived.results} results, {archived.files} files, {archived.bytes / 1e6:.1f} MB in"
        f" {time.monotonic() - started:.1f} s",
        file=sys.stderr,
    )
