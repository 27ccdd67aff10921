"""The same request, sent again: once under one key, and from the library for whoever asks for that."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
import trimesh
from gradio_client import handle_file
from gradio_client.exceptions import ValidationError

from orfeas.errors import BadRequest
from orfeas.index import StoredJob
from orfeas.library import Library
from orfeas.request import GenerationRequest
from orfeas.studio import REUSED
from orfeas.web.jobs import MOST_WAITING
from orfeas.web.repeats import _token, start_or_join
from tests.web.conftest import endpoint_index, file_data, upload, wait_until, write_photo

KEY = "3b241101-e2bb-4255-8caf-4136c566a962"


@pytest.fixture
def runs(engine, monkeypatch) -> list:
    """One entry for each shape that the engine is asked for."""
    asked, shape = [], engine.shape

    def counted(*arguments):
        asked.append(arguments)
        return shape(*arguments)

    monkeypatch.setattr(engine, "shape", counted)
    return asked


def post(http: httpx.Client, photo, headers: dict, **options) -> str:
    """Start a job; the path of its events."""
    return call(http, "generate", {"picture": file_data(upload(http, photo)), "size_mm": 20, **options}, headers)


def call(http: httpx.Client, endpoint: str, body: dict, headers: dict) -> str:
    answer = http.post(f"/gradio_api/call/v2/{endpoint}", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return f"/gradio_api/call/v2/{endpoint}/{answer.json()['event_id']}"


def read_both(http: httpx.Client, paths: list[str], server, pace) -> list:
    """The answers to one request that was sent twice, once both wait for it."""
    answers = []
    readers = [threading.Thread(target=lambda path=path: answers.append(read(http, path))) for path in paths]
    for reader in readers:
        reader.start()
    wait_until(lambda: [job.callers for job in server.jobs.active()] == [2], "both wait for the same")
    pace.release(1000)
    for reader in readers:
        reader.join(60)
    assert [event for event, _ in answers] == ["complete"] * 2
    return [answer for _, answer in answers]


def read(http: httpx.Client, events: str) -> tuple[str, object]:
    lines = http.get(events).text.splitlines()
    at = next(k for k, line in enumerate(lines) if line in ("event: complete", "event: error"))
    return lines[at][7:], json.loads(lines[at + 1][6:])


def test_one_request_under_one_key_is_one_job(http, server, photo, runs, pace):
    key = {"Idempotency-Key": KEY}
    first = post(http, photo, key)
    wait_until(lambda: runs, "the job runs")
    ((_, one), (_, other)) = read_both(http, [first, post(http, photo, key)], server, pace)
    assert one["id"] == other["id"]
    assert len(runs) == 1

    event, (_, later) = read(http, post(http, photo, key))  # when it is done, the same result again
    assert (event, later["id"], later["request"]["seed"]) == ("complete", one["id"], one["request"]["seed"])
    assert len(runs) == 1
    for headers in ({"Idempotency-Key": KEY[::-1]}, {}):
        event, (_, another) = read(http, post(http, photo, headers))
        assert (event, another["id"] != one["id"]) == ("complete", True)
    assert len(runs) == 3


def test_no_more_than_eight_wait_for_one_job(http, server, photo, runs, pace):
    key = {"Idempotency-Key": KEY + "-many"}
    events = [post(http, photo, key)]
    wait_until(lambda: runs, "the job runs")
    events += [post(http, photo, key) for _ in range(MOST_WAITING - 1)]
    (job,) = server.jobs.active()
    wait_until(lambda: job.callers == MOST_WAITING, "all of them wait")
    ended, answer = read(http, post(http, photo, key))
    assert (ended, answer["error"][:34]) == ("error", "8 requests wait for this job alrea")
    assert job.callers == MOST_WAITING
    pace.release(1000)
    assert {read(http, one)[1][1]["id"] for one in events} == {job.result.id}


def test_pages_that_come_back_again_and_again_leave_places_for_others(http, server, photo, runs, pace):
    """Gradio does not tell when a page is reloaded: what it waited for keeps a place at which work is done."""
    job = server.jobs.start(GenerationRequest(photo, size_mm=20), "d" * 32)
    wait_until(lambda: runs, "the job runs")
    resume = next(number for number, one in server.demo.fns.items() if getattr(one.fn, "__name__", "") == "resume")
    for page in range(45):
        body = {"fn_index": resume, "session_hash": f"reloaded {page}", "data": [job.token, "no"]}
        http.post("/gradio_api/queue/join", json=body).raise_for_status()
    wait_until(lambda: job.session == "reloaded 44", "the last has come")
    wait_until(lambda: len(job.readers) == MOST_WAITING, "the others have given way")
    queue = server.demo._queue
    assert len(queue.active_jobs) == 2 * MOST_WAITING * (server.jobs.limit + 1) + 200
    cutout = call(http, "cutout", {"picture": file_data(upload(http, photo))}, {})
    assert read(http, cutout)[0] == "complete"
    pace.release(1000)
    wait_until(lambda: not any(queue.active_jobs), "all of them are told")
    assert (job.state, job.readers) == ("done", [])


def test_a_key_stands_for_one_request(http, server, client, photo, tmp_path, runs):
    """Whichever way it comes, also after a restart; what says the same in other words is the same."""
    key = {"Idempotency-Key": KEY + "-one"}
    _, (_, made) = read(http, post(http, photo, key, format="stl"))
    assert read(http, post(http, photo, key, size_mm="20.0"))[1][1]["id"] == made["id"]
    result = client.predict(handle_file(photo), size_mm=20, api_name="/generate", headers=dict(key))
    assert result[1]["id"] == made["id"]
    assert len(runs) == 1

    picture, other = (file_data(upload(http, path)) for path in (photo, write_photo(tmp_path / photo.name, (9, 9, 90))))
    data = [picture, "standard", "stl", 21, None, "auto", "photo", "none", None]
    by_number = {"data": data, "fn_index": endpoint_index(http), "session_hash": "s"}
    refusals = server.jobs.observer.registry.get_sample_value
    before = refusals("orfeas_refusals_total", {"reason": "key_reused"}) or 0
    calls = {
        "call/v2/generate": [
            {"picture": picture, "size_mm": 21},
            {"picture": picture, "size_mm": 20, "seed": 1},
            {"picture": other, "size_mm": 20},
        ],
        "call/generate": [{"data": data}],
        "run/generate": [{"data": data}],
        "queue/join": [by_number],
    }
    for path, bodies in calls.items():
        for body in bodies:
            answer = http.post(f"/gradio_api/{path}", json=body, headers=key)
            assert answer.status_code == 422, (path, body)
            assert answer.json()["error"].startswith("This Idempotency-Key was sent before with another request")
    assert refusals("orfeas_refusals_total", {"reason": "key_reused"}) == before + 6
    with pytest.raises(ValidationError, match="sent before with another request"):
        client.predict(handle_file(photo), size_mm=21, api_name="/generate", headers=dict(key))
    answer = http.post(
        "/gradio_api/call/v2/generate", json=calls["call/v2/generate"][0], headers={"Idempotency-Key": "1"}
    )
    assert (answer.status_code, "16 to 200 characters" in answer.json()["error"]) == (422, True)

    token = (server.jobs.studio.library.find(made["id"]) / ".owner").read_text()
    server.jobs._jobs.pop(token)  # as a new process, which knows it from the index
    assert http.post("/gradio_api/call/generate", json={"data": data}, headers=key).status_code == 422
    assert read(http, post(http, photo, key))[1][1]["id"] == made["id"]
    assert len(runs) == 1


def forget(server, token: str) -> tuple[str, ...]:
    """What a new process does not know but from the index; the tokens of the group's jobs."""
    members = tuple(job.token for job in server.groups._groups.pop(token).jobs)
    for member in members:
        del server.jobs._jobs[member]
    return members


