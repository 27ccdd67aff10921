"""Requests that are sent again: one key stands for one request, which is one job, however often it comes."""

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
from orfeas.web.callers import ACCOUNT, Caller
from orfeas.web.handlers import ask, in_thread
from orfeas.web.inputs import refusal

if TYPE_CHECKING:
    import gradio as gr

    from orfeas.request import GenerationRequest
    from orfeas.result import Result
    from orfeas.web.job import Job
    from orfeas.web.jobs import Jobs

KEY = "idempotency-key"
REUSE = "orfeas-reuse"
_KEY = re.compile(r"[\x21-\x7e]{16,200}")
_LOCK = threading.Lock()  # of two that come at once, one starts the job and the other joins it


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
    caller, account = Caller.of(request), request.username or ""

    def start(token: str, request_hash: str) -> Job:
        try:
            return jobs.start(asked, token, request.session_hash, caller=caller, reuse=reuse, request_hash=request_hash)
        except OrfeasError as error:
            raise refusal(error) from None

    def begin() -> tuple[Job | Result, bool]:
        if key is None:
            return start("", ""), True
        token, request_hash = _token(key, account), _hash(asked, options)
        with _LOCK:
            _compare(jobs, token, request_hash)
            job = jobs.get(token)
            if job and not job.is_over:
                job.session = request.session_hash
                return job, False
            if result := jobs.find_result(token):
                return result, False
            jobs.remove(token)
            return start(token, request_hash), True

    def undo(begun: tuple[Job | Result, bool]) -> None:
        made, is_new = begun
        if is_new and not made.callers:
            jobs.stop(made)

    return (await in_thread(begin, undo))[0]


def check_key(jobs: Jobs, scope: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise `OrfeasError` if the key of a request to /generate cannot be used, or stands for another request.

    `start_or_join` finds that too, but only when Gradio has answered 200. Reads the picture.

    scope: ASGI's. values: those of the endpoint's arguments that were sent, as JSON has them.
    """
    keys = [value.decode("latin-1") for name, value in scope["headers"] if name == KEY.encode()]
    if not keys:
        return
    token, options = _token(", ".join(keys), scope.get(ACCOUNT, "")), dict(values)
    picture = (options.pop("picture", None) or {}).get("path")
    try:
        request_hash = _hash(ask(picture, options), options)
    except (OrfeasError, OSError):  # the endpoint says what is wrong with it
        return
    _compare(jobs, token, request_hash)


def _compare(jobs: Jobs, token: str, request_hash: str) -> None:
    known = jobs.find(token)
    if known and known.request_hash and known.request_hash != request_hash:
        sentence = "This Idempotency-Key was sent before with another request: send a new key with a new request."
        raise BadRequest(sentence, "key_reused")


def _token(key: str, account: str) -> str:
    """A job's token, for the same key and account always the same. Raises `BadRequest`."""
    if not _KEY.fullmatch(key):
        raise BadRequest("The Idempotency-Key must have 16 to 200 characters without spaces.", "bad_key")
    return hashlib.sha256(json.dumps([key, account]).encode()).hexdigest()[:32]


def _hash(asked: GenerationRequest, options: Mapping[str, Any]) -> str:
    """Of the picture and the options, with the seed only if one was given. Raises `OSError`."""
    facts = asked.options()
    if options.get("seed") in (None, ""):
        del facts["seed"]
    return hashlib.sha256(json.dumps([hash_picture(asked.picture), facts], sort_keys=True).encode()).hexdigest()
