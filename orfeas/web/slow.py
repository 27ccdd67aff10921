"""Connections: how long uvicorn keeps those that were answered, and slow clients, for whom it would wait for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from orfeas.web.limits import BodyRefused

if TYPE_CHECKING:
    import uvicorn

GRACE_SECONDS = 30.0
LEAST_BYTES_PER_SECOND = 4096  # of a body, once the grace is over: 16 MiB may take an hour
# An answered connection stays open for so long. A request that is sent just as the server closes is lost, and a POST is
# not sent again: whoever uses connections again has to let go of them first. httpx, and with it gradio_client, does so
# after 5 s, which is uvicorn's own default, deploy/Caddyfile after 60 s; the rest is for a machine that was held up.
KEEP_ALIVE_SECONDS = 75


class _TooSlow(BodyRefused):
    pass


class Patience:
    """ASGI middleware: 408 for a body that falls behind ``grace_seconds`` and `LEAST_BYTES_PER_SECOND`."""

    def __init__(self, app: Any, grace_seconds: float = GRACE_SECONDS):
        self.app = app
        self.grace_seconds = grace_seconds

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            return await self.app(scope, receive, send)
        began, seen, whole, late, answering = time.monotonic(), 0, False, False, False

        async def receive_in_time():
            nonlocal seen, whole, late
            if whole:  # what comes now is that the client has gone
                return await receive()
            left = began + self.grace_seconds + seen / LEAST_BYTES_PER_SECOND - time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.0))
            except (TimeoutError, asyncio.TimeoutError):
                late = True
                raise _TooSlow from None
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            return message

        async def send_if_in_time(message):
            nonlocal answering
            if late:  # whatever the application makes of the broken body
                raise _TooSlow
            answering = True
            await send(message)

        try:
            return await self.app(scope, receive_in_time, send_if_in_time)
        except _TooSlow:
            if not answering:
                sentence = "The request came too slowly: try again with a better connection, or a smaller picture."
                await JSONResponse({"error": sentence, "detail": sentence}, 408, headers={"Connection": "close"})(
                    scope, receive, send
                )
            return None


class Sweeper:
    """A thread that closes connections which for ``seconds`` have had no request, or but the beginning of one.

    Those that were answered, and have sent nothing since, are uvicorn's own business.
    """

    def __init__(self, server: uvicorn.Server, seconds: float = GRACE_SECONDS):
        self._server = server
        self._seconds = seconds
        self._closed = threading.Event()
        self._since: dict[Any, float] = {}
        self._thread = threading.Thread(target=self._work, name="sweeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        while not self._closed.wait(self._seconds / 4):
            now, idle = time.monotonic(), {}
            for connection in list(self._server.server_state.connections):
                cycle = getattr(connection, "cycle", None)  # the request being answered, or the last one
                is_kept = getattr(connection, "timeout_keep_alive_task", None) is not None
                if (cycle is None or cycle.response_complete) and not is_kept:
                    since = self._since.get((connection, cycle), now)
                    idle[connection, cycle] = since
                    if now - since > self._seconds:
                        connection.loop.call_soon_threadsafe(connection.transport.close)
            self._since = idle
