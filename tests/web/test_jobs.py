"""The jobs of a server without one: a studio whose every step the test decides."""

from __future__ import annotations

import contextlib
import contextvars
import sqlite3
import threading

import pytest

from orfeas.errors import BadPicture, OrfeasError
from orfeas.index import StoredJob
from orfeas.library import Library
from orfeas.progress import Progress
from orfeas.request import GenerationRequest
from orfeas.web import jobs as jobs_module
from orfeas.web.groups import Groups
from orfeas.web.jobs import KEPT_JOBS, KEPT_REFUSALS, Jobs
from tests.conftest import PacedEngine

A_MOMENT = 0.3  # seconds in which another thread does what no lock keeps it from


REQUEST = GenerationRequest(b"", seed=1)


class Steps:
    """A studio whose jobs are the generators that the test makes."""

    engine = PacedEngine()
    library: Library
    slots = 1

    def __init__(self, make):
        self._make = make

    def run(self, request, latent, owner, party, reuse):
        return self._make(request)


@pytest.fixture(autouse=True)
def _library(tmp_path, monkeypatch):
    library = Library(tmp_path)
    monkeypatch.setattr(Steps, "library", library, raising=False)
    yield
    library.close()


class Made:
    id = ""


def end_of(job):
    return job.future.result(timeout=30)


def test_a_job_that_ends_while_it_is_stopped_is_over():
    go_on = threading.Event()

    def run(request):
        assert go_on.wait(30)
        yield Made()

    class LetsItEnd(threading.Event):
        def set(self):
            super().set()
            go_on.set()
            threading.Event().wait(A_MOMENT)

    jobs = Jobs(Steps(run), 2)
    job = jobs.start(REQUEST)
    job.stop = LetsItEnd()
    jobs.stop(job)
    assert end_of(job).state == "done"


def test_a_stop_between_two_steps_stays_a_stop():
    seen = []

    def run(request):
        try:
            yield Progress("shape", 0.1, "one")
            job.stop.stopper.join(30)
            yield Progress("shape", 0.2, "two")
        finally:
            job.stop.stopper.join(30)
            seen.append(job.state)

    class StoppedMeanwhile(threading.Event):
        stopper = None

        def is_set(self):
            before = super().is_set()
            if self.stopper is None:
                self.stopper = threading.Thread(target=jobs.stop, args=(job,))
                self.stopper.start()
                self.stopper.join(A_MOMENT)
            return before

    started = threading.Event()
    jobs = Jobs(Steps(lambda request: (started.wait(30), (yield from run(request)))[1]), 2)
    job = jobs.start(REQUEST)
    job.stop = StoppedMeanwhile()
    started.set()
    assert end_of(job).state == "cancelled"
    assert seen == ["stopping"]


def test_a_poll_that_sees_a_failure_sees_its_sentence(monkeypatch):
    polls = []

    class Polled(jobs_module.Job):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if hasattr(self, "future"):
                polls.append(self.to_dict())

    def run(request):
        raise BadPicture("It is blank.", "blank")
        yield

    monkeypatch.setattr(jobs_module, "Job", Polled)
    end_of(Jobs(Steps(run), 2).start(REQUEST))
    failed = [poll for poll in polls if poll["state"] == "failed"]
    assert failed
    assert all(poll.get("error") == "It is blank." for poll in failed)


def test_a_thread_that_cannot_start_keeps_no_place(monkeypatch):
    def no_room(self):
        raise RuntimeError("can't start new thread")

    jobs = Jobs(Steps(lambda request: iter(())), 2)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_room)
        for token in (f"{k:032x}" for k in range(5)):
            with pytest.raises(OrfeasError, match="no room for another job now"):
                jobs.start(REQUEST, token)
            assert jobs.get(token).to_dict()["error"].endswith("try again in a few minutes.")
    assert not jobs.active()
    assert not jobs.is_full
    assert not jobs.studio.library.index.unfinished_jobs()


