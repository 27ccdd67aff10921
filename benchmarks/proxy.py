"""A long silent job through the real Caddy with the Caddyfile of production: ``python -m benchmarks.proxy``.

The engine makes no step for ``--seconds`` (default 150) and is then let go; the caller waits at the other end of TLS
with one request, as curl does. Needs what requirements-dev.txt installs. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orfeas.library import Library
from orfeas.settings import Settings
from orfeas.studio import Studio
from orfeas.web.serve import start
from tests.conftest import PacedEngine
from tests.deploy.caddy import Caddy
from tests.web.conftest import file_data, free_port, upload, wait_until, write_photo


class Silence:
    """The engine's leave to make a step, which it waits for as long as it takes."""

    def __init__(self):
        self._over = threading.Event()

    def acquire(self, timeout: float) -> bool:
        return self._over.wait()

    def end(self) -> None:
        self._over.set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=150.0)
    seconds = parser.parse_args().seconds
    pace = Silence()
    engine = PacedEngine(pace=pace)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(_env_file=None, engine="sketch", data_dir=folder, port=free_port(), stall_seconds=3600)
        server = start(Studio(settings, engine, Library(folder)), settings)
        caddy = Caddy(folder / "caddy", server.url)
        try:
            print(json.dumps(measure(caddy, engine, pace, seconds, folder)))
        finally:
            caddy.close()
            server.close()


def measure(caddy: Caddy, engine: PacedEngine, pace: Silence, seconds: float, folder: Path) -> dict:
    """Seconds between what was read, and whether the result arrived."""
    photo = write_photo(folder / "egg.jpg", (60, 70, 200))
    gaps, heartbeats, complete = [], 0, False
    with caddy.client(timeout=seconds + 60) as https:
        body = {"picture": file_data(upload(https, photo))}
        event = https.post("/gradio_api/call/v2/generate", json=body).json()["event_id"]
        with https.stream("GET", f"/gradio_api/call/v2/generate/{event}") as events:
            wait_until(lambda: engine.running, "the job runs")
            began = last = time.monotonic()
            threading.Timer(seconds, pace.end).start()
            for line in events.iter_lines():
                now = time.monotonic()
                gaps.append(now - last)
                last = now
                heartbeats += line.startswith("event: heartbeat")
                complete = complete or line == "event: complete"
    return {
        "benchmark": "proxy", "silent_seconds": seconds, "waited_seconds": round(last - began, 1),
        "longest_gap_seconds": round(max(gaps), 1), "heartbeats": heartbeats, "complete": complete,
    }  # fmt: skip


if __name__ == "__main__":
    main()
