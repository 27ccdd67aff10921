"""Bugs sent to Sentry, or to whatever speaks its protocol: only where the operator named an address for them.

What is sent: the kind of the exception, its message and its frames (module, function, line, source), the bug's id, the
ids of job and request cut to 8 digits, and the version, or what the operator released it as. No local variable, no
request, no log line, no name of the machine; paths are cut out of the message, for those of uploads end in the names of
users' files.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from structlog.contextvars import get_contextvars

from orfeas import __version__
from orfeas.errors import BadRequest
from orfeas.telemetry.bugs import listen_for_bugs
from orfeas.telemetry.logs import hide, log

FLUSH_SECONDS = 2.0
_PATH = re.compile(r"'(?:/|[A-Za-z]:\\)[^'\n]*'|\"(?:/|[A-Za-z]:\\)[^\"\n]*\"|(?<![\w./:])/[^\s'\":,]+")


class Reports:
    """Bugs, on their way to ``dsn``. transport: of sentry_sdk, in place of its HTTP. release: in place of our version.

    A client of its own: nothing of this process is patched, and nothing is caught that `report_bug` was not given.
    Raises `ImportError` without sentry-sdk, and `BadRequest` for a DSN that is none.
    """

    def __init__(self, dsn: str, transport: Any = None, release: str = ""):
        import sentry_sdk
        from sentry_sdk.utils import BadDsn, event_from_exception

        self._to_event = event_from_exception
        try:
            self._client = sentry_sdk.Client(
                dsn=dsn,
                transport=transport,
                release=f"orfeas@{release or __version__}",
                before_send=scrub,
                server_name="",
                default_integrations=False,
                auto_enabling_integrations=False,
                include_local_variables=False,
                max_breadcrumbs=0,
            )
        except BadDsn as error:
            raise BadRequest(f"SENTRY_DSN cannot be used: {error}.", "bad_setting") from None

    def send(self, error: BaseException, bug_id: str) -> None:
        event, hint = self._to_event(error, client_options=self._client.options)
        event["tags"] = {"bug": bug_id, **get_contextvars()}
        self._client.capture_event(event, hint)

    def close(self) -> None:
        self._client.close(timeout=FLUSH_SECONDS)


def start_reports(dsn: str, transport: Any = None, release: str = "") -> Callable[[], None]:
    """Send every bug from now on; returns what ends that. Without a DSN nothing is sent, which needs no sentry-sdk."""
    if not dsn:
        return lambda: None
    try:
        reports = Reports(dsn, transport, release)
    except ImportError:
        log.warning(
            "bugs_are_not_reported",
            reason="SENTRY_DSN is set, but the package sentry-sdk is not installed",
            remedy="pip install sentry-sdk",
        )
        return lambda: None
    end = listen_for_bugs(reports.send)

    def stop() -> None:
        end()
        reports.close()

    return stop


def scrub(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
    """The event as it leaves this machine."""
    for key in ("server_name", "request", "user", "breadcrumbs", "extra", "modules"):
        event.pop(key, None)
    for exception in (event.get("exception") or {}).get("values", ()):
        exception["value"] = _PATH.sub("<path>", str(exception.get("value") or ""))
        for frame in (exception.get("stacktrace") or {}).get("frames", ()):
            for key in ("vars", "abs_path"):
                frame.pop(key, None)
    return {**event, **{key: hide(event[key]) for key in ("exception", "tags") if key in event}}
