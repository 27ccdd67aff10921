"""Clients by plain HTTP, as many at once as wanted, and what they cost a server: for tests and benchmarks."""

from __future__ import annotations

import gc
import io
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageDraw

from orfeas.web.heap import give_back


def draw_picture(number: int, side: int = 320) -> bytes:
    """A PNG of an ellipse, another one for each number below 1000."""
    image = Image.new("RGB", (side, side), (230, 228, 226))
    at, colour = side / 320, (60 + number * 37 % 180, 40 + number * 11 % 160, 90 + number // 50)
    ImageDraw.Draw(image).ellipse((60 * at, (40 + number % 40) * at, 260 * at, 280 * at), fill=colour)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class Made:
    """What one client got: the report of its job, the bytes of its model, and the seconds from the upload to both."""

    report: dict[str, Any]
    model: bytes
    seconds: float


def open_clients(url: str) -> httpx.AsyncClient:
    """For many clients at once, each with a connection of its own."""
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=url, timeout=3600, limits=limits)


async def ask(http: httpx.AsyncClient, picture: bytes, options: dict[str, Any], name: str = "a.png") -> str:
    """Upload, and start a job; the address of its events."""
    uploaded = await http.post("/gradio_api/upload", files={"files": (name, picture)})
    uploaded.raise_for_status()
    body = {"picture": {"path": uploaded.json()[0], "meta": {"_type": "gradio.FileData"}}, **options}
    answer = await http.post("/gradio_api/call/v2/generate", json=body)
    answer.raise_for_status()
    return f"/gradio_api/call/v2/generate/{answer.json()['event_id']}"


async def make_one(http: httpx.AsyncClient, picture: bytes, options: dict[str, Any]) -> Made:
    """One job to the last byte of its model. Raises `httpx.HTTPError`, or `RuntimeError` with what the server says."""
    began, event, line = time.perf_counter(), "", ""
    async with http.stream("GET", await ask(http, picture, options)) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: ") and event in ("complete", "error"):
                break
    if event != "complete":
        raise RuntimeError(line)
    file, report = json.loads(line[6:])
    model = await http.get(f"/gradio_api/file={file['path']}")
    model.raise_for_status()
    return Made(report, model.content, time.perf_counter() - began)


def use(data: Path | None = None) -> dict[str, float]:
    """What this process holds on Linux: resident MB, threads, handles, objects, and files in ``data``."""
    gc.collect()
    give_back()  # what is free and stays with the C library is not held
    lines = Path("/proc/self/status").read_text().splitlines()
    resident = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))
    files = sum(len(names) for _, _, names in os.walk(data)) if data else 0
    return {
        "resident_mb": round(resident, 1),
        "threads": threading.active_count(),
        "handles": len(os.listdir("/proc/self/fd")),
        "objects": len(gc.get_objects()),
        "files": files,
    }
