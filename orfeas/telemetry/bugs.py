"""Exceptions that nobody expected: an id for the user, the rest for the operator.

Every door catches them itself and calls `report_bug`: Gradio swallows what a handler raises, so nothing that waits for
an exception to escape would ever hear of one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from orfeas.telemetry.logs import log

Listener = Callable[[BaseException, str], None]
_listeners: list[Listener] = []
_BEGINNING = "Something unexpected went wrong, logged as"


def listen_for_bugs(listener: Listener) -> Callable[[], None]:
    """Call ``listener`` with every bug and its id, from the thread it happened in; returns what ends that."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def report_bug(error: BaseException) -> str:
    """Log an unexpected exception with its traceback under a new id; the sentence to show names that id only."""
    bug_id = secrets.token_hex(4)
    log.error("bug", bug=bug_id, error=type(error).__name__, exc_info=error)
    for listener in list(_listeners):
        try:
            listener(error, bug_id)
        except Exception as trouble:
            log.warning("bug_not_passed_on", bug=bug_id, error=str(trouble))
    return f"{_BEGINNING} {bug_id}: try again, and report that id if it happens again."


def is_bug(sentence: str) -> bool:
    """Whether it is one of `report_bug`."""
    return sentence.startswith(_BEGINNING)
