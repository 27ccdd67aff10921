"""The index of a library: which results, jobs and groups of jobs there are, in SQLite.

Of the results, the folders are the truth; this can be rebuilt.

Several processes may use one index, as the old and the new version do while one takes over from the other: it is in
write-ahead mode, and no transaction of ours outlasts a statement or two.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUSY_SECONDS = 10.0

# Applied in order, each once; `PRAGMA user_version` counts them. Never change one that was released: add the next.
# During a release, and after one is taken back, the version before uses the same file: columns are only ever added,
# with a default, and every statement names those that it knows.
MIGRATIONS = (
    """
    CREATE TABLE results (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        name TEXT NOT NULL,
        created REAL NOT NULL,
        opened REAL NOT NULL,
        bytes INTEGER NOT NULL,
        fingerprint TEXT NOT NULL
    );
    CREATE INDEX results_by_owner ON results (owner);
    CREATE INDEX results_by_age ON results (created);
    CREATE INDEX results_by_fingerprint ON results (fingerprint);
    CREATE TABLE jobs (
        token TEXT PRIMARY KEY,
        instance TEXT NOT NULL,
        state TEXT NOT NULL,
        name TEXT NOT NULL,
        options TEXT NOT NULL,
        created REAL NOT NULL,
        seconds REAL NOT NULL,
        result TEXT NOT NULL,
        error TEXT NOT NULL,
        code TEXT NOT NULL,
        picture TEXT NOT NULL
    );
    CREATE INDEX jobs_by_state ON jobs (state);
    CREATE INDEX jobs_by_age ON jobs (created);
    CREATE TABLE groups (
        token TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        created REAL NOT NULL,
        members TEXT NOT NULL,
        note TEXT NOT NULL
    );
    CREATE INDEX groups_by_age ON groups (created);
    """,
    "ALTER TABLE jobs ADD COLUMN request_hash TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE groups ADD COLUMN request_hash TEXT NOT NULL DEFAULT ''",
    """
    ALTER TABLE jobs ADD COLUMN account TEXT NOT NULL DEFAULT '';
    ALTER TABLE groups ADD COLUMN account TEXT NOT NULL DEFAULT '';
    """,
)
_OVER = ("done", "failed", "cancelled", "lost")


@dataclass(frozen=True)
class StoredResult:
    """A row of results. created, opened: seconds since 1970. owner: the token of its job. fingerprint: may be ""."""

    id: str
    owner: str
    name: str
    created: float
    opened: float
    bytes: int
    fingerprint: str = ""


@dataclass(frozen=True)
class StoredJob:
    """A row of jobs. state: as `orfeas.web.jobs.Job` has it, or "lost"; result: the id of one, or "".

    picture: the path of what was uploaded, or ""; it may be gone. request_hash: of `orfeas.web.repeats`, or "".
    account: the name of who had logged in, or "".
    """

    token: str
    instance: str
    state: str
    name: str
    created: float
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    result: str = ""
    error: str = ""
    code: str = ""
    picture: str = ""
    request_hash: str = ""
    account: str = ""

    @property
    def is_over(self) -> bool:
        return self.state in _OVER


@dataclass(frozen=True)
class StoredGroup:
    """A row of groups: jobs that were asked for at once. kind: "batch" or "best_of".

    members: a mapping each, with the "token" of its job and whatever else belongs to it; JSON values. note: a sentence.
    request_hash, account: as of `StoredJob`.
    """

    token: str
    kind: str
    created: float
    members: tuple[Mapping[str, Any], ...]
    note: str = ""
    request_hash: str = ""
    account: str = ""


class Index:
    """One file. Threads may share it. Every method raises `sqlite3.Error` when the file or the disk fails."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            self._migrate()
        except sqlite3.Error:
            self._connection.close()
            raise

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # --- results -------------------------------------------------------------------------------------------------

    def add_result(self, result: StoredResult) -> None:
        self._put("results", vars(result))

    def find_result(self, result_id: str) -> StoredResult | None:
        return next(self._results("WHERE id = ?", (result_id,)), None)

    def find_fingerprint(self, fingerprint: str) -> StoredResult | None:
        """The newest result with that fingerprint."""
        return next(self._results("WHERE fingerprint = ? ORDER BY created DESC LIMIT 1", (fingerprint,)), None)

    def results(self) -> list[StoredResult]:
        """All, oldest first."""
        return list(self._results("ORDER BY created, id", ()))

    def count_results(self) -> tuple[int, int]:
        """How many there are, and their bytes."""
        return self._run("SELECT count(*), coalesce(sum(bytes), 0) FROM results")[0]

    def touch_result(self, result_id: str, opened: float, size_bytes: int | None = None) -> None:
        """It was opened now, and if given, has so many bytes."""
        self._run(
            "UPDATE results SET opened = max(opened, ?), bytes = coalesce(?, bytes) WHERE id = ?",
            (opened, size_bytes, result_id),
        )

    def remove_result(self, result_id: str) -> None:
        self._run("DELETE FROM results WHERE id = ?", (result_id,))

    # --- jobs ----------------------------------------------------------------------------------------------------

    def put_job(self, job: StoredJob) -> None:
        """Add it, or replace what was there of the same token."""
        self._put("jobs", {**vars(job), "options": json.dumps(dict(job.options))})

    def find_job(self, token: str) -> StoredJob | None:
        return next(self._jobs("WHERE token = ?", (token,)), None)

    def find_jobs(self, tokens: Iterable[str]) -> list[StoredJob]:
        """Those of ``tokens`` that there are, newest first."""
        tokens = list(tokens)
        marks = ", ".join("?" * len(tokens))
        return list(self._jobs(f"WHERE token IN ({marks}) ORDER BY created DESC", tokens))

    def unfinished_jobs(self) -> list[StoredJob]:
        marks = ", ".join("?" * len(_OVER))
        return list(self._jobs(f"WHERE state NOT IN ({marks}) ORDER BY created", _OVER))

    def recent_seconds(self, quality: str, engine: str, limit: int = 20) -> list[float]:
        """What the last ``limit`` finished jobs of that quality and engine took, newest first."""
        rows = self._run(
            "SELECT seconds FROM jobs WHERE state = 'done' AND json_extract(options, '$.quality') = ?"
            " AND json_extract(options, '$.engine') = ? ORDER BY created DESC LIMIT ?",
            (quality, engine, limit),
        )
        return [seconds for (seconds,) in rows]

    def remove_job(self, token: str) -> None:
        self._run("DELETE FROM jobs WHERE token = ?", (token,))

    def remove_jobs_before(self, created: float) -> None:
        """Finished ones without a result, and groups, that began before then."""
        marks = ", ".join("?" * len(_OVER))
        self._run(
            f"DELETE FROM jobs WHERE created < ? AND state IN ({marks})"
            " AND result NOT IN (SELECT id FROM results WHERE id = jobs.result)",
            (created, *_OVER),
        )
        self._run("DELETE FROM groups WHERE created < ?", (created,))

    # --- groups --------------------------------------------------------------------------------------------------

    def put_group(self, group: StoredGroup) -> None:
        """Add it, or replace what was there of the same token."""
        members = json.dumps([dict(member) for member in group.members])
        self._put("groups", {**vars(group), "members": members})

    def find_group(self, token: str) -> StoredGroup | None:
        columns = "token, kind, created, members, note, request_hash, account"
        for *row, members, note, request_hash, account in self._run(
            f"SELECT {columns} FROM groups WHERE token = ?", (token,)
        ):
            return StoredGroup(*row, tuple(json.loads(members)), note, request_hash, account)
        return None

    def remove_group(self, token: str) -> None:
        self._run("DELETE FROM groups WHERE token = ?", (token,))

    # --- within --------------------------------------------------------------------------------------------------

    def _migrate(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
                for statement in filter(str.strip, script.split(";")):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {number}")
        if self._connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("the index is damaged")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _run(self, statement: str, values: Iterable[Any] = ()) -> list[tuple]:
        with self._lock:
            return self._connection.execute(statement, tuple(values)).fetchall()

    def _put(self, table: str, row: Mapping[str, Any]) -> None:
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        self._run(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})", row.values())

    def _results(self, where: str, values: Iterable[Any]) -> Iterator[StoredResult]:
        for row in self._run(
            f"SELECT id, owner, name, created, opened, bytes, fingerprint FROM results {where}", values
        ):
            yield StoredResult(*row)

    def _jobs(self, where: str, values: Iterable[Any]) -> Iterator[StoredJob]:
        columns = (
            "token, instance, state, name, created, options, seconds, result, error, code, picture, request_hash,"
            " account"
        )
        for token, instance, state, name, created, options, *rest in self._run(
            f"SELECT {columns} FROM jobs {where}", values
        ):
            yield StoredJob(token, instance, state, name, created, json.loads(options), *rest)
