"""Many clients at once, and many jobs one after the other, through the real server; only the geometry is left out."""

from __future__ import annotations

import asyncio
import json
import threading
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from benchmarks.soak import growth, use_server
from orfeas.errors import OrfeasError
from orfeas.request import GenerationRequest
from orfeas.telemetry import Observer
from orfeas.web.callers import KEPT_ADDRESSES, Allowance, Caller, Rate, Turnstile
from orfeas.web.jobs import Jobs
from orfeas.web.proxies import Proxies
from tests.conftest import PacedEngine
from tests.web.clients import Made, draw_picture, make_one, open_clients, use
from tests.web.conftest import free_port, wait_until
from tests.web.quick import start_quick

CLIENTS = 50
USED = 60


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    server = start_quick(tmp_path_factory.mktemp("quick"), free_port(), CLIENTS)
    yield server
    server.close()


async def ask_all(url: str, numbers) -> list[Made]:
    async with open_clients(url) as http:
        return await asyncio.gather(
            *(make_one(http, draw_picture(number, 64), {"size_mm": 10 + number, "seed": 1}) for number in numbers)
        )


def test_each_of_many_clients_gets_its_own_result(quick):
    made = asyncio.run(ask_all(quick.url, range(CLIENTS)))
    expected = [
        {"sha256": sha256(draw_picture(number, 64)).hexdigest(), "size_mm": 10.0 + number} for number in range(CLIENTS)
    ]
    assert [json.loads(one.model) for one in made] == expected
    assert quick.jobs.studio.health()["jobs"] == {"finished": CLIENTS, "failed": 0}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Linux counts a process's handles")
def test_much_use_leaves_nothing_behind(quick):
    """The small version of benchmarks/soak.py, whose clients these are."""
    library = quick.jobs.studio.library

    def work(seen: int) -> dict[str, float]:
        _, wrong = asyncio.run(use_server(quick.url, 2, lambda done: done < seen))
        assert wrong == []
        wait_until(lambda: not quick.jobs.active(), "the last job has ended")
        return use()

    before = work(USED)  # what is made once is there now
    # of memory more than a leak of some hundred KB a job would take: this process has done other work before
    bounds = {"resident_mb": 40, "threads": 2, "handles": 8, "objects": 30_000}
    after = work(USED)
    wait_until(lambda: use()["threads"] <= before["threads"] + 2, "the threads of the jobs have ended")
    assert growth(before, {**after, "threads": before["threads"]}, bounds) == []
    assert not list(library.staging.glob("*"))


def test_one_caller_cannot_take_the_whole_queue(make_studio, photo):
    pace = threading.Semaphore(0)
    jobs = Jobs(make_studio(PacedEngine(pace=pace)), 20, allowance=Allowance(per_session=2, per_address=3))

    def start(session: str, address: str = "1.1.1.1", once: bool = False):
        return jobs.start(GenerationRequest(photo), session=session, caller=Caller(session, address, once))

    started = [start("a"), start("a"), start("b")]
    with pytest.raises(OrfeasError, match="2 of your jobs run or wait already") as refused:
        start("a", "2.2.2.2")
    assert refused.value.code == "too_many_jobs"
    with pytest.raises(OrfeasError, match="3 jobs from your address"):
        start("c")
    started += [start("x", "3.3.3.3", once=True), start("y", "3.3.3.3", once=True)]
    with pytest.raises(OrfeasError, match="2 of your jobs"):  # plain HTTP has no session: its address is the party
        start("z", "3.3.3.3", once=True)
    for job in started:
        jobs.stop(job)
    pace.release(100)
    assert {job.future.result(60).state for job in started} == {"cancelled"}
    last = start("a")
    jobs.stop(last)
    assert last.future.result(60).state == "cancelled"


def test_a_rate_lets_half_a_minute_s_through_at_once_and_recovers():
    now = [0.0]
    rate = Rate(60, clock=lambda: now[0])
    assert [rate.take("a") for _ in range(30)] == [0.0] * 30
    assert 0 < rate.take("a") <= 1.0
    assert rate.take("b") == 0.0
    now[0] += 2.5
    assert [bool(rate.take("a")) for _ in range(3)] == [False, False, True]
    for number in range(KEPT_ADDRESSES + 10):
        rate.take(str(number))
    assert len(rate._levels) == KEPT_ADDRESSES


def test_an_address_has_so_many_requests_open_and_no_more():
    """A page's event streams stay open as long as it does."""

    async def check():
        close, opened = asyncio.Event(), []

        async def stream(scope, receive, send):
            opened.append(scope["path"])
            await close.wait()
            await PlainTextResponse("over")(scope, receive, send)

        turnstile = Turnstile(stream, per_minute=0, observer=Observer(), at_once=2)

        def ask(path: str, address: str):
            async def get():
                transport = httpx.ASGITransport(turnstile, client=(address, 1))
                async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
                    return await http.get(path)

            return asyncio.create_task(get())

        path = "/gradio_api/heartbeat/x"
        kept = [ask(path, "2001:db8::1"), ask(path, "2001:db8::2")]
        while len(opened) < 2:
            await asyncio.sleep(0.01)
        refused = await ask(path, "2001:db8::3")
        assert refused.status_code == 429
        assert refused.json()["error"].startswith("2 requests from your address are open already")
        kept += [ask(path, "2001:db8:0:1::1"), ask("/health", "2001:db8::3")]
        while len(opened) < 4:
            await asyncio.sleep(0.01)
        close.set()
        assert [answer.status_code for answer in await asyncio.gather(*kept)] == [200] * 4
        assert (await ask(path, "2001:db8::3")).status_code == 200
        assert not turnstile._open

    asyncio.run(check())


def test_an_address_that_sends_too_much_is_told_when_to_come_again():
    async def well(request):
        return PlainTextResponse("well")

    paths = ["/gradio_api/upload", "/gradio_api/queue/join", "/login", "/gradio_api/cancel", "/health"]
    paths.append("/groups/x/models.zip")
    app = Starlette(
        routes=[Route(path, well, methods=["GET", "POST"]) for path in paths],
        middleware=[
            Middleware(Proxies, trusted="10.0.0.1"),
            Middleware(Turnstile, per_minute=20, observer=Observer(), clock=lambda: 0.0),
        ],
    )

    async def send(path: str, times: int, address: str, method: str = "POST", **headers) -> list[int]:
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            answers = [await http.request(method, path, headers=headers) for _ in range(times)]
        for answer in answers:
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) >= 1
                assert "too many requests" in answer.json()["error"].lower()
        return [answer.status_code for answer in answers]

    async def check():
        assert await send("/gradio_api/queue/join", 12, "1.1.1.1") == [200] * 10 + [429] * 2
        # who is not a trusted proxy does not become another by saying so
        assert await send("/gradio_api/upload", 1, "1.1.1.1", **{"X-Forwarded-For": "6.6.6.6"}) == [429]
        assert await send("/gradio_api/upload", 2, "10.0.0.1", **{"X-Forwarded-For": "2.2.2.2"}) == [200] * 2
        assert await send("/gradio_api/upload", 1, "10.0.0.1", **{"X-Forwarded-For": "1.1.1.1"}) == [429]
        for path, method in (("/gradio_api/cancel", "POST"), ("/health", "GET"), ("/gradio_api/upload", "GET")):
            assert await send(path, 3, "1.1.1.1", method) == [200] * 3
        assert await send("/login", 6, "7.7.7.7") == [200] * 5 + [429]
        # it is packed anew for each
        assert await send("/groups/x/models.zip", 12, "8.8.8.8", "GET") == [200] * 10 + [429] * 2

    asyncio.run(check())
