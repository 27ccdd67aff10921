"""How long a job will take: from jobs that ended here, and nothing before one has."""

from __future__ import annotations

import threading

import pytest

from orfeas.request import QUALITIES, GenerationRequest
from orfeas.web.eta import KEPT, History
from orfeas.web.jobs import Jobs
from orfeas.web.panels import measured_on, quality_choices
from tests.conftest import PacedEngine
from tests.web.conftest import wait_until


def facts(*seconds: float, **more) -> dict:
    stages = dict(zip(("cutout", "shape", "files"), seconds, strict=True))
    return {"seconds": {**stages, "total": sum(seconds)}, **more}


def test_nothing_is_said_before_a_job_of_that_quality_has_ended():
    history = History()
    assert history.estimate("draft") is None
    history.add("high", facts(1, 2, 3))
    assert history.estimate("draft") is None


def test_the_middle_of_the_last_jobs_less_what_has_passed():
    history = History()
    for shape in (2, 10, 4):
        history.add("draft", facts(1, shape, 2))
    whole = history.estimate("draft")
    assert (whole.seconds, whole.jobs) == (7, 3)
    assert history.estimate("draft", "shape", 1.5).seconds == pytest.approx(4.5)
    assert history.estimate("draft", "shape", 60).seconds == 2, "the stages that follow are still to come"
    assert history.estimate("draft", "files", 60).seconds == 0
    for _ in range(KEPT):
        history.add("draft", facts(0, 1, 0))
    assert (history.estimate("draft").seconds, history.estimate("draft").jobs) == (1, KEPT)


def test_the_page_shows_what_jobs_took_here_and_says_so():
    history = History()
    assert measured_on("sketch", history) == "These times are from a 2-core server."
    table = {name: quality.seconds for name, quality in QUALITIES["sketch"].items()}

    def shown():
        return [label.splitlines()[-1] for label, _ in quality_choices("sketch", history)]

    assert shown() == [f"{seconds:.3g} s" for seconds in table.values()]
    # this machine is five times as slow: a time of the table's machine beside one from here would mislead
    history.add("standard", facts(0, 5 * table["standard"], 0))
    assert shown() == [
        f"about {5 * table['draft']:.0f} s", f"{5 * table['standard']:.0f} s here", f"about {5 * table['high']:.0f} s",
    ]  # fmt: skip
    assert measured_on("sketch", history) == "“About” is worked out from jobs here."
    for name, seconds in (("draft", 2.26), ("high", 21.4)):
        history.add(name, facts(0, seconds, 0))
    assert shown() == ["2.3 s here", f"{5 * table['standard']:.0f} s here", "21 s here"]
    assert measured_on("sketch", history) == "These times are from jobs here."


def test_a_job_that_skipped_its_diffusion_says_nothing_of_others():
    history = History()
    history.add("draft", facts(1, 0.1, 1, remeshed=True))
    assert history.estimate("draft") is None


def test_results_on_the_disk_count_if_the_same_engine_made_them(make_studio, photo):
    studio = make_studio(PacedEngine())
    for quality in ("draft", "draft", "high"):
        list(studio.run(GenerationRequest(photo, quality=quality)))
    (studio.library.results / "half").mkdir()
    history = History()
    history.read(studio.library, studio.engine)
    assert [history.estimate(name).jobs for name in ("draft", "high")] == [2, 1]
    other = PacedEngine()
    other.device = "cuda:0"
    history = History()
    history.read(studio.library, other)
    assert history.estimate("draft") is None


def test_who_waits_is_told_the_time_of_those_before_too(make_studio, photo):
    pace = threading.Semaphore(0)
    studio = make_studio(PacedEngine(pace=pace))
    jobs = Jobs(studio, 3)
    for _ in range(2):
        jobs.history.add("draft", facts(1, 2, 3))
    first = jobs.start(GenerationRequest(photo, quality="draft"))
    wait_until(lambda: studio.engine.running, "the first job runs")
    second = jobs.start(GenerationRequest(photo, quality="draft"))
    try:
        wait_until(lambda: jobs.look(second.token).get("ahead") == 1, "the second job waits")
        look = jobs.look(second.token)
        assert 6 < look["left"]["seconds"] <= 12
        assert look["left"]["jobs"] == 2
        assert jobs.look(first.token)["ahead"] == 0
    finally:
        pace.release(100)
        for job in (first, second):
            job.future.result(timeout=60)
    assert "left" not in jobs.look(first.token)
    assert jobs.history.estimate("draft").jobs == 4
