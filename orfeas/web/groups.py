"""Jobs that were asked for at once: several pictures (a batch), or one picture with several seeds (best of).

A group takes one place in the queue, and its jobs run one after the other, so that other people's come in between.
Each job is a job like any other, with a token and a result of its own; one that fails does not stop the rest.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orfeas.bundle import Entry, write_bundle
from orfeas.errors import BadRequest, OrfeasError
from orfeas.index import StoredGroup
from orfeas.rank import explain_ranking, rank
from orfeas.request import GenerationRequest, number_name
from orfeas.result import load_result
from orfeas.telemetry import log, report_bug
from orfeas.telemetry.logs import carrying_ids, short
from orfeas.web.jobs import see_end

if TYPE_CHECKING:
    from orfeas.result import Result
    from orfeas.web.callers import Caller
    from orfeas.web.job import Job
    from orfeas.web.jobs import Jobs

MAX_PICTURES = 50
MAX_BATCH_BYTES = 200_000_000
KEPT_GROUPS = 200
_TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclass
class Group:
    """A group of this server's life. ``jobs`` in the order asked for; ``future`` is done when all of them are over."""

    token: str
    kind: str
    created: float
    jobs: list[Job]
    members: list[dict[str, Any]]
    note: str = ""
    request_hash: str = ""  # of a request that came under a key: see `orfeas.web.repeats`
    account: str = ""  # as of `Caller`
    future: Future = field(default_factory=Future)

    @property
    def callers(self) -> int:
        """How many wait for it: one request may be sent twice."""
        return self.jobs[0].callers

    @callers.setter
    def callers(self, number: int) -> None:
        for job in self.jobs:
            job.callers = number

    @property
    def is_over(self) -> bool:
        return self.future.done()

    @property
    def fraction(self) -> float:
        """Of the whole, 0 to 1."""
        done = [1.0 if job.is_over else job.progress.fraction if job.progress else 0.0 for job in self.jobs]
        return sum(done) / len(done)

    @property
    def message(self) -> str:
        at = next((at for at, job in enumerate(self.jobs) if not job.is_over), len(self.jobs) - 1)
        job = self.jobs[at]
        said = job.progress.message if job.progress else "Waiting"
        return f"{at + 1} of {len(self.jobs)}, {job.name}: {said}"


@dataclass(frozen=True)
class Outcome:
    """How one job of a group ended: its result, or why there is none."""

    options: Mapping[str, Any]
    result: Result | None
    error: str
    code: str


