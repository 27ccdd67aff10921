"""What operators see of the real program while it works: /health, /ready, /metrics, its log, and whom it talks to."""

from __future__ import annotations

import ipaddress
import os
import re
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orfeas.errors import DISK_FULL
from orfeas.library import Library
from orfeas.settings import Settings
from orfeas.web.readiness import LOOK_SECONDS
from orfeas.web.serve import start
from tests.conftest import PacedEngine, open_studio
from tests.web.conftest import free_port


@pytest.fixture
def samples(observed) -> dict[tuple[str, frozenset], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(observed.page)
        for sample in family.samples
    }


def value(samples, name: str, **labels: str) -> float:
    """The sum over all series that have those labels."""
    found = [of for (series, with_labels), of in samples.items() if series == name and labels.items() <= with_labels]
    assert found, f"{name}{labels} is not in the scrape"
    return sum(found)


def test_health_in_mid_load(observed):
    assert observed.mid_load.status_code == 200
    facts = observed.mid_load.json()
    assert (facts["status"], facts["gpu_available"], facts["busy"]) == ("healthy", False, True)
    assert facts["engine"]["name"] == "sketch"
    assert facts["version"]
    assert facts["release"] is None, "nobody released what runs here"
    assert facts["uptime_seconds"] > 0


def test_jobs_are_counted_by_outcome_and_stage(samples):
    assert value(samples, "orfeas_jobs_total", outcome="done", stage="files", quality="draft") == 1
    assert value(samples, "orfeas_jobs_total", outcome="failed", stage="cutout", quality="standard") == 1
    assert value(samples, "orfeas_jobs_total", outcome="cancelled", quality="high") == 1
    assert value(samples, "orfeas_job_failures_total", code="empty_foreground", fault="request") == 1
    for reason in ("bad_choice", "no_endpoint", "bad_arguments", "not_json", "bad_values", "no_page"):
        assert value(samples, "orfeas_refusals_total", reason=reason) == 1
    for stage in ("picture", "cutout", "shape", "solid", "texture", "report", "files"):
        assert value(samples, "orfeas_stage_seconds_count", stage=stage, quality="draft") == 1
    assert value(samples, "orfeas_wait_seconds_count") == 3


def test_the_seconds_of_the_stages_are_those_of_the_report(samples, observed):
    seconds = dict(observed.answer[1]["facts"]["seconds"])
    total = seconds.pop("total")
    for stage, spent in seconds.items():  # told from outside, which takes longer where the machine is busy
        measured = value(samples, "orfeas_stage_seconds_sum", stage=stage, quality="draft")
        assert measured == pytest.approx(spent, abs=0.3, rel=0.1), stage
    assert value(samples, "orfeas_job_seconds_sum", quality="draft") == pytest.approx(total, abs=0.5, rel=0.1)


def test_the_state_of_the_moment(samples, observed):
    assert value(samples, "orfeas_queue_depth") == value(samples, "orfeas_jobs_running") == 0
    assert value(samples, "orfeas_queue_limit") == 20
    assert value(samples, "orfeas_job_idle_seconds") == 0
    assert value(samples, "orfeas_ready") == 1
    assert value(samples, "orfeas_library_results") == 1
    folder = observed.data / "results" / observed.result
    assert value(samples, "orfeas_library_bytes") == sum(file.stat().st_size for file in folder.iterdir())
    assert value(samples, "orfeas_work_seconds_count", things="cutouts", outcome="done") == 1
    assert value(samples, "orfeas_work_seconds_count", things="meshes", outcome="done") == 1
    assert value(samples, "process_resident_memory_bytes") > 100e6
    assert value(samples, "orfeas_info", engine="sketch", device="cpu") == 1
    assert value(samples, "orfeas_http_requests_total", path="/r/{result_id}/{name}", status="200") == 1
    if value(samples, "orfeas_gpu_up") == 0:
        assert not [name for name, _ in samples if name.startswith("orfeas_gpu_") and name.endswith("bytes")]


