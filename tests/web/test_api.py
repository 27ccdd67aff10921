"""The named endpoints through gradio_client, and through HTTP as curl speaks it."""

from __future__ import annotations

import concurrent.futures
import inspect
import json
from pathlib import Path

import pytest
import trimesh
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from orfeas.request import GenerationRequest
from tests.web.conftest import call, connect, endpoint_index, file_data, upload, wait_until, write_photo

ENDPOINTS = {"/generate", "/cutout", "/inspect", "/repair", "/batch", "/best_of"}
BAD_OPTIONS = [
    ({"quality": "ultra"}, "quality cannot be 'ultra': use draft, standard or high."),
    ({"format": "exe"}, "format cannot be 'exe': use stl, glb, obj, ply or 3mf."),
    ({"size_mm": 0.5}, "size_mm cannot be 0.5: use a number from 1 to 1,000 millimetres."),
    ({"size_mm": 1001}, "size_mm cannot be 1001: use a number from 1 to 1,000 millimetres."),
    ({"seed": -1}, "seed cannot be -1: use a whole number from 0 to 4294967295."),
    ({"seed": 1.5}, "seed cannot be 1.5: use a whole number from 0 to 4294967295."),
    ({"seed": "x"}, "seed cannot be 'x': use a whole number from 0 to 4294967295."),
    ({"background": "blur"}, "background cannot be 'blur': use auto, keep or remove."),
    ({"texture": "gold"}, "texture cannot be 'gold': use photo or none."),
    ({"base": "round"}, "base cannot be 'round': use none, cut or plinth."),
    ({"orientation": "upright"}, "orientation cannot be 'upright': use picture, standing or flattest."),
    ({"max_faces": 3}, "max_faces cannot be 3: use a whole number from 100 to 2000000."),
]


def test_a_photo_becomes_a_model_with_defaults(client, photo):
    file, answer = client.predict(handle_file(photo), api_name="/generate")

    assert Path(file).name.startswith("red-egg")
    assert Path(file).name.endswith("100mm.stl")
    assert trimesh.load(file).is_watertight
    assert max(trimesh.load(file).extents) == pytest.approx(100, abs=0.01)
    assert answer["report"]["watertight"] is True
    assert answer["request"]["quality"] == "standard"
    assert 0 <= answer["request"]["seed"] < 2**32


def test_options_act(client, photo):
    file, answer = client.predict(
        handle_file(photo), format="ply", size_mm=42, seed=7, max_faces=500, texture="none", api_name="/generate"
    )

    model = trimesh.load(file)
    assert max(model.extents) == pytest.approx(42, abs=0.01)
    assert len(model.faces) <= 500
    assert answer["request"] == {
        "quality": "standard", "format": "ply", "size_mm": 42.0, "seed": 7, "background": "auto", "texture": "none",
        "base": "none", "max_faces": 500, "name": answer["name"], "taps": [],
    }  # fmt: skip


@pytest.mark.parametrize(("options", "sentence"), BAD_OPTIONS)
def test_out_of_range_is_refused_with_the_range(client, photo, options, sentence):
    with pytest.raises(AppError) as refused:
        client.predict(handle_file(photo), **options, api_name="/generate")
    assert str(refused.value) == sentence


@pytest.mark.parametrize(("options", "sentence"), BAD_OPTIONS)
def test_curl_reads_the_same_sentence(http, photo, options, sentence):
    event, data = call(http, "generate", {"picture": file_data(upload(http, photo)), **options})
    assert event == "error"
    assert data["error"] == sentence


def test_curl_gets_a_file(http, photo):
    event, (file, answer) = call(http, "generate", {"picture": file_data(upload(http, photo)), "format": "glb"})

    assert event == "complete"
    assert http.get(file["url"]).content[:4] == b"glTF"
    assert answer["report"]["watertight"] is True


def test_cutout(client, photo):
    file, info = client.predict(handle_file(photo), api_name="/cutout")

    alpha = Image.open(file).getchannel("A")
    assert alpha.getpixel((200, 160)) == 255
    assert alpha.getpixel((5, 5)) == 0
    assert 0.2 < info["coverage"] < 0.35
    assert info["explanation"].endswith(".")


def test_no_picture_is_a_sentence(client):
    with pytest.raises(AppError, match="No picture was given"):
        client.predict(None, api_name="/generate")
    with pytest.raises(AppError, match="No picture was given"):
        client.predict(None, api_name="/cutout")


def test_a_path_where_the_client_has_to_upload_is_told_how(client, photo):
    with pytest.raises(
        AppError, match=r'in Python, gradio_client uploads what you give it as handle_file\("photo.jpg"\)'
    ):
        client.predict(picture=str(photo), api_name="/generate")


def test_the_docs_name_every_option_with_its_default_and_meaning(client, http):
    endpoints = http.get("/gradio_api/info").json()["named_endpoints"]
    assert set(endpoints) == ENDPOINTS
    generate = endpoints["/generate"]

    fields = GenerationRequest.__dataclass_fields__
    parameters = {p["parameter_name"]: p for p in generate["parameters"]}
    assert set(parameters) == set(fields) - {"taps", "name"}
    assert all(p["label"] == name for name, p in parameters.items())
    for name, parameter in parameters.items():
        if name != "picture":
            assert parameter["parameter_has_default"], name
            assert parameter["parameter_default"] == fields[name].default, name
    assert not parameters["picture"]["parameter_has_default"]
    assert all(p["python_type"]["description"].endswith(".") for p in parameters.values())
    assert [r["label"] for r in generate["returns"]] == ["file", "report"]
    assert generate["description"].startswith("Make a solid, printable 3D model")


