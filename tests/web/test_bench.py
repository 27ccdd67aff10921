"""Work outside the lane: how much of it waits, what a full bench answers, and what is left when the server stops."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from gradio_client import handle_file

from orfeas.errors import OrfeasError
from orfeas.library import Library
from orfeas.settings import Settings
from orfeas.web.bench import Bench
from orfeas.web.handlers import CUTOUT_THREADS
from orfeas.web.serve import start
from tests.conftest import PacedEngine, open_studio
from tests.web.conftest import QUEUE_SIZE, call, file_data, free_port, upload, wait_until

PLACES = CUTOUT_THREADS + QUEUE_SIZE


class SlowWork:
    """Work that waits for leave, and tells that it has begun."""

    def __init__(self):
        self.leave, self.begun = threading.Event(), threading.Event()

    def __call__(self) -> bool:
        self.begun.set()
        return self.leave.wait(60)


class SlowCut:
    """A studio's ``cut`` that waits for leave, and counts."""

    def __init__(self, cut):
        self._cut = cut
        self.leave = threading.Event()
        self.begun = 0

    def __call__(self, *arguments):
        self.begun += 1
        assert self.leave.wait(60)
        return self._cut(*arguments)


def ask_for_a_cutout(http, path: str) -> int:
    return http.post("/gradio_api/call/v2/cutout", json={"picture": file_data(path)}).status_code


def test_too_many_cutouts_are_refused_with_a_sentence(server, client, http, photo, monkeypatch):
    cutter = server.benches[0]
    slow = SlowCut(server.jobs.studio.cut)
    monkeypatch.setattr(server.jobs.studio, "cut", slow)
    path = upload(http, photo)
    sentence = f"The queue is full, {QUEUE_SIZE} cutouts are waiting: try again in a few minutes."
    try:
        assert [ask_for_a_cutout(http, path) for _ in range(PLACES)] == [200] * PLACES
        wait_until(lambda: cutter.is_full and slow.begun == CUTOUT_THREADS, "all places are taken")
        refused = http.post("/gradio_api/call/v2/cutout", json={"picture": file_data(path)})
        assert (refused.status_code, refused.json()["detail"]) == (503, sentence)
        assert int(refused.headers["retry-after"]) > 0
        with pytest.raises(Exception, match=f"The queue is full, {QUEUE_SIZE} cutouts are waiting"):
            client.predict(handle_file(photo), api_name="/cutout")
        config = http.get("/config").json()["dependencies"]
        taking = next(d["id"] for d in config if d["api_name"] == "take_picture")
        body = {"fn_index": taking, "session_hash": "someone", "data": [file_data(path), "auto", None]}
        assert sentence in str(http.post("/gradio_api/run/predict", json=body).json()["data"])
        assert slow.begun == CUTOUT_THREADS
    finally:
        slow.leave.set()
    wait_until(lambda: not cutter._there, "the places are free again")
    assert call(http, "cutout", {"picture": file_data(path)})[0] == "complete"


def test_stopping_the_server_drops_the_cutouts_that_wait(photo, tmp_path):
    settings = Settings(_env_file=None, engine="sketch", data_dir=tmp_path, port=free_port())
    studio = open_studio(settings, PacedEngine(), Library(tmp_path))
    studio.look = slow = SlowCut(studio.look)
    server = start(studio, settings)
    cutter = server.benches[0]
    with httpx.Client(base_url=server.url.rstrip("/"), timeout=60) as http:
        config = http.get("/config").json()["dependencies"]
        taking = next(d["id"] for d in config if d["api_name"] == "take_picture")
        body = {"fn_index": taking, "data": [file_data(upload(http, photo)), "auto", None]}
        bodies = [{**body, "session_hash": f"page {k}"} for k in range(8)]
        with ThreadPoolExecutor(8) as pages:
            answers = [pages.submit(http.post, "/gradio_api/run/predict", json=body) for body in bodies]
            wait_until(lambda: len(cutter._there) == 8 and slow.begun == CUTOUT_THREADS, "all are begun or wait")
            closing = threading.Thread(target=server.close)
            closing.start()
            try:
                wait_until(lambda: len(cutter._there) == CUTOUT_THREADS, "those that wait are dropped")
                told = "This server is about to restart: try again in a minute."
                wait_until(lambda: sum(answer.done() for answer in answers) == 8 - CUTOUT_THREADS, "they are answered")
                assert all(told in answer.result().text for answer in answers if answer.done())
            finally:
                slow.leave.set()
                closing.join()
    assert slow.begun == CUTOUT_THREADS


def test_who_waits_when_the_bench_closes_is_told_so():
    async def play():
        bench, work = Bench("cutouts", 1, 2), SlowWork()
        running, waiting, gone = (asyncio.create_task(bench.run(work)) for _ in range(3))
        assert await asyncio.to_thread(work.begun.wait, 60)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert len(bench._there) == 2, "who goes gives the place back"
        bench.close()
        with pytest.raises(OrfeasError, match="about to restart"):
            await waiting
        with pytest.raises(OrfeasError, match="about to restart"):
            await bench.run(work)
        work.leave.set()
        assert await running

    asyncio.run(play())


def test_a_place_is_taken_until_the_work_is_done_not_until_its_caller_goes():
    async def play():
        bench, work = Bench("cutouts", 1, 1), SlowWork()
        tasks = [asyncio.create_task(bench.run(work)) for _ in range(2)]
        assert await asyncio.to_thread(work.begun.wait, 60)
        tasks[0].cancel()
        await asyncio.sleep(0)
        assert bench.is_full
        with pytest.raises(OrfeasError, match="1 cutouts are waiting"):
            await bench.run(work)
        work.leave.set()
        assert await tasks[1]

    asyncio.run(play())
