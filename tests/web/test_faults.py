"""What goes wrong with machines: each fault costs one job at most, says so, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from orfeas.errors import OutOfMemory
from orfeas.library import Library
from orfeas.request import GenerationRequest
from orfeas.studio import MOST_GIVEN_UP
from orfeas.web.jobs import Jobs
from orfeas.web.watchdog import Watchdog
from tests.conftest import PacedEngine, open_studio
from tests.web.conftest import START_SECONDS, call, file_data, free_port, upload, wait_until
from tests.web.test_program import Program

STALL_SECONDS = 1.0


def end_of(job):
    return job.future.result(timeout=60)


def test_an_engine_that_fails_fails_one_job(make_studio, photo):
    engine = PacedEngine()
    jobs = Jobs(make_studio(engine), 2)
    errors = {
        RuntimeError("CUDA error: an illegal memory access was encountered"): "logged as",
        MemoryError(): "ran out of memory: choose a lower quality",
        OutOfMemory("The GPU has 24 GB, and this needs more: choose a lower quality."): "The GPU has 24 GB",
    }
    for error, sentence in errors.items():
        engine.error = error
        failed = end_of(jobs.start(GenerationRequest(photo)))
        assert failed.state == "failed"
        assert sentence in failed.error
        assert "illegal" not in failed.error
        engine.error = None
        assert end_of(jobs.start(GenerationRequest(photo))).state == "done"
    assert engine.running == 0


@contextlib.contextmanager
def _watched(settings, remake):
    """Jobs whose engine hangs, and a function that starts the first of them and, once it hangs, the watchdog; it
    returns both. What hangs is let go at the end, and whether all was lost is told.
    """
    pace, lost = threading.Semaphore(0), threading.Event()
    studio = open_studio(settings, PacedEngine(pace=pace), Library(settings.data_dir), remake=remake)
    jobs, watchdogs = Jobs(studio, 5), []

    def hang(photo, waits=0):
        hanging = jobs.start(GenerationRequest(photo, quality="draft"))
        wait_until(lambda: studio.engine.running, "it hangs")  # the cutout before may take longer on a busy machine
        waiting = [jobs.start(GenerationRequest(photo, quality="draft")) for _ in range(waits)]
        watchdogs.append(Watchdog(jobs, STALL_SECONDS, lost.set))
        return hanging, *waiting, watchdogs[-1]

    try:
        yield jobs, pace, hang, lost
    finally:
        for watchdog in watchdogs:
            watchdog.close()
        pace.release(1000)
        studio.close()


def test_a_job_that_hangs_is_given_up_and_the_lane_goes_on_with_a_new_engine(settings, photo):
    with _watched(settings, PacedEngine) as (jobs, pace, hang, lost):
        hanging, waiting, watchdog = hang(photo, waits=1)
        assert end_of(hanging).code == "stalled"
        watchdog.close()  # a step of the others may take longer on a busy machine
        assert "made no progress for 1 s" in hanging.error
        assert end_of(waiting).state == "done"
        assert jobs.studio.health()["given_up"] == 1
        hung = next(thread for thread in threading.enumerate() if thread.name.endswith(hanging.token[:8]))
        pace.release(1000)  # the thread comes back after all
        hung.join(60)
        assert (hanging.state, hanging.result) == ("failed", None)
        assert len(list(jobs.studio.library.results.iterdir())) == 1
        assert end_of(jobs.start(GenerationRequest(photo))).state == "done"
        assert not lost.is_set()


def test_engines_are_not_replaced_for_ever(settings, photo):
    def hangs():
        return PacedEngine(pace=threading.Semaphore(0))

    with _watched(settings, hangs) as (jobs, _, hang, lost):
        hanging, _ = hang(photo)
        assert end_of(hanging).code == "stalled"
        for _ in range(1, MOST_GIVEN_UP):
            assert end_of(jobs.start(GenerationRequest(photo))).code == "stalled"
            assert not lost.is_set()
        assert end_of(jobs.start(GenerationRequest(photo))).code == "stalled"
        assert lost.wait(60)


def test_where_no_engine_can_be_replaced_the_jobs_that_wait_are_told(settings, photo):
    with _watched(settings, None) as (jobs, _, hang, lost):
        hanging, waiting, _ = hang(photo, waits=1)
        assert end_of(hanging).code == "stalled"
        assert lost.wait(60)
        assert end_of(waiting).code == "draining"
        assert jobs.draining
        assert not jobs.active()


def test_where_a_new_engine_cannot_be_made_all_is_lost_and_the_watchdog_goes_on(settings, photo):
    def fails():
        raise RuntimeError("no weights any more")

    with _watched(settings, fails) as (jobs, _, hang, lost):
        hanging, watchdog = hang(photo)
        assert end_of(hanging).code == "stalled"
        assert lost.wait(60)
        assert jobs.draining
        assert watchdog._thread.is_alive()


def test_hunyuan3d_on_a_cpu_may_take_its_time_for_a_shape(settings, photo):
    with _watched(settings, PacedEngine) as (jobs, pace, hang, lost):
        jobs.studio.engine.name = "hunyuan3d"
        job, watchdog = hang(photo)
        threading.Event().wait(2 * STALL_SECONDS)
        watchdog.close()
        assert not job.is_over
        jobs.stop(job)
        pace.release(1)
        assert end_of(job).state == "cancelled"
        assert not lost.is_set()


def test_a_program_whose_engine_hangs_ends_for_its_supervisor(tmp_path, photo):
    script = f"""
        import sys, threading
        from orfeas.library import Library
        from orfeas.request import GenerationRequest
        from orfeas.settings import Settings
        from orfeas.web import serve
        from tests.conftest import PacedEngine, open_studio

        settings = Settings(_env_file=None, engine="sketch", data_dir={str(tmp_path)!r}, port={free_port()},
                            stall_seconds=1, drain_seconds=30)
        studio = open_studio(settings, PacedEngine(pace=threading.Semaphore(0)), Library(settings.data_dir))
        start = serve.start

        def start_and_ask(*arguments, **options):
            server = start(*arguments, **options)
            server.jobs.start(GenerationRequest({str(photo)!r}))
            return server

        serve.start = start_and_ask
        sys.exit(serve.serve(studio, settings))
    """
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=root, timeout=120, check=False, capture_output=True
    )
    assert done.returncode == 3, done.stderr.decode()


def test_a_clock_that_jumps_spoils_neither_times_nor_results(settings, photo):
    now = [time.time()]
    studio = open_studio(settings, PacedEngine(), Library(settings.data_dir, clock=lambda: now[0]))
    jobs = Jobs(studio, 2)
    for jump in (400 * 86400, -800 * 86400):
        job = jobs.start(GenerationRequest(photo))
        now[0] += jump
        assert end_of(job).state == "done"
        assert 0 <= jobs.look(job.token)["seconds"] < 60
        assert studio.library.expire() == []
    assert len(list(studio.library.results.iterdir())) == 2
    studio.close()


def test_a_program_that_was_killed_says_which_job_was_lost_and_cleans_up(tmp_path, photo):
    """And before: an index that is rubbish is rebuilt from the folders when the program starts."""
    library = Library(tmp_path / "data")
    *_, made = open_studio(None, PacedEngine(), library).run(GenerationRequest(photo))
    library.close()
    for file in (tmp_path / "data").glob("library.sqlite3*"):
        file.write_bytes(b"rubbish" * 1000)

    program = Program(tmp_path)
    try:
        wait_until(program.health, "the app answers", START_SECONDS)
        assert "damaged" in program.log.read_text()
        assert program.http.get(f"/r/{made.id}/recipe.json").status_code == 200
        program.start_job(photo, "high")
        with sqlite3.connect(tmp_path / "data" / "library.sqlite3") as index:
            ((token,),) = index.execute("SELECT token FROM jobs WHERE state = 'waiting'").fetchall()
        index.close()
        running = f"/jobs/{token}"
        wait_until(lambda: program.http.get(running).json()["state"] == "running", "its first step is told")
        program.process.send_signal(signal.SIGKILL)
    finally:
        program.end()

    program = Program(tmp_path)
    try:
        wait_until(program.health, "the app answers again", START_SECONDS)
        state = program.http.get(f"/jobs/{token}").json()
        assert (state["state"], state["code"]) == ("lost", "lost")
        assert state["error"].startswith("The server ended while this job ran")
        assert token[:8] in program.log.read_text()
        assert token not in program.log.read_text()
        assert [path.name for path in (tmp_path / "data" / "results").iterdir()] == [made.id]
        assert not list((tmp_path / "data" / "staging").glob("*"))
    finally:
        program.end()


def _can_mount() -> bool:
    if not shutil.which("unshare") or os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "-m", "mount", "--make-rprivate", "/"], check=False).returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="needs root and the right to mount")
def test_with_a_read_only_system_and_a_full_disk(tmp_path, photo):
    """Nothing but the data folder can be written to, and that is small."""
    data = tmp_path / "data"
    data.mkdir()
    script = (
        f"mount --make-rprivate / && mount -t tmpfs -o size=40m tmpfs {data} && mount -o remount,ro,bind /"
        ' && ! touch /readonly 2>/dev/null && exec "$@"'
    )
    program = Program(tmp_path, ["unshare", "-m", "sh", "-c", script, "sh"], ORFEAS_MIN_FREE_MB="0")
    try:
        wait_until(program.health, "the app answers", START_SECONDS)
        inside = Path(f"/proc/{program.process.pid}/root{data}")
        picture = file_data(upload(program.http, photo))
        event, answer = call(program.http, "generate", {"picture": picture, "quality": "draft"})
        assert event == "complete", (answer, program.log.read_text())

        filler = inside / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        event, answer = call(program.http, "generate", {"picture": picture, "quality": "draft"})
        assert event == "error"
        assert "disk" in answer["error"]
        assert "full" in answer["error"]
        refused = program.http.post("/gradio_api/upload", files={"files": ("a.png", bytes(1 << 20))})
        assert refused.status_code == 503
        assert "disk of this server is full" in refused.json()["error"]
        assert program.http.get("/health").status_code == 200
        ready = program.http.get("/ready")
        assert (ready.status_code, ready.json()["reason"]) == (503, "disk_full")
        assert not list((inside / "staging").glob("*"))

        filler.unlink()
        assert program.http.get("/ready").status_code == 200
        assert call(program.http, "generate", {"picture": picture, "quality": "draft"})[0] == "complete"
        assert len(list((inside / "results").iterdir())) == 2
    finally:
        program.end()
    assert "Traceback" not in program.log.read_text()


def test_a_data_folder_that_cannot_be_written_to_is_said_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    environment = {**os.environ, "ORFEAS_DATA_DIR": str(tmp_path / "file" / "data"), "ORFEAS_ENGINE": "sketch"}
    app = Path(__file__).parents[2] / "app.py"
    done = subprocess.run(
        [sys.executable, str(app)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip().endswith("cannot be written to: set ORFEAS_DATA_DIR to one that can.")
    assert "Traceback" not in done.stderr