def test_no_other_endpoint_is_listed(client):
    assert set(client.view_api(return_format="dict", print_info=False)["named_endpoints"]) == ENDPOINTS


def test_every_progress_reaches_the_client_in_order(client, engine, photo, pace):
    job = client.submit(handle_file(photo), api_name="/generate")

    def told():
        return (job.status().progress_data or [None])[0]

    seen = []
    for step in range(1, engine.steps):  # after the last step the job goes on by itself
        pace.release()
        said = f"step {step} of {engine.steps}"
        wait_until(lambda said=said: (one := told()) and one.desc == said, "the step is told")
        seen.append(told())
    pace.release()
    job.result(timeout=60)

    fractions = [one.progress for one in seen]
    assert fractions == sorted(set(fractions))
    assert [one.desc for one in seen] == ["step 1 of 4", "step 2 of 4", "step 3 of 4"]


def test_cancel_frees_the_lane_and_the_next_job_starts_at_once(client, server, engine, photo, pace):
    cancelled = engine.cancelled
    first = client.submit(handle_file(photo), api_name="/generate")
    wait_until(lambda: engine.running, "the first job runs")
    (job,) = server.jobs.active()
    first.cancel()
    wait_until(job.stop.is_set, "the server was told")
    second = client.submit(handle_file(photo), format="ply", api_name="/generate")
    pace.release(50)

    file, _ = second.result(timeout=60)
    assert file.endswith(".ply")
    assert engine.cancelled == cancelled + 1
    assert engine.most_running == 1


def test_cancel_by_http_frees_the_lane(http, server, engine, photo, pace):
    cancelled = engine.cancelled
    picture = file_data(upload(http, photo))
    event = http.post("/gradio_api/call/v2/generate", json={"picture": picture}).json()["event_id"]
    wait_until(lambda: engine.running, "the job runs")
    (job,) = server.jobs.active()
    body = {"session_hash": event, "fn_index": endpoint_index(http), "event_id": event}
    assert http.post("/gradio_api/cancel", json=body).status_code == 200
    wait_until(job.stop.is_set, "the job was told")
    pace.release(2)

    wait_until(lambda: not server.jobs.active(), "the lane is free")
    assert engine.cancelled == cancelled + 1


def test_a_client_that_dies_frees_the_lane(http, server, engine, photo, pace):
    cancelled = engine.cancelled
    path = upload(http, photo)
    index = endpoint_index(http)
    body = {
        "session_hash": "doomed",
        "fn_index": index,
        "data": [file_data(path), "draft", "stl", 50, 1, "auto", "none", "none", None],
    }
    with http.stream("GET", "/gradio_api/heartbeat/doomed"):
        http.post("/gradio_api/queue/join", json=body).raise_for_status()
        wait_until(lambda: engine.running, "the job runs")
    job = server.jobs.active()[0]
    wait_until(job.stop.is_set, "the server noticed that the connection was closed")
    pace.release(2)

    wait_until(lambda: not server.jobs.active(), "the lane is free")
    assert engine.cancelled == cancelled + 1


def test_values_left_out_at_the_end_are_the_defaults(http, server, photo, pace):
    """A script that was written when there were fewer options goes on."""
    picture = file_data(upload(http, photo))
    cut = http.post("/gradio_api/run/cutout", json={"data": [picture]})
    assert cut.status_code == 200
    event = http.post("/gradio_api/call/generate", json={"data": [picture, "draft", "ply"]}).json()["event_id"]
    pace.release(50)
    with http.stream("GET", f"/gradio_api/call/generate/{event}", timeout=60) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: [")]
    asked = json.loads(lines[-1].removeprefix("data: "))[1]["request"]
    assert asked.pop("seed") >= 0
    assert (asked.pop("quality"), asked.pop("format")) == ("draft", "ply")
    defaults = GenerationRequest(photo).options()
    assert {**asked, "name": ""} == {
        key: value for key, value in {**defaults, "name": ""}.items() if key not in ("seed", "quality", "format")
    }


def test_two_users_at_once_get_each_their_own(url, tmp_path):
    photos = [write_photo(tmp_path / f"{name}.jpg", (40, 60, 190)) for name in ("ann", "ben")]
    sizes = (30, 60)

    def user(path, size_mm):
        client = connect(url)
        try:
            return client.predict(handle_file(path), size_mm=size_mm, seed=size_mm, api_name="/generate")
        finally:
            client.close()

    with concurrent.futures.ThreadPoolExecutor(2) as users:
        answers = list(users.map(user, photos, sizes))

    for (file, answer), path, size_mm in zip(answers, photos, sizes, strict=True):
        assert answer["name"] == path.stem
        assert answer["request"]["seed"] == size_mm
        assert max(trimesh.load(file).extents) == pytest.approx(size_mm, abs=0.01)


def test_the_handlers_are_plain_coroutines(server):
    """A generator's last yield reaches the viewer twice, and leaves it blank."""
    for function in server.demo.fns.values():
        assert not inspect.isasyncgenfunction(function.fn)
        assert not inspect.isgeneratorfunction(function.fn)
    names = {function.api_name: function.fn for function in server.demo.fns.values()}
    assert inspect.iscoroutinefunction(names["generate"])
