"""Requests that no page and no honest client sends: each has its expected answer, in a sentence, and never a 500."""

from __future__ import annotations

import asyncio
import io
import json
import time
from pathlib import Path

import httpx
import pytest
from gradio.routes import file_upload_statuses
from starlette.responses import JSONResponse

from orfeas.telemetry import Observer
from orfeas.web.calls import Calls
from orfeas.web.uploads import shown_copy
from tests.web.conftest import call, endpoint_index, file_data, upload

HOSTILE = Path(__file__).parents[1] / "fixtures" / "hostile"
MULTIPART = {"content-type": "multipart/form-data; boundary=x"}
JSON = {"content-type": "application/json"}


def sentence_of(answer: httpx.Response) -> str:
    """The sentence of a refusal; fails if it is none."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    sentence = answer.json()["error"]
    assert sentence[0].isupper() or sentence[0] == "/" or " cannot be " in sentence, sentence
    assert sentence.endswith("."), sentence
    assert "Traceback" not in answer.text
    return sentence


def outcome(http: httpx.Client, name: str, data: list) -> tuple[str, object]:
    """What the queue says of an event, as a browser reads it: ("complete" or "error", output)."""
    index = endpoint_index(http, name)
    body = {"fn_index": index, "session_hash": f"hostile-{time.monotonic_ns()}", "data": data}
    http.post("/gradio_api/queue/join", json=body).raise_for_status()
    with http.stream("GET", "/gradio_api/queue/data", params={"session_hash": body["session_hash"]}) as stream:
        for line in stream.iter_lines():
            message = json.loads(line[6:]) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                return ("complete" if message["success"] else "error"), message["output"]
    raise AssertionError("the stream ended without a result")


def test_endpoints_that_are_not_there(http):
    taken = {"data": [], "session_hash": "x"}
    for number in (99, -1, 10**30, "99"):
        answer = http.post("/gradio_api/queue/join", json={**taken, "fn_index": number})
        assert answer.status_code == 404
        assert "no endpoint" in sentence_of(answer)
        assert http.post("/gradio_api/run/predict", json={**taken, "fn_index": number}).status_code == 404
    for number in ("x", 1.5, [1], {}, "1e3"):
        assert http.post("/gradio_api/queue/join", json={**taken, "fn_index": number}).status_code == 422, number
    assert http.post("/gradio_api/queue/join", json=taken).status_code == 422
    for path in ("call/nope", "call/v2/nope", "run/nope", "api/nope", "call/v2/make", "call/v2/..%2f..%2fetc"):
        answer = http.post(f"/gradio_api/{path}", json={"data": []})
        assert answer.status_code == 404, path
        assert "/generate" in sentence_of(answer) or "%2f" in path
    for path in ("vibe-edit/", "process_recording", "component_server", "dev/reload", "token", "deep_link", "stream/a"):
        for method in ("GET", "POST"):
            assert sentence_of(http.request(method, f"/gradio_api/{path}")) == "There is no such page."
    for path in ("/?page=x", "/config?page=%C3%82", "/gradio_api/info?page=/etc", "/?page=&page=x"):
        assert sentence_of(http.get(path)) == "There is no such page.", path
    assert http.get("/?page=").status_code == http.get("/?__theme=dark").status_code == 200
    assert http.delete("/gradio_api/upload").status_code == 405


def test_arguments_that_an_endpoint_does_not_take(http, photo):
    picture = file_data(upload(http, photo))
    unknown = http.post("/gradio_api/call/v2/generate", json={"picture": picture, "steps": 10**9})
    assert unknown.status_code == 422
    assert "no argument 'steps': it takes picture, quality" in sentence_of(unknown)
    assert "needs picture" in sentence_of(http.post("/gradio_api/call/v2/cutout", json={"background": "auto"}))
    for data in ([], [picture] * 40):
        assert "takes 1 to 2 values" in sentence_of(http.post("/gradio_api/call/cutout", json={"data": data}))
        body = {"fn_index": endpoint_index(http), "session_hash": "x", "data": data}
        assert "values" in sentence_of(http.post("/gradio_api/queue/join", json=body))
    batched = {"fn_index": 0, "session_hash": "x", "data": [], "batched": True}
    assert "Batches" in sentence_of(http.post("/gradio_api/queue/join", json=batched))


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("size_mm", [10**9, -1, 0, "x", "NaN", float("nan"), float("inf"), [1], {}, True, 10**400]),
        ("seed", [-1, 1.5, "x", 2**64, [], True]),
        ("format", ["exe", 7, ["stl"], {"a": 1}, "\ud800"]),
        ("max_faces", [1, 10**12, "many", -(10**400)]),
        ("background", ["none", 3]),
    ],
)
def test_values_out_of_range_are_a_sentence(http, server, photo, option, values):
    picture = file_data(upload(http, photo))
    for value in values:
        body = json.dumps({"picture": picture, option: value})
        answer = http.post("/gradio_api/call/v2/generate", content=body, headers=JSON)
        assert answer.status_code == 200, answer.text
        lines = http.get(f"/gradio_api/call/v2/generate/{answer.json()['event_id']}").text.splitlines()
        assert lines[0] == "event: error", (option, value, lines)
        assert f"{option} cannot be" in json.loads(lines[1][6:])["error"], value
    assert not server.jobs.active()


def test_values_of_the_wrong_kind_are_a_sentence(http):
    for value in (
        5,
        "photo.jpg",
        [],
        [1],
        True,
        {},
        {"path": 5},
        {"path": ["/etc/passwd"]},
        {"url": "https://x.org/a"},
    ):
        for endpoint in ("cutout", "generate"):
            event, answer = call(http, endpoint, {"picture": value})
            assert event == "error"
            assert "must be uploaded" in answer["error"], value
        event, answer = call(http, "inspect", {"mesh": value})
        assert event == "error"
        assert "must be uploaded" in answer["error"], value
    garbage = [{"a": [1]}, "x" * 1000, None, 1e308]
    config = http.get("/config").json()
    for dependency in config["dependencies"]:
        if dependency["backend_fn"] and dependency["api_name"] not in ("inspect", "repair", "cutout", "generate"):
            for value in garbage:
                event, output = outcome(http, dependency["api_name"], [value] * len(dependency["inputs"]))
                if event == "error":
                    assert output["error"], dependency["api_name"]
                    assert output["error"].endswith("."), output


def test_every_file_that_an_event_takes_is_an_upload(server):
    """Whatever component comes to the page: none may open files or addresses as Gradio's own do."""
    for function in server.demo.fns.values():
        for component in function.inputs:
            takes_files = getattr(component, "data_model", None) or component.get_block_name() in ("image", "file")
            assert not takes_files or getattr(component, "takes_uploads", False), component


