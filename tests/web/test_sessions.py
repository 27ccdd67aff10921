"""What Gradio keeps in memory of calls and uploads goes once nobody can ask for it."""

from __future__ import annotations

from pathlib import Path

from gradio.routes import file_upload_statuses

from orfeas.web.sessions import Remains
from tests.web.conftest import call, upload, wait_until


def test_what_was_read_is_forgotten_and_what_was_not_is_there(http, server):
    queue = server.demo._queue
    known = set(queue.pending_event_ids_session)
    assert call(http, "cutout", {"picture": None})[0] == "error"  # read to its end
    unread = http.post("/gradio_api/call/v2/cutout", json={"picture": None}).json()["event_id"]
    lost = http.post("/gradio_api/call/v2/cutout", json={"picture": None}).json()["event_id"]
    wait_until(lambda: not any(queue.active_jobs), "all of them are over")
    assert len(set(queue.pending_event_ids_session) - known) == 3
    del queue.pending_messages_per_session[lost]  # as for the 2000 newer ones
    Remains(server.demo).forget()
    wait_until(lambda: set(queue.pending_event_ids_session) - known == {unread}, "the others are forgotten")
    text = http.get(f"/gradio_api/call/v2/cutout/{unread}").text
    assert text.startswith("event: error")


def test_uploads_that_are_over_are_forgotten(http, server, photo):
    files = {"files": (photo.name, photo.read_bytes())}
    http.post("/gradio_api/upload", params={"upload_id": "one"}, files=files).raise_for_status()
    assert http.get("/gradio_api/upload_progress", params={"upload_id": "none"}).status_code == 404
    tables = file_upload_statuses._signals, file_upload_statuses._statuses
    path, gone = upload(http, photo), upload(http, photo)
    server.demo.upload_file_set.add(gone + "x")
    remains = Remains(server.demo)
    remains.forget()
    wait_until(lambda: "none" in remains._uploads, "they were seen")
    assert [name in tables[0] for name in ("one", "none")] == [True, True], "they may be under way"
    assert path in server.demo.upload_file_set
    assert gone + "x" not in server.demo.upload_file_set
    assert Path(path).is_file()
    remains.forget()
    wait_until(lambda: not {"one", "none"} & {*tables[0], *tables[1]}, "they are forgotten")
