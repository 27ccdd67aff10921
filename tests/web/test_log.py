"""The log of a server: every line with the ids of its own job and request, and none that opens a result."""

from __future__ import annotations

import concurrent.futures
import io
import json
import logging
import secrets
import warnings

import httpx
import pytest

from orfeas.telemetry.logs import build_formatter, hide
from tests.web.conftest import call, file_data, upload, wait_until, write_photo


@pytest.fixture
def lines():
    """A function that returns what was logged so far, as the JSON objects of its lines."""
    text, logger = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(text)
    handler.setFormatter(build_formatter("json"))
    logger.addHandler(handler)
    level, ours = logger.level, logging.getLogger("orfeas")
    ours.setLevel("DEBUG")
    yield lambda: [json.loads(line) for line in text.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.setLevel(level)
    ours.setLevel("NOTSET")


def test_lines_of_jobs_at_the_same_time_carry_their_own_ids(url, server, engine, pace, tmp_path, lines):
    """Handlers run in tasks that copy the context of whichever request started the queue."""
    photos = [write_photo(tmp_path / f"private name {k}.jpg", (60, 70 + k, 200)) for k in range(3)]

    def make(k: int) -> str:
        with httpx.Client(base_url=url, timeout=60, headers={"X-Request-ID": f"caller-{k}-x"}) as http:
            body = {"picture": file_data(upload(http, photos[k])), "seed": 1000 + k}
            event, answer = call(http, "generate", body)
            assert event == "complete", answer
            return answer[1]["id"]

    with concurrent.futures.ThreadPoolExecutor(3) as callers:
        results = [callers.submit(make, k) for k in range(3)]
        wait_until(lambda: len(server.jobs.active()) == 3, "three jobs run or wait")
        pace.release(100)
        ids = [result.result() for result in results]
    logged = wait_until(
        lambda: (got := lines()) and sum(line["event"] == "job_ended" for line in got) == 3 and got, "all are logged"
    )
    assert all("job" in line for line in logged if line["event"] in ("job_started", "making", "made", "job_ended"))
    for k in range(3):
        (making,) = (line for line in logged if line["event"] == "making" and line["seed"] == 1000 + k)
        mine = [line for line in logged if line.get("job") == making["job"]]
        assert [line["event"] for line in mine if line["logger"] == "orfeas"] == [
            "job_started", "making", "made", "job_ended",
        ]  # fmt: skip
        assert {line["request"] for line in mine} == {f"caller-{k}-x"}
        assert {line["result"] for line in mine if "result" in line} == {ids[k][:8]}
    text = json.dumps(logged)
    assert "private name" not in text
    for token in (*ids, *(job.token for job in server.jobs._jobs.values())):
        assert token not in text


def test_other_loggers_within_a_job_carry_its_id(http, engine, photo, lines):
    def shape(*arguments):
        logging.getLogger("some.library").warning("careful with %s", "this")
        return type(engine).shape(engine, *arguments)

    engine.shape = shape
    try:
        event, _ = call(http, "generate", {"picture": file_data(upload(http, photo))})
    finally:
        del engine.shape
    assert event == "complete"
    (line,) = (line for line in lines() if line["logger"] == "some.library")
    (started,) = (line for line in lines() if line["event"] == "job_started")
    assert line["event"] == "careful with this"
    assert line["level"] == "warning"
    assert (line["job"], line["request"]) == (started["job"], started["request"])


def test_each_request_is_a_line(http, photo, lines):
    secret = secrets.token_hex(16)
    answer = http.get(f"/r/{secret}/private%20name.stl", headers={"X-Request-ID": "mine-1234"})
    assert answer.headers["x-request-id"] == "mine-1234"
    spoiled = http.get("/gradio_api/file=/etc/passwd", headers={"X-Request-ID": 'bad"\t' + "x" * 80})
    assert len(spoiled.headers["x-request-id"]) == 16
    healths = [http.get("/health") for _ in range(2)]
    assert healths[0].headers["x-request-id"] != healths[1].headers["x-request-id"]
    others = http.get("/no/such/page?secret=1"), http.request("PROPFIND", "/health")
    ids = [one.headers["x-request-id"] for one in (answer, spoiled, *healths, *others)]

    def logged():  # without the end of a stream that the test before left
        found = [line for line in lines() if line["event"] == "request" and line["request"] in ids]
        return sorted(found, key=lambda line: ids.index(line["request"]))

    requests = wait_until(lambda: len(got := logged()) == 6 and got, "all are")
    first = requests[0]
    assert (first["request"], first["method"], first["status"]) == ("mine-1234", "GET", 404)
    assert first["path"] == "/r/{result_id}/{name}"
    assert first["ms"] > 0
    assert [line["path"] for line in requests[1:]] == [
        "/gradio_api/file={path_or_url:path}", "/health", "/health", "unknown", "/health",
    ]  # fmt: skip
    assert [line["level"] for line in requests[:3]] == ["info", "info", "debug"]
    assert requests[-1]["method"] == "other"
    assert "private" not in json.dumps(lines())
    assert secret not in json.dumps(lines())


def test_what_is_hidden():
    token = "0123456789abcdef" * 2
    traceback = f"FileNotFoundError: '/data/gradio/{token * 2}/my passport.jpg'\n  line 3"
    assert hide({"a": [token, traceback], "b": (3, "plain")}) == {
        "a": ["01234567…", "FileNotFoundError: '/data/gradio/01234567…'\n  line 3"], "b": [3, "plain"],
    }  # fmt: skip
    assert hide("data:image/png;base64,iVBORw0KGgo=") == "data:…"


def test_the_same_line_for_people(monkeypatch):
    record = logging.LogRecord("py.warnings", logging.WARNING, __file__, 1, "careful", (), None)
    assert json.loads(build_formatter("json").format(record))["event"] == "careful"
    shown = build_formatter("text").format(record)
    assert "careful" in shown
    assert not shown.startswith("{")


def test_any_handler_can_show_our_lines(caplog):
    from orfeas.telemetry import log

    with warnings.catch_warnings():
        log.warning("made", result="0123456789abcdef" * 2, seconds=1.5)
    assert caplog.messages == ["made result=01234567… seconds=1.5"]


def test_a_bug_in_a_job_reaches_sentry_though_gradio_swallows_it(http, engine, photo, lines):
    import sentry_sdk

    from orfeas.telemetry.sentry import start_reports

    sent = []

    class KeepsThem(sentry_sdk.Transport):
        """sentry_sdk's own, but for the network."""

        def capture_envelope(self, envelope):
            sent.append(envelope.get_event())

    end = start_reports("https://key@sentry.example.org/1", KeepsThem)
    engine.error = ZeroDivisionError("secret detail")
    try:
        event, answer = call(http, "generate", {"picture": file_data(upload(http, photo))})
    finally:
        engine.error = None
        end()
    assert event == "error"
    (bug,) = (line for line in lines() if line["event"] == "bug")
    (report,) = sent
    assert report["tags"] == {"bug": bug["bug"], "job": bug["job"], "request": bug["request"]}
    assert bug["bug"] in answer["error"]
    assert report["exception"]["values"][0]["type"] == "ZeroDivisionError"
    assert "red egg" not in json.dumps(report)
    assert "vars" not in json.dumps(report)