def test_nothing_is_labelled_with_what_a_caller_wrote(observed):
    assert observed.result not in observed.page
    assert "holiday" not in observed.page
    assert len(observed.page) < 60_000


def test_nothing_leaves_this_machine(observed):
    """Page, job and API call: neither a connection nor so much as a look-up of a name goes beyond loopback."""
    assert observed.peers, "the test's own connections are seen"
    reached = {line.split(" ", 1)[1] for line in observed.reached.read_text().splitlines()}
    assert reached, "the hook works: at its start Gradio asks its own server whether it answers"
    for host in observed.peers | reached - {"localhost", "None"}:
        assert ipaddress.ip_address(host.removeprefix("::ffff:")).is_loopback, host


def test_the_log_is_json_and_gives_nothing_away(observed):
    lines = observed.lines
    assert {line["event"] for line in lines} >= {
        "engine_chosen",
        "serving",
        "request",
        "job_started",
        "made",
        "job_ended",
    }
    text = observed.log.read_text()
    assert "holiday" not in text
    assert not re.search(r"[0-9a-f]{32}", text), "a whole token or digest"
    ended = [line for line in lines if line["event"] == "job_ended"][:3]
    assert [line["state"] for line in ended] == ["done", "failed", "cancelled"]
    assert len({line["job"] for line in ended}) == 3
    assert len({line["request"] for line in ended}) == 3
    (cutting,) = (line for line in lines if line["event"] == "request" and line["request"] == ended[0]["request"])
    assert (cutting["path"], cutting["method"]) == ("/gradio_api/call/v2/{api_name}", "POST")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"X-Forwarded-For": "127.0.0.1"}, 403),
        ({"X-Forwarded-For": "127.0.0.1, 127.0.0.1", "X-Real-IP": "127.0.0.1"}, 403),
        ({"Forwarded": "for=127.0.0.1"}, 403),
        ({"Via": "1.1 proxy"}, 403),
        ({"Host": "app.example.org"}, 403),
        ({"Host": "127.0.0.1.example.org"}, 403),
        ({"Host": "localhost"}, 200),
        ({"Host": "app.example.org", "Authorization": "Bearer let me out"}, 403),
        ({"Host": "app.example.org", "Authorization": "Basic let me in"}, 403),
        ({"Host": "app.example.org", "X-Forwarded-For": "203.0.113.7", "Authorization": "Bearer let me in"}, 200),
    ],
)
def test_who_may_read_the_metrics(observed, headers, status):
    answer = observed.http.get("/metrics", headers=headers)
    assert answer.status_code == status
    assert ("orfeas_jobs_total" in answer.text) is (status == 200)


def test_a_full_disk_is_said_and_so_is_its_end(observed):
    assert observed.http.get("/ready").json() == {"ready": True}
    big = observed.data / "big"
    try:
        with big.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 2 * observed.room_mb * 1_000_000)
        answer = observed.http.get("/ready")
        assert (answer.status_code, answer.json()["reason"]) == (503, "disk_full")
        assert "ORFEAS_MIN_FREE_MB" in answer.json()["detail"]
        time.sleep(LOOK_SECONDS)
        for refused in (
            observed.http.post("/gradio_api/upload", files={"files": ("a.png", b"a")}),
            observed.http.post("/gradio_api/call/v2/generate", json={}),
        ):
            assert (refused.status_code, refused.json()["error"]) == (503, DISK_FULL)
        assert "orfeas_ready 0.0" in observed.http.get("/metrics").text
        assert observed.http.get("/health").status_code == 200
    finally:
        big.unlink(missing_ok=True)
    assert observed.http.get("/ready").status_code == 200


