"""Results on disk: a folder each, written aside and renamed into place, so that none is ever half there; and an index.

root/results/<id>/       the result's files; .owner holds the token of the job that made it, and is never served
root/staging/            what is being written or removed
root/instances/          a lock of each process that uses this folder
root/library.sqlite3     the index of results and jobs, rebuilt from the folders if it is lost or damaged
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from orfeas.errors import OrfeasError
from orfeas.index import Index, StoredJob, StoredResult
from orfeas.instance import Instance
from orfeas.telemetry import log

_ID = re.compile(r"[0-9a-f]{32}")
OWNER = ".owner"
OPEN_SECONDS = 3600.0  # for so long after somebody opened a result, it is taken to be open still
LOST = "The server ended while this job ran, and nothing was kept of it: start it again."
CLOCK_STEP_SECONDS = 3600.0


@dataclass(frozen=True)
class Retention:
    """How long results are kept: ``days`` and ``gigabytes`` in all; 0 means without limit."""

    days: float = 0.0
    gigabytes: float = 0.0


class Library:
    """The results below ``root``. Folders and index are made when they are first written to, not before.

    Threads may share it, and so may processes. ``clock``: seconds since 1970.
    """

    def __init__(self, root: Path, retention: Retention | None = None, clock: Callable[[], float] = time.time):
        self.root = Path(root).expanduser().absolute()
        self.results = self.root / "results"
        self.staging = self.root / "staging"
        self.retention = retention or Retention()
        self.instance = Instance(self.root / "instances")
        self.clock = clock
        self._started = clock(), seconds_up()
        self._lock = threading.Lock()
        self._index: Index | None = None
        self._unentered: set[str] = set()  # results that are there while the index was too busy to take them

    def new_id(self) -> str:
        """32 hexadecimal digits, 128 random bits: who does not know it cannot guess it."""
        return secrets.token_hex(16)

    # --- the index -----------------------------------------------------------------------------------------------

    @property
    def index(self) -> Index:
        """Opened when first needed; rebuilt from the folders where there is none, or a damaged one.

        Raises `OrfeasError` if the data folder cannot take it.
        """
        with self._lock:
            if self._index is None:
                with self.explain_disk_errors():
                    self._index = self._open_index()
            return self._index

    def _open_index(self) -> Index:
        path = self.root / "library.sqlite3"
        self.root.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        try:
            index = Index(path)
        except sqlite3.OperationalError:  # locked, full, not writable: the file is not at fault
            raise
        except sqlite3.DatabaseError as error:
            aside = path.with_name(f"library.damaged-{int(self.clock())}.sqlite3")
            log.error("index_damaged", error=str(error), kept_as=aside.name, remedy="rebuilt from the folders")
            for ending in ("-wal", "-shm"):
                path.with_name(path.name + ending).unlink(missing_ok=True)
            path.replace(aside)
            index, is_new = Index(path), True
        if is_new:
            self._reconcile(index)
        return index

    def _reconcile(self, index: Index) -> None:
        """Make the index agree with the folders that are there."""
        entered = {result.id for result in index.results()}
        there = {folder.name for folder in self.results.glob("*") if _ID.fullmatch(folder.name)}
        for result_id in sorted(there - entered):
            self._record(index, self.results / result_id)
        for result_id in entered - there:
            index.remove_result(result_id)

    def _record(self, index: Index, folder: Path) -> None:
        """Enter a result that is there, and if its job is known, that as well."""
        recipe = _read_json(folder / "recipe.json")
        request, facts = recipe.get("request") or {}, recipe.get("facts") or {}
        owner = _read_owner(folder)
        created = _read_time(recipe.get("created")) or folder.stat().st_mtime
        name = str(request.get("name", ""))
        fingerprint = str(facts.get("fingerprint", ""))
        index.add_result(StoredResult(folder.name, owner, name, created, created, _bytes_in(folder), fingerprint))
        if owner and index.find_job(owner) is None:
            options = {**request, "engine": facts.get("engine", "")}
            seconds = float((facts.get("seconds") or {}).get("total", 0.0))
            index.put_job(StoredJob(owner, "", "done", name, created, options, seconds, folder.name))

    def open(self) -> None:
        """Make sure that results can be written. Raises `OrfeasError` (data_dir, disk_full) if they cannot."""
        with self.explain_disk_errors():
            self.instance.announce()
        _ = self.index

    def explain_disk_errors(self) -> contextlib.AbstractContextManager[None]:
        """Within, a full disk or a data folder that cannot be written to is an `OrfeasError` (disk_full, data_dir)."""
        return _explain_disk_errors(self.root)

    @contextlib.contextmanager
    def explain_index_errors(self) -> Iterator[None]:
        """Within, whatever else keeps the index from being read or written now is an `OrfeasError` too (index)."""
        try:
            with self.explain_disk_errors():
                yield
        except (OSError, sqlite3.Error) as error:
            log.warning("index_trouble", error=str(error))
            raise OrfeasError("The index of results cannot be used now: try again in a minute.", "index") from error

    # --- writing -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def write(self, result_id: str, owner: str = "") -> Iterator[Path]:
        """A folder to write a result into; on leaving it is renamed to its place, on an exception it is removed.

        owner: the token of its job: whoever knows it may delete the result.
        Raises `OrfeasError` (disk_full, data_dir) if the data folder cannot take it.
        """
        with self._aside(result_id) as folder:
            yield folder
            if owner:
                (folder / OWNER).write_text(owner, encoding="ascii")
            self.results.mkdir(exist_ok=True)
            index = self.index
            os.rename(folder, self.results / result_id)
            try:
                self._record(index, self.results / result_id)
            except BaseException as error:
                if _is_busy(error):  # the result is there: that another process keeps the index is no reason to lose it
                    log.warning("result_not_entered", result=result_id[:8], error=str(error))
                    self._unentered.add(result_id)
                else:
                    shutil.rmtree(self.results / result_id, ignore_errors=True)
                    raise

    def copy(self, result_id: str, owner: str, note: str) -> Path:
        """The same result once more, for another owner, made now; returns its folder. ``note`` is added to its recipe.

        Files that do not change are shared on disk. Raises `FileNotFoundError` if the result is no longer there,
        `OrfeasError` as `write` does.
        """
        source, copy_id = self.results / result_id, self.new_id()
        with self.write(copy_id, owner) as folder:
            for file in source.iterdir():
                if file.name not in (OWNER, "recipe.json"):
                    try:
                        os.link(file, folder / file.name)
                    except PermissionError:  # a disk that has no links
                        shutil.copyfile(file, folder / file.name)
            recipe = json.loads((source / "recipe.json").read_text(encoding="utf-8"))
            created = datetime.fromtimestamp(self.clock(), timezone.utc).isoformat(timespec="seconds")
            recipe |= {"created": created, "notes": [*recipe["notes"], note]}
            (folder / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
        return self.results / copy_id

    @contextlib.contextmanager
    def add(self, result_id: str, name: str) -> Iterator[Path]:
        """A path to write one more file of a finished result to; on leaving it is renamed to ``name`` in its folder.

        Raises `FileNotFoundError` if the result is no longer there, `OrfeasError` as `write` does.
        """
        with self._aside(self.new_id()) as folder:
            yield folder / name
            os.replace(folder / name, self.results / result_id / name)
            self.index.touch_result(result_id, self.clock(), _bytes_in(self.results / result_id))

    def scratch(self) -> contextlib.AbstractContextManager[Path]:
        """A folder on the library's volume for a while; it is removed on leaving. Raises `OrfeasError` as `write`."""
        return self._aside(self.new_id())

    @contextlib.contextmanager
    def _aside(self, name: str) -> Iterator[Path]:
        folder = self.staging / f"{self.instance.name}-{name}"
        try:
            with self.explain_disk_errors():
                self.instance.announce()
                folder.mkdir(parents=True)
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # --- reading -------------------------------------------------------------------------------------------------

    def find(self, result_id: str) -> Path | None:
        """The folder of a finished result, or None."""
        if not _ID.fullmatch(result_id):
            return None
        folder = self.results / result_id
        return folder if folder.is_dir() else None

    def touch(self, result_id: str) -> None:
        """Somebody opened the result: for `OPEN_SECONDS` it is not removed to make room."""
        with contextlib.suppress(OrfeasError, sqlite3.Error):  # a full disk must not keep anybody from reading
            self.index.touch_result(result_id, self.clock())

    # --- removing ------------------------------------------------------------------------------------------------

    def remove(self, result_id: str) -> bool:
        """Remove a result, at once and whole; False if there is none."""
        if not _ID.fullmatch(result_id):
            return False
        with self.explain_disk_errors():
            self.instance.announce()
            self.staging.mkdir(parents=True, exist_ok=True)
            aside = self.staging / f"{self.instance.name}-{self.new_id()}"
            try:
                os.rename(self.results / result_id, aside)
            except FileNotFoundError:
                self.index.remove_result(result_id)
                return False
            try:  # not before: a result that is there and not in the index would be kept for ever
                self.index.remove_result(result_id)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return True

    def expire(self) -> list[str]:
        """Remove results that are older than `Retention` allows, and the oldest while there are too many bytes.

        What copies share counts once: else whoever asks for many of their own would have everybody else's removed.
        What was made or opened in the last `OPEN_SECONDS` stays. Nothing is removed for its age after the
        system's clock was set by more than an hour while this process ran: nobody can tell how old anything is then.
        Returns the ids removed.
        """
        if not self.root.is_dir():
            return []
        self._enter_late()
        now, results, removed = self.clock(), self.index.results(), []
        limit = self.retention.gigabytes * 1e9
        is_over = 0 < limit < sum(result.bytes for result in results)  # as if nothing were shared
        disk = _Disk(self.results / result.id for result in results) if is_over else None
        oldest = now - self.retention.days * 86400.0
        by_age = self.retention.days > 0 and not self._clock_was_set(now)
        for result in results:
            too_old = by_age and result.created < oldest
            too_many = disk is not None and disk.bytes > limit
            is_open = abs(now - result.opened) < OPEN_SECONDS
            if (too_old or too_many) and not is_open:
                try:
                    self.remove(result.id)
                except (OrfeasError, OSError, sqlite3.Error) as trouble:  # the others' turn comes all the same
                    log.warning("result_not_removed", result=result.id[:8], error=str(trouble))
                    continue
                removed.append(result.id)
                if disk:
                    disk.drop(result.id)
        if by_age:
            # for as long again, a job says that its result has expired
            self.index.remove_jobs_before(oldest - self.retention.days * 86400.0)
        return removed

    def _enter_late(self) -> None:
        for result_id in list(self._unentered):
            if folder := self.find(result_id):
                self._record(self.index, folder)
            self._unentered.discard(result_id)

    def _clock_was_set(self, now: float) -> bool:
        clock, up = self._started
        return abs((now - clock) - (seconds_up() - up)) > CLOCK_STEP_SECONDS

    def clean(self) -> list[StoredJob]:
        """See to what processes that died left: half-written folders are removed, their jobs are marked lost.

        Those whose result is there are done. Returns the others. Raises `OrfeasError` if the data folder cannot be
        written to.
        """
        if not self.root.is_dir():
            return []
        with self.explain_disk_errors():
            for folder in self.staging.glob("*-*") if self.staging.is_dir() else ():
                if not self.instance.is_alive(folder.name.split("-")[0]):
                    shutil.rmtree(folder, ignore_errors=True)
            left = [job for job in self.index.unfinished_jobs() if not self.instance.is_alive(job.instance)]
            self._reconcile(self.index)
            made = {result.owner: result.id for result in self.index.results() if result.owner}
            for job in left:
                if job.token in made:  # its result was there, and the index busy or the process gone at that moment
                    self.index.put_job(replace(job, state="done", result=made[job.token]))
                else:
                    self.index.put_job(replace(job, state="lost", error=LOST, code="lost"))
            self.instance.forget_dead()
        return [job for job in left if job.token not in made]

    def close(self) -> None:
        with self._lock:
            if self._index is not None:
                self._index.close()
                self._index = None
        self.instance.leave()


