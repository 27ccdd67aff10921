"""What the server refuses before Gradio sees it: what is too large, and new jobs while it drains or is full."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from orfeas.errors import DISK_FULL
from orfeas.mesh.load import MAX_BYTES as MESH_BYTES
from orfeas.picture import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orfeas.telemetry import Observer
    from orfeas.web.bench import Bench
    from orfeas.web.jobs import Jobs
    from orfeas.web.readiness import Room

UPLOAD_BYTES = MAX_BYTES + (64 << 10)  # a picture and its multipart frame
JSON_BYTES = 1_000_000
ADDRESS_LENGTH = 8000  # of a path and its query, which are read while nobody else is answered
_UPLOAD = re.compile(r"^(/gradio_api)?/upload/?$")
_STARTS_JOB = re.compile(r"^/gradio_api/(call|run|api)/(v2/)?(generate|batch|best_of)/?$")
_WRITES = re.compile(r"^/gradio_api/(call|run|api)/(v2/)?(generate|batch|best_of|cutout|repair)/?$")
_STARTS_WORK = re.compile(r"^/gradio_api/(?:call|run|api)/(?:v2/)?(\w+)/?$")  # and its endpoint's name
_STARTS_ANY = re.compile(r"^/gradio_api/(upload|queue/join|(call|run|api)/.*)$")

# Gradio's own script needs inline and eval'ed code and blobs; nothing needs another host.
CONTENT_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self' https://huggingface.co https://*.hf.space",
    ]
)
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"permissions-policy": b"camera=(self), microphone=(), geolocation=()",
    b"content-security-policy": CONTENT_POLICY.encode(),
}


class Gate:
    """ASGI middleware: 413 for large bodies (by length or while they arrive), 414 for long addresses, 503 for new work,
    security headers.

    benches: those that do the work of an endpoint, by its name. room: whether the disk takes uploads and results.
    """

    def __init__(self, app: Any, jobs: Jobs, benches: Mapping[str, Bench], observer: Observer, room: Room):
        self.app = app
        self.jobs = jobs
        self.benches = benches
        self.observer = observer
        self.room = room

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        send = _with_headers(send)
        refused = self._refuse(scope)
        if refused:
            reason, *answer = refused
            self.observer.refused(reason)
            return await _answer(send, *answer)
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return await self.app(scope, receive, send)
        limit = UPLOAD_BYTES if _UPLOAD.match(_path(scope)) else JSON_BYTES
        counted = _Counted(receive, send, limit)
        try:
            if counted.announced(scope) > limit:
                raise _TooLarge
            return await self.app(scope, counted.receive, counted.send)
        except _TooLarge:
            self.observer.refused("too_large")
            if not counted.answering:
                await _answer(send, 413, _too_large(limit))
            return None

    def _refuse(self, scope) -> tuple[str, int, str, dict[str, str]] | None:
        """Why a request is not let in, as a stable word, and the status, sentence and headers of its answer."""
        path = _path(scope)
        if len(path) + len(scope.get("query_string", b"")) > ADDRESS_LENGTH:
            sentence = f"The address of this request is longer than {ADDRESS_LENGTH} characters: send a shorter one."
            return "long_address", 414, sentence, {}
        if scope["method"] != "POST":
            return None
        if self.jobs.draining and _STARTS_ANY.match(path):
            return "draining", 503, "This server is about to restart: try again in a minute.", {"Retry-After": "60"}
        if (_UPLOAD.match(path) or _WRITES.match(path)) and self.room.is_short:
            return "disk_full", 503, DISK_FULL, {"Retry-After": "600"}
        if self.jobs.is_full and _STARTS_JOB.match(path):
            return "queue_full", 503, self.jobs.full_sentence, {"Retry-After": "120"}
        starts = _STARTS_WORK.match(path)
        bench = self.benches.get(starts[1]) if starts else None
        if bench and bench.is_full:
            return "queue_full", 503, bench.full_sentence, {"Retry-After": "30"}
        return None


def _path(scope) -> str:
    """Below the path at which a proxy shows the app: most remove it, and Gradio takes it either way."""
    return scope["path"].removeprefix(scope.get("root_path", ""))


class BodyRefused(Exception):
    """A request's body is not read to its end: whoever raised it answers, and everything in between lets it pass."""


class _TooLarge(BodyRefused):
    pass


class _Counted:
    """A request whose body is counted as it arrives, so that a chunked one is stopped too."""

    def __init__(self, receive, send, limit: int):
        self._receive = receive
        self._send = send
        self._limit = limit
        self._seen = 0
        self.exceeded = False
        self.answering = False

    @staticmethod
    def announced(scope) -> int:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return int(value)
        return 0

    async def receive(self):
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            self.exceeded = True
            raise _TooLarge
        return message

    async def send(self, message):
        # Whatever the application makes of the broken body, and where its own limit is met first, the answer is ours.
        if self.exceeded or message.get("status") == 413:
            raise _TooLarge
        self.answering = True
        await self._send(message)


def _too_large(limit: int) -> str:
    if limit == UPLOAD_BYTES:
        return (
            f"The upload is larger than {MAX_BYTES >> 20} MiB: give a smaller picture or mesh; meshes of up to"
            f" {MESH_BYTES // 1_000_000} MB are for the command line."
        )
    return f"The request is larger than {JSON_BYTES // 1_000_000} MB: upload the file first, then name its path."


def _with_headers(send):
    async def send_with_headers(message):
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            extra = [(name, value) for name, value in HEADERS.items() if name not in present]
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return send_with_headers


async def _answer(send, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
    body = json.dumps({"detail": sentence, "error": sentence}).encode()
    fields = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    raw = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
