"""A line and a count for each request, under an id that its answer, its job and every line of them carry."""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING, Any

from orfeas.telemetry import log
from orfeas.telemetry.logs import bind_request_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.routing import BaseRoute

    from orfeas.telemetry import Observer

HEADER = "x-request-id"
_HEADER = HEADER.encode()
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{8,64}")  # a proxy's own is kept, unless it could spoil a log
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Asked for again and again, by probes, pages and browsers: logged at the level "debug" only, counted all the same.
_FREQUENT = re.compile(
    r"/(health|ready|metrics|jobs/.*|assets/.*|static/.*|svelte/.*|theme\.css|gradio_api/heartbeat/.*)"
)


class Access:
    """ASGI middleware. The id goes on in the request's headers: Gradio hands those to its handlers.

    Whatever stands between it and Gradio has to hand on the same scope, for it is there that the route is named.

    routes: ours, whose endpoints are known by their paths' templates; Gradio's name themselves.
    """

    def __init__(self, app: Any, observer: Observer, routes: Sequence[BaseRoute]):
        self.app = app
        self.observer = observer
        self._templates = {route.endpoint: route.path for route in routes}

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request_id = _find_id(scope)
        began = time.perf_counter()
        status = 0

        async def send_with_id(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (_HEADER, request_id)]}
            await send(message)

        try:
            return await self.app(scope, receive, send_with_id)
        except Exception:
            status = status or 500
            raise
        finally:
            self._note(scope, request_id.decode(), status, time.perf_counter() - began)

    def _note(self, scope, request_id: str, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        path = self._templates.get(scope.get("endpoint")) or getattr(scope.get("route"), "path", "") or "unknown"
        self.observer.answered(method, path, status, seconds)
        say = log.debug if _FREQUENT.fullmatch(path) else log.info
        # status 0: the caller went away before there was an answer
        say("request", request=request_id, method=method, path=path, status=status, ms=round(seconds * 1000, 1))


def follow(headers: Mapping[str, str] | None = None) -> None:
    """Bind the request's id to the task that serves it. Called first of all by whatever logs or starts work.

    headers: of the request; without, those of the Gradio event that this task handles, if it does.
    """
    if headers is None:
        from gradio.context import LocalContext

        request = LocalContext.request.get(None)
        if request is None:
            return
        headers = request.headers
    bind_request_id(headers.get(HEADER))


def _find_id(scope) -> bytes:
    """The id in the request's headers, put there if there is none that will do."""
    given = [value for name, value in scope["headers"] if name == _HEADER]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    made = secrets.token_hex(8).encode()
    scope["headers"] = [*((name, value) for name, value in scope["headers"] if name != _HEADER), (_HEADER, made)]
    return made
