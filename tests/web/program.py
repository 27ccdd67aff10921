"""The real program in a process of its own, watched while it works: its log, its sockets, its metrics."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil

from tests.web.conftest import call, endpoint_index, file_data, free_port, upload, wait_until, write_photo

ROOT = Path(__file__).parents[2]
ROOM_MB = 2000  # how much other programs may write to the volume during the test of a full disk, a quarter at most


class Observed:
    """The program as in production, after some work: ``lines`` are its log's, ``page`` is what was scraped."""

    def __init__(self, folder: Path):
        self.data = folder / "data"
        self.data.mkdir()
        self.reached, self.log = folder / "reached.txt", folder / "log.txt"
        self.port = free_port()
        free_mb = shutil.disk_usage(self.data).free // 1_000_000
        self.room_mb = min(ROOM_MB, free_mb // 4)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ORFEAS_", "SENTRY_"))},
            "ORFEAS_DATA_DIR": str(self.data), "ORFEAS_ENGINE": "sketch", "ORFEAS_PORT": str(self.port),
            "ORFEAS_MIN_FREE_MB": str(free_mb - self.room_mb), "ORFEAS_METRICS_TOKEN": "let me in",
            "PYTHONPATH": str(ROOT), "HTTP_PROXY": "", "HTTPS_PROXY": "",
        }  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.web.observed", str(self.reached)],
                env=environment, cwd=folder, stderr=log, stdout=log,
            )  # fmt: skip
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120)
        self.peers: set[str] = set()
        self.slowest_health = 0.0
        self._watching = True
        self._watcher = threading.Thread(target=self._watch)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.http.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def work(self, folder: Path) -> None:
        """A page load and jobs: one done, one failed, one stopped, one refused, a cutout, a mesh; and what is none."""
        self._watcher.start()
        page = self.http.get("/").text
        for asset in sorted(set(re.findall(r'(?:src|href)="(\.?/(?:assets|static|svelte)[^"]+)"', page)))[:20]:
            self.http.get(asset.removeprefix("."))
        self.http.get("/config")
        photo = write_photo(folder / "my secret holiday.jpg", (60, 70, 200))
        body = {"picture": file_data(upload(self.http, photo)), "texture": "photo"}
        event, self.answer = call(self.http, "generate", body | {"quality": "draft"})
        assert event == "complete", self.answer
        self.result = self.answer[1]["id"]
        assert self.http.get(f"/r/{self.result}/model.glb").status_code == 200
        blank = write_photo(folder / "blank.jpg", (228, 226, 224))
        event, _ = call(self.http, "generate", {"picture": file_data(upload(self.http, blank))})
        assert event == "error"
        event, _ = call(self.http, "generate", body | {"quality": "excellent"})
        assert event == "error"
        event, _ = call(self.http, "cutout", {"picture": body["picture"]})
        assert event == "complete"
        mesh = folder / "part.stl"
        mesh.write_bytes(self.http.get(self.answer[0]["url"]).content)
        event, _ = call(self.http, "inspect", {"mesh": file_data(upload(self.http, mesh))})
        assert event == "complete"
        started = self.http.post("/gradio_api/call/v2/generate", json=body | {"quality": "high"}).json()["event_id"]
        wait_until(lambda: self.http.get("/health").json()["busy"], "a job runs")
        self.mid_load = self.http.get("/health")
        stop = {"session_hash": started, "fn_index": endpoint_index(self.http), "event_id": started}
        self.http.post("/gradio_api/cancel", json=stop)
        stopped = 'outcome="cancelled"'  # the lane is free before that is counted
        wait_until(lambda: stopped in self.http.get("/metrics").text, "the job has been stopped", 120)
        self.http.get("/ready")
        for path, sent in (
            ("call/v2/nothing", "{}"), ("call/v2/generate", '{"colour": 1}'), ("call/v2/cutout", "nothing"),
            ("cancel", "{}"), ("nothing", "{}"),
        ):  # fmt: skip
            assert 400 <= self.http.post(f"/gradio_api/{path}", content=sent).status_code < 500
        self.page = self.http.get("/metrics").text
        self._watching = False
        self._watcher.join()

    def _watch(self) -> None:
        program = psutil.Process(self.process.pid)
        while self._watching:
            for process in (program, *program.children(recursive=True)):
                for connection in process.net_connections(kind="inet"):
                    if connection.raddr:
                        self.peers.add(connection.raddr.ip)
            time.sleep(0.05)

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def end(self) -> None:
        self.http.close()
        self._watching = False
        self.process.kill()
        self.process.wait()