def made_of(answer: list) -> list[str]:
    return [model["id"] for model in answer[1].get("made", answer[1].get("models"))]


def test_several_models_under_one_key_are_made_once(http, server, photo, tmp_path, runs, pace):
    """Also after a restart; in another order, or by another endpoint, it is another request."""
    headers = {"Idempotency-Key": KEY + "-batch"}
    token = _token(headers["Idempotency-Key"], "")
    pictures = [file_data(upload(http, path)) for path in (photo, write_photo(tmp_path / "blue.jpg", (9, 9, 90)))]
    body = {"pictures": pictures, "quality": "draft", "size_mm": 20}
    first = call(http, "batch", body, headers)
    wait_until(lambda: runs, "the first of them runs")
    one, other = read_both(http, [first, call(http, "batch", body, headers)], server, pace)
    assert made_of(one) == made_of(other)
    assert len(set(made_of(one))) == len(runs) == 2

    members = forget(server, token)
    same = read(http, call(http, "batch", {**body, "size_mm": "20.0"}, headers))[1]
    assert (made_of(same), len(runs)) == (made_of(one), 2)
    for endpoint, asked in (
        ("batch", {**body, "pictures": pictures[::-1]}),
        ("batch", {**body, "pictures": pictures[:1]}),
        ("batch", {**body, "seed": 7}),
        ("best_of", {"picture": pictures[0], "best_of": 2}),
        ("generate", {"picture": pictures[0], "quality": "draft", "size_mm": 20}),
    ):
        answer = http.post(f"/gradio_api/call/v2/{endpoint}", json=asked, headers=headers)
        assert (answer.status_code, "sent before with another" in answer.json()["error"]) == (422, True), asked
    assert http.post("/gradio_api/call/v2/batch", json=body, headers={"Idempotency-Key": "1"}).status_code == 422

    before = Library(server.jobs.studio.library.root)  # of the version before, which still makes the second
    before.instance.announce()
    made = before.index.find_job(members[1])
    before.index.put_job(replace(made, state="running", result="", instance=before.instance.name))
    event, answer = read(http, call(http, "batch", body, headers))
    assert (event, "still does this job: try again" in answer["error"]) == ("error", True)
    assert before.find(made_of(one)[0]), "nothing of it was removed"
    before.close()
    again = read(http, call(http, "batch", body, headers))[1]
    assert set(made_of(again)).isdisjoint(made_of(one))
    assert len(runs) == 4


