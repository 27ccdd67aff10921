"""A real server on this machine, around the real studio and an engine whose pace the test decides."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from gradio_client import Client

from orfeas.library import Library
from orfeas.settings import Settings
from orfeas.web.serve import Server, start
from tests.conftest import PacedEngine, open_studio

QUEUE_SIZE = 3
START_SECONDS = 120  # for the program to start: seconds, but for what else the machine does


_HANDED_OUT: set[int] = set()


def free_port() -> int:
    """A port for a server that is started later: below 32768, from where on Linux usually hands out ports by itself,
    never the same twice, and another range for each process that runs tests, so that nobody else is given it meanwhile.
    """
    first = 20_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4 * 3000
    while True:
        port = first + secrets.randbelow(3000)
        if port in _HANDED_OUT:
            continue
        _HANDED_OUT.add(port)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition, what: str, seconds: float = 30.0):
    """The condition's value once it is true; fails with ``what`` if that takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.03)
    raise AssertionError(f"waited {seconds:g} s in vain: {what}")


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Server:
    engine = PacedEngine()
    folder = tmp_path_factory.mktemp("server")
    settings = Settings(
        _env_file=None, engine="sketch", data_dir=folder, port=free_port(), queue_size=QUEUE_SIZE, host="127.0.0.1"
    )
    server = start(open_studio(settings, engine, Library(folder)), settings)
    wait_until(lambda: server.jobs.studio.is_loaded, "the engine, which a thread loads, is ready")
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _leave_it_idle(request):
    yield
    if "server" in request.fixturenames:
        server = request.getfixturevalue("server")
        wait_until(lambda: not server.jobs.active(), "a test left a job running")
        for job in list(server.jobs._jobs.values()):  # what is over is entered and logged a moment later
            job.future.result(timeout=30)


@pytest.fixture
def url(server) -> str:
    return server.url.rstrip("/")


@pytest.fixture
def engine(server) -> PacedEngine:
    return server.jobs.studio.engine


@pytest.fixture
def pace(engine) -> threading.Semaphore:
    """Every step of the engine needs one release of this; whatever waits at the end of the test is let go."""
    engine.pace = semaphore = threading.Semaphore(0)
    yield semaphore
    engine.pace = None
    semaphore.release(1000)


def connect(url: str, **options) -> Client:
    """Gradio's client. Its own patience is five seconds, which a machine that runs several tests at once may need."""
    return Client(url, verbose=False, httpx_kwargs={"timeout": 60}, **options)


@pytest.fixture
def client(url) -> Client:
    client = connect(url)
    yield client
    client.close()


@pytest.fixture
def http(url) -> httpx.Client:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def photo(tmp_path_factory) -> Path:
    """A red egg on a light ground."""
    return write_photo(tmp_path_factory.mktemp("photos") / "red egg.jpg", (60, 70, 200))


def write_photo(path: Path, bgr: tuple[int, int, int], size: tuple[int, int] = (320, 400)) -> Path:
    picture = np.full((*size, 3), (228, 226, 224), np.uint8)
    cv2.ellipse(picture, (200, 160), (90, 120), 0, 0, 360, bgr, -1, cv2.LINE_AA)
    cv2.imwrite(str(path), picture)
    return path


def upload(http: httpx.Client, path: Path) -> str:
    """As curl does it; returns the path on the server."""
    answer = http.post("/gradio_api/upload", files={"files": (path.name, path.read_bytes())})
    answer.raise_for_status()
    return answer.json()[0]


def call(http: httpx.Client, endpoint: str, body: dict) -> tuple[str, object]:
    """POST to the named-argument API and read the event stream to its end: ("complete" or "error", data)."""
    import json

    answer = http.post(f"/gradio_api/call/v2/{endpoint}", json=body)
    answer.raise_for_status()
    event = ""
    with http.stream("GET", f"/gradio_api/call/v2/{endpoint}/{answer.json()['event_id']}") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: ") and event in ("complete", "error"):
                return event, json.loads(line[6:])
    raise AssertionError("the stream ended without a result")


def file_data(path: str) -> dict:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def endpoint_index(http: httpx.Client, name: str = "generate") -> int:
    """Gradio's number of a named endpoint, for the queue's own protocol."""
    return next(d["id"] for d in http.get("/config").json()["dependencies"] if d["api_name"] == name)


@pytest.fixture(scope="session")
def observed(tmp_path_factory):
    """The program as in production, after some work of each kind."""
    from tests.web.program import Observed

    folder = tmp_path_factory.mktemp("observed")
    program = Observed(folder)
    try:
        wait_until(program.answers, "the app answers", START_SECONDS)
        program.work(folder)
        yield program
    finally:
        program.end()
