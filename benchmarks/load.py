"""What many clients at once cost, and whether page and health still answer: the program itself, by plain HTTP.

    python benchmarks/load.py [--clients 50] [--jobs 1] [--quality draft]

Each client uploads a picture of its own, asks for a model, reads the events to the end and downloads the file; at once
it does so again, ``--jobs`` times. Meanwhile the page and ``/health`` are asked for five times a second, each from a
process of its own: in the clients' it would wait for them, not for the server. "light" are calls that start no job
(``/config``), by which the cost of a request is told from the cost of a model. Wall times mean little on a busy
machine; seconds of CPU mean more. The last line is the result as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import httpx
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.web.clients import draw_picture, make_one, open_clients
from tests.web.conftest import free_port

ROOT = Path(__file__).resolve().parents[1]
PROBE_SECONDS = 0.2
LIGHT_CALLS = 200


async def make(http: httpx.AsyncClient, number: int, quality: str) -> float:
    """Seconds from the upload to the last byte of the model. Raises whatever goes wrong."""
    asked = {"quality": quality, "size_mm": 20 + number % 80, "seed": number}
    made = await make_one(http, draw_picture(number), asked)
    if any(made.report["request"][name] != value for name, value in asked.items()):
        raise RuntimeError("this is somebody else's result")
    return made.seconds


def probe(url: str, over: Event, pipe: Connection) -> None:
    """Ask for ``url`` until it is ``over``; sends True once it was answered, and at the end each answer's seconds."""
    seconds = []
    with httpx.Client(timeout=600) as http:
        http.get(url).raise_for_status()
        pipe.send(True)
        while not over.wait(PROBE_SECONDS):
            began = time.perf_counter()
            http.get(url).raise_for_status()
            seconds.append(time.perf_counter() - began)
    pipe.send(seconds)


@contextlib.contextmanager
def probing(url: str, paths: Sequence[str]) -> Iterator[dict[str, list[float]]]:
    """Probes of ``paths``, each in a process; once left, the seconds of their answers. `EOFError` if one failed."""
    spawn = multiprocessing.get_context("spawn")
    over, seconds = spawn.Event(), {}
    pipes = {path: spawn.Pipe(duplex=False) for path in paths}
    probes = [spawn.Process(target=probe, args=(url + path, over, end)) for path, (_, end) in pipes.items()]
    try:
        for process, (_, end) in zip(probes, pipes.values(), strict=True):
            process.start()
            end.close()  # the process has its own: if it dies, that is heard of
        for here, _ in pipes.values():
            here.recv()
        yield seconds
        over.set()
        seconds |= {path: here.recv() for path, (here, _) in pipes.items()}
    finally:
        over.set()
        for process in probes:
            process.join()


async def load(url: str, clients: int, jobs: int, quality: str) -> dict:
    seconds, errors = [], []

    async def client(number: int) -> None:
        for job in range(jobs):
            try:
                seconds.append(await make(http, number + job * clients, quality))
            except (httpx.HTTPError, RuntimeError) as error:
                errors.append(repr(error)[:200])

    with probing(url, ["/health", "/"]) as probed:
        async with open_clients(url) as http:
            await asyncio.gather(*(client(number) for number in range(clients)))
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
    port = free_port()
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
