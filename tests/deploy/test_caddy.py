"""What a browser and a script get through Caddy: nothing held back, nothing let through that should not be."""

from __future__ import annotations

import re
import ssl
import time

import httpx
import pytest

from tests.deploy.caddy import Caddy
from tests.web.conftest import call, file_data, upload, wait_until

MB = 1_000_000
MIB = 1 << 20


def make_model(https: httpx.Client, photo, **options) -> dict:
    event, answer = call(https, "generate", {"picture": file_data(upload(https, photo)), **options})
    assert event == "complete", answer
    return {"file": answer[0], **answer[1]}


def send_file(https: httpx.Client, size: int) -> httpx.Response:
    return https.post("/gradio_api/upload", files={"files": ("a.png", b"\0" * size)})


@pytest.mark.parametrize("host", ["app.localhost", "api.localhost"])
def test_both_host_names_have_certificates_and_the_app(caddy, host):
    with caddy.client(host) as https:
        assert https.get("/health").json()["status"] == "healthy"
        config = https.get("/config").json()
        assert config["root"] == f"https://{host}:{caddy.port}"
        assert https.get("/").headers["strict-transport-security"]
    plain = httpx.get(f"http://127.0.0.1:{caddy.http_port}/x", headers={"host": host}, timeout=60)
    assert (plain.status_code, plain.headers["location"].split(":")[0]) == (308, "https")


def test_other_host_names_get_nothing(caddy):
    with pytest.raises((httpx.TransportError, ssl.SSLError)), caddy.client("other.localhost") as https:
        https.get("/health")


def test_own_certificates(caddy, server, tmp_path):
    (certificate,) = caddy.certificates("app.localhost")
    own = Caddy(
        tmp_path, server.url, tls=f"{certificate} {certificate.with_suffix('.key')}", ORFEAS_HOSTS="app.localhost"
    )
    try:
        with own.client("app.localhost", authority=caddy.root_certificate) as https:
            assert https.get("/ready").json() == {"ready": True}
        assert not own.storage.joinpath("certificates").exists(), "none was asked for"
    finally:
        own.close()


def test_progress_arrives_as_it_is_sent(https, photo, engine, pace):
    """Each step is let go only after the event of the step before has been read; the last one ends at once."""
    body = {"picture": file_data(upload(https, photo)), "session_hash": "progress"}
    index = next(d["id"] for d in https.get("/config").json()["dependencies"] if d["api_name"] == "generate")
    parameters = https.get("/gradio_api/info").json()["named_endpoints"]["/generate"]["parameters"]
    data = [body["picture"], *(parameter["parameter_default"] for parameter in parameters[1:])]
    joined = https.post("/gradio_api/queue/join", json={"fn_index": index, "data": data, "session_hash": "progress"})
    assert joined.status_code == 200
    seen = []
    with https.stream("GET", "/gradio_api/queue/data?session_hash=progress") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in events.headers
        for line in events.iter_lines():
            found = re.search(r"step (\d) of 4", line)
            if found and int(found[1]) not in seen:
                seen.append(int(found[1]))
                pace.release()
            if "process_starts" in line:
                pace.release()
            if "process_completed" in line:
                break
    assert seen[:3] == [1, 2, 3]


def test_a_silent_job_is_waited_for(https, photo, engine, pace):
    """Four seconds without a byte; benchmarks/proxy.py measures 150. Caddy has no limit that either would meet."""
    joined = https.post("/gradio_api/call/v2/generate", json={"picture": file_data(upload(https, photo))}).json()
    with https.stream("GET", f"/gradio_api/call/v2/generate/{joined['event_id']}") as events:
        wait_until(lambda: engine.running, "the job runs")
        time.sleep(4)
        pace.release(50)
        assert "event: complete" in list(events.iter_lines())


def test_uploads_at_the_limits(https):
    assert send_file(https, 16 * MB).status_code == 200
    assert send_file(https, 16 * MIB).status_code == 200
    for size in (17 * MB, 17 * MIB, 21 * MB, 40 * MB):  # the app's limit, and from 20 MB on the proxy's
        refused = send_file(https, size)
        assert refused.status_code == 413
        assert "16 MiB" in refused.json()["detail"]

    def chunks():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        for _ in range(24):
            yield b"\0" * MIB
        yield b"\r\n--x--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert https.post("/gradio_api/upload", content=chunks(), headers=headers).status_code == 413