def seconds_up() -> float:
    """Seconds since some moment, whatever the clock is set to, and those among them in which the machine slept.

    `time.monotonic` stands still then, on Linux and macOS.
    """
    kind = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))  # Linux, macOS; Windows has neither
    return time.monotonic() if kind is None else time.clock_gettime(kind)


def _read_owner(folder: Path) -> str:
    try:
        owner = (folder / OWNER).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
    return owner if _ID.fullmatch(owner) else ""


def _read_json(path: Path) -> dict:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _read_time(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


class _Disk:
    """What results take on the disk, where a file that several of them share is there once.

    bytes: of all of them. folders: theirs; one that is gone takes nothing.
    """

    def __init__(self, folders: Iterable[Path]):
        self._files = {folder.name: _files_in(folder) for folder in folders}
        self._holders = Counter(file for files in self._files.values() for file in files)
        self.bytes = sum({file: size for files in self._files.values() for file, size in files.items()}.values())

    def drop(self, result_id: str) -> None:
        """One of them was removed: what no other has is free."""
        for file, size in self._files.pop(result_id).items():
            self._holders[file] -= 1
            if not self._holders[file]:
                self.bytes -= size


def _files_in(folder: Path) -> dict[tuple[int, int], int]:
    """The bytes of each file, by its volume and its number there."""
    try:
        found = [file.stat() for file in folder.iterdir()]
    except FileNotFoundError:  # another process has just removed the result
        return {}
    return {(stat.st_dev, stat.st_ino): stat.st_size for stat in found}


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


@contextlib.contextmanager
def _explain_disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(root) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR):
            raise _not_writable(root) from error
        raise
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise _disk_full(root) from error
        if "readonly" in str(error) or "unable to open" in str(error):
            raise _not_writable(root) from error
        raise


def _is_busy(error: BaseException) -> bool:
    """Whether another process has kept the index to itself for `orfeas.index.BUSY_SECONDS`."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _disk_full(root: Path) -> OrfeasError:
    return OrfeasError(f"The disk is full: free some space on the volume of {root} and try again.", "disk_full")


def _not_writable(root: Path) -> OrfeasError:
    return OrfeasError(f"The data folder {root} cannot be written to: set ORFEAS_DATA_DIR to one that can.", "data_dir")
