"""Uploads outlive the process that took them, for a day."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
from pathlib import Path

import httpx

from orfeas.errors import DISK_FULL
from orfeas.library import Library
from orfeas.settings import Settings
from orfeas.web.leftovers import KEPT_SECONDS, KEPT_WHEN_SHORT_SECONDS, Leftovers
from orfeas.web.serve import CACHE, prepare_gradio, start
from orfeas.web.uploads import needed, shown_copy
from tests.conftest import PacedEngine, open_studio
from tests.web.conftest import call, file_data, free_port, upload, wait_until
from tests.web.test_hostile import outcome


def test_an_upload_is_there_for_the_next_server(http, tmp_path, photo):
    """The files are shared by the servers of one data folder: one of them ends, and the other is asked."""
    settings = Settings(
        _env_file=None, engine="sketch", data_dir=tmp_path, port=free_port(), host="127.0.0.1"
    )  # fmt: skip
    other = start(open_studio(settings, PacedEngine(), Library(tmp_path)), settings)
    try:
        with httpx.Client(base_url=other.url, timeout=60) as client:
            path = upload(client, photo)
    finally:
        other.close()
    # the picture and nothing of the file: this server never took it, and knows it for an upload all the same
    shown = http.get(f"/gradio_api/file={path}")
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
    event, answer = call(http, "cutout", {"picture": file_data(path)})
    assert event == "complete", answer


def test_only_what_is_old_goes_and_what_the_page_needs_stays(server, tmp_path):
    kept = needed(server.demo)
    assert kept, "the examples"
    old = tmp_path / "aa" / "old.png"
    for file in (old, tmp_path / "bb" / "two.png", tmp_path / "bb" / "three.png", shown_copy(tmp_path, old)):
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(b"x")
    assert Leftovers(server.demo, tmp_path).expire() == 0
    old.unlink()
    assert Leftovers(server.demo, tmp_path).expire() == 1, "what was drawn goes with its upload"
    later = lambda: time.time() + KEPT_SECONDS + 60  # noqa: E731
    assert Leftovers(server.demo, tmp_path, later).expire() == 2
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
    folder = next(iter(kept)).parents[1]
    Leftovers(server.demo, folder, later).expire()
    assert all(file.is_file() for file in kept if file.is_relative_to(folder))
    assert Leftovers(server.demo, tmp_path / "none").expire() == 0


def test_what_was_made_of_a_deleted_result_is_closed_at_once_and_goes(http, server, photo):
    library = server.jobs.studio.library
    event, (file, answer) = call(http, "generate", {"picture": file_data(upload(http, photo))})
    assert event == "complete", answer
    copy = Path(file["path"])
    assert http.get(f"/gradio_api/file={copy}").content == copy.read_bytes()
    Leftovers(server.demo, Path(server.demo.GRADIO_CACHE)).expire()
    assert copy.is_file(), "its result is there, in whichever library"
    token = (library.find(answer["id"]) / ".owner").read_text()
    assert http.delete(f"/jobs/{token}").json() == {"removed": True}
    refused = http.get(f"/gradio_api/file={copy}")
    assert (refused.status_code, refused.json()["error"]) == (404, "There is no such file: it may have expired.")
    assert copy.is_file()
    assert Leftovers(server.demo, Path(server.demo.GRADIO_CACHE)).expire() >= 1
    assert not copy.parent.exists()


def test_while_the_disk_is_short_the_oldest_go_and_what_jobs_need_stays(server, tmp_path):
    now = time.time()
    names = ("one", "two", "three", "four")
    files = [tmp_path / name / "a.png" for name in names]
    for file in files:  # in this order
        file.parent.mkdir()
        file.write_bytes(b"x")
        wait_until(lambda file=file: _touch_after(file, files), "the disk's clock has gone on")
    linked = tmp_path / "linked.stl"
    linked.write_bytes(b"x")
    os.link(linked, tmp_path / "result.stl")

    def expire(age: float, kept: int) -> int:
        is_short = lambda: sum(file.exists() for file in files) > kept  # noqa: E731
        return Leftovers(server.demo, tmp_path, lambda: now + age, is_short, lambda: {files[0]}).expire()

    assert expire(KEPT_WHEN_SHORT_SECONDS / 2, 0) == 0, "somebody may be about to use them"
    assert expire(KEPT_WHEN_SHORT_SECONDS + 60, 4) == 0, "there is room"
    assert expire(KEPT_WHEN_SHORT_SECONDS + 60, 2) == 2
    assert [file.exists() for file in files] == [True, False, False, True]
    assert expire(KEPT_WHEN_SHORT_SECONDS + 60, 0) == 1
    assert files[0].is_file()
    assert linked.is_file(), "its removal would make no room"


def _touch_after(file: Path, files: list[Path]) -> bool:
    """Whether the file is younger than all of the others that are there; it is made anew until then."""
    file.write_bytes(b"x")
    return all(file.stat().st_ctime > other.stat().st_ctime for other in files if other != file and other.exists())


def test_a_disk_that_turns_short_is_seen_to_at_once_and_nothing_more_is_written(http, server, photo, monkeypatch):
    tidied, path = threading.Event(), upload(http, photo)
    room, keeper = server.jobs.room, server.keepers[0]
    monkeypatch.setattr(keeper._uploads, "expire", lambda: tidied.set() or 0)
    free = shutil.disk_usage(path)
    monkeypatch.setattr("orfeas.web.readiness.shutil.disk_usage", lambda folder: free._replace(free=1000))
    monkeypatch.setattr(room, "_clock", itertools.count(time.monotonic() + 60, 60).__next__)  # it looks each time
    for what in ("_looked", "_is_short"):  # as they are, afterwards
        monkeypatch.setattr(room, what, 0)
    assert room.is_short
    assert tidied.wait(30), "the housekeeper does not wait for its ten minutes"
    for endpoint, body in (("cutout", {"picture": file_data(path)}), ("repair", {"mesh": file_data(path)})):
        for way in ("call/v2", "call", "run"):
            refused = http.post(f"/gradio_api/{way}/{endpoint}", json=body)
            assert (refused.status_code, refused.json()["error"]) == (503, DISK_FULL), (way, endpoint)
    for endpoint, rest in (("cutout", ["auto"]), ("repair", [None] * 7 + ["stl"])):  # as gradio_client calls them
        event, output = outcome(http, endpoint, [file_data(path), *rest])
        assert (event, output["error"]) == ("error", DISK_FULL), endpoint


def test_the_folder_that_is_cleaned_is_always_one_of_our_own(settings, monkeypatch, tmp_path):
    """Also where an operator names the data folder itself, or one that other programs use."""
    for given in (settings.data_dir, tmp_path, "shared"):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(given))
        for _ in range(2):  # a process may start two servers
            prepare_gradio(settings)
            assert os.environ["GRADIO_TEMP_DIR"] == str(Path(given).absolute() / CACHE)
    monkeypatch.delenv("GRADIO_TEMP_DIR")
    prepare_gradio(settings)
    assert os.environ["GRADIO_TEMP_DIR"] == str(settings.data_dir.absolute() / CACHE)
