"""/batch and /best_of through gradio_client and HTTP, and the routes of the list of results."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
import trimesh
from gradio_client import handle_file
from gradio_client.exceptions import AppError

from orfeas.request import GenerationRequest
from orfeas.web.handlers import Desk, Handlers
from orfeas.web.history import MAX_TOKENS, History
from orfeas.web.inputs import uploaded_file
from tests.web.conftest import endpoint_index, file_data, wait_until
from tests.web.test_jobs import unreadable

DRAFT = {"quality": "draft", "size_mm": 40}


def test_batch_gives_a_zip_and_its_manifest(client, http, server, photo, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    file, report = client.predict([handle_file(photo), handle_file(bad)], **DRAFT, api_name="/batch")
    with zipfile.ZipFile(file) as archive:
        assert json.loads(archive.read("manifest.json")) == report
        (made,) = report["made"]
        with archive.open(made["file"]) as model:
            assert max(trimesh.load(model, file_type="stl").extents) == pytest.approx(40, abs=0.01)
    assert made["picture"] == "red egg.jpg"
    assert report["failed"] == [
        {"picture": "bad.jpg", "error": report["failed"][0]["error"], "code": "unsupported_type"}
    ]
    index = server.jobs.studio.library.index
    ((token,),) = index._run("SELECT token FROM groups ORDER BY created DESC LIMIT 1")
    head = http.head(f"/groups/{token}/models.zip")
    assert (head.status_code, head.headers.get("content-length", "0")) == (200, "0"), "nothing is packed for it"
    packed = http.get(f"/groups/{token}/models.zip")
    assert zipfile.ZipFile(io.BytesIO(packed.content)).namelist() == zipfile.ZipFile(file).namelist()
    wait_until(lambda: not list(server.jobs.studio.library.staging.glob("*")), "what was sent is removed")


def test_best_of_gives_the_best_and_reports_all(client, http, photo):
    file, report = client.predict(handle_file(photo), best_of=2, seed=7, **DRAFT, api_name="/best_of")
    models = report["models"]
    assert trimesh.load(file).is_watertight
    assert {model["request"]["seed"] for model in models} > {7}
    assert models[0]["agreement"] >= models[1]["agreement"] > 0.5
    assert report["failed"] == []
    for model in models:
        assert http.get(f"/r/{model['id']}/{model['name']}_40mm.stl").status_code == 200
    with pytest.raises(AppError, match=r"^best_of cannot be 1: use a whole number from 2 to 8\.$"):
        client.predict(handle_file(photo), best_of=1, api_name="/best_of")


def test_deleting_what_hangs_holds_no_thread_and_can_be_tried_again(http, server, engine, photo, pace, monkeypatch):
    monkeypatch.setattr("orfeas.web.jobs.STOPPING_SECONDS", 0.05)
    job = server.jobs.start(GenerationRequest(photo, quality="draft", size_mm=40))
    wait_until(lambda: engine.running, "the job is in a step, which does not end")
    group = server.groups.start("batch", [GenerationRequest(photo, quality="draft", size_mm=40)])
    wait_until(lambda: not group.jobs[0].held, "its turn has come")
    addresses = f"/jobs/{job.token}", f"/groups/{group.token}"
    for address in addresses * 2:
        answer = http.delete(address)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60"), address
        assert answer.json()["error"] == "It is being stopped: delete it again in a minute."
    pace.release(1000)
    wait_until(lambda: job.is_over and group.is_over, "they have ended")
    assert [http.delete(address).json() for address in addresses] == [{"removed": True}] * 2
    assert [http.delete(address).status_code for address in addresses] == [404, 404]


def test_too_many_pictures_are_refused_before_any_is_looked_for(http, server, monkeypatch):
    """Each is resolved on the loop that answers everybody: a third of a million fits into one request."""
    looked = []
    monkeypatch.setattr("orfeas.web.calls._is_below", lambda path, folder: looked.append(path))
    monkeypatch.setattr("orfeas.web.history.uploaded_file", lambda path, folder: looked.append(path))
    many, sentence = [""] * 51, "51 pictures are too many: give up to 50 at once."
    for path, body in (
        ("call/v2/batch", {"pictures": many}),
        ("call/batch", {"data": [many]}),
        ("queue/join", {"data": [many], "fn_index": endpoint_index(http, "batch"), "session_hash": "mallory"}),
    ):
        answer = http.post(f"/gradio_api/{path}", json=body)
        assert (answer.status_code, answer.json()["error"]) == (422, sentence), path
    page = History(server.jobs, server.groups, Handlers(server.jobs, None))
    spec = json.dumps({"token": "0" * 32, "pictures": many})
    values = ["draft", "stl", 40, 1, "auto", "none", "none", None, "picture"]
    said = page.start(spec, None, *values, Desk(), SimpleNamespace(session_hash="s", headers={}))
    assert json.loads(said) == {"error": sentence}
    assert not looked


def test_a_path_that_no_system_has_is_not_followed(http, server, monkeypatch):
    followed, resolve = [], Path.resolve

    def watched(path, strict=False):
        followed.append(len(str(path)))
        return resolve(path, strict=strict)

    monkeypatch.setattr(Path, "resolve", watched)
    long = "/a" * 2200
    body = {"data": [file_data(long), "auto"]}
    answer = http.post("/gradio_api/run/cutout", json=body)
    assert (answer.status_code, "must be uploaded" in answer.json()["error"]) == (422, True)
    assert http.get(f"/gradio_api/file={long}").status_code == 404
    with pytest.raises(gr.Error, match="must be uploaded"):
        uploaded_file(long, server.demo.GRADIO_CACHE)
    assert followed
    assert max(followed) < 4096


def test_only_uploads_are_taken(http, photo):
    index = endpoint_index(http, "batch")
    for path in ("/etc/passwd", str(photo)):
        for data in ({"path": path}, file_data(path), {"path": path, "orig_name": "x.svg"}, path):
            options = ["draft", "stl", 40, 1, "auto", "none", "none", None]
            body = {"fn_index": index, "session_hash": "mallory", "data": [[data], *options]}
            answer = http.post("/gradio_api/run/predict", json=body)
            assert answer.status_code == 422
            assert "must be uploaded" in answer.json()["error"]


def test_a_client_that_cancels_stops_the_whole_batch(client, server, engine, photo, pace):
    job = client.submit([handle_file(photo)] * 3, **DRAFT, api_name="/batch")
    wait_until(lambda: engine.running, "the first of them runs")
    wait_until(lambda: (job.status().progress_data or [None])[0], "progress is told")
    assert job.status().progress_data[0].desc.startswith("1 of 3, ")
    assert len(server.jobs.active()) == 1
    cancelled = engine.cancelled
    job.cancel()
    pace.release(50)
    wait_until(lambda: not server.jobs._unfinished(), "all of them are over")
    assert engine.cancelled == cancelled + 1


def test_the_routes_of_the_list_refuse_what_is_not_theirs(http, server):
    token = "5" * 32
    nested = b'{"tokens": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    for body in (b"", b"[]", nested, b'{"tokens": 5}', json.dumps({"tokens": [token] * (MAX_TOKENS + 1)}).encode()):
        answer = http.post("/jobs/look", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"].endswith(".")
    answer = http.post("/jobs/look", content=json.dumps({"tokens": [token, "../..", 7, "\ud800", token + "\n"]}))
    assert answer.json() == {token: None}
    assert answer.headers["cache-control"] == "no-store"
    with unreadable(server.jobs.studio.library):  # which is not the same as unknown
        answers = [
            http.post("/jobs/look", content=json.dumps({"tokens": [token]})),
            http.get(f"/jobs/{token}"), http.delete(f"/jobs/{token}"),
            http.get(f"/groups/{token}/models.zip"), http.delete(f"/groups/{token}"),
        ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [503] * 5
    assert all(answer.json()["error"].endswith("try again in a minute.") for answer in answers)
    assert http.get(f"/groups/{token}/models.zip").status_code == 404
    assert http.post(f"/groups/{token}/stop").status_code == 404
    assert http.delete(f"/groups/{token}").status_code == 404
