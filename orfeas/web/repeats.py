"""Requests that are sent again: the same one under the same key is one job, however often it comes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orfeas.errors import BadRequest
from orfeas.recipe import hash_picture
from orfeas.web.handlers import start

if TYPE_CHECKING:
    import gradio as gr

    from orfeas.request import GenerationRequest
    from orfeas.result import Result
    from orfeas.web.jobs import Job, Jobs

KEY = "idempotency-key"
REUSE = "orfeas-reuse"
_KEY = re.compile(r"[\x21-\x7e]{16,200}")


def start_or_join(
    jobs: Jobs, asked: GenerationRequest, options: Mapping[str, Any], request: gr.Request
) -> Job | Result:
    """A new job, or what there is already of the same request under the same ``Idempotency-Key``: a job, or its result.

    options: as they were given, before a seed was drawn. One that failed or was stopped is started again.
    With ``ORFEAS-Reuse: yes`` the job answers from the library if the same was made before, for whomever.
    Raises `BadRequest` for a key that cannot be used, `gr.Error` when the job is not admitted.
    """
    reuse = request.headers.get(REUSE, "").lower() in ("1", "yes", "true")
    key = request.headers.get(KEY)
    if key is None:
        return start(jobs, asked, request, reuse=reuse)
    token = _token(key, asked, options, request.username or "")
    job = jobs.get(token)
    if job and not job.is_over:
        job.session = request.session_hash
        return job
    if result := jobs.find_result(token):
        return result
    jobs.remove(token)
    return start(jobs, asked, request, token, outlives_page=False, reuse=reuse)


def _token(key: str, asked: GenerationRequest, options: Mapping[str, Any], username: str) -> str:
    """A job's token, for the same key, picture, options and account always the same, and for others another."""
    if not _KEY.fullmatch(key):
        raise BadRequest("The Idempotency-Key must have 16 to 200 characters without spaces.", "bad_key")
    facts = [key, username, hash_picture(asked.picture), asked.name, options]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]