def test_the_best_of_several_under_one_key(http, server, client, photo, runs, pace):
    """The same order again; one that was stopped is begun anew."""
    headers = {"Idempotency-Key": KEY + "-best"}
    asked = {"best_of": 2, "quality": "draft", "size_mm": 20, "api_name": "/best_of", "headers": headers}
    job = client.submit(handle_file(photo), **asked)
    wait_until(lambda: (job.status().progress_data or [None])[0], "progress is told")
    job.cancel()
    token = _token(headers["Idempotency-Key"], "")
    wait_until(lambda: all(one.stop.is_set() for one in server.groups.get(token).jobs), "all of them are told to stop")
    ran, stopping = len(runs), server.groups.get(token).future
    waiting = len(stopping._done_callbacks)
    anew = client.submit(handle_file(photo), **asked)
    wait_until(lambda: len(stopping._done_callbacks) > waiting, "the same request waits for its end")
    pace.release(1000)
    _, first = anew.result(60)
    forget(server, token)
    file, again = client.predict(handle_file(photo), **asked)
    assert again == first
    assert len(runs) == ran + 2
    assert trimesh.load(file).is_watertight


def test_two_requests_under_one_key_at_once_are_not_one(server, photo):
    """The second is let into the queue before the first is there."""
    headers = {"idempotency-key": KEY + "-race"}
    request = SimpleNamespace(headers=headers, username=None, session_hash="s", client=None, url=None)
    first = asyncio.run(start_or_join(server.groups, GenerationRequest(photo, size_mm=20), {}, request))
    with pytest.raises(BadRequest, match="sent before with another request"):
        asyncio.run(start_or_join(server.groups, GenerationRequest(photo, size_mm=21), {}, request))
    assert first.future.result(60).state == "done"


