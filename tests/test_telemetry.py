"""GPU readings, counting, readiness and bugs, each by itself; the whole of them is in tests/web/test_operators.py."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pynvml
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from orfeas import __version__
from orfeas.errors import BadRequest, BadWeights
from orfeas.telemetry import PeakMemory, log, report_bug
from orfeas.telemetry.gpu import GpuReadings
from orfeas.telemetry.metrics import Metrics
from orfeas.telemetry.sentry import start_reports
from orfeas.web.jobs import Jobs
from orfeas.web.readiness import Readiness
from tests.conftest import PacedEngine
from tests.fake_nvml import Cards

ROOT = Path(__file__).resolve().parents[1]


def scrape(*collectors) -> str:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry).decode()


# --- GPU --------------------------------------------------------------------------------------------------------------


def test_readings_of_each_card():
    registry = CollectorRegistry()
    registry.register(GpuReadings(Cards()))
    value = registry.get_sample_value
    assert value("orfeas_gpu_up") == 1
    assert value("orfeas_gpu_memory_used_bytes", {"gpu": "1"}) == 20e9
    assert value("orfeas_gpu_memory_total_bytes", {"gpu": "0"}) == 80e9
    assert value("orfeas_gpu_utilization_ratio", {"gpu": "0"}) == 0.37
    assert value("orfeas_gpu_temperature_celsius", {"gpu": "1"}) == 62
    assert value("orfeas_gpu_power_watts", {"gpu": "0"}) == 312.5
    assert value("orfeas_gpu_power_watts", {"gpu": "1"}) is None  # a reading that a card does not have is not zero


def test_a_driver_that_goes_and_comes_back():
    cards = Cards()
    readings = GpuReadings(cards)
    assert "orfeas_gpu_up 1.0" in scrape(readings)
    cards.driver_is_there = False
    page = scrape(readings)
    assert "orfeas_gpu_up 0.0" in page
    assert "{gpu=" not in page
    cards.driver_is_there = True
    assert "orfeas_gpu_up 1.0" in scrape(readings)
    assert cards.opened == 2


def test_what_the_real_library_says_here():
    try:
        pynvml.nvmlInit()
        cards = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        cards = 0
    page = scrape(GpuReadings())
    assert f"orfeas_gpu_up {float(cards > 0)}" in page
    assert page.count("orfeas_gpu_memory_total_bytes{") == cards


# --- counting ---------------------------------------------------------------------------------------------------------


def test_without_the_drivers_library_there_is_no_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    (up,) = GpuReadings().collect()
    assert (up.name, up.samples[0].value) == ("orfeas_gpu_up", 0)


def test_a_system_that_tells_no_memory_stops_no_job(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    monkeypatch.setitem(sys.modules, "resource", None)
    assert PeakMemory().read_mb() == 0.0


def test_a_job_without_progress_is_seen(make_studio, photo_bytes):
    from orfeas.request import GenerationRequest

    now = [0.0]
    metrics, pace = Metrics(clock=lambda: now[0]), threading.Semaphore(0)
    engine = PacedEngine(pace=pace)
    jobs = Jobs(make_studio(engine), 3, metrics)
    first = jobs.start(GenerationRequest(photo_bytes, quality="draft"))
    while not engine.running:
        time.sleep(0.01)
    second = jobs.start(GenerationRequest(photo_bytes))
    while not second.progress:
        time.sleep(0.01)
    now[0] += 400.0
    assert metrics.seconds_without_progress() == 400.0  # that the other waits is no fault
    pace.release(100)
    for job in (first, second):
        assert job.future.result(60).state == "done"
    assert metrics.seconds_without_progress() == 0.0
    value = metrics.registry.get_sample_value
    assert value("orfeas_stage_seconds_sum", {"stage": "shape", "quality": "draft"}) == 400.0
    assert value("orfeas_wait_seconds_bucket", {"le": "0.1"}) == 1
    assert value("orfeas_wait_seconds_count") == 2
    assert value("orfeas_wait_seconds_sum") == 400.0
    assert value("orfeas_job_seconds_sum", {"quality": "standard"}) == 0.0


def test_whose_fault_a_failure_is(make_studio, photo_bytes):
    from orfeas.errors import BadPicture
    from orfeas.request import GenerationRequest

    metrics, engine = Metrics(), PacedEngine()
    jobs = Jobs(make_studio(engine), 3, metrics)
    for error in (ZeroDivisionError("ours"), BadPicture("Theirs.", "empty_foreground")):
        engine.error = error
        assert jobs.start(GenerationRequest(photo_bytes)).future.result(60).state == "failed"
    value = metrics.registry.get_sample_value
    assert value("orfeas_job_failures_total", {"code": "internal", "fault": "server"}) == 1
    assert value("orfeas_job_failures_total", {"code": "empty_foreground", "fault": "request"}) == 1
    assert value("orfeas_jobs_total", {"outcome": "failed", "stage": "shape", "quality": "standard"}) == 2


@pytest.fixture
def photo_bytes(tmp_path) -> bytes:
    from tests.web.conftest import write_photo

    return write_photo(tmp_path / "egg.jpg", (60, 70, 200)).read_bytes()


# --- readiness --------------------------------------------------------------------------------------------------------


class LoadingEngine(PacedEngine):
    def __init__(self, error: Exception | None = None):
        super().__init__()
        self.go_on, self.load_error = threading.Event(), error

    def load(self):
        assert self.go_on.wait(30)
        if self.load_error:
            raise self.load_error


def test_not_ready_while_the_engine_is_loaded(make_studio):
    engine = LoadingEngine()
    readiness = Readiness(Jobs(make_studio(engine), 3), 0)
    loading = readiness.load()
    assert readiness.find_problem().code == "loading"
    engine.go_on.set()
    loading.join(30)
    assert readiness.find_problem() is None


def test_not_ready_once_the_gpu_has_failed(make_studio, monkeypatch):
    engine = PacedEngine()
    readiness = Readiness(Jobs(make_studio(engine), 3), 0)
    readiness.load().join(30)
    assert readiness.find_problem() is None
    monkeypatch.setattr(engine, "health", lambda: {"ready": False, "problem": "cuda:0 failed at work."})
    problem = readiness.find_problem()
    assert (problem.code, str(problem)) == ("broken_gpu", "cuda:0 failed at work.")


@pytest.mark.parametrize(
    ("error", "code"), [(BadWeights("The file is damaged."), "bad_weights"), (ZeroDivisionError("secret"), "internal")]
)
def test_an_engine_that_cannot_be_loaded_is_said_until_it_can(make_studio, error, code):
    engine = LoadingEngine(error)
    engine.go_on.set()
    studio = make_studio(engine)
    readiness = Readiness(Jobs(studio, 3), 0)
    readiness.load().join(30)
    problem = readiness.find_problem()
    assert problem.code == code
    assert "secret" not in str(problem)
    engine.load_error = None
    studio.load()  # as the next job does
    assert readiness.find_problem() is None


# --- bugs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sent() -> tuple[list[str], type]:
    """What would be sent, and the transport that keeps it here: sentry_sdk's own, but for the network."""
    import sentry_sdk

    envelopes: list[str] = []

    class KeepsThem(sentry_sdk.Transport):
        def capture_envelope(self, envelope):
            envelopes.append(envelope.serialize().decode())

    return envelopes, KeepsThem


