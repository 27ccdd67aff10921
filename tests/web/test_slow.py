"""Slow clients, against uvicorn itself, with little patience."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from orfeas.web.heads import HEAD_BYTES, bound_heads
from orfeas.web.slow import LEAST_BYTES_PER_SECOND, Patience, Sweeper
from tests.web.conftest import free_port, wait_until

GRACE = 1.0


async def length(request):
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture(scope="module")
def port():
    port = free_port()
    app = Starlette(
        routes=[Route("/", length, methods=["GET", "POST"])], middleware=[Middleware(Patience, grace_seconds=GRACE)]
    )
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", timeout_keep_alive=300)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, "uvicorn runs")
    bound_heads(config)
    sweeper = Sweeper(server, GRACE)
    yield port
    sweeper.close()
    server.should_exit = True
    thread.join(30)


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def _read_all(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionResetError):  # after the answer, to what was sent too late
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("trickles", [False, True])
def test_a_body_that_does_not_come_is_given_up(port, trickles):
    with _connect(port) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc")
        if trickles:  # a byte now and then keeps no connection
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(8):
                    time.sleep(GRACE / 6)
                    slow.sendall(b"x")
        answer = _read_all(slow)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"too slowly" in answer


def test_a_head_of_any_length_is_not_read(port):
    with _connect(port) as long:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            long.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (2 << 20) + b"\r\n\r\n")
        answer = _read_all(long)
    # the answer is lost where more was on its way when the connection was closed
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


def test_a_long_head_with_a_long_body_is_read(port):
    """The body may come with the end of the head."""
    body = bytes(4 * HEAD_BYTES)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (HEAD_BYTES // 2)
    with _connect(port) as one:
        for _ in range(2):
            one.sendall(head)
            one.sendall(b"\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
            answer = b""
            while not answer.endswith(str(len(body)).encode()):
                part = one.recv(65536)
                assert part, "the connection was closed"
                answer += part
            assert answer.startswith(b"HTTP/1.1 200")


def test_the_server_bounds_heads(server):
    assert server.demo.server.config.http_protocol_class.__name__ == "Bounded"


def test_a_request_that_never_begins_or_never_ends_its_head_is_closed(port):
    """Nothing else is: an answered connection stays open for the next request, as long as uvicorn keeps it."""
    kept = _connect(port)
    connections = [_connect(port) for _ in range(6)]
    for connection in (kept, connections[-1]):
        assert _ask(connection).startswith(b"HTTP/1.1 200")
    for connection, head in zip(
        connections, (b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST", b"\r\n", b"GET /"), strict=True
    ):
        connection.sendall(head)
    for connection in connections:
        with connection:
            assert _read_all(connection) == b""
    with kept:
        assert _ask(kept).startswith(b"HTTP/1.1 200")


def _ask(connection: socket.socket) -> bytes:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"\r\n\r\n0"):  # head and body are sent one after the other
        part = connection.recv(65536)
        assert part, "the connection was closed"
        answer += part
    return answer


def test_who_is_not_slow_does_not_notice(port):
    def steady():
        for _ in range(6):  # takes longer than the grace, but brings enough for a minute
            yield b"x" * (10 * LEAST_BYTES_PER_SECOND)
            time.sleep(GRACE / 4)

    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
        assert http.post("/", content=steady()).text == str(60 * LEAST_BYTES_PER_SECOND)
        assert http.post("/", content=b"").text == "0"
        assert http.get("/").status_code == 200
