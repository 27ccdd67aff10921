"""Requests that are sent again: the same one under the same key is one job, however often it comes."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orfeas.errors import BadRequest, OrfeasError
from orfeas.recipe import hash_picture
from orfeas.web.access import follow
from orfeas.web.callers import Caller
from orfeas.web.handlers import in_thread
from orfeas.web.inputs import refusal

if TYPE_CHECKING:
    import gradio as gr

    from orfeas.request import GenerationRequest
    from orfeas.result import Result
    from orfeas.web.jobs import Job, Jobs

KEY = "idempotency-key"
REUSE = "orfeas-reuse"
_LOCK = threading.Lock()  # of two that come at once, one starts the job and the other joins it
_KEY = re.compile(r"[\x21-\x7e]{16,200}")


async def start_or_join(
    jobs: Jobs, asked: GenerationRequest, options: Mapping[str, Any], request: gr.Request
) -> Job | Result:
    """A new job, or what there is already of the same request under the same ``Idempotency-Key``: a job, or its result.

    options: as they were given, before a seed was drawn. One that failed or was stopped is started again.
    With ``ORFEAS-Reuse: yes`` the job answers from the library if the same was made before, for whomever.
    Raises `OrfeasError` for a key that cannot be used, or while another process does the same; `gr.Error` when the job
    is not admitted, which was counted then.
    """
    follow()
    reuse = request.headers.get(REUSE, "").lower() in ("1", "yes", "true")
    key = request.headers.get(KEY)
    caller, username = Caller.of(request), request.username or ""

    def start(token: str) -> Job:
        try:
            return jobs.start(asked, token, request.session_hash, caller=caller, reuse=reuse)
        except OrfeasError as error:
            raise refusal(error) from None

    def begin() -> tuple[Job | Result, bool]:
        if key is None:
            return start(""), True
        token = _token(key, asked, options, username)
        with _LOCK:
            job = jobs.get(token)
            if job and not job.is_over:
                job.session = request.session_hash
                return job, False
            if result := jobs.find_result(token):
                return result, False
            jobs.remove(token)
            return start(token), True

    def undo(begun: tuple[Job | Result, bool]) -> None:
        made, is_new = begun
        if is_new and not made.callers:
            jobs.stop(made)

    return (await in_thread(begin, undo))[0]


def _token(key: str, asked: GenerationRequest, options: Mapping[str, Any], username: str) -> str:
    """A job's token, for the same key, picture, options and account always the same, and for others another."""
    if not _KEY.fullmatch(key):
        raise BadRequest("The Idempotency-Key must have 16 to 200 characters without spaces.", "bad_key")
    facts = [key, username, hash_picture(asked.picture), asked.name, options]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]
