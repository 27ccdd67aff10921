"""Who asks, and how much of the server one of them may have: jobs at once, and requests a minute."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address
from typing import TYPE_CHECKING, Any

from orfeas.errors import OrfeasError

if TYPE_CHECKING:
    import gradio as gr

    from orfeas.telemetry import Observer

KEPT_ADDRESSES = 10_000
ACCOUNT = "orfeas.account"  # in an ASGI scope: the name of who has logged in
LOGINS_PER_MINUTE = 10
_STARTS_WORK = re.compile(r"/gradio_api/(upload|queue/join|(call|run|api)/.+)")
_COSTS_WORK = re.compile(r"/groups/[^/]+/models\.zip")  # also where it is only asked for
_PROBE = re.compile(r"/(health|ready)")
_LOGIN = re.compile(r"/login/?")


def machine(host: str) -> str:
    """What limits for each address count by: ``host``, or its /64 of IPv6, which one machine has to itself."""
    try:
        address = ip_address(host)
    except ValueError:  # a socket without an address
        return host
    if address.version == 4:
        return host
    return str(address.ipv4_mapped or IPv6Network((int(address) >> 64 << 64, 64)))


def machine_of(scope: Mapping[str, Any]) -> str:
    """`machine` of whoever sent an ASGI request."""
    return machine((scope.get("client") or ("",))[0])


@dataclass(frozen=True)
class Caller:
    """Whose job it is. session: of a page or client. address: `machine`'s, "" where nobody knows.

    once: whether the session was made for this one call, as plain HTTP has none. account: the name of who has logged
    in, "" where there are no accounts.
    """

    session: str = ""
    address: str = ""
    once: bool = False
    account: str = ""

    @classmethod
    def of(cls, request: gr.Request | None) -> Caller:
        if request is None:
            return cls()
        client = getattr(request, "client", None)
        address = machine(getattr(client, "host", None) or "")
        path = str(getattr(getattr(request, "url", None), "path", ""))
        return cls(request.session_hash or "", address, "/call/" in path, getattr(request, "username", None) or "")

    @property
    def party(self) -> str:
        """Jobs of one party wait for each other, and take turns with those of others (`orfeas.lane`)."""
        return f"address {self.address}" if self.once or not self.session else f"session {self.session}"


@dataclass(frozen=True)
class Allowance:
    """How many jobs that run or wait one session and one address may have; 0: no limit."""

    per_session: int = 0
    per_address: int = 0

    def check(self, caller: Caller, others: Iterable[Caller]) -> None:
        """Raise `OrfeasError` (too_many_jobs) if ``caller`` has as many among ``others`` as it may have."""
        others = list(others)
        if self.per_session and sum(other.party == caller.party for other in others) >= self.per_session:
            raise OrfeasError(
                f"{self.per_session} of your jobs run or wait already: wait until one of them is done.", "too_many_jobs"
            )
        same_address = sum(other.address == caller.address for other in others) if caller.address else 0
        if self.per_address and same_address >= self.per_address:
            raise OrfeasError(
                f"{self.per_address} jobs from your address run or wait already: wait until one of them is done.",
                "too_many_jobs",
            )


class Rate:
    """So many things a minute for each key, and half of a minute's at once (a token bucket). Threads may share it."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic):
        self.per_second = per_minute / 60.0
        self.burst = max(1.0, per_minute / 2.0)
        self._clock = clock
        self._lock = threading.Lock()
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def take(self, key: str) -> float:
        """Take one; 0 if there was one, else the seconds until there will be."""
        with self._lock:
            now = self._clock()
            left, then = self._levels.pop(key, (self.burst, now))
            left = min(self.burst, left + (now - then) * self.per_second)
            wait = 0.0 if left >= 1.0 else (1.0 - left) / self.per_second
            self._levels[key] = (left - 1.0 if not wait else left, now)
            while len(self._levels) > KEPT_ADDRESSES:
                self._levels.popitem(last=False)
        return wait


class Turnstile:
    """ASGI middleware: 429 for an address that sends more than ``per_minute`` requests that start work, or has more
    than ``at_once`` of any kind under way, which pages' open event streams are too; 0: no limit.

    Logins are limited in any case: whoever guesses passwords gets `LOGINS_PER_MINUTE`.
    """

    def __init__(
        self,
        app: Any,
        per_minute: float,
        observer: Observer,
        at_once: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.app = app
        self.at_once = at_once
        self._open: Counter[str] = Counter()
        self.observer = observer
        self._work = Rate(per_minute, clock) if per_minute else None
        self._logins = Rate(LOGINS_PER_MINUTE, clock)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path, party = scope["path"].removeprefix(scope.get("root_path", "")), machine_of(scope)
        if self.at_once and self._open[party] >= self.at_once and not _PROBE.fullmatch(path):
            self.observer.refused("too_many_open")
            sentence = f"{self.at_once} requests from your address are open already: close some pages of this app."
            return await _refuse(send, sentence, 30)
        rate = self._rate(scope["method"], path)
        if rate and (wait := rate.take(party)):
            self.observer.refused("too_fast")
            seconds = max(1, round(wait + 0.5))
            sentence = f"Too many requests came from your address: try again in {seconds} seconds."
            return await _refuse(send, sentence, seconds)
        self._open[party] += 1
        try:
            return await self.app(scope, receive, send)
        finally:
            self._open[party] -= 1
            if not self._open[party]:
                del self._open[party]

    def _rate(self, method: str, path: str) -> Rate | None:
        if method == "POST" and _LOGIN.fullmatch(path):
            return self._logins
        starts = _STARTS_WORK.fullmatch(path) if method == "POST" else _COSTS_WORK.fullmatch(path)
        return self._work if starts else None


async def _refuse(send, sentence: str, seconds: int) -> None:
    body = json.dumps({"detail": sentence, "error": sentence}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "retry-after": str(seconds)}
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 429, "headers": fields})
    await send({"type": "http.response.body", "body": body})