def test_models_and_scripts_are_compressed_and_events_are_not(https, photo):
    answer = make_model(https, photo, format="glb")
    for ending in ("glb", "stl"):
        path = f"/r/{answer['id']}/{answer['name']}_100mm.{ending}"
        plain = https.get(path, headers={"accept-encoding": "identity"})
        packed = https.get(path, headers={"accept-encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content == plain.content
        assert packed.num_bytes_downloaded < 0.8 * len(plain.content), ending
    assert https.get("/", headers={"accept-encoding": "gzip"}).headers["content-encoding"] == "gzip"


def test_hashed_names_are_kept_for_ever_and_the_page_is_not(https):
    page = https.get("/").text
    script = re.search(r'(?:src|href)="\.?/?(assets/[^"]+-[A-Za-z0-9_-]{8}\.js)"', page).group(1)
    assert https.get(f"/{script}").headers["cache-control"] == "public, max-age=31536000, immutable"
    for path in ("/", "/config", "/health", "/assets/none-12345678.js"):
        assert "immutable" not in https.get(path).headers.get("cache-control", ""), path


def test_metrics_are_closed(https):
    for path in (
        "/metrics",
        "/metrics/",
        "/metrics?x=1",
        "/METRICS",
        "/%6detrics",
        "/monitoring",
        "/monitoring/summary",
    ):
        answer = https.get(path)
        assert (answer.status_code, answer.content) == (404, b""), path  # the app's own 404 has a body


def test_forwarding_headers_of_a_client_are_not_believed(https, caddy):
    spoofed = {
        "x-forwarded-host": "evil.example", "x-forwarded-proto": "http", "x-forwarded-for": "203.0.113.9",
        "forwarded": "for=203.0.113.9;host=evil.example", "x-real-ip": "203.0.113.9",
    }  # fmt: skip
    answer = https.get("/config", headers=spoofed)
    assert "evil" not in answer.text
    assert answer.json()["root"] == f"https://127.0.0.1:{caddy.port}"


def test_below_a_path(below_a_path, photo):
    with below_a_path.client() as https:
        assert https.get("/health").json()["status"] == "healthy"
        bare = https.get(f"https://127.0.0.1:{below_a_path.port}/studio")
        assert (bare.status_code, bare.headers["location"]) == (308, "/studio/")
        assert https.get(f"https://127.0.0.1:{below_a_path.port}/").status_code == 404
        assert https.get("/metrics").status_code == 404
        answer = make_model(https, photo)
        assert answer["file"]["url"].startswith(f"{below_a_path.url}/gradio_api/file=")
        assert https.get(answer["file"]["url"]).content[80:84] != b""
        assert send_file(https, 17 * MB).status_code == 413


def test_a_server_that_is_away_is_a_sentence(server, tmp_path):
    away = Caddy(tmp_path, "http://127.0.0.1:9", ORFEAS_HOLD="0.3s")
    try:
        with away.client() as https:
            answer = https.get("/health")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
            assert answer.json()["detail"] == "The app is restarting: try again in a minute."
    finally:
        away.close()


def test_addresses_of_results_stay_out_of_the_log(https, caddy, photo):
    answer = make_model(https, photo)
    https.get(f"/r/{answer['id']}/poster.png")
    wait_until(lambda: "poster.png" in caddy.log.read_text(), "the request is logged")
    assert answer["id"] not in caddy.log.read_text()


def test_a_visitor_who_leaves_stays_out_of_the_log_too(https, caddy, photo, engine, pace):
    """That an answer was not taken Caddy tells in another log than the requests', with the address as well."""
    joined = https.post("/gradio_api/call/v2/generate", json={"picture": file_data(upload(https, photo))}).json()
    with (
        caddy.client() as leaving,
        leaving.stream("GET", f"/gradio_api/call/v2/generate/{joined['event_id']}") as events,
    ):
        wait_until(lambda: engine.running, "the job runs")
        next(events.iter_raw())
    for told in ("aborting with incomplete response", "http.log.access"):
        pattern = re.compile(rf"{re.escape(told)}.*/gradio_api/call/v2/generate/-\"")
        wait_until(
            lambda pattern=pattern: pattern.search(caddy.log.read_text()), f"{told}, without the job's identifier"
        )
    pace.release(50)
    assert joined["event_id"] not in caddy.log.read_text()
