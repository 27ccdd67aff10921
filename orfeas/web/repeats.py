"""Requests that are sent again: one key stands for one request, which is one job or group, however often it comes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from orfeas.errors import BadRequest, OrfeasError
from orfeas.recipe import hash_picture
from orfeas.request import with_seeds
from orfeas.web.access import follow
from orfeas.web.callers import ACCOUNT, Caller
from orfeas.web.groups import ask_batch
from orfeas.web.handlers import ask, in_thread
from orfeas.web.inputs import refusal

if TYPE_CHECKING:
    from concurrent.futures import Future

    import gradio as gr

    from orfeas.index import StoredGroup
    from orfeas.request import GenerationRequest
    from orfeas.result import Result
    from orfeas.web.groups import Group, Groups
    from orfeas.web.job import Job

T = TypeVar("T")
KEYED = ("generate", "batch", "best_of")  # the endpoints whose requests may have a key
SEEDS = 4  # that /best_of tries if it is not told how many
KEY = "idempotency-key"
REUSE = "orfeas-reuse"
_KEY = re.compile(r"[\x21-\x7e]{16,200}")
STOPPING_SECONDS = 60.0  # a step of the engine may take so long
_LOCK = threading.Lock()  # of two that come at once, one starts it and the other joins


async def start_or_join(
    groups: Groups, asked: GenerationRequest, options: Mapping[str, Any], request: gr.Request
) -> Job | Result:
    """A new job, or what there is already of the same request under the same ``Idempotency-Key``: a job, or its result.

    options: as they were given, before a seed was drawn. One that failed or was stopped is started again.
    With ``ORFEAS-Reuse: yes`` the job answers from the library if the same was made before, for whomever.
    Raises `OrfeasError` for a key that cannot be used, or while another process does the same; `gr.Error` when the job
    is not admitted, which was counted then.
    """
    jobs, reuse = groups.jobs, request.headers.get(REUSE, "").lower() in ("1", "yes", "true")

    def start(token: str, request_hash: str) -> Job:
        caller = Caller.of(request)
        return jobs.start(asked, token, request.session_hash, caller=caller, reuse=reuse, request_hash=request_hash)

    def join(token: str) -> Job | Result | None:
        job = jobs.get(token)
        if job and not job.is_over:
            job.session = request.session_hash
            return job
        if result := jobs.find_result(token):
            return result
        jobs.remove(token)
        return None

    def undo(job: Job) -> None:
        if not job.callers:
            jobs.stop(job)

    def stopping(token: str) -> Future | None:
        job = jobs.get(token)
        return job.future if job and not job.is_over and job.stop.is_set() else None

    return await _once(groups, "generate", [asked], options, request, start, join, undo, stopping)


async def start_or_join_group(
    groups: Groups, kind: str, asked: Sequence[GenerationRequest], options: Mapping[str, Any], request: gr.Request
) -> Group | StoredGroup:
    """As `start_or_join`, of a group: one that runs, or that is over and whose answer is still there.

    One of which a job was stopped, lost or deleted, or that made nothing, is started again.
    """

    def start(token: str, request_hash: str) -> Group:
        caller = Caller.of(request)
        return groups.start(kind, asked, token, request.session_hash, caller=caller, request_hash=request_hash)

    def join(token: str) -> Group | StoredGroup | None:
        group = groups.get(token)
        if group and not group.is_over:
            for job in group.jobs:
                job.session = request.session_hash
            return group
        if groups.still_answers(token):
            return groups.find(token)
        groups.remove(token)
        return None

    def undo(group: Group) -> None:
        if not group.callers:
            groups.stop(group.token)

    def stopping(token: str) -> Future | None:
        group = groups.get(token)
        left = [job for job in group.jobs if not job.is_over] if group else []
        return group.future if left and all(job.stop.is_set() for job in left) else None

    return await _once(groups, kind, asked, options, request, start, join, undo, stopping)


async def _once(
    groups: Groups,
    endpoint: str,
    asked: Sequence[GenerationRequest],
    options: Mapping[str, Any],
    request: gr.Request,
    start: Callable[[str, str], T],
    join: Callable[[str], T | None],
    undo: Callable[[T], object],
    stopping: Callable[[str], Future | None],
) -> T:
    """What ``join`` finds by the token of the request's key, or what ``start`` makes of the token and the hash.

    undo: what was started, of a caller who has gone. stopping: whose end is waited for, of what there is no joining any
    more: whoever lost the connection sends the request again while its job is being stopped for that.
    """
    follow()
    key = request.headers.get(KEY)

    def admit(token: str, request_hash: str) -> T:
        try:
            return start(token, request_hash)
        except OrfeasError as error:
            raise refusal(error) from None

    def begin() -> tuple[T, bool]:
        if key is None:
            return admit("", ""), True
        token, request_hash = _token(key, request.username or ""), _hash(endpoint, asked, options)
        with _LOCK:
            _compare(groups, token, request_hash)
            if (there := join(token)) is not None:
                return there, False
            return admit(token, request_hash), True

    def undo_new(begun: tuple[T, bool]) -> None:
        made, is_new = begun
        if is_new:
            undo(made)

    if key is not None and (ending := stopping(_token(key, request.username or ""))):
        await asyncio.wait([asyncio.wrap_future(ending)], timeout=STOPPING_SECONDS)
        if not ending.done():
            sentence = "What came under this Idempotency-Key before is being stopped: try again in a minute."
            raise OrfeasError(sentence, "stopping")
    return (await in_thread(begin, undo_new))[0]


def check_key(groups: Groups, endpoint: str, scope: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise `OrfeasError` if the key of a request to ``endpoint`` cannot be used, or stands for another request.

    `start_or_join` finds that too, but only when Gradio has answered 200. Reads the pictures.

    scope: ASGI's. values: those of the endpoint's arguments that were sent, as JSON has them.
    """
    keys = [value.decode("latin-1") for name, value in scope["headers"] if name == KEY.encode()]
    if not keys:
        return
    token = _token(", ".join(keys), scope.get(ACCOUNT, ""))
    try:
        request_hash = _hash(endpoint, *_read(endpoint, values))
    except (OrfeasError, OSError):  # the endpoint says what is wrong with it
        return
    _compare(groups, token, request_hash)


