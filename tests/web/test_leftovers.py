"""Uploads outlive the process that took them, for a day."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx

from orfeas.library import Library
from orfeas.settings import Settings
from orfeas.web.leftovers import KEPT_SECONDS, Leftovers
from orfeas.web.serve import CACHE, prepare_gradio, start
from orfeas.web.uploads import needed, shown_copy
from tests.conftest import PacedEngine, open_studio
from tests.web.conftest import call, file_data, free_port, upload


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