def test_a_direct_call_that_fails_is_no_server_error(http, photo):
    """Gradio answers 500 to whatever an endpoint refuses when it is called without the queue."""
    picture = file_data(upload(http, photo))
    answer = http.post("/gradio_api/run/cutout", json={"data": [picture, "nonsense"]})
    assert answer.status_code == 422
    assert "background cannot be 'nonsense'" in sentence_of(answer)
    assert http.post("/gradio_api/run/cutout", json={"data": [picture, "auto"]}).status_code == 200
    assert "must be uploaded" in sentence_of(
        http.post("/gradio_api/run/cutout", json={"data": ["/etc/passwd", "auto"]})
    )


def test_bodies_that_are_not_what_they_should_be(http):
    def join(body, **headers):
        return http.post("/gradio_api/queue/join", content=body, headers={**JSON, **headers})

    assert (join("{").status_code, sentence_of(join("{"))) == (422, "The request is not JSON.")
    assert join(b"\xff\xfe{}").status_code == 422
    assert join("[1]").status_code == 422
    assert join("[" * 5000 + "]" * 5000).status_code == 400
    assert join('{"fn_index": 0, "data": ' + "[" * 5000 + "]" * 5000 + "}").status_code == 400
    assert join('{"fn_index": 0, "data": {}, "session_hash": "x"}').status_code == 422
    assert join('{"fn_index": 0, "data": [], "session_hash": 7}').status_code == 422
    assert join('{"fn_index": ' + "9" * 5000 + "}").status_code == 422
    assert join("{}", **{"content-type": "text/plain"}).status_code == 422
    for path in ("cancel", "reset"):
        assert sentence_of(http.post(f"/gradio_api/{path}", content="{", headers=JSON)) == "The request is not JSON."
        assert sentence_of(http.post(f"/gradio_api/{path}", json={}))
    assert http.post("/gradio_api/queue/join", content=b"{}" * 1_500_000, headers=JSON).status_code == 413