def _read(endpoint: str, values: Mapping[str, Any]) -> tuple[Sequence[GenerationRequest], dict[str, Any]]:
    """What such values ask for, and the options among them. Raises `OrfeasError`."""
    options = dict(values)
    if endpoint == "batch":
        pictures = options.pop("pictures", None)
        return ask_batch(
            [one["path"] or "" for one in pictures] if isinstance(pictures, list) else None, options
        ), options
    picture, seeds = (options.pop("picture", None) or {}).get("path"), options.pop("best_of", SEEDS)
    asked = ask(picture, options)
    return (with_seeds(asked, seeds) if endpoint == "best_of" else [asked]), options


def _compare(groups: Groups, token: str, request_hash: str) -> None:
    for known in (groups.jobs.find(token), groups.find(token)):
        if known and known.request_hash and known.request_hash != request_hash:
            sentence = "This Idempotency-Key was sent before with another request: send a new key with a new request."
            raise BadRequest(sentence, "key_reused")


def _token(key: str, account: str) -> str:
    """A job's token, for the same key and account always the same. Raises `BadRequest`."""
    if not _KEY.fullmatch(key):
        raise BadRequest("The Idempotency-Key must have 16 to 200 characters without spaces.", "bad_key")
    return hashlib.sha256(json.dumps([key, account]).encode()).hexdigest()[:32]


def _hash(endpoint: str, asked: Sequence[GenerationRequest], options: Mapping[str, Any]) -> str:
    """Of the pictures and the options, with the seed only if one was given. Raises `OSError`."""
    has_seed = options.get("seed") not in (None, "")
    if endpoint == "generate":
        described = _describe(asked[0], has_seed)
    elif endpoint == "batch":
        described = [endpoint, [_describe(one, has_seed) for one in asked]]
    else:
        described = [endpoint, len(asked), _describe(asked[0], has_seed)]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _describe(asked: GenerationRequest, has_seed: bool) -> list[Any]:
    facts = asked.options()
    if not has_seed:
        del facts["seed"]
    return [hash_picture(asked.picture), facts]
