"""What the app believes of a proxy in front of it, and what it tells one of the jobs that are not here."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

if TYPE_CHECKING:
    import gradio as gr

NOT_HERE = "This server has no such job: it has ended, or another server runs it."
CAME_BY_PROXY = "orfeas.came_by_proxy"  # in the scope of a request whose forwarding headers were removed
_FORWARDED = re.compile(rb"forwarded|x-forwarded-.+|x-real-ip")
_FOR = b"x-forwarded-for"
_PRIVATE = [
    ip_network(network)
    for network in (
        "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7",
        "fe80::/10",
    )
]  # fmt: skip
_EVENTS = re.compile(r"^/gradio_api/call/(?:v2/)?\w+/(\w+)/?$")
_QUEUE = re.compile(r"^/gradio_api/queue/data/?$")


class Proxies:
    """ASGI middleware: ``X-Forwarded-*`` of trusted proxies name client, scheme and host; those of others are removed.

    Gradio makes addresses of ``X-Forwarded-Host``, whoever sends it.

    trusted: addresses and networks with commas between them, or "*". Then the client is the last that is named outside
    private networks: what stands before it may be of the client's own invention.
    """

    def __init__(self, app: Any, trusted: str):
        self.app = app
        entries = [entry.strip() for entry in trusted.split(",") if entry.strip()]
        self._all = "*" in entries
        self._networks = [] if self._all else [ip_network(entry, strict=False) for entry in entries]
        self._behind = ProxyHeadersMiddleware(app, "*" if self._all else [str(network) for network in self._networks])

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if self._is_trusted(scope.get("client")):
            return await self._behind(_with_one_client(scope) if self._all else scope, receive, send)
        headers = [field for field in scope["headers"] if not _FORWARDED.fullmatch(field[0])]
        came_by_proxy = len(headers) < len(scope["headers"])
        return await self.app({**scope, "headers": headers, CAME_BY_PROXY: came_by_proxy}, receive, send)

    def _is_trusted(self, client: tuple[str, int] | None) -> bool:
        if self._all:
            return True
        try:
            address = ip_address(client[0])
        except (TypeError, ValueError):  # a socket without an address
            return False
        return any(address in network for network in self._networks)


def _with_one_client(scope: dict[str, Any]) -> dict[str, Any]:
    """``scope`` with one address in ``X-Forwarded-For``: uvicorn takes the first where it trusts everybody."""
    fields = [value.decode("latin-1") for name, value in scope["headers"] if name == _FOR]
    hops = [hop for field in fields for hop in (hop.strip() for hop in field.split(",")) if hop]
    if not hops:
        return scope
    client = next((hop for hop in reversed(hops) if not _is_private(hop)), hops[-1])
    headers = [field for field in scope["headers"] if field[0] != _FOR]
    return {**scope, "headers": [*headers, (_FOR, client.encode("latin-1"))]}


def _is_private(hop: str) -> bool:
    """Whether it is an address of a proxy's own network."""
    try:
        address = ip_address(hop)
    except ValueError:
        return False
    return any(address in network for network in _PRIVATE)


class Here:
    """ASGI middleware: 404 for the events of a job that this process does not have.

    Gradio answers 200 and then breaks off, or never ends. While two versions run side by side, 404 tells the proxy to
    ask the other.
    """

    def __init__(self, app: Any, demo: gr.Blocks):
        self.app = app
        self.demo = demo

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["method"] == "GET" and not self._has_events(scope):
            return await JSONResponse({"detail": NOT_HERE}, 404)(scope, receive, send)
        return await self.app(scope, receive, send)

    def _has_events(self, scope) -> bool:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        queue = self.demo._queue
        if _QUEUE.match(path):
            asked = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
            return asked in queue.pending_messages_per_session
        if found := _EVENTS.match(path):
            return any(found[1] in undelivered for undelivered in list(queue.pending_event_ids_session.values()))
        return True