@contextlib.contextmanager
def locked(library: Library):
    """The index, while another process writes to it and does not come to an end."""
    library.index._connection.execute("PRAGMA busy_timeout = 100")
    other = sqlite3.connect(library.index.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@contextlib.contextmanager
def unreadable(library: Library):
    """The index, while nothing can be read from it."""
    other = sqlite3.connect(library.index.path)
    other.executescript("ALTER TABLE jobs RENAME TO gone; ALTER TABLE groups RENAME TO away")
    yield
    other.executescript("ALTER TABLE gone RENAME TO jobs; ALTER TABLE away RENAME TO groups")
    other.close()


def test_a_job_that_cannot_be_entered_keeps_no_place():
    jobs = Jobs(Steps(lambda request: (yield Made())), 2)
    with locked(jobs.studio.library):
        for token in (f"{k:032x}" for k in range(5)):
            with pytest.raises(OrfeasError, match="cannot be used now: try again in a minute"):
                jobs.start(REQUEST, token)
            assert jobs.get(token).to_dict()["code"] == "index"
        with pytest.raises(OrfeasError, match="cannot be used now"):
            jobs.hold([REQUEST] * 2, "", False)
    assert not jobs.active()
    assert jobs.drain(0)
    assert end_of(Jobs(jobs.studio, 2).start(REQUEST)).state == "done"


def test_a_bug_before_a_job_runs_ends_it():
    jobs = Jobs(Steps(lambda request: iter(())), 2)
    with pytest.raises(OrfeasError, match="logged as"):
        jobs.start(REQUEST, "a" * 32, caller="no caller")
    assert jobs.get("a" * 32).state == "failed"
    assert not jobs.active()


def test_while_the_index_is_slow_the_jobs_can_be_counted():
    """As GET /health does, which a supervisor asks."""
    jobs = Jobs(Steps(lambda request: iter(())), 2)
    with jobs.studio.library.index._lock:  # as whoever waits for the disk has it
        worker = threading.Thread(target=jobs.start, args=(REQUEST, "a" * 32))
        worker.start()
        threading.Event().wait(A_MOMENT)
        counted = threading.Thread(target=jobs.active)
        counted.start()
        counted.join(10)
        assert not counted.is_alive()
    worker.join(30)
    assert end_of(jobs.get("a" * 32)).is_over


def test_an_index_that_cannot_be_read_is_no_unknown_job():
    jobs = Jobs(Steps(lambda request: iter(())), 2)
    library = jobs.studio.library
    library.index.put_job(StoredJob("a" * 32, "", "done", "mug", 1.0))
    with unreadable(library):
        for ask in (jobs.look, jobs.find_result, jobs.find_request, jobs.remove, Groups(jobs).look):
            with pytest.raises(OrfeasError, match="cannot be used now"):
                ask("a" * 32)
    assert jobs.look("a" * 32)["state"] == "done"


def test_a_job_that_a_living_process_runs_is_not_removed(tmp_path):
    jobs, other = Jobs(Steps(lambda request: iter(())), 2), Library(tmp_path)
    other.instance.announce()
    other.index.put_job(StoredJob("a" * 32, other.instance.name, "running", "mug", 1.0))
    with pytest.raises(OrfeasError, match="still does this job: try again in a minute"):
        jobs.remove("a" * 32)
    assert jobs.look("a" * 32)["state"] == "running"
    other.close()
    assert jobs.remove("a" * 32)


def test_with_two_slots_the_time_left_is_that_of_two_lanes():
    studio = Steps(lambda request: iter(()))
    studio.slots = 2
    jobs = Jobs(studio, limit=9)
    jobs.history.add("standard", {"seconds": {"shape": 10.0}})
    for k, ahead in enumerate((0, 0, 1, 2, 3)):
        job = jobs._add(f"{k:032x}")
        job.options, job.progress = {"quality": "standard"}, Progress("waiting", 0.0, "", ahead)
    left = [jobs.look(f"{k:032x}")["left"]["seconds"] for k in range(5)]
    assert left == pytest.approx([10, 10, 20, 20, 30], abs=0.1)


@pytest.mark.parametrize("bug", [ZeroDivisionError, SystemExit])
def test_a_job_that_cannot_be_tidied_up_is_over(bug):
    def run(request):
        try:
            yield Progress("shape", 0.1, "one")
            raise BadPicture("It is blank.", "blank")
        finally:
            raise bug("while tidying up")

    jobs = Jobs(Steps(run), 2)
    job = end_of(jobs.start(REQUEST))
    assert (job.state, job.code) == ("failed", "internal")
    assert not jobs.active()


def test_a_stopped_job_that_cannot_be_tidied_up_is_over():
    def run(request):
        try:
            assert job_is_stopped.wait(30)
            yield Progress("shape", 0.1, "one")
        finally:
            raise ZeroDivisionError("while closing")

    job_is_stopped = threading.Event()
    jobs = Jobs(Steps(run), 2)
    job = jobs.start(REQUEST)
    jobs.stop(job)
    job_is_stopped.set()
    assert end_of(job).state == "failed"
    assert not jobs.active()


def test_refusals_do_not_push_out_finished_jobs():
    jobs = Jobs(Steps(lambda request: (yield Made())), 2)
    mine = end_of(jobs.start(REQUEST))
    first, last = f"{0:032x}", f"{KEPT_JOBS:032x}"
    for k in range(KEPT_JOBS + 1):
        jobs.refuse(f"{k:032x}", BadPicture("It is blank.", "blank"))
    assert jobs.get(mine.token) is mine
    assert jobs.get(last).error == "It is blank."
    assert jobs.get(first) is None
    assert len(jobs._jobs) <= KEPT_REFUSALS + 1


def test_a_long_job_does_not_keep_the_others_for_ever_and_is_found_when_it_ends():
    go_on, slow = threading.Event(), GenerationRequest(b"", seed=2)

    def run(request):
        if request is slow:
            assert go_on.wait(60)
        yield Made()

    jobs = Jobs(Steps(run), 2)
    long = jobs.start(slow)
    short = [end_of(jobs.start(REQUEST)) for _ in range(KEPT_JOBS + 3)]
    assert len(jobs._jobs) == KEPT_JOBS + 1
    assert jobs.get(short[2].token) is None
    assert jobs.get(short[3].token) is short[3]
    go_on.set()
    end_of(long)
    assert jobs.get(long.token) is long
    assert jobs.get(short[3].token) is None
    assert jobs.get(short[4].token) is short[4]


def test_jobs_outlive_the_server(make_studio, photo):
    """Another run of the server knows the finished jobs, gives their results, and removes them when asked to."""
    jobs = Jobs(make_studio(PacedEngine()), 2)
    done = end_of(jobs.start(GenerationRequest(photo, size_mm=80, seed=5), "a" * 32))
    failed = end_of(jobs.start(GenerationRequest(b"no picture"), "b" * 32))
    assert (done.state, failed.state) == ("done", "failed")
    jobs.studio.close()

    later = Jobs(make_studio(PacedEngine()), 2)
    state = later.look("a" * 32)
    assert state == {key: done.to_dict()[key] for key in state}
    assert set(done.to_dict()) - set(state) == {"stage", "fraction", "message"}
    assert (state["name"], state["options"]["size_mm"], state["options"]["engine"]) == ("red-egg", 80.0, "sketch")
    assert later.look("b" * 32)["error"] == failed.error
    result = later.find_result("a" * 32)
    assert (result.id, dict(result.report)) == (done.result.id, dict(done.result.report))
    assert result.request.options() == done.result.request.options()
    assert all(file.is_file() for file in result.files.values())
    with pytest.raises(OrfeasError, match="started already"):
        later.start(REQUEST, "a" * 32)

    later.studio.library.remove(result.id)  # as retention does
    assert later.look("a" * 32) == {**state, "expired": True}
    assert later.find_result("a" * 32) is None

    assert later.look("c" * 32) is later.find_result("c" * 32) is None
    assert not later.remove("c" * 32)
    assert later.remove("b" * 32)
    assert later.look("b" * 32) is None
    assert later.remove("a" * 32)
    assert later.look("a" * 32) is None


def test_removing_a_job_that_runs_stops_it(make_studio, photo):
    pace = threading.Semaphore(1)
    jobs = Jobs(make_studio(PacedEngine(pace=pace)), 2)
    job = jobs.start(GenerationRequest(photo), "a" * 32)
    remover = threading.Thread(target=jobs.remove, args=(job.token,))
    remover.start()
    assert job.stop.wait(30)
    pace.release(100)
    remover.join(30)
    assert job.state == "cancelled"
    assert jobs.look(job.token) is None
    assert not list(jobs.studio.library.results.glob("*"))


def test_a_job_runs_in_the_context_of_whoever_started_it():
    caller, seen = contextvars.ContextVar("caller", default="nobody"), []

    def run(request):
        seen.append(caller.get())
        yield Made()

    caller.set("somebody")
    end_of(Jobs(Steps(run), 2).start(REQUEST))
    assert seen == ["somebody"]


def test_with_two_slots_one_more_is_admitted():
    go_on = threading.Event()

    def run(request):
        assert go_on.wait(30)
        yield Made()

    studio = Steps(run)
    studio.slots = 2
    jobs = Jobs(studio, limit=1)
    started = [jobs.start(REQUEST) for _ in range(3)]
    with pytest.raises(OrfeasError, match="1 jobs are waiting"):
        jobs.start(REQUEST)
    go_on.set()
    assert [end_of(job).state for job in started] == ["done"] * 3