def test_names_that_gradio_would_keep_in_memory_are_short(http, server):
    long, queue = "s" * 900_000, server.demo._queue
    for path in ("queue/join", "call/cutout", "run/cutout"):
        for name in (long, "", "a/b", "s" * 65):
            body = {"fn_index": endpoint_index(http, "cutout"), "data": [None, "auto"], "session_hash": name}
            answer = http.post(f"/gradio_api/{path}", json=body)
            assert (answer.status_code, "session_hash cannot be" in sentence_of(answer)) == (422, True), path
    assert max(map(len, queue.pending_event_ids_session), default=0) <= 64
    for method, path in (("GET", "upload_progress"), ("POST", "upload")):
        answer = http.request(method, f"/gradio_api/{path}", params={"upload_id": "u" * 65})
        assert (answer.status_code, "upload_id cannot be" in sentence_of(answer)) == (422, True), path
    assert max(map(len, file_upload_statuses._signals), default=0) <= 64


def test_uploads_with_hostile_names(http, server):
    def send(name: str) -> httpx.Response:
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        return http.post("/gradio_api/upload", content=head.encode() + b"abc\r\n--x--\r\n", headers=MULTIPART)

    cache = Path(server.demo.GRADIO_CACHE).resolve()
    for name in (
        "../../../../tmp/evil.png",
        "a%00b.png",
        "-rf \u202egnp.exe",
        "..",
        "/etc/passwd",
        "C:\\con.png",
        "a\0b",
    ):
        answer = send(name)
        if answer.status_code == 200:
            assert Path(answer.json()[0]).resolve().is_relative_to(cache), name
        else:
            assert answer.status_code in (400, 422), (name, answer.status_code)
    assert 400 <= send("n" * 5000).status_code < 500
    assert not Path("/tmp/evil.png").exists()

    assert (
        http.post("/gradio_api/upload", content=b"abc", headers={"content-type": "multipart/form-data"}).status_code
        == 400
    )
    parts = "".join(
        f'--x\r\nContent-Disposition: form-data; name="files"; filename="{k}.png"\r\n\r\na\r\n' for k in range(1500)
    )
    assert http.post("/gradio_api/upload", content=(parts + "--x--\r\n").encode(), headers=MULTIPART).status_code == 400


def test_files_of_the_server_stay_closed(http, server, url):
    here = Path(__file__)
    for path in (
        "/gradio_api/file=/etc/passwd", f"/gradio_api/file={here}", "/gradio_api/file=%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        f"/gradio_api/file={server.demo.GRADIO_CACHE}/../library.sqlite3", "/static/..%2f..%2f..%2fetc/passwd",
        "/assets/..%2f..%2f..%2fetc%2fpasswd", "/svelte/..%2f..%2fetc%2fpasswd", "/monitoring", "/openapi.json",
        "/gradio_api/file=a%00b", "/r/" + "0" * 32 + "/x",
        "/gradio_api/proxy=http://127.0.0.1:1/", f"/gradio_api/proxy={url}/health", "/pwa_icon/x", "/logo%0d%0a",
    ):  # fmt: skip
        answer = http.get(path)
        assert 400 <= answer.status_code < 500, (path, answer.status_code, answer.text[:200])
        assert b"root:" not in answer.content
    address = "http://127.0.0.1:1/x"  # Gradio would fetch whatever is public, and refuses this one with 403
    for path in (address, address.upper(), "https://" + address[7:], "http%3A//127.0.0.1:1/x", "//127.0.0.1:1/x"):
        for way in ("file=", "file/"):
            refused = http.get(f"/gradio_api/{way}{path}")
            assert refused.status_code == 404, (way, path, refused.text)
            assert sentence_of(refused).startswith("There is no such"), path


