"""The jobs of this server: each runs in its own thread and can be watched, found again after a reload, and stopped.

A job's token is known to whoever started it and to nobody else. The library's index keeps the jobs beyond this process.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, TimeoutError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orfeas.errors import BadRequest, Cancelled, OrfeasError
from orfeas.result import load_result
from orfeas.telemetry import Observer, log, report_bug
from orfeas.telemetry.logs import carrying_ids, short
from orfeas.web.callers import Allowance, Caller
from orfeas.web.eta import History, last_end
from orfeas.web.job import Job, describe
from orfeas.web.job_store import TOKEN, JobStore

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from orfeas.index import StoredJob
    from orfeas.progress import Progress
    from orfeas.recipe import KeptLatent
    from orfeas.request import GenerationRequest
    from orfeas.result import Result
    from orfeas.studio import Studio
    from orfeas.web.eta import Estimate
    from orfeas.web.groups import Group
    from orfeas.web.readiness import Room

KEPT_JOBS = 500  # finished jobs that can still be asked for; their files are the library's business
KEPT_REFUSALS = 100  # jobs that never ran: they cost their sender nothing, and must not push out those that did
RELOAD_GRACE_SECONDS = 15.0  # how long a job goes on after its page has gone, in case the page was only reloaded
RESTARTING = "This server is about to restart: try again in a minute."
ELSEWHERE = "A server that is about to end still does this job: try again in a minute."
STOPPING_SECONDS = 20.0  # for a deletion to wait; a job that hangs holds no thread for longer
MOST_WAITING = 8  # callers, and as many pages, for one job: each of them takes a place in Gradio's queue
STOPPED = "Stopped: nothing was kept of this job."


def see_end(stopped: Future) -> None:
    """Wait for the end of a job or group that was told to stop. Raises `OrfeasError` (stopping) if that takes long."""
    try:
        stopped.result(timeout=STOPPING_SECONDS)
    except TimeoutError:
        raise OrfeasError("It is being stopped: delete it again in a minute.", "stopping") from None


class Jobs:
    """Starts jobs, at most ``limit`` of them waiting; holds the last `KEPT_JOBS` and `KEPT_REFUSALS` in memory."""

    def __init__(
        self,
        studio: Studio,
        limit: int,
        observer: Observer | None = None,
        allowance: Allowance | None = None,
        room: Room | None = None,
    ):
        self.studio = studio
        self.limit = limit
        self.allowance = allowance or Allowance()
        self.observer = observer or Observer()
        self.room = room
        self.draining = False
        self.history = History()
        self._store = JobStore(studio.library)
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._groups: set[Future] = set()

    def start(
        self,
        request: GenerationRequest,
        token: str = "",
        session: str = "",
        outlives_page: bool = False,
        latent: KeptLatent | None = None,
        caller: Caller | None = None,
        reuse: bool = False,
        request_hash: str = "",
    ) -> Job:
        """Run ``request`` in a thread, from ``latent`` where it fits.

        Raises `OrfeasError` when the queue is full, the caller has too many jobs, or the server stops or has no room.

        token: the page's name for the job, 32 hexadecimal digits; anything else is replaced by a new one.
        caller: who is counted for it and takes turns with others; by default the session.
        reuse: whether a result that is the same will do, see `Studio.run`.
        """
        job = self._add(token, session, outlives_page)
        job.caller, job.reuse, job.request_hash = caller or Caller(session), reuse, request_hash
        with self._ending([job]):
            self._describe(job, request)
            self._admit(job)
            self._store.enter(job)
            self._thread(job, request, latent)
        return job

    # --- jobs of a group: one thread takes them in turn --------------------------------------------------------------

    def hold(
        self, requests: Sequence[GenerationRequest], session: str, outlives_page: bool, caller: Caller | None = None
    ) -> list[Job]:
        """A job for each of ``requests``: `run_held` does it. All of them take one place in the queue.

        Raises `OrfeasError` as `start` does; then there are none.
        """
        group = secrets.token_hex(8)
        jobs = []
        with self._ending(jobs):
            for request in requests:
                job = self._add("", session, outlives_page, group)
                jobs.append(job)
                job.caller = caller or Caller(session)
                self._describe(job, request)
                if job is jobs[0]:  # before there are others: they would be refused as well
                    self._admit(job)
            for job in jobs:
                self._store.enter(job)
        return jobs

    def wait_also_for(self, group: Future) -> None:
        """What a server that stops waits for, besides the jobs themselves."""
        with self._lock:
            self._groups = {one for one in self._groups if not one.done()} | {group}

    def run_held(self, job: Job, request: GenerationRequest) -> None:
        """Do it, unless it was stopped meanwhile, and return once it is over."""
        with self._lock:
            begins = not job.stop.is_set()
            if begins:
                job.held, job.started = False, time.monotonic()
        if begins:
            with contextlib.suppress(OrfeasError), self._ending([job]):
                self._thread(job, request, None)
        job.future.result()

    def fail(self, jobs: Sequence[Job], error: OrfeasError) -> None:
        """End those of ``jobs`` that are not over, none of which runs."""
        for job in jobs:
            self._end(job, "failed", error)

    def refuse(self, token: str, error: OrfeasError) -> None:
        """Remember that the job a page calls ``token`` could not start, so that the page can say why."""
        with contextlib.suppress(OrfeasError):  # a job of that name is there already, or nobody can tell
            self._end(self._add(token), "failed", error)

    def get(self, token: str) -> Job | None:
        with self._lock:
            return self._jobs.get(token)

    def find(self, token: str) -> Job | StoredJob | None:
        """The job of that token, also one of an earlier run of this server.

        None if there is none. Here and below, `OrfeasError` is raised if the index cannot be asked now.
        """
        return self.get(token) or self._store.find(token)

    def look(self, token: str) -> dict[str, Any] | None:
        """What a page needs to draw the job of that token, JSON values; None if there is none."""
        if job := self.get(token):
            job.asked_for = time.monotonic()
            state = {**job.to_dict(), **self._wait_for(job)}
        elif stored := self._store.find(token):
            state = {"state": stored.state, "seconds": round(stored.seconds, 1), **describe(stored)}
            if stored.error:
                state |= {"error": stored.error, "code": stored.code}
            if stored.result:
                state["result"] = stored.result
        else:
            return None
        if "result" in state and self.studio.library.find(state["result"]) is None:
            state["expired"] = True
        return state

    def find_result(self, token: str) -> Result | None:
        """The result of a job that is done, whichever run of this server did it; None if it has expired."""
        job = self.get(token)
        result_id = job.result.id if job and job.result else getattr(self._store.find(token), "result", "")
        folder = self.studio.library.find(result_id)
        return load_result(folder) if folder else None

    def find_request(self, token: str) -> tuple[Path | None, dict[str, Any]] | None:
        """The picture of a job, where it is still there, and its options; None if there is no such job."""
        job = self.find(token)
        if job is None:
            return None
        result = self.find_result(token)
        picture = result.files["picture"] if result else Path(job.picture) if job.picture else None
        return picture if picture and picture.is_file() else None, dict(job.options)

    def remove(self, token: str) -> bool:
        """Forget a job and remove its result, as only who knows the token may ask; one that runs is stopped first.

        False if there is no such job. Raises `OrfeasError` if the data folder cannot be written to, if it does not end
        within `STOPPING_SECONDS`, or if another process, which a new version replaces, still runs the job.
        """
        job = self.get(token)
        if job and not job.is_over:
            self.stop(job)
            see_end(job.future)
        stored = self._store.find(token)
        if job is None and stored is None:
            return False
        library = self.studio.library
        if job is None:
            self._check_here(stored)
        result_id = job.result.id if job and job.result else stored.result if stored else ""
        with library.explain_index_errors():
            library.remove(result_id)
        if stored:
            self._store.remove(token)
        with self._lock:
            self._jobs.pop(token, None)
        return True

    def check_here(self, tokens: Iterable[str]) -> None:
        """Raise `OrfeasError` if another process, which this one replaces, still runs the job of one of ``tokens``."""
        for token in tokens:
            if self.get(token) is None and (stored := self._store.find(token)):
                self._check_here(stored)

    def _check_here(self, stored: StoredJob) -> None:
        if self._store.runs_elsewhere(stored):
            raise OrfeasError(ELSEWHERE, "elsewhere")

    def stop(self, job: Job, sentence: str = STOPPED, code: str = "cancelled") -> None:
        """Ask the job to end; it does at its next step, and the lane is free. One that is held ends now.

        sentence, code ("cancelled" or "lost"): what one that is held ends with.
        """
        with self._lock:
            if job.is_over:
                return
            never_ran = job.held and not job.stop.is_set()  # and never will: `run_held` begins none that is stopped
            job.stop.set()
            job.state = "stopping"
        if never_ran:
            self._end(job, code, OrfeasError(sentence, code))

    def give_up(self, job: Job, seconds: float) -> bool:
        """End a job that has not moved for ``seconds``, and free the lane; False if that takes a new process.

        Then no more jobs are taken, and those that wait end as well.
        """
        sentence = f"The engine made no progress for {seconds:g} s, and the job was given up: try again."
        self._abandon(job, OrfeasError(sentence, "stalled"))
        if self.studio.give_up(job.token):
            return True
        self.draining = True
        self._lose_held()
        for other in self.active():
            if other.progress is None or other.progress.stage == "waiting":
                self._abandon(other, OrfeasError(RESTARTING, "draining"))
        return False

    def _abandon(self, job: Job, error: OrfeasError) -> None:
        with self._lock:
            job.stop.set()
        self._end(job, "failed", error)

    def pictures(self) -> set[Path]:
        """Those of the jobs that are not over."""
        return {Path(job.picture) for job in self._unfinished() if job.picture}

    def active(self) -> list[Job]:
        """Those that run, or have a place in the queue; of each group one, until all of it is over."""
        unfinished = self._unfinished()
        groups = {job.group for job in unfinished if not job.held}  # whose place another of them has
        active = []
        for job in unfinished:
            if not job.held or job.group not in groups:
                active.append(job)
                groups.add(job.group)
        return active

    def _wait_for(self, job: Job) -> dict[str, Any]:
        """Of a job that is not over ``ahead`` (jobs before it) and ``left`` (an `Estimate`, those jobs included).

        ``left`` is missing while no job of the same quality as any of them has ended here.
        """
        if job.is_over or job.progress is None:
            return {}
        ahead = job.progress.ahead
        before = [one for one in self.active() if one.progress and one.progress.ahead < ahead]
        before.sort(key=lambda one: one.progress.ahead)
        left = [self._left(one) for one in (*before, job)]
        if not all(left):
            return {"ahead": ahead}
        seconds = last_end([one.seconds for one in left], self.studio.slots)
        return {"ahead": ahead, "left": {"seconds": round(seconds, 1), "jobs": left[-1].jobs}}

    def _left(self, job: Job) -> Estimate | None:
        stage = job.progress.stage if job.progress else ""
        return self.history.estimate(job.options.get("quality", ""), stage, time.monotonic() - job.in_stage_since)

    def check_callers(self, one: Job | Group) -> None:
        """Raise `OrfeasError` (too_many_callers) if as many wait for the job or group as may."""
        if one.callers >= MOST_WAITING:
            self.observer.refused("too_many_callers")
            sentence = f"{MOST_WAITING} requests wait for this job already: send yours again when it is done."
            raise OrfeasError(sentence, "too_many_callers")

    @property
    def is_full(self) -> bool:
        """As many jobs run as the studio has slots, and ``limit`` wait: one more is refused."""
        return len(self.active()) >= self.limit + self.studio.slots

    @property
    def full_sentence(self) -> str:
        return f"The queue is full, {self.limit} jobs are waiting: try again in a few minutes."

    def leave(self, session: str) -> None:
        """The page or client ``session`` has gone: stop its jobs; a page's only if no page asks for them soon."""
        left = [job for job in self._unfinished() if job.session == session and job.callers < 2]
        for job in left:
            if not job.outlives_page:
                self.stop(job)
        self._watch_orphans([job for job in left if job.outlives_page], session)

    def drain(self, seconds: float) -> bool:
        """Take no more jobs, wait up to ``seconds`` for those there are, stop the rest; True if none was stopped.

        Those of a group are begun as long as there is time.
        """
        self.draining = True
        deadline = time.monotonic() + seconds
        while (going := self._unfinished() or self._unfinished_groups()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._lose_held()
        for job in self._unfinished():
            self.stop(job)
        return not going

    # --- within --------------------------------------------------------------------------------------------------

    def _unfinished(self) -> list[Job]:
        with self._lock:
            return [job for job in self._jobs.values() if not job.is_over]

    def _unfinished_groups(self) -> list[Future]:
        with self._lock:
            return [group for group in self._groups if not group.done()]

    def _lose_held(self) -> None:
        for job in self._unfinished():
            if job.held:
                self.stop(job, "The server ended before this one's turn came: start it again.", "lost")

    def _describe(self, job: Job, request: GenerationRequest) -> None:
        job.name, job.options = request.name, {**request.options(), "engine": self.studio.engine.name}
        job.picture = str(request.picture) if isinstance(request.picture, Path) else ""

    @contextlib.contextmanager
    def _ending(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Within, whatever goes wrong ends the jobs: one that neither runs nor ends would keep its place for ever."""
        try:
            yield
        except OrfeasError as error:
            self.fail(jobs, error)
            raise
        except BaseException as bug:
            error = OrfeasError(report_bug(bug), "internal")
            self.fail(jobs, error)
            raise error from bug

    def _add(self, token: str, session: str = "", outlives_page: bool = False, group: str = "") -> Job:
        if not TOKEN.fullmatch(token):
            token, stored = secrets.token_hex(16), None
        else:
            stored = self._store.find(token)  # not under the lock: a disk may be slow, and /health needs that
        with self._lock:
            if stored or token in self._jobs:
                raise BadRequest("This job was started already: reload the page and try again.", "job_exists")
            job = self._jobs[token] = Job(token, session, outlives_page=outlives_page, group=group, held=bool(group))
        job.created = self.studio.library.clock()
        return job

    def _watch_orphans(self, jobs: Sequence[Job], session: str) -> None:
        """With one thread for all of them: a batch has many."""
        if jobs:
            timer = threading.Timer(RELOAD_GRACE_SECONDS, self._stop_orphans, (jobs, session))
            timer.daemon = True
            timer.start()

    def _stop_orphans(self, jobs: Sequence[Job], session: str) -> None:
        latest, asked_for = time.monotonic() - RELOAD_GRACE_SECONDS, []
        for job in reversed(jobs):  # those that wait first, or the next of a batch would begin
            if job.is_over or job.session != session:
                continue
            if job.asked_for > latest:  # its page was only cut off for a while
                asked_for.insert(0, job)
            else:
                self.stop(job)
        self._watch_orphans(asked_for, session)

    def _admit(self, job: Job) -> None:
        if self.draining:
            raise OrfeasError(RESTARTING, "draining")
        if len(self.active()) > self.limit + self.studio.slots:  # the job itself is among them
            raise OrfeasError(self.full_sentence, "queue_full")
        if self.room:
            self.room.check()
        self.allowance.check(job.caller, [other.caller for other in self.active() if other is not job])

    def _thread(self, job: Job, request: GenerationRequest, latent: KeptLatent | None) -> None:
        work = carrying_ids(self._work, job=short(job.token))
        thread = threading.Thread(target=work, args=(job, request, latent), name=f"job-{short(job.token)}", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:  # RuntimeError: the system gives no more threads
            log.warning("no_thread", error=str(error))
            sentence = "This machine has no room for another job now: try again in a few minutes."
            raise OrfeasError(sentence, "no_thread") from error

    def _work(self, job: Job, request: GenerationRequest, latent: KeptLatent | None) -> None:
        state, error = "failed", None
        job.ran = True
        try:
            self.observer.job_started(job, request)
            # closed, which frees the lane, before anyone hears that the job is over
            with contextlib.closing(
                self.studio.run(request, latent, owner=job.token, party=job.caller.party, reuse=job.reuse)
            ) as events:
                self._follow(job, events)
            self.history.add(job.options.get("quality", ""), getattr(job.result, "facts", {}))
            state = "done"
        except Cancelled as cancelled:
            state, error = "cancelled", cancelled
        except OrfeasError as known:
            error = known
        except BaseException as bug:
            error = OrfeasError(report_bug(bug), "internal")
        finally:  # whatever happened: a job that never ends keeps its place in the queue
            self._end(job, state, error)

    def _follow(self, job: Job, events: Generator[Progress | Result]) -> None:
        for event in events:
            if hasattr(event, "fraction"):
                self._note(job, event)
            elif job.is_over:  # given up: it came back too late
                self.studio.library.remove(event.id)
            else:
                job.result = event
            if job.stop.is_set() and not job.result:
                raise Cancelled(STOPPED)

    def _note(self, job: Job, progress: Progress) -> None:
        with self._lock:
            if job.progress is None or job.progress.stage != progress.stage:
                job.in_stage_since = time.monotonic()
            job.progress, job.moved = progress, time.monotonic()
            if not job.stop.is_set():
                job.state = "waiting" if progress.stage == "waiting" else "running"
        self.observer.job_progressed(job, progress)

    def _end(self, job: Job, state: str, error: OrfeasError | None = None) -> None:
        with self._lock:
            if job.is_over:  # it was given up, and its thread came back after all
                return
            if error:  # before the state: a poll takes no lock, and whoever reads "failed" must find the sentence
                job.error, job.code = str(error), error.code
            job.state, job.ended = state, time.monotonic()
            self._jobs.move_to_end(job.token)  # whatever began first: those that ended first are forgotten first
            self._forget(job.ran, KEPT_JOBS if job.ran else KEPT_REFUSALS)
        with contextlib.ExitStack() as last:  # whatever happens: somebody may wait for it
            last.callback(job.future.set_result, job)
            last.callback(self.observer.job_ended, job, error)
            try:
                if job.stored:
                    self._store.enter(job)
            except OrfeasError as trouble:  # the result is there: nobody need hear of this
                log.warning("job_not_entered", error=str(trouble))

    def _forget(self, ran: bool, kept: int) -> None:
        over = [token for token, job in self._jobs.items() if job.is_over and job.ran is ran]
        for token in over[:-kept]:
            del self._jobs[token]
