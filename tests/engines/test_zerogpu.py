"""Shapes made in processes that are lent a GPU: with Hugging Face's own package `spaces`, on a machine without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orfeas.engines import Engine, zerogpu
from orfeas.engines.zerogpu import ZeroGPUEngine, lent_seconds
from orfeas.request import QUALITIES, Quality
from tests.conftest import PacedEngine

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """What happened on a Space of the tests (`zerogpu_space`)."""
    folder = tmp_path_factory.mktemp("space")
    # Files: the package's idle workers would hold a pipe open.
    with (folder / "errors").open("wb") as errors, (folder / "output").open("wb") as output:
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests/engines/zerogpu_space.py"), str(folder)], timeout=300, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT)}, stdout=output,
            stderr=errors,
        )  # fmt: skip
    assert done.returncode == 0, (folder / "errors").read_text()[-3000:]
    return json.loads((folder / "output").read_text().splitlines()[-1])


def test_the_shape_is_made_in_another_process_and_its_progress_comes_back(space):
    assert len(space["workers"]) == 1
    assert space["workers"][0] != space["pid"]
    assert {"Diffusion step 2 of 5", "Shape made"} <= {message.split(",")[0] for message in space["messages"]}
    assert space["fractions"] == sorted(space["fractions"])
    assert space["facts"] == {"engine": "hunyuan3d", "diffusion_steps": 6, "device": "cpu"}


def test_the_result_is_that_of_the_undecorated_engine(space):
    assert space["undecorated_the_same"]
    assert space["latents_the_same"]


def test_the_gpu_is_asked_for_as_long_as_the_quality_takes_and_given_back(space):
    schedules = [asked for path, asked in space["calls"] if path == "/schedule"]
    # the package multiplies what we ask for, as the hardware has it
    assert int(schedules[0]["durationSeconds"]) >= lent_seconds(Quality(20, 6, 700))
    assert int(schedules[1]["durationSeconds"]) > int(schedules[0]["durationSeconds"])
    allowed = [asked for path, asked in space["calls"] if path == "/allow"]
    assert str(space["workers"][0]) in {asked["pid"] for asked in allowed}
    lent = len(schedules) - 1  # one was refused
    assert len([path for path, _ in space["calls"] if path == "/release"]) == lent


def test_stopping_ends_the_work_within_a_step(space):
    assert space["steps_after_stop"] == 1
    assert space["queue_after_stop"] == 0


def test_what_goes_wrong_there_is_said_here(space):
    assert (space["empty"]["kind"], space["empty"]["code"]) == ("BadPicture", "empty")
    assert space["bug"]["code"] == "internal"
    assert "logged as" in space["bug"]["sentence"]
    assert "ZeroDivisionError" not in space["bug"]["sentence"]


def test_a_gpu_that_is_refused_or_taken_back_is_a_sentence_and_the_next_job_runs(space):
    assert (space["quota"]["kind"], space["quota"]["code"]) == ("EngineUnavailable", "zerogpu")
    assert space["quota"]["sentence"].startswith("ZeroGPU quota exceeded: Space app has reached its GPU limit.")
    assert space["taken_back"]["sentence"] == (
        "ZeroGPU worker error: GPU task aborted: try again, or choose a lower quality, which asks for fewer seconds."
    )
    assert space["again_the_same"]


def test_off_zerogpu_the_real_decorator_changes_nothing(monkeypatch):
    spaces = pytest.importorskip("spaces")
    asked = []

    def gpu(task, duration):
        asked.append(duration)
        decorated = spaces.GPU(task, duration=duration)
        assert decorated is task
        return decorated

    engine = ZeroGPUEngine(PacedEngine(steps=2), gpu)
    assert isinstance(engine, Engine)
    assert not hasattr(engine, "remesh")
    *steps, mesh = engine.shape(None, Quality(20, 6, 700), 7)
    assert [step.fraction for step in steps] == [0.5, 1.0]
    assert mesh.faces.size
    assert asked[0](None, Quality(384, 30, 1), 7) == lent_seconds(Quality(384, 30, 1))


def test_no_quality_asks_for_more_than_a_visitor_has():
    seconds = [lent_seconds(QUALITIES["hunyuan3d"][name]) for name in ("draft", "standard", "high")]
    assert seconds == sorted(seconds)
    low, high = zerogpu.LENT_SECONDS
    assert low <= seconds[0]
    assert seconds[-1] <= high
    assert lent_seconds(Quality(384, 30, 1), diffusion=False) < seconds[1]
    assert lent_seconds(Quality(384, 30, 1, seconds=40.0)) == 75  # the measured ones, where there are any


@pytest.mark.parametrize(("value", "here"), [("true", True), ("1", True), ("false", False), ("", False)])
def test_it_is_known_by_its_variable(monkeypatch, value, here):
    monkeypatch.setenv("SPACES_ZERO_GPU", value)
    assert zerogpu.is_here() is here
