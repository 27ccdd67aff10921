"""The log: an event a line, with fields; JSON where a program reads it, columns where a person does.

Each line names the job and the request it belongs to. Those ids are bound by whoever starts the work
(`carrying_ids`), never by a middleware: Gradio handles an event in a task that copies the context of whichever request
happened to start its queue.

No line carries a whole id of a job or a result, for who has one may read the result: `hide` cuts them to 8 digits.
"""

from __future__ import annotations

import contextvars
import logging
import re
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

FORMATS = ("auto", "json", "text")
_FOREIGN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
# A token or a digest, shown by its first 8 digits; and the path behind one, which ends in the name of a user's file.
_SECRET = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{24,}\b(?:/[^'\"\n]*)?")
_DATA = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=]*")


def hide(value: Any) -> Any:
    """``value`` without ids of jobs and results, names of uploads and inline pictures, however deep they are in it."""
    if isinstance(value, str):
        return _DATA.sub("data:…", _SECRET.sub(r"\1…", value))
    if isinstance(value, dict):
        return {key: hide(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide(item) for item in value]
    return value


def _to_record(logger: logging.Logger, method: str, event: dict[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    """What the standard logger gets: readable by any handler, and the fields beside it for ours."""
    exc_info = event.pop("exc_info", None)
    name = event.pop("event")
    text = " ".join([str(hide(name)), *(f"{key}={hide(value)}" for key, value in event.items())])
    return (text,), {"exc_info": exc_info, "extra": {"orfeas_event": name, "orfeas_fields": event}}


def _from_record(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    record: logging.LogRecord = event["_record"]
    line = {
        "timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": getattr(record, "orfeas_event", event["event"].strip()),
        **get_contextvars(),
        **getattr(record, "orfeas_fields", {}),
    }
    return {**event, **line}


def _hide_all(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    return hide(event)


# Configured for itself alone: structlog's own configuration belongs to whoever uses ORFEAS as a library.
log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("orfeas"),
    processors=[structlog.stdlib.filter_by_level, structlog.stdlib.PositionalArgumentsFormatter(), _to_record],
    wrapper_class=structlog.stdlib.BoundLogger,
    context_class=dict,
)


class _ToStandardError(logging.StreamHandler):
    """Asks for the stream at each line, as `logging.lastResort` does."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        return sys.stderr


def build_formatter(format: str) -> logging.Formatter:
    """The formatter of all lines, ours and those of libraries. format: one of `FORMATS`."""
    if format == "json" or (format == "auto" and not sys.stderr.isatty()):
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_from_record],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,  # the traceback alone: local variables hold pictures
            _hide_all,
            renderer,
        ],
    )


def configure_logging(level: str = "info", format: str = "auto") -> None:
    """Send all logs of this process to standard error. Called once by a program's entry, never by an import.

    format: "json", "text", or "auto": text on a terminal, JSON elsewhere.
    """
    handler = _ToStandardError()
    handler.setFormatter(build_formatter(format))
    root = logging.getLogger()
    root.handlers[:] = [*(old for old in root.handlers if not isinstance(old, _ToStandardError)), handler]
    logging.getLogger("orfeas").setLevel(level.upper())
    logging.captureWarnings(True)
    adopt_loggers()


def adopt_loggers() -> None:
    """Let the lines of the web server through our handler: uvicorn installs its own whenever one is started."""
    for name in _FOREIGN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def short(token: str) -> str:
    """The first 8 digits of an id: enough to find its lines, too little to ask for what it names."""
    return token[:8]


def bind_request_id(request_id: str | None) -> None:
    """From here on this task works for that request, and for no other."""
    clear_contextvars()
    if request_id:
        bind_contextvars(request=request_id)


def carrying_ids(work: Callable[..., Any], **ids: str) -> Callable[..., Any]:
    """``work`` for another thread, in the context of here and now: its lines carry the ids bound here, and ``ids``.

    The whole context goes along: ZeroGPU reads in Gradio's part of it whose request it is, and so whose quota.
    """
    context = contextvars.copy_context()

    def run(*arguments: Any, **options: Any) -> Any:
        bind_contextvars(**ids)
        return work(*arguments, **options)

    return lambda *arguments, **options: context.copy().run(run, *arguments, **options)