def test_an_unwritable_data_folder_is_said_and_so_is_its_end(observed):
    aside = observed.data.with_name("aside")
    observed.data.rename(aside)
    try:
        observed.data.write_text("a file where the folder should be")
        answer = observed.http.get("/ready")
        assert (answer.status_code, answer.json()["reason"]) == (503, "data_dir")
        assert "ORFEAS_DATA_DIR" in answer.json()["detail"]
        assert observed.http.get("/metrics").status_code == 200
        observed.data.unlink()
    finally:
        aside.rename(observed.data)
    assert observed.http.get("/ready").status_code == 200


@pytest.mark.parametrize("metrics", ["open", "loopback"])
def test_metrics_are_not_read_below_the_path_at_which_a_proxy_shows_the_app(tmp_path, metrics):
    """deploy/Caddyfile closes /studio/metrics and removes /studio: of /studio/studio/metrics, one is left."""
    settings = Settings(
        _env_file=None, engine="sketch", data_dir=tmp_path, port=free_port(), host="127.0.0.1", root_path="/studio",
        metrics=metrics, metrics_token="secret",
    )  # fmt: skip
    server = start(open_studio(settings, PacedEngine(), Library(tmp_path)), settings)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=60) as http:
            assert http.get("/studio/health").status_code == 200
            assert http.get("/metrics").status_code == 200, "as Prometheus asks, beside the proxy"
            assert http.get("/studio/metrics").status_code == 403
            assert http.get("/studio/metrics", headers={"Authorization": "Bearer secret"}).status_code == 200
    finally:
        server.close()


def test_health_and_metrics_show_what_the_operator_released(tmp_path, monkeypatch):
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    from orfeas.settings import load_settings
    from orfeas.telemetry.metrics import Metrics
    from orfeas.web.bench import Bench
    from orfeas.web.jobs import Jobs
    from orfeas.web.readiness import Readiness
    from orfeas.web.routes import build_routes
    from orfeas.web.scrape import build_scrape

    monkeypatch.setenv("ORFEAS_TAG", "v1.2.0")
    settings = load_settings(_env_file=None, data_dir=tmp_path, metrics="open")
    metrics = Metrics()
    jobs = Jobs(open_studio(settings, PacedEngine(), Library(tmp_path)), 3, metrics)
    readiness, bench = Readiness(jobs, 0), Bench("files", 1, 1)
    routes = [
        *build_routes(jobs, bench, readiness, bench, settings.tag),
        build_scrape(metrics, readiness, {}, settings),
    ]
    client = TestClient(Starlette(routes=routes))
    assert client.get("/health").json()["release"] == "v1.2.0"
    assert re.search(r'orfeas_info\{[^}]*release="v1\.2\.0"', client.get("/metrics").text)


@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.0.0.0/8"])
def test_a_proxy_on_this_machine_does_not_open_the_metrics_whether_it_is_trusted_or_not(tmp_path, trusted):
    """Without trust its headers are removed before the rule is asked, and its own address is all that is left."""
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    from orfeas.telemetry.metrics import Metrics
    from orfeas.web.jobs import Jobs
    from orfeas.web.proxies import Proxies
    from orfeas.web.readiness import Readiness
    from orfeas.web.scrape import build_scrape

    settings = Settings(_env_file=None, data_dir=tmp_path)
    metrics = Metrics()
    jobs = Jobs(open_studio(settings, PacedEngine(), Library(tmp_path)), 3, metrics)
    app = Starlette(routes=[build_scrape(metrics, Readiness(jobs, 0), {}, settings)])
    client = TestClient(Proxies(app, trusted), base_url="http://127.0.0.1:7860", client=("127.0.0.1", 5))
    assert client.get("/metrics").status_code == 200
    for headers in ({"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Real-IP": "127.0.0.1"}):
        assert client.get("/metrics", headers=headers).status_code == 403
    outside = TestClient(Proxies(app, trusted), base_url="http://127.0.0.1:7860", client=("203.0.113.7", 5))
    assert outside.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 403
    assert outside.get("/metrics").status_code == 403
