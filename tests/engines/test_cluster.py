"""The engine whose shapes are made by workers of a Ray cluster: two of them here, real processes on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from orfeas.engines import Step
from orfeas.errors import BadPicture, BadRequest, EngineUnavailable, OrfeasError, OutOfMemory
from orfeas.request import GenerationRequest, Quality
from tests.drawings import draw
from tests.engines.cluster_workers import GATE, TimedEngine

TIMED, PACED = (f"tests.engines.cluster_workers:make_{name}" for name in ("timed", "paced"))
QUICK, SLOW, LONG = Quality(5, 3, 2000), Quality(50, 30, 2000), Quality(100, 600, 2000)  # 15 ms, 1.5 s, a minute


@pytest.fixture(scope="module")
def engine(cluster):
    from orfeas.engines.cluster.client import describe

    cluster("timed", factory=TIMED, min_workers=2, max_workers=2, queue=1)
    return describe("timed", "this machine")


@pytest.fixture(scope="module")
def cutout():
    from orfeas.cutout import Cutout

    return Cutout(np.full((40, 30, 4), 255, np.uint8), "alpha", "drawn by the test", 1.0, False)


@pytest.fixture
def gate(cluster):
    """A file: until it is removed, by the end of the test at the latest, no job goes beyond its first step."""
    closed = Path(os.environ[GATE])
    closed.touch()
    yield closed
    closed.unlink(missing_ok=True)


def run(engine, cutout, quality, seed=7):
    """The steps that say who worked, and the mesh."""
    *steps, mesh = engine.shape(cutout, quality, seed)
    return [step for step in steps if step.facts and "pid" in step.facts], mesh


def begin(engine, cutout, quality, seed=7):
    """A running job, stopped after the first step of its engine."""
    job = engine.shape(cutout, quality, seed)
    step = next(step for step in job if step.facts and "pid" in step.facts)
    return job, step.facts


def test_it_says_who_works_where(engine):
    assert (engine.name, engine.title, engine.device, engine.version, engine.slots) == (
        "sketch", "Timed", "cpu", "test-1", 2,
    )  # fmt: skip
    assert engine.reason == (
        "ORFEAS_ENGINE=ray has it run by up to 2 workers of the Ray cluster at this machine. the test asked for it"
    )
    deadline = time.monotonic() + 30
    while engine.health()["workers"] is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert engine.health() == {
        "version": "test-1", "cluster": "this machine", "slots": 2, "workers": 2, "ready": True,
    }  # fmt: skip


def test_the_mesh_is_what_the_engine_makes_and_can_be_written_to(engine, cutout):
    steps, mesh = run(engine, cutout, QUICK)
    *_, local = TimedEngine().shape(cutout, QUICK, 7)
    assert np.array_equal(mesh.vertices, local.vertices)
    assert np.array_equal(mesh.faces, local.faces)
    mesh.vertices[0] = 0.0
    assert [step.fraction for step in steps] == [1 / 3, 2 / 3, 1]


def test_two_jobs_run_at_once_each_with_a_gpu_of_its_own(engine, cutout):
    (one, first), (other, second) = begin(engine, cutout, LONG), begin(engine, cutout, LONG)
    assert first["pid"] != second["pid"]
    assert {first["gpu"], second["gpu"]} == {"0", "1"}
    one.close()
    other.close()


def test_closing_stops_the_worker(engine, cutout):
    jobs = [begin(engine, cutout, LONG) for _ in range(2)]
    for job, _ in jobs:
        job.close()
    again = [begin(engine, cutout, LONG) for _ in range(2)]  # takes as long as the old ones go on
    for job, facts in again:
        job.close()
        assert 1 <= facts["steps_before"] < LONG.steps


def test_a_worker_that_is_told_to_stop_makes_one_more_step_at_most(engine, cutout):
    from orfeas.engines.cluster.worker import Plan, Worker

    worker = Worker(Plan(factory=PACED))
    paced = worker._engine

    async def stop():
        job = worker.shape(cutout, QUICK, 7)
        await anext(job)
        paced.pace.release()
        assert (await anext(job)).message == "step 1 of 4"
        following = asyncio.ensure_future(anext(job))
        await asyncio.sleep(0)
        following.cancel()  # as Serve does it
        await asyncio.sleep(0)  # it has told the engine's thread, and waits for it
        paced.pace.release()  # for one step, not for two
        with pytest.raises(asyncio.CancelledError):
            await following

    asyncio.run(stop())
    assert (paced.cancelled, paced.running) == (1, 0)


def test_what_is_wrong_with_a_job_is_said_in_the_same_words(engine, cutout):
    with pytest.raises(BadPicture, match="Nothing is left of it") as caught:
        run(engine, cutout, QUICK, seed=0)
    assert caught.value.code == "empty"
    with pytest.raises(OutOfMemory, match="choose a lower quality"):
        run(engine, cutout, QUICK, seed=1)
    with pytest.raises(OrfeasError, match=r"logged as [0-9a-f]{8}"):
        run(engine, cutout, QUICK, seed=2)
    assert run(engine, cutout, QUICK)[1].faces.size


def test_one_job_more_than_may_wait_is_refused_and_a_waiting_one_can_be_stopped(engine, cutout, gate):
    from orfeas.engines.cluster.client import ClusterEngine

    running = [begin(engine, cutout, LONG)[0] for _ in range(2)]
    waiting = [engine.shape(cutout, LONG, 7) for _ in range(3)]  # the plan's one, and as many as there are workers
    for job in waiting:
        assert next(job) == Step(0.0, "Waiting for a worker")
    with pytest.raises(EngineUnavailable, match="busy and its queue is full") as caught:
        run(engine, cutout, QUICK)
    assert caught.value.code == "busy"
    for job in waiting:
        job.close()
    hasty = ClusterEngine(
        engine._workers,
        {**engine.__dict__, "remeshes": False, "reason": "", "stall_seconds": 1.0},
        "here",
        "timed",
        patience=0.1,
    )
    with pytest.raises(EngineUnavailable, match=r"No worker of the cluster took the job within 0 s"):
        run(hasty, cutout, QUICK)
    for job in running:
        job.close()
    gate.unlink()
    assert run(engine, cutout, QUICK)[1].faces.size


def test_a_killed_worker_costs_the_user_a_note_and_no_result(engine, make_studio, gate):
    studio = make_studio(engine)
    studio.qualities = {"draft": SLOW}
    events, killed = studio.run(GenerationRequest(draw("blob"), quality="draft", seed=7)), []
    original = engine.shape

    def shape(*arguments):
        for event in original(*arguments):
            yield event
            if not killed and (getattr(event, "facts", None) or {}).get("steps_before") is not None:
                killed.append(event.facts["pid"])
                os.kill(killed[0], signal.SIGKILL)
                gate.unlink()

    engine.shape = shape
    try:
        *progress, result = events
    finally:
        del engine.shape
    fractions = [event.fraction for event in progress]
    assert fractions == sorted(fractions)
    assert "The worker was lost: beginning again on another" in [event.message for event in progress]
    assert result.facts["pid"] != killed[0]
    assert (result.facts["engine_version"], result.facts["device"]) == ("test-1", "cpu")
    assert result.notes[-1] == (
        "A worker of the cluster was lost, so the shape was begun again on another, with the same seed."
    )
    alone = make_studio(TimedEngine())
    alone.qualities = {"draft": Quality(1, SLOW.steps, SLOW.faces)}
    *_, undisturbed = alone.run(GenerationRequest(draw("blob"), quality="draft", seed=7))
    assert result.files["model"].read_bytes() == undisturbed.files["model"].read_bytes()


def test_a_job_that_loses_two_workers_ends_in_a_sentence(engine, cutout, gate):
    lost = []
    with pytest.raises(EngineUnavailable, match="Two workers of the cluster were lost over this job"):
        for event in engine.shape(cutout, SLOW, 7):
            if pid := (getattr(event, "facts", None) or {}).get("pid"):
                os.kill(pid, signal.SIGKILL)
                lost.append(pid)
    assert len(set(lost)) == len(lost) == 2
    gate.unlink()
    assert run(engine, cutout, QUICK)[1].faces.size  # the cluster heals


def test_a_worker_that_hangs_and_is_not_replaced_is_given_up(engine, cutout, monkeypatch, gate):
    assert engine._silence > 600
    monkeypatch.setattr(engine, "_silence", 1.0)
    with pytest.raises(EngineUnavailable, match="Two workers of the cluster were lost over this job"):
        list(engine.shape(cutout, QUICK, 7))


def test_jobs_in_flight_survive_a_new_deployment(cluster, engine, cutout):
    jobs = [begin(engine, cutout, Quality(50, 100, 2000)) for _ in range(2)]  # 5 s
    cluster("timed", factory=TIMED, min_workers=2, max_workers=2, queue=1, environment={"ANOTHER": "release"})
    old = {facts["pid"] for _, facts in jobs}
    for job, facts in jobs:
        *steps, mesh = job
        workers = [step.facts["pid"] for step in steps if step.facts and "pid" in step.facts]
        assert workers == [facts["pid"]] * 99  # to the end, by the worker that had begun
        assert mesh.faces.size
    assert run(engine, cutout, QUICK)[0][0].facts["pid"] not in old


def test_a_worker_whose_engine_hangs_says_so(engine, cutout, monkeypatch):
    from orfeas.engines.cluster import worker as room

    now = [100.0]
    monkeypatch.setattr(room, "time", SimpleNamespace(monotonic=lambda: now[0]))
    worker = room.Worker(room.Plan(factory=PACED, stall_seconds=1))
    pace = worker._engine.pace

    async def hang():
        job = worker.shape(cutout, QUICK, 7)
        await anext(job)
        now[0] = 105.0
        pace.release()
        await anext(job)  # the first step, and the engine waits before the second
        worker.check_health()
        now[0] = 106.2
        with pytest.raises(RuntimeError, match="no step for 1 s"):
            worker.check_health()
        pace.release(100)
        await job.aclose()

    asyncio.run(hang())
    worker._thread.shutdown()
    now[0] = 200.0
    worker.check_health()  # it came back after all
    monkeypatch.setattr(worker._engine, "health", lambda: {"ready": False, "problem": "cuda:0 failed at work."})
    with pytest.raises(RuntimeError, match="cuda:0 failed at work"):
        worker.check_health()


def test_a_cluster_that_is_not_there_is_a_sentence(settings):
    from orfeas.engines.choose import choose_engine

    asked = settings.model_copy(update={"engine": "ray", "ray_address": "ray://127.0.0.1:10001"})
    with pytest.raises(EngineUnavailable, match="progress does not pass through a Ray client"):
        choose_engine(asked)


def test_an_application_that_is_not_there_is_a_sentence(engine, settings):
    from orfeas.engines.choose import choose_engine

    asked = settings.model_copy(update={"engine": "ray", "ray_app": "nobody"})
    with pytest.raises(EngineUnavailable, match=r"python -m orfeas\.engines.cluster deploy"):
        choose_engine(asked)


def test_the_settings_lead_to_the_workers(engine, settings):
    from orfeas.engines.choose import choose_engine

    chosen = choose_engine(settings.model_copy(update={"engine": "ray", "ray_app": "timed"}))
    assert (chosen.title, chosen.slots) == ("Timed", 2)
    chosen.close()  # leaves the connection, which is not its own
    assert engine.health()["cluster"] == "this machine"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--workers", "4-2"], "max_workers cannot be 2"),
        (["--workers", "many"], "min_workers cannot be 'many'"),
        (["--gpus", "-1"], "gpus cannot be -1"),
        (["--engine", "magic"], "engine cannot be 'magic'"),
    ],
)
def test_a_deployment_that_makes_no_sense_is_refused(words, sentence):
    from orfeas.engines.cluster.__main__ import build_parser, read_plan

    with pytest.raises(BadRequest, match=sentence):
        read_plan(build_parser().parse_args(["deploy", *words]), {})


def test_a_deployment_passes_on_the_settings_that_workers_need():
    from orfeas.engines.cluster.__main__ import build_parser, read_plan

    given = {"ORFEAS_HUNYUAN3D_PATH": "/models", "ORFEAS_PORT": "9000", "ORFEAS_ENGINE": "ray", "HOME": "/home/me"}
    plan = read_plan(build_parser().parse_args(["deploy", "--workers", "1-4", "--gpus", "0.5"]), given)
    assert (plan.min_workers, plan.max_workers, plan.gpus, plan.engine) == (1, 4, 0.5, "auto")
    assert set(plan.environment) == {"PYTHONPATH", "ORFEAS_HUNYUAN3D_PATH"}


def test_a_deployment_reads_the_settings_that_the_app_reads(tmp_path, monkeypatch):
    from orfeas.engines.cluster.__main__ import build_parser, read_plan

    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        "ORFEAS_HUNYUAN3D_PATH=/models\nORFEAS_LOG_LEVEL=debug\nORFEAS_PORT=1\nORFEAS_DEVICE\n"
    )
    monkeypatch.setenv("ORFEAS_LOG_LEVEL", "warning")
    monkeypatch.delenv("ORFEAS_HUNYUAN3D_PATH", raising=False)
    passed = read_plan(build_parser().parse_args(["deploy"])).environment
    assert (passed["ORFEAS_HUNYUAN3D_PATH"], passed["ORFEAS_LOG_LEVEL"]) == ("/models", "warning")
    assert not {"ORFEAS_PORT", "ORFEAS_DEVICE"} & set(passed)
