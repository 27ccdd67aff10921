"""Health, limits, headers, files and the ways of misuse, by plain HTTP."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import httpx
import pytest
from gradio_client import handle_file

from orfeas.request import GenerationRequest
from orfeas.settings import Settings
from orfeas.web.inputs import Picture
from tests.conftest import PacedEngine, open_studio
from tests.web.conftest import QUEUE_SIZE, START_SECONDS, call, connect, file_data, free_port, upload, wait_until

MIB = 1 << 20
HOSTILE = Path(__file__).parents[1] / "fixtures" / "hostile"


def test_health_and_ready(http):
    health = http.get("/health").json()
    assert health["status"] == "healthy"
    assert health["gpu_available"] is False
    assert health["engine"]["name"] == "sketch"
    assert health["busy"] is False
    assert health["queue"] == 0
    assert health["uptime_seconds"] > 0
    assert health["version"]
    assert http.get("/ready").json() == {"ready": True}
    for path in ("/health", "/ready"):
        head = http.head(path)
        assert (head.status_code, head.content) == (200, b"")


def test_connections_are_kept_for_longer_than_those_who_use_them_again_do(http, server):
    http.get("/health")
    kept = {connection.timeout_keep_alive for connection in list(server.demo.server.server_state.connections)}
    caddyfile = (Path(__file__).parents[2] / "deploy" / "Caddyfile").read_text()
    seconds = int(re.search(r"^\s+keepalive (\d+)s$", caddyfile, re.MULTILINE)[1])
    assert min(kept) >= seconds + 10


def test_an_engine_without_workers_is_not_ready(http, engine, monkeypatch):
    monkeypatch.setattr(engine, "health", lambda: {"workers": 0, "ready": False})
    answer = http.get("/ready")
    assert (answer.status_code, answer.json()["reason"]) == (503, "no_worker")
    assert answer.json()["detail"].startswith("No worker of the engine runs now")
    assert http.get("/health").status_code == 200


def test_health_answers_while_jobs_run_and_wait(client, http, server, engine, photo, pace):
    jobs = [client.submit(handle_file(photo), api_name="/generate") for _ in range(2)]
    wait_until(lambda: engine.running and len(server.jobs.active()) == 2, "one job runs, one waits")
    wait_until(lambda: http.get("/health").json()["queue"] == 1, "the other job is counted as waiting")
    assert http.get("/health").json()["busy"] is True
    pace.release(50)
    for job in jobs:
        job.result(timeout=60)


def test_a_full_queue_is_refused_with_a_sentence(client, http, server, engine, photo, pace):
    jobs = [client.submit(handle_file(photo), api_name="/generate") for _ in range(QUEUE_SIZE + 1)]
    wait_until(lambda: len(server.jobs.active()) == QUEUE_SIZE + 1, "the queue is full")
    sentence = f"The queue is full, {QUEUE_SIZE} jobs are waiting: try again in a few minutes."

    refused = http.post("/gradio_api/call/v2/generate", json={"picture": file_data(upload(http, photo))})
    assert refused.status_code == 503
    assert refused.json()["detail"] == sentence
    assert int(refused.headers["retry-after"]) > 0
    assert http.get("/ready").json()["reason"] == "queue_full"
    assert http.get("/ready").status_code == 503
    assert http.get("/health").status_code == 200
    with pytest.raises(Exception, match="The queue is full"):
        client.predict(handle_file(photo), api_name="/generate")

    pace.release(100)
    for job in jobs:
        job.result(timeout=60)


def test_uploads_over_the_limit(http, caplog):
    one = {"files": ("big.png", b"\0" * (16 * MIB + 70_000))}
    assert http.post("/gradio_api/upload", files=one).status_code == 413
    several = [("files", (f"{k}.png", b"\0" * (6 * MIB))) for k in range(3)]
    assert http.post("/gradio_api/upload", files=several).status_code == 413

    def chunks(size):
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        for at in range(0, size, MIB):
            yield b"\0" * min(MIB, size - at)
        yield b"\r\n--x--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=x"}
    for size in (16 * MIB + 1, 20 * MIB):  # the first is refused by Gradio's own limit on a file, the second by ours
        answer = http.post("/gradio_api/upload", content=chunks(size), headers=headers)
        assert answer.status_code == 413
        assert "16 MiB" in answer.json()["detail"]
    assert http.post("/gradio_api/upload", content=chunks(16 * MIB), headers=headers).status_code == 200
    assert "bug" not in caplog.text


def test_json_over_the_limit(http):
    body = json.dumps({"picture": "x" * 1_100_000}).encode()
    headers = {"content-type": "application/json"}
    assert http.post("/gradio_api/call/v2/generate", content=body, headers=headers).status_code == 413
    pieces = (body[k : k + 65536] for k in range(0, len(body), 65536))
    assert http.post("/gradio_api/queue/join", content=pieces, headers=headers).status_code == 413


def test_addresses_over_the_limit(http):
    """Whatever the method: to follow a path of that length, or to read that query, takes long and stops everybody."""
    for path in ("/gradio_api/file=/" + "a/" * 6000, "/" + "a" * 9000, "/?page=" + "a&" * 4500):
        for method in ("GET", "POST"):
            answer = http.request(method, path)
            assert answer.status_code == 414, (method, path[:20])
            assert answer.json()["error"].endswith("8000 characters: send a shorter one.")
    assert http.get("/?page=&x=" + "a" * 7900).status_code == 200


def _foreign_files(tmp_path) -> list[str]:
    secret = tmp_path / "secret.png"
    secret.write_bytes((HOSTILE / "ok" / "gray16.png").read_bytes())
    return ["/etc/passwd", str(secret), "/proc/self/environ", "app.py", "../../../../etc/passwd"]


@pytest.mark.parametrize("endpoint", ["generate", "cutout"])
def test_a_file_of_the_server_cannot_be_read_as_a_picture(http, tmp_path, endpoint):
    """Gradio 6.31's gr.Image opens any path that is sent without the upload's metadata."""
    for path in _foreign_files(tmp_path):
        for data in ({"path": path}, {"path": path, "orig_name": "x.svg"}, {"path": path, "url": path}):
            event, answer = call(http, endpoint, {"picture": data})
            assert event == "error", data
            assert "uploaded" in answer["error"], data
        event, _ = call(http, endpoint, {"picture": file_data(path)})
        assert event == "error"


def test_addresses_are_not_fetched(http, url):
    for address in (f"{url}/health", "http://169.254.169.254/latest/meta-data", "https://example.org/cat.png"):
        for data in ({"path": address}, file_data(address), {"path": None, "url": address}):
            event, _ = call(http, "cutout", {"picture": data})
            assert event == "error", data


def test_the_page_s_own_events_are_closed_in_the_same_way(http, server, tmp_path):
    """Events that are not documented can still be called by number."""
    config = http.get("/config").json()
    kinds = {component["id"]: component["type"] for component in config["components"]}
    tried = 0
    for dependency in config["dependencies"]:
        inputs = [kinds[number] for number in dependency["inputs"]]
        if "image" in inputs and dependency["backend_fn"]:
            assert isinstance(server.demo.fns[dependency["id"]].inputs[inputs.index("image")], Picture)
            tried += 1
    assert tried >= 5
    taking = next(d["id"] for d in config["dependencies"] if d["api_name"] == "take_picture")
    for path in _foreign_files(tmp_path):
        body = {
            "fn_index": taking,
            "session_hash": "mallory",
            "data": [{"path": path, "orig_name": "x.svg"}, "auto", None],
        }
        answer = http.post("/gradio_api/run/predict", json=body)
        assert answer.status_code == 422
        assert "must be uploaded" in answer.json()["error"]


def test_results_are_served_by_their_id_only(client, http, server, photo):
    _, answer = client.predict(handle_file(photo), format="3mf", size_mm=20, api_name="/generate")
    base = f"/r/{answer['id']}"

    folder = server.jobs.studio.library.find(answer["id"])
    model = next(file.name for file in folder.iterdir() if file.suffix == ".3mf")
    got = http.get(f"{base}/{model}")
    assert got.headers["content-type"] == "model/3mf"
    assert got.headers["content-disposition"].startswith("attachment")
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["access-control-allow-origin"] == "*"  # 3DViewer.net reads it from the visitor's browser
    part = http.get(f"{base}/{model}", headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, got.content[:4])
    assert http.head(f"{base}/{model}").headers["content-length"] == str(len(got.content))
    assert http.get(f"{base}/poster.webp").headers["content-type"] == "image/webp"
    for wrong in (f"/r/{'0' * 32}/{model}", f"{base}/..%2frecipe.json", f"{base}/%2e%2e", f"{base}/", "/r/../x/y"):
        assert http.get(wrong).status_code in (404, 400), wrong


def test_other_formats_of_a_result_are_made_when_asked_for(client, http, server, photo, tmp_path):
    photo = shutil.copy(photo, tmp_path / "猫 ü.jpg")
    file, answer = client.predict(handle_file(photo), format="stl", size_mm=20, api_name="/generate")
    assert (answer["name"], Path(file).name) == ("猫-ü", "猫-ü_20mm.stl")
    base = f"/r/{answer['id']}/{answer['name']}_20mm"
    folder = server.jobs.studio.library.find(answer["id"])

    head = http.head(f"{base}.ply")  # the first request may be a HEAD or ask for a part
    assert (head.status_code, head.content) == (200, b"")
    part = http.get(f"{base}.obj", headers={"Range": "bytes=0-7"})
    assert (part.status_code, part.content) == (206, b"# ORFEAS")
    kinds = {
        "stl": "model/stl", "3mf": "model/3mf", "glb": "model/gltf-binary", "obj": "model/obj", "ply": "model/ply",
        "obj.zip": "application/zip",
    }  # fmt: skip
    for suffix, kind in kinds.items():
        got = http.get(f"{base}.{suffix}")
        assert got.status_code == 200, suffix
        assert got.headers["content-type"] == kind
        assert got.headers["content-disposition"] == f"attachment; filename*=utf-8''{quote(f'猫-ü_20mm.{suffix}')}"
        assert (folder / f"{answer['name']}_20mm.{suffix}").read_bytes() == got.content
    assert head.headers["content-length"] == str(len(http.get(f"{base}.ply").content))
    wrongs = [f"{base}.fbx", f"{base.replace('20mm', '21mm')}.ply", f"/r/{'0' * 32}/{answer['name']}_20mm.ply"]
    said = [http.get(wrong) for wrong in (*wrongs, f"/r/{'0' * 32}/x.fbx")]
    assert {got.status_code for got in said} == {404}
    # the same of a result that is there and of one that is not
    assert said[0].json() == said[3].json()
    assert "a model's file ends in .stl, .3mf, .glb, .obj, .obj.zip" in said[0].json()["error"]
    assert said[1].json() == said[2].json()


def test_many_at_once_get_the_same_new_file(client, http, url, photo):
    import concurrent.futures

    _, answer = client.predict(handle_file(photo), size_mm=20, api_name="/generate")
    address = f"{url}/r/{answer['id']}/{answer['name']}_20mm.ply"
    with concurrent.futures.ThreadPoolExecutor(6) as users:
        answers = list(users.map(lambda _: httpx.get(address, timeout=60), range(6)))
    assert {got.status_code for got in answers} == {200}
    assert len({got.content for got in answers}) == 1


def test_a_format_that_cannot_be_written_here_is_a_sentence(client, http, photo, monkeypatch):
    _, answer = client.predict(handle_file(photo), size_mm=20, api_name="/generate")
    monkeypatch.setitem(sys.modules, "pxr", None)
    got = http.get(f"/r/{answer['id']}/{answer['name']}_20mm.usdz")
    assert got.status_code == 501
    assert got.json()["error"] == "USDZ needs the package usd-core: pip install usd-core, or choose glb."


def test_what_is_noted_of_a_printable_model_does_not_contradict_its_verdict(make_studio, photo):
    from orfeas.web.panels import result_card

    *_, result = make_studio(PacedEngine()).run(GenerationRequest(photo, size_mm=20))
    plain = replace(result, report={**result.report, "verdict": "Ready", "printable": True, "reasons": (), "notes": ()})
    assert "Printable" not in result_card(plain)
    assert f"r/{result.id}/{quote('猫')}_20mm.3mf" in result_card(replace(plain, name="猫"))
    fall = "It would fall over as it stands: turn it to stand, cut it flat at the bottom, or put it on a plate."
    card = result_card(replace(plain, report={**plain.report, "notes": (fall,)}))
    words = re.sub(r"<[^>]+>|\s+", " ", card)
    assert re.search(
        rf"Ready +Earlier result +Printable\. Note: +{fall}", words
    )  # the latter is shown while another runs
    bad = {**plain.report, "verdict": "Not printable", "printable": False, "reasons": ("Flat.",), "notes": (fall,)}
    assert "Printable. Note" not in result_card(replace(plain, report=bad))

    # what falls over can be made to stand by a button: it is offered what it has not got, and a tilt where one helps
    def offered(stands, advice=fall, **options):
        report = {**plain.report, "stands": stands, "notes": (advice,)}
        card = result_card(replace(plain, request=replace(plain.request, **options), report=report))
        return re.findall(r'data-change="(?:base|orientation):(\w+)"', card)

    assert [offered(False, base=base) for base in ("none", "cut")] == [
        ["standing", "cut", "plinth"],
        ["standing", "plinth"],
    ]
    no_tilt = fall.replace("turn it to stand, ", "")
    assert offered(False, no_tilt) == offered(False, no_tilt, orientation="standing") == ["cut", "plinth"]
    assert offered(False, "It would fall over as it stands, even on its plate.", base="plinth") == []
    assert [offered(stands, "Other things.") for stands in (True, None)] == [[], []]
    assert offered(True, "It stands, but tips over when tilted by about 2°: put it on a plate.") == ["plinth"]


@pytest.mark.parametrize("usd", [True, False])
@pytest.mark.parametrize("texture", ["photo", "none"])
def test_the_result_offers_its_other_formats(make_studio, photo, monkeypatch, usd, texture):
    from orfeas.formats import make_file
    from orfeas.web.panels import result_card

    monkeypatch.setattr("orfeas.formats.find_spec", lambda name: usd or None)
    studio = make_studio(PacedEngine())
    *_, result = studio.run(GenerationRequest(photo, format="3mf", size_mm=12.5, texture=texture))
    offered = dict(
        re.findall(r'<a class="pill" href="r/[0-9a-f]{32}/([^"]+)" download [^>]*>([^<]+)</a>', result_card(result))
    )
    titles = ["STL", "GLB", "OBJ", *(["OBJ zip"] if texture == "photo" else []), "PLY", *(["USDZ"] if usd else [])]
    assert list(offered.values()) == titles
    for name, title in offered.items():
        if title != "USDZ":
            assert make_file(studio.library, result.id, name), name


def test_the_result_links_to_the_online_viewer_only_where_it_can_reach_it(make_studio, photo):
    from orfeas.web.panels import result_card

    *_, result = make_studio(PacedEngine()).run(GenerationRequest(photo))
    public = result_card(result, "https://app.example.org")
    assert f'href="https://3dviewer.net/#model=https://app.example.org/r/{result.id}/model.glb"' in public
    embedded = f'src="https://3dviewer.net/embed.html#model=https://app.example.org/r/{result.id}/model.glb"'
    assert embedded in unescape(public)
    for address in ("", "http://127.0.0.1:7860"):
        local = result_card(result, address)
        assert "#model=" not in local
        assert "download it and drop the file there" in local
        assert "ORFEAS_" not in local, "what only the operator can do is no business of the visitor's"


def test_what_is_closed(http):
    for path in ("/docs", "/redoc", "/openapi.json", "/monitoring", "/monitoring/summary"):
        assert http.get(path).status_code in (403, 404), path
    for path in ("/etc/passwd", "app.py", str(Path(__file__))):
        assert http.get(f"/gradio_api/file={path}").status_code in (403, 404), path


def test_headers(http):
    headers = http.get("/").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "default-src 'self'" in headers["content-security-policy"]


def test_an_unexpected_error_is_one_sentence_with_an_id(client, engine, photo, caplog):
    import re

    engine.error = ZeroDivisionError("secret detail")
    try:
        with pytest.raises(Exception, match=r"logged as [0-9a-f]{8}") as failed:
            client.predict(handle_file(photo), api_name="/generate")
    finally:
        engine.error = None
    assert "secret" not in str(failed.value)
    assert re.search(r"[0-9a-f]{8}", str(failed.value))[0] in caplog.text


def test_importing_the_app_is_light_and_writes_nothing(tmp_path):
    root = Path(__file__).parents[2]
    check = "import app, sys; assert not {'gradio', 'torch', 'numpy'} & set(sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", check], cwd=tmp_path, env=environment, check=True)
    assert not list(tmp_path.iterdir())
    assert not list((root / "orfeas" / "web").glob("*.pyi")), "Gradio wrote a stub for one of our components"


def test_a_page_cannot_take_the_name_of_another_s_job(server, photo, pace):
    from orfeas.errors import BadRequest
    from orfeas.request import GenerationRequest

    jobs, token = server.jobs, "0123456789abcdef" * 2
    first = jobs.start(GenerationRequest(photo), token)
    with pytest.raises(BadRequest, match="started already"):
        jobs.start(GenerationRequest(photo), token)
    assert jobs.get(token) is first
    other = jobs.start(GenerationRequest(photo), "../../etc")
    assert other.token != "../../etc"
    for job in (first, other):
        jobs.stop(job)
    pace.release(10)
    for job in (first, other):
        assert job.future.result(timeout=60).state == "cancelled"


def test_an_interrupt_stops_the_program(tmp_path):
    port = free_port()
    environment = {
        **os.environ, "ORFEAS_DATA_DIR": str(tmp_path), "ORFEAS_ENGINE": "sketch", "ORFEAS_PORT": str(port),
    }  # fmt: skip
    app = Path(__file__).parents[2] / "app.py"
    process = subprocess.Popen([sys.executable, str(app)], env=environment, cwd=tmp_path, stderr=subprocess.PIPE)
    try:

        def answers():
            assert process.poll() is None, process.stderr.read().decode()
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, "the app answers", START_SECONDS)
        process.send_signal(signal.SIGINT)  # SIGTERM: see test_program
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert {path.name for path in tmp_path.iterdir()} <= {"orfeas-gradio", "instances", "library.sqlite3"}
    assert not list((tmp_path / "instances").iterdir())


def test_a_port_in_use_is_one_sentence(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        environment = {
            **os.environ, "ORFEAS_PORT": str(port), "ORFEAS_ENGINE": "sketch", "ORFEAS_DATA_DIR": str(tmp_path),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, str(Path(__file__).parents[2] / "app.py")],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "ORFEAS_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_who_started_a_job_may_delete_its_result_and_nobody_else_can(http, client, photo, server):
    _, answer = client.predict(handle_file(photo), api_name="/generate")
    library = server.jobs.studio.library
    token = (library.find(answer["id"]) / ".owner").read_text()
    address = f"/r/{answer['id']}/recipe.json"
    assert http.get(address).status_code == 200
    assert token not in http.get(address).text
    assert http.get(f"/r/{answer['id']}/.owner").status_code == 404
    assert http.delete(f"/jobs/{answer['id']}").status_code == 404
    assert http.get(f"/jobs/{token}").json()["result"] == answer["id"]
    assert http.delete(f"/jobs/{token}").json() == {"removed": True}
    assert http.get(address).status_code == 404
    assert http.get(f"/jobs/{token}").json() == {"state": "unknown"}
    assert http.delete(f"/jobs/{token}").status_code == 404


def test_a_result_in_use_is_not_removed_to_make_room(http, client, photo, server):
    _, answer = client.predict(handle_file(photo), api_name="/generate")
    library = server.jobs.studio.library
    before = library.index.find_result(answer["id"])
    assert http.get(f"/r/{answer['id']}/model.glb").status_code == 200
    assert library.index.find_result(answer["id"]).opened > before.opened


def test_stopping_waits_for_the_running_job_and_takes_no_more(photo, tmp_path, monkeypatch):
    import threading

    from orfeas.library import Library
    from orfeas.web.serve import FETCH_SECONDS, start

    # the seconds for fetching the file last until it is fetched, however slow the machine is
    fetched = threading.Event()

    def sleep(seconds):
        if seconds == FETCH_SECONDS:
            assert fetched.wait(60)
        else:
            time.sleep(seconds)

    monkeypatch.setattr("orfeas.web.serve.time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    monkeypatch.setattr("orfeas.web.serve.DELIVER_SECONDS", 60)
    pace = threading.Semaphore(0)
    engine = PacedEngine(pace=pace)
    settings = Settings(_env_file=None, engine="sketch", data_dir=tmp_path, port=free_port())
    server = start(open_studio(settings, engine, Library(tmp_path)), settings)
    client = connect(server.url)
    job = client.submit(handle_file(photo), api_name="/generate")
    wait_until(lambda: engine.running, "the job runs")
    stopped = []
    closing = threading.Thread(target=lambda: stopped.append(server.close(60)))
    closing.start()
    try:
        health = wait_until(
            lambda: (answer := httpx.get(f"{server.url}health", timeout=60)).json()["status"] == "draining" and answer,
            "it says that it drains",
        )
        assert health.status_code == 200  # it lives, and whoever restarts what does not would cut the job off
        ready = httpx.get(f"{server.url}ready", timeout=60)
        assert (ready.status_code, ready.json()["reason"]) == (503, "draining")
        refused = httpx.post(f"{server.url}gradio_api/call/v2/generate", json={}, timeout=60)
        assert refused.status_code == 503
        pace.release(100)
        file, _ = job.result(timeout=60)
        assert Path(file).stat().st_size > 0
    finally:
        pace.release(100)
        fetched.set()
        closing.join()
        client.close()
    assert stopped == [True]
