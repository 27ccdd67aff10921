"""What many clients at once cost, and whether page and health still answer: the program itself, by plain HTTP.

    python benchmarks/load.py [--clients 50] [--jobs 1] [--quality draft]

Each client uploads a picture of its own, asks for a model, reads the events to the end and downloads the file; at once
it does so again, ``--jobs`` times. Meanwhile the page and ``/health`` are asked for five times a second. "light" are
calls that start no job (``/config``), by which the cost of a request is told from the cost of a model. Wall times mean
little on a busy machine; seconds of CPU mean more. The last line is the result as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
PROBE_SECONDS = 0.2
LIGHT_CALLS = 200


def draw_picture(number: int) -> bytes:
    """A PNG of an ellipse, different for each number."""
    image = Image.new("RGB", (320, 320), (230, 228, 226))
    colour = (60 + number * 37 % 180, 40 + number * 11 % 160, 90)
    ImageDraw.Draw(image).ellipse((60, 40 + number % 40, 260, 280), fill=colour)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


async def make_one(http: httpx.AsyncClient, number: int, quality: str) -> float:
    """Seconds from the upload to the last byte of the model. Raises whatever goes wrong."""
    began = time.perf_counter()
    uploaded = await http.post("/gradio_api/upload", files={"files": (f"{number}.png", draw_picture(number))})
    uploaded.raise_for_status()
    picture = {"path": uploaded.json()[0], "meta": {"_type": "gradio.FileData"}}
    size_mm = 20 + number % 80
    body = {"picture": picture, "quality": quality, "size_mm": size_mm, "seed": number}
    answer = await http.post("/gradio_api/call/v2/generate", json=body)
    answer.raise_for_status()
    event = ""
    async with http.stream("GET", f"/gradio_api/call/v2/generate/{answer.json()['event_id']}") as stream:
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: ") and event in ("complete", "error"):
                break
    if event != "complete":
        raise RuntimeError(line)
    file, report = json.loads(line[6:])
    if report["request"]["seed"] != number or report["request"]["size_mm"] != size_mm:
        raise RuntimeError("this is somebody else's result")
    model = await http.get(f"/gradio_api/file={file['path']}")
    model.raise_for_status()
    return time.perf_counter() - began


async def probe(http: httpx.AsyncClient, path: str, seconds: list[float], over: asyncio.Event) -> None:
    while not over.is_set():
        began = time.perf_counter()
        (await http.get(path)).raise_for_status()
        seconds.append(time.perf_counter() - began)
        await asyncio.sleep(PROBE_SECONDS)


async def load(url: str, clients: int, jobs: int, quality: str) -> dict:
    seconds, errors, over = [], [], asyncio.Event()
    probed = {"/health": [], "/": []}

    async def client(number: int) -> None:
        for job in range(jobs):
            try:
                seconds.append(await make_one(http, number + job * clients, quality))
            except (httpx.HTTPError, RuntimeError) as error:
                errors.append(repr(error)[:200])

    # the server closes a connection that was idle for 5 s: one that is about to be closed must not be taken again
    limits = httpx.Limits(max_connections=None, keepalive_expiry=2.0)
    async with httpx.AsyncClient(base_url=url, timeout=3600, limits=limits) as http:
        probes = [asyncio.create_task(probe(http, path, times, over)) for path, times in probed.items()]
        await asyncio.gather(*(client(number) for number in range(clients)))
        over.set()
        await asyncio.gather(*probes)
    return {
        "done": len(seconds),
        "errors": errors,
        "job_seconds": summary(seconds),
        "health_ms": summary([1000 * each for each in probed["/health"]]),
        "page_ms": summary([1000 * each for each in probed["/"]]),
    }


def summary(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    p50, p95 = (float(np.percentile(values, q)) for q in (50, 95))
    return {"p50": round(p50, 3), "p95": round(p95, 3), "most": round(max(values), 3)}


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def usage(process: psutil.Process) -> dict[str, float]:
    return {
        "rss_mb": round(process.memory_info().rss / 1e6, 1),
        "threads": process.num_threads(),
        "handles": process.num_fds(),
    }


def light(process: psutil.Process, url: str) -> dict[str, float]:
    """What a call that starts no job costs."""
    with httpx.Client(base_url=url, timeout=60) as http:
        before, times = cpu_seconds(process), []
        for _ in range(LIGHT_CALLS):
            began = time.perf_counter()
            http.get("/config").raise_for_status()
            times.append(1000 * (time.perf_counter() - began))
    return {"cpu_ms": round(1000 * (cpu_seconds(process) - before) / LIGHT_CALLS, 2), "ms": summary(times)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=1, help="of each client, one after the other")
    parser.add_argument("--quality", default="draft")
    arguments = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ, "ORFEAS_DATA_DIR": folder, "ORFEAS_ENGINE": "sketch", "ORFEAS_PORT": str(port),
            "ORFEAS_QUEUE_SIZE": str(max(20, arguments.clients)), "ORFEAS_LOG_LEVEL": "warning",
        }  # fmt: skip
        program = subprocess.Popen([sys.executable, str(ROOT / "app.py")], env=environment, cwd=folder)
        try:
            wait_for(url, program)
            process = psutil.Process(program.pid)
            calls = light(process, url)
            asyncio.run(load(url, 1, 1, arguments.quality))  # what is loaded once is loaded
            idle, cpu = usage(process), cpu_seconds(process)
            began = time.perf_counter()
            found = asyncio.run(load(url, arguments.clients, arguments.jobs, arguments.quality))
            wall = time.perf_counter() - began
            cpu = cpu_seconds(process) - cpu
            after = usage(process)
        finally:
            program.terminate()
            program.wait(timeout=150)
    outcome = {
        "benchmark": "load", "clients": arguments.clients, "jobs": arguments.clients * arguments.jobs,
        "quality": arguments.quality, "cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1),
        "wall_seconds": round(wall, 1), "cpu_seconds_a_job": round(cpu / max(1, found["done"]), 2),
        **found, "light": calls, "idle": idle, "after": after,
    }  # fmt: skip
    for name in ("job_seconds", "health_ms", "page_ms"):
        print(f"{name:12} {found[name]}")
    print(f"errors       {len(found['errors'])}; a light call costs {calls['cpu_ms']} ms of CPU")
    print(json.dumps(outcome))
    return 1 if found["errors"] or found["done"] != arguments.clients * arguments.jobs else 0


def wait_for(url: str, program: subprocess.Popen) -> None:
    for _ in range(1200):
        if program.poll() is not None:
            raise SystemExit("the program ended before it answered")
        try:
            httpx.get(f"{url}/health", timeout=5)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit("the program did not answer")


if __name__ == "__main__":
    sys.exit(main())
