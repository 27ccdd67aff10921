"""Exceptions that nobody expected: an id for the user, the rest for the operator."""

from __future__ import annotations

import secrets

from orfeas.telemetry.logs import log


def report_bug(error: BaseException) -> str:
    """Log an unexpected exception with its traceback under a new id; the sentence to show names that id only."""
    bug_id = secrets.token_hex(4)
    log.error("bug", bug=bug_id, error=type(error).__name__, exc_info=error)
    return f"Something unexpected went wrong, logged as {bug_id}: try again, and report that id if it happens again."
