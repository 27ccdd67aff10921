"""Uploads outlive the process that took them, for a day."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from orfeas.library import Library
from orfeas.settings import Settings
from orfeas.studio import Studio
from orfeas.web.leftovers import KEPT_SECONDS, Leftovers
from orfeas.web.serve import start
from orfeas.web.uploads import MARK
from tests.conftest import PacedEngine
from tests.web.conftest import call, file_data, free_port, upload


def test_an_upload_is_there_for_the_next_server(http, tmp_path, photo):
    """The files are shared by the servers of one data folder: one of them ends, and the other is asked."""
    settings = Settings(
        _env_file=None, engine="sketch", data_dir=tmp_path, port=free_port(), host="127.0.0.1"
    )  # fmt: skip
    other = start(Studio(settings, PacedEngine(), Library(tmp_path)), settings)
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
    needed = {str(file) for block in server.demo.blocks.values() for file in getattr(block, "keep_in_cache", ())}
    assert needed, "the examples"
    old = tmp_path / "aa" / "old.png"
    for file in (old, tmp_path / "bb" / "two.png", tmp_path / "bb" / "three.png"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
        (file.parent / MARK).touch()
    assert Leftovers(server.demo, tmp_path).expire() == 0
    later = lambda: time.time() + KEPT_SECONDS + 60  # noqa: E731
    assert Leftovers(server.demo, tmp_path, later).expire() == 3
    assert list(tmp_path.iterdir()) == []
    folder = Path(next(iter(needed))).parents[1]
    Leftovers(server.demo, folder, later).expire()
    assert all(Path(file).is_file() for file in needed if Path(file).is_relative_to(folder))
    assert Leftovers(server.demo, tmp_path / "none").expire() == 0