class Groups:
    """Starts groups of jobs, and finds them again by their token, which only who started one knows."""

    def __init__(self, jobs: Jobs):
        self.jobs = jobs
        self._lock = threading.Lock()
        self._groups: dict[str, Group] = {}

    # --- starting ------------------------------------------------------------------------------------------------

    def start(
        self,
        kind: str,
        requests: Sequence[GenerationRequest],
        token: str = "",
        session: str = "",
        caller: Caller | None = None,
        request_hash: str = "",
    ) -> Group:
        """Run ``requests`` one after the other in a thread. kind: "batch" or "best_of".

        token: the page's name for the group, or "" for a script's, whose jobs end with it. request_hash: of a script's
        that has a name all the same. caller: as of `Jobs.start`, whose errors are raised.
        """
        has_name = bool(_TOKEN.fullmatch(token))
        is_page = has_name and not request_hash
        token = token if has_name else secrets.token_hex(16)
        if self.find(token):
            raise BadRequest("This was started already: reload the page and try again.", "job_exists")
        jobs = self.jobs.hold(requests, session, is_page, caller)
        names = [_name_of(request) for request in requests]
        members = [{"token": job.token, "picture": name} for job, name in zip(jobs, names, strict=True)]
        group = Group(token, kind, jobs[0].created, jobs, members, request_hash=request_hash, account=jobs[0].account)
        with self._lock:
            self._groups[token] = group
            over = [key for key, one in self._groups.items() if one.is_over]
            for key in over[:-KEPT_GROUPS]:
                del self._groups[key]
        self.jobs.wait_also_for(group.future)
        self._store(group)
        work = carrying_ids(self._work)
        thread = threading.Thread(target=work, args=(group, requests), name=f"group-{short(token)}", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:  # RuntimeError: the system gives no more threads
            sentence = "This machine has no room for another job now: try again in a few minutes."
            refused = OrfeasError(sentence, "no_thread")
            self._end(group, refused)
            raise refused from error
        return group

    def _work(self, group: Group, requests: Sequence[GenerationRequest]) -> None:
        try:
            for job, request in zip(group.jobs, requests, strict=True):
                self.jobs.run_held(job, request)
            if group.kind == "best_of":
                self._rank(group)
            self._end(group)
        except BaseException as bug:  # whatever happened: who waits for the group must hear of its end
            self._end(group, OrfeasError(report_bug(bug), "internal"))

    def _end(self, group: Group, error: OrfeasError | None = None) -> None:
        """error: of those of its jobs that are not over."""
        if error:
            self.jobs.fail(group.jobs, error)
        self._store(group)
        group.future.set_result(group)

    def _rank(self, group: Group) -> None:
        ranked = rank([job.result for job in group.jobs if job.result])
        places = {one.result.id: (place, one.agreement) for place, one in enumerate(ranked, start=1)}
        for job, member in zip(group.jobs, group.members, strict=True):
            if job.result and job.result.id in places:
                place, agreement = places[job.result.id]
                member |= {"rank": place, "agreement": round(agreement, 4)}
        if len(ranked) > 1:
            group.note = explain_ranking(ranked)

    # --- asking --------------------------------------------------------------------------------------------------

    def get(self, token: str) -> Group | None:
        """The group of that token, if this process ran it."""
        return self._groups.get(token)

    def outcomes(self, group: Group | StoredGroup) -> list[Outcome]:
        """Of each job of a group that is over, without those that were deleted. Raises `OrfeasError` as `find` does."""
        if isinstance(group, Group):
            return [Outcome(job.options, job.result, job.error, job.code) for job in group.jobs]
        tokens = [member["token"] for member in group.members]
        found = [(self.jobs.find(token), self.jobs.find_result(token)) for token in tokens]
        return [Outcome(job.options, result, job.error, job.code) for job, result in found if job]

    def still_answers(self, token: str) -> bool:
        """Whether the group is over, none of its jobs was stopped, lost or deleted, and all models made are there."""
        group, found = self.look(token), self.find(token)
        if group is None or not group["over"] or len(group["members"]) < len(found.members):
            return False
        states = {member["state"] for member in group["members"]}
        return "done" in states <= {"done", "failed"} and not any("expired" in member for member in group["members"])

    def look(self, token: str) -> dict[str, Any] | None:
        """What a page needs to draw the group, also one of an earlier run of this server; JSON values.

        None if there is no such group. Raises `OrfeasError` if the index cannot be asked now.
        "members" in the order asked for, each with what `Jobs.look` says of its job.
        """
        found = self.find(token)
        if found is None:
            return None
        states = [(member, self.jobs.look(member["token"])) for member in found.members]
        members = [{**member, **state} for member, state in states if state]  # without those that were deleted
        if not members:
            return None
        live = self._groups.get(token)
        return {
            "kind": found.kind,
            "created": round(found.created, 3),
            "over": live.is_over if live else True,
            "note": found.note,
            "members": members,
        }

    def stop(self, token: str) -> bool:
        """Stop all of its jobs; False if there is no such group running."""
        group = self._groups.get(token)
        if group is None:
            return False
        for job in reversed(group.jobs):  # those that wait first, or the next would begin
            self.jobs.stop(job)
        return True

    def remove(self, token: str) -> bool:
        """Stop it, and remove its jobs and their results; False if there is no such group.

        Raises `OrfeasError` as `Jobs.remove` does.
        """
        found = self.find(token)
        if found is None:
            return False
        self.jobs.check_here(member["token"] for member in found.members)  # before the first of them is removed
        self.stop(token)
        if live := self.get(token):
            see_end(live.future)
        with self._lock:
            self._groups.pop(token, None)
        for member in found.members:
            self.jobs.remove(member["token"])
        library = self.jobs.studio.library
        with library.explain_index_errors():
            library.index.remove_group(token)
        return True

    # --- one file ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def bundle(self, token: str) -> Iterator[tuple[Path, dict[str, Any]] | None]:
        """A ZIP of what is there of a group now, and its manifest; removed on leaving. None if there is no such group.

        Raises `OrfeasError` if the data folder cannot take it.
        """
        state = self.look(token)
        if state is None:
            yield None
            return
        library = self.jobs.studio.library
        entries = [self._entry(member) for member in state["members"]]
        with library.scratch() as folder:
            file = folder / "models.zip"
            yield file, write_bundle(file, entries)

    def _entry(self, member: Mapping[str, Any]) -> Entry:
        library = self.jobs.studio.library
        folder = library.find(member.get("result", ""))
        result: Result | None = load_result(folder) if folder else None
        facts = {key: member[key] for key in ("rank", "agreement") if key in member}
        error = member.get("error") or ("It has expired." if member.get("expired") else "It is not finished.")
        return Entry(member["picture"], result, "" if result else error, member.get("code", ""), facts)

    def find(self, token: str) -> Group | StoredGroup | None:
        """The group of that token, also one of an earlier run of this server; None if there is none.

        Raises `OrfeasError` if the index cannot be asked now.
        """
        library = self.jobs.studio.library
        if group := self._groups.get(token):
            return group
        if not _TOKEN.fullmatch(token) or not library.root.is_dir():
            return None
        with library.explain_index_errors():
            return library.index.find_group(token)

    # --- within --------------------------------------------------------------------------------------------------

    def _store(self, group: Group) -> None:
        library, members = self.jobs.studio.library, tuple(group.members)
        stored = StoredGroup(
            group.token, group.kind, group.created, members, group.note, group.request_hash, group.account
        )
        try:
            with library.explain_index_errors():
                library.index.put_group(stored)
        except OrfeasError as trouble:  # the jobs have their own rows
            log.warning("group_not_entered", error=str(trouble))


def check_number(pictures: Sized) -> None:
    """Raise `BadRequest` if these are too many for one batch: asked before any of them is looked for on the disk."""
    if len(pictures) > MAX_PICTURES:
        raise BadRequest(f"{len(pictures)} pictures are too many: give up to {MAX_PICTURES} at once.", "out_of_range")


def ask_batch(pictures: Sequence[str] | None, options: Mapping[str, Any]) -> list[GenerationRequest]:
    """A request for each picture, named apart. Raises `BadRequest`."""
    if not pictures:
        raise BadRequest("No pictures were given: choose some JPEG, PNG or WebP files.", "no_picture")
    check_number(pictures)
    files = [Path(picture) for picture in pictures]
    total = sum(file.stat().st_size for file in files if file.is_file())
    if total > MAX_BATCH_BYTES:
        raise BadRequest(
            f"The pictures have {total / 1e6:.0f} MB together: give up to {MAX_BATCH_BYTES / 1e6:.0f} MB at once.",
            "too_large",
        )
    requests, taken = [], set()
    for file in files:
        one = GenerationRequest.from_options(file, dict(options))
        number, name = 2, one.name
        while name in taken:
            name, number = number_name(one.name, number), number + 1
        taken.add(name)
        requests.append(replace(one, name=name))
    return requests


def _name_of(request: GenerationRequest) -> str:
    return request.picture.name if isinstance(request.picture, Path) else request.name
