"""The program itself, stopped while a job of the built-in engine runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from tests.web.conftest import START_SECONDS, file_data, free_port, upload, wait_until


class Program:
    """``python app.py`` with the sketch engine, and plain HTTP to it.

    command: what runs it, in place of Python itself.
    """

    def __init__(self, folder: Path, command: Sequence[str] = (), **variables: str):
        port = free_port()
        self.log, self.said = folder / "log.txt", folder / "said.txt"
        inherited = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
        environment = {
            **inherited, "ORFEAS_DATA_DIR": str(folder / "data"), "ORFEAS_ENGINE": "sketch", "ORFEAS_PORT": str(port),
            **variables,
        }  # fmt: skip
        app = Path(__file__).parents[2] / "app.py"
        with self.log.open("wb") as log, self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [*command, sys.executable, str(app)], env=environment, cwd=folder, stderr=log, stdout=said
            )
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def health(self) -> dict | None:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.http.get("/health").json()
        except httpx.TransportError:
            return None

    def start_job(self, photo: Path, quality: str) -> str:
        """Generate; returns the event's id once the job runs."""
        body = {"picture": file_data(upload(self.http, photo)), "quality": quality}
        event = self.http.post("/gradio_api/call/v2/generate", json=body).json()["event_id"]
        wait_until(lambda: self.health()["busy"], "the job runs")
        return event

    def end(self) -> None:
        self.http.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def program(tmp_path):
    program = Program(tmp_path)
    yield program
    program.end()


def test_a_signal_lets_the_running_job_be_delivered(program, photo):
    wait_until(program.health, "the app answers", START_SECONDS)
    event = program.start_job(photo, "standard")
    with program.http.stream("GET", f"/gradio_api/call/v2/generate/{event}") as stream:
        program.process.send_signal(signal.SIGTERM)
        wait_until(lambda: program.health()["status"] == "draining", "it says that it drains")
        lines = list(stream.iter_lines())
    assert "event: complete" in lines
    assert "100mm.stl" in lines[lines.index("event: complete") + 1]
    assert program.process.wait(timeout=30) == 0
    assert "Traceback" not in program.log.read_text()
    assert program.said.read_text() == f"ORFEAS is at {program.url}/: open it in a browser. Ctrl+C stops it.\n"
    assert all(json.loads(line) for line in program.log.read_text().splitlines())
    assert not list((program.log.parent / "data" / "instances").iterdir())
    (model,) = (program.log.parent / "data").glob("**/results/**/*_100mm.stl")
    assert model.stat().st_size > 100_000


def test_a_second_signal_stops_at_once(program, photo):
    wait_until(program.health, "the app answers", START_SECONDS)
    program.start_job(photo, "high")
    program.process.send_signal(signal.SIGTERM)
    wait_until(lambda: program.health()["status"] == "draining", "it says that it drains")
    assert program.health()["busy"]
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(timeout=30) == 1
    assert "stopped_at_once" in program.log.read_text()
    assert not list((program.log.parent / "data").glob("**/*.stl")), "the job was not waited for"