def test_a_job_that_failed_is_tried_again_under_its_key(http, engine, photo):
    key = {"Idempotency-Key": KEY + "-again"}
    engine.error = RuntimeError("a bug")
    try:
        assert read(http, post(http, photo, key))[0] == "error"
    finally:
        engine.error = None
    assert read(http, post(http, photo, key))[0] == "complete"


def test_a_request_sent_again_while_its_job_is_stopped_begins_anew(http, server, engine, photo, pace, monkeypatch):
    """As a client sends it that lost the connection, for which the job is stopped."""
    key = {"Idempotency-Key": KEY + "-lost"}
    event = post(http, photo, key).rpartition("/")[2]
    wait_until(lambda: engine.running, "the job runs")
    (job,) = server.jobs.active()
    body = {"session_hash": event, "fn_index": endpoint_index(http), "event_id": event}
    assert http.post("/gradio_api/cancel", json=body).status_code == 200
    wait_until(job.stop.is_set, "the job was told")
    with monkeypatch.context() as hasty:
        hasty.setattr("orfeas.web.repeats.STOPPING_SECONDS", 0.01)
        ended, answer = read(http, post(http, photo, key))
        assert (ended, "is being stopped: try again" in answer["error"]) == ("error", True)
    waiting = len(job.future._done_callbacks)
    again = post(http, photo, key)
    wait_until(lambda: len(job.future._done_callbacks) > waiting, "it waits for the end of the job")
    pace.release(1000)
    assert read(http, again)[0] == "complete"
    assert job.state == "cancelled"


def test_a_job_that_the_version_before_still_runs_is_not_begun_again(http, server, photo, runs):
    key = {"Idempotency-Key": KEY + "-elsewhere"}
    _, (_, made) = read(http, post(http, photo, key))
    library = server.jobs.studio.library
    token = (library.find(made["id"]) / ".owner").read_text()
    assert http.delete(f"/jobs/{token}").json() == {"removed": True}
    before = Library(library.root)
    before.instance.announce()
    before.index.put_job(StoredJob(token, before.instance.name, "running", "red-egg", 1.0))
    event, answer = read(http, post(http, photo, key))
    assert (event, "still does this job: try again" in answer["error"]) == ("error", True)
    assert before.index.find_job(token).state == "running"
    assert len(runs) == 1
    before.close()  # it has ended and left it
    assert read(http, post(http, photo, key))[0] == "complete"
    assert len(runs) == 2


def test_a_result_is_reused_when_that_is_asked_for(http, server, photo, runs):
    library = server.jobs.studio.library
    reuse = {"ORFEAS-Reuse": "yes"}
    _, (_, first) = read(http, post(http, photo, {}, seed=77))
    assert len(runs) == 1
    event, (file, same) = read(http, post(http, photo, reuse, seed=77))
    assert (event, len(runs)) == ("complete", 1)
    assert same["id"] != first["id"]
    assert same["notes"] == [*first["notes"], REUSED]
    assert same["report"] == first["report"]

    owners = [(library.find(result["id"]) / ".owner").read_text() for result in (first, same)]
    assert owners[0] != owners[1]
    before = http.get(f"/gradio_api/file={file['path']}").content
    assert http.delete(f"/jobs/{owners[0]}").json() == {"removed": True}  # each has a result of their own
    assert library.find(same["id"])
    assert http.get(f"/r/{same['id']}/{same['name']}_20mm.stl").content == before
    assert http.get(f"/r/{same['id']}/{same['name']}_20mm.ply").status_code == 200

    for options, headers in (({"seed": 77}, {}), ({"seed": 78}, reuse), ({"seed": 77, "base": "cut"}, reuse)):
        assert read(http, post(http, photo, headers, **options))[0] == "complete"
    assert len(runs) == 4