def test_a_bug_is_reported_once_and_scrubbed(sent):
    envelopes, transport = sent
    token = "0123456789abcdef" * 2
    name, inline = "gpj.yadiloh"[::-1], "=KGgo0wKROBVi"[::-1]  # backwards, since the lines of the source are sent
    end = start_reports("https://key@sentry.example.org/1", transport)

    def fail(pixels: bytes):
        local = pixels.decode()
        raise OSError(2, f"cannot read {len(local)} of data:image/png;base64,{inline}", f"/data/{token}/my {name}")

    try:
        fail(name.encode())
    except OSError as error:
        sentence = report_bug(error)
    end()
    (envelope,) = envelopes
    event = json.loads(envelope.splitlines()[2])
    (exception,) = event["exception"]["values"]
    assert exception["type"] == "FileNotFoundError"
    assert exception["value"].endswith(": <path>")
    assert exception["stacktrace"]["frames"][-1]["function"] == "fail"
    assert event["tags"]["bug"] in sentence
    assert event["release"] == f"orfeas@{__version__}"
    for secret in (token, name, inline, '"vars"', str(ROOT), "server_name"):
        assert secret not in envelope, secret
    report_bug(ValueError("after the end"))
    assert len(envelopes) == 1


def test_a_bug_is_reported_under_what_the_operator_released(sent):
    envelopes, transport = sent
    end = start_reports("https://key@sentry.example.org/1", transport, release="v1.2.0")
    report_bug(ValueError("any"))
    end()
    assert json.loads(envelopes[0].splitlines()[2])["release"] == "orfeas@v1.2.0"


def test_without_the_package_there_is_one_clear_line(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    start_reports("https://key@sentry.example.org/1")()
    (message,) = caplog.messages
    assert "sentry-sdk is not installed" in message
    assert "pip install sentry-sdk" in message


def test_a_bad_address_for_bugs_is_one_sentence():
    with pytest.raises(BadRequest, match=r"^SENTRY_DSN cannot be used: .*\.$"):
        start_reports("not an address")


def test_the_address_for_bugs_is_read_by_both_names(monkeypatch):
    from orfeas.settings import load_settings

    for name in ("SENTRY_DSN", "ORFEAS_SENTRY_DSN"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "https://key@sentry.example.org/1")
            settings = load_settings(_env_file=None)
        assert settings.sentry_dsn.get_secret_value().endswith("@sentry.example.org/1")
        assert "key" not in repr(settings)


def test_a_listener_that_fails_does_not_hide_the_bug(caplog):
    from orfeas.telemetry.bugs import listen_for_bugs

    end = listen_for_bugs(lambda error, bug_id: 1 / 0)
    sentence = report_bug(ValueError("the bug"))
    end()
    assert "logged as" in sentence
    assert [record.message.split()[0] for record in caplog.records] == ["bug", "bug_not_passed_on"]


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line_logs_which_picture_a_line_is_about(tmp_path):
    from tests.web.conftest import write_photo

    photos = [write_photo(tmp_path / f"{name}.jpg", (60, 70, 200)) for name in ("egg", "stone")]
    command = [sys.executable, "-m", "orfeas", *map(str, photos), "-o", str(tmp_path / "out/"), "--verbose"]
    done = subprocess.run(
        [*command, "--quality", "draft", "--engine", "sketch"], cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["job"]) for line in lines if "job" in line] == [
        ("making", "egg"), ("made", "egg"), ("making", "stone"), ("made", "stone"),
    ]  # fmt: skip


def test_a_library_that_uses_orfeas_keeps_its_own_logging(caplog):
    with caplog.at_level(logging.INFO):
        log.info("made", seconds=1.5)
        log.debug("worked")
    assert caplog.messages == ["made seconds=1.5"]