def test_nothing_is_fetched_for_anybody(http, url):
    for address in ("http://127.0.0.1:1/", f"{url}/health", "https://x.hf.space/file=a", "%F4%82%84%8A%08", "http://["):
        answer = http.get(f"/gradio_api/proxy={address}")
        assert answer.status_code == 400, address
        assert "fetches nothing" in sentence_of(answer)


def test_an_upload_is_never_served_or_kept_as_it_came(http, server, photo):
    """A file may be a picture and a program at once: what comes back has the pixels and nothing else."""
    from PIL import Image

    both = HOSTILE / "ok" / "polyglot_zip.png"
    assert b"PK\x03\x04" in both.read_bytes()
    path = upload(http, both)
    for address in (
        path,
        path.replace("/orfeas-gradio/", "/orfeas-gradio/./"),
        f"{Path(path).parent}/../{Path(path).parent.name}/{both.name}",
    ):
        shown = http.get(f"/gradio_api/file={address}")
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
        assert b"PK\x03\x04" not in shown.content
    assert http.get(f"/gradio_api/file={path}", headers={"Range": "bytes=0-3"}).content != both.read_bytes()[:4]
    assert shown_copy(Path(server.demo.GRADIO_CACHE), Path(path)).read_bytes() == shown.content, "it is drawn but once"
    head = http.head(f"/gradio_api/file={path}")
    assert int(head.headers["content-length"]) == len(shown.content)
    server.demo.upload_file_set.discard(path)  # as after a restart
    assert http.get(f"/gradio_api/file={path}").headers["content-type"] == "image/webp"
    assert http.get(f"/gradio_api/file/{path}").status_code == 404, "Gradio's old way to a file as it came"
    event, (file, answer) = call(http, "generate", {"picture": file_data(path)})
    assert event == "complete"
    made = http.get(f"/gradio_api/file={file['path']}")
    assert made.headers["content-type"] == "application/octet-stream"
    assert len(made.content) > 1000
    assert http.get(f"/gradio_api/file={Path(file['path']).parent / '.results.json'}").status_code == 404
    for file in server.jobs.studio.library.find(answer["id"]).iterdir():
        assert b"PK\x03\x04" not in file.read_bytes(), file
    for hostile in ("html_as.png", "gif_js.gif", "eps_as.png"):
        path = upload(http, HOSTILE / "reject" / hostile)
        refused = sentence_of(http.get(f"/gradio_api/file={path}"))
        assert sentence_of(http.get(f"/gradio_api/file={path}")) == refused
        in_page = http.get(f"/gradio_api/file={path}", headers={"Sec-Fetch-Dest": "image"})  # an error in its console
        assert (in_page.status_code, in_page.headers["content-type"]) == (200, "image/svg+xml")
        assert in_page.text.startswith("<svg ")
        assert sentence_of(http.get(f"/gradio_api/file={path}x", headers={"Sec-Fetch-Dest": "image"}))
    assert Image.open(io.BytesIO(http.get(f"/gradio_api/file={upload(http, photo)}").content)).size == (400, 320)


def test_a_bug_is_a_server_error(http, server, engine, photo):
    """Gradio's 500 is a refusal, as a rule; ours never is."""
    picture = file_data(upload(http, photo))
    options = [picture, "draft", "stl", 20, 1, "auto", "none", "none", None]
    engine.error = RuntimeError("a bug")
    try:
        answer = http.post("/gradio_api/run/generate", json={"data": options})
    finally:
        engine.error = None
    assert answer.status_code == 500, answer.text
    assert "logged as" in answer.json()["error"]

    async def fail(scope, receive, send):
        await JSONResponse({"error": "Something of ours is broken."}, 500)(scope, receive, send)

    async def ask(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(Calls(fail, server.demo, Observer()))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return await client.get(path)

    for path, status in (("/r/x/y", 500), ("/jobs/x", 500), ("/gradio_api/x", 422)):
        assert asyncio.run(ask(path)).status_code == status, path
