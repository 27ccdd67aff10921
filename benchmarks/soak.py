"""Whether anything grows in a server that is used for long: the real one, in haste, with jobs that make no geometry.

    python benchmarks/soak.py [--minutes 10] [--clients 8]

Clients do what people and scripts do, one thing after the other: jobs to the last byte, jobs that are stopped, streams
that are left, pictures and requests that are refused, pages, results that are asked for again and deleted. The
library's clock runs 360 times as fast, and old results are removed every two seconds. What the server holds is read at
the start, when it is warm (it has seen a third of the time, and more jobs than it remembers), and at the end. The exit
status is 1 if anything grew by more than `BOUNDS` from warm to end, or any request got a wrong answer. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orfeas.web.jobs import KEPT_JOBS
from tests.web.clients import ask, draw_picture, make_one, open_clients
from tests.web.conftest import free_port, wait_until

ROOT = Path(__file__).resolve().parents[1]
BOUNDS = {"resident_mb": 30, "threads": 4, "handles": 10, "objects": 10_000, "files": 200}
PICTURES = [draw_picture(number, side=64) for number in range(20)]


class Wrong(Exception):
    """An answer that is not what was asked for."""


def expect(answer: httpx.Response, *statuses: int) -> httpx.Response:
    if answer.status_code not in statuses:
        raise Wrong(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:200]}")
    return answer


async def do_job(http: httpx.AsyncClient, rng: random.Random) -> None:
    picture, size_mm = rng.choice(PICTURES), rng.randint(10, 900)
    made = await make_one(http, picture, {"size_mm": size_mm, "seed": 1})
    if json.loads(made.model) != {"sha256": sha256(picture).hexdigest(), "size_mm": float(size_mm)}:
        raise Wrong("this is somebody else's model")
    expect(await http.get(f"/r/{made.report['id']}/model.stl"), 200, 404)


async def do_stopped_job(http: httpx.AsyncClient, rng: random.Random) -> None:
    events = await ask(http, rng.choice(PICTURES), {"quality": "draft"})
    event = events.rsplit("/", 1)[1]
    expect(await http.post("/gradio_api/cancel", json={"session_hash": event, "fn_index": 0, "event_id": event}), 200)


async def do_left_stream(http: httpx.AsyncClient, rng: random.Random) -> None:
    async with http.stream("GET", await ask(http, rng.choice(PICTURES), {"quality": "draft"})) as stream:
        async for _ in stream.aiter_lines():
            return


async def do_refused(http: httpx.AsyncClient, rng: random.Random) -> None:
    events = await ask(http, b"no picture" * rng.randint(1, 9), {}, "a.png")
    if "event: error" not in (await http.get(events)).text:
        raise Wrong("what is no picture was taken")
    expect(await http.post("/gradio_api/call/v2/generate", json={"colour": rng.random()}), 422)
    expect(await http.get(f"/gradio_api/file=/nowhere/{rng.random()}"), 404)


async def do_page(http: httpx.AsyncClient, rng: random.Random) -> None:
    for path in ("/", "/config", "/health", "/ready", "/theme.css", f"/jobs/{rng.getrandbits(128):032x}"):
        expect(await http.get(path), 200)
    session = f"{rng.getrandbits(64):x}"
    async with http.stream("GET", f"/gradio_api/heartbeat/{session}"):  # a page that is opened, and closed
        expect(await http.post("/jobs/look", json={"tokens": [f"{rng.getrandbits(128):032x}"]}), 200)


async def do_key(http: httpx.AsyncClient, rng: random.Random) -> None:
    """The same request twice under one key, which is one job."""
    picture, options = rng.choice(PICTURES), {"size_mm": rng.randint(10, 900), "seed": 1}
    http.headers["Idempotency-Key"] = f"{rng.getrandbits(128):032x}"
    try:
        first, again = [(await make_one(http, picture, options)).report["id"] for _ in range(2)]
    finally:
        del http.headers["Idempotency-Key"]
    if first != again:
        raise Wrong("one key, and two jobs")


WORK = {do_job: 6, do_stopped_job: 1, do_left_stream: 1, do_refused: 1, do_page: 2, do_key: 1}


async def use_server(url: str, clients: int, goes_on: Callable[[int], bool]) -> tuple[Counter, list[str]]:
    """Let ``clients`` work as long as ``goes_on``, told how much was done; what was done, and what went wrong."""
    done, wrong = Counter(), []

    async def client(number: int) -> None:
        rng = random.Random(number + 1000 * clients)
        async with open_clients(url) as http:
            while goes_on(done.total()):
                (work,) = rng.choices(list(WORK), list(WORK.values()))
                try:
                    await work(http, rng)
                except (Wrong, RuntimeError, httpx.HTTPError) as error:
                    wrong.append(f"{work.__name__}: {error!r}"[:300])
                done[work.__name__] += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    return done, wrong


def growth(before: dict[str, float], after: dict[str, float], bounds: dict[str, float]) -> list[str]:
    """What grew by more than its bound, in words."""
    return [
        f"{name} grew from {before[name]:g} to {after[name]:g}, more than {bound:g}"
        for name, bound in bounds.items()
        if after[name] - before[name] > bound
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    arguments = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.web.quick", str(port), folder]
        program = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def look(when: str) -> dict[str, float]:
            program.stdin.write("\n")
            program.stdin.flush()
            line = program.stdout.readline()
            while not line.startswith("{"):
                line = program.stdout.readline()
            print(f"{when:6} {line.strip()}", flush=True)
            return json.loads(line)

        def work(minutes: float, least: int = 0) -> None:
            until = time.monotonic() + 60 * minutes
            some, errors = asyncio.run(
                use_server(url, arguments.clients, lambda done: done < least or time.monotonic() < until)
            )
            done.update(some)
            wrong.extend(errors)
            time.sleep(5)  # connections are closed, threads end, old results go

        url, done, wrong = f"http://127.0.0.1:{port}", Counter(), []
        try:
            wait_until(lambda: answers(url), "the server answers", 120)
            first = look("start")
            work(arguments.minutes / 3, 2 * KEPT_JOBS)
            warm = look("warm")
            work(arguments.minutes * 2 / 3)
            last = look("end")
        finally:
            program.stdin.close()
            program.wait(timeout=150)
    grown = growth(warm, last, BOUNDS)
    for sentence in [*wrong[:20], *grown]:
        print(sentence)
    outcome = {
        "benchmark": "soak", "minutes": arguments.minutes, "clients": arguments.clients, "done": dict(done),
        "wrong": len(wrong), "bounds": BOUNDS, "start": first, "warm": warm, "end": last, "grown": grown,
    }  # fmt: skip
    print(json.dumps(outcome))
    return 1 if grown or wrong else 0


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    sys.exit(main())
