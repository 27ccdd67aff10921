"""What Gradio is handed: calls of endpoints that there are, with as many values as they take, and uploads as files.

Gradio 6.31 answers 500 to an endpoint's wrong name or number and to unknown arguments, an empty error to values of the
wrong kind, and opens or fetches whatever path or address a file is said to have. Whoever sends such a thing gets one
sentence instead, and what Gradio cannot explain has one as well.
"""

from __future__ import annotations

import asyncio
import errno
import json
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from pydantic import TypeAdapter, ValidationError
from starlette.responses import JSONResponse

from orfeas.errors import DISK_FULL, BadRequest, OrfeasError
from orfeas.telemetry import is_bug, log, report_bug
from orfeas.web.groups import check_number
from orfeas.web.inputs import PATH_LENGTH
from orfeas.web.limits import BodyRefused

if TYPE_CHECKING:
    import gradio as gr
    from gradio.block_function import BlockFunction
    from starlette.requests import Request

    from orfeas.telemetry import Observer

# Gradio's routes for parts that this page has not got: reloading, streams, deep links, code written by a model, an
# old way to files past `orfeas.web.uploads`, and a route that hands the cookie of a login to scripts, none of which
# should see it.
_CLOSED = re.compile(
    r"/custom_component/|(/gradio_api)?/(custom_component/|component_server|deep_link|dev/|file/|process_recording"
    r"|profiling|run-history|runs|stream/|token|undo-vibe|vibe)"
)
_CALL = re.compile(r"/gradio_api/(?:(?P<door>queue)/join|(?P<named>call/v2|call|run|api)/(?P<name>[^/]+))/?")
_EVENTS = re.compile(r"/gradio_api/(queue/data|call/.+)")
_DOCUMENT = "see /gradio_api/info for what each endpoint takes."
_SENTENCES = {404: "There is no such page.", 405: "This address does not take that method."}
_REASONS = {404: "no_page", 405: "bad_method"}
_NONE: Mapping[str, Any] = {}
NOT_UNDERSTOOD = f"This request could not be understood: reload the page, or {_DOCUMENT}"
_UNEXPLAINED = re.compile(rb'"error": ?null')
_EXPLAINED = b'"error": ' + json.dumps(NOT_UNDERSTOOD).encode()
_INTEGER = TypeAdapter(int)
_NAME = re.compile(r"[\w -]{1,64}")  # of a session or an upload, which Gradio keeps in memory: theirs have 36 at most


class Refused(Exception):
    """An answer: a status of HTTP and a sentence. reason: a stable word, to count it by."""

    def __init__(self, status: int, reason: str, sentence: str):
        super().__init__(sentence)
        self.status = status
        self.reason = reason
        self.sentence = sentence


class Calls:
    """ASGI middleware before Gradio's application: 4xx and a sentence for what Gradio has no good answer to.

    checks: by the name of an endpoint what else is asked, in a thread, before Gradio takes a call: it is given the
    scope and the values that were sent, and raises `OrfeasError`.
    """

    def __init__(
        self, app: Any, demo: gr.Blocks, observer: Observer, checks: Mapping[str, Callable[[Any, Any], None]] = _NONE
    ):
        self.app = app
        self.demo = demo
        self.observer = observer
        self.checks = checks
        self._endpoints: dict[str, Any] = {}

    @property
    def endpoints(self) -> Mapping[str, Any]:
        """What Gradio documents of each named endpoint, by "/name"."""
        self._endpoints = self._endpoints or self.demo.get_api_info()["named_endpoints"]
        return self._endpoints

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        answer = _Answer(send, path, self.observer)
        try:
            if _CLOSED.match(path):
                raise Refused(404, _REASONS[404], _SENTENCES[404])
            self._judge_query(scope)
            if path.startswith("/gradio_api/proxy="):
                raise Refused(400, "elsewhere", "This server fetches nothing from other addresses.")
            call = _CALL.fullmatch(path) if scope["method"] == "POST" else None
            if call:
                scope, receive = await self._judge(call, scope, receive)
            await self.app(scope, receive, answer.send)
        except Refused as refused:
            self.observer.refused(refused.reason)
            await _say(refused.status, refused.sentence)(scope, receive, send)
        except BodyRefused:
            raise
        except Exception as bug:
            if answer.began:
                raise
            if getattr(bug, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                log.error("disk_full", path=path)
                self.observer.refused("disk_full")
                return await _say(503, DISK_FULL)(scope, receive, send)
            await _say(500, report_bug(bug))(scope, receive, send)
        return None

    def _judge_query(self, scope) -> None:
        """Raise `Refused` for a page that there is not, which Gradio takes from the query at several addresses, and for
        an upload's name that is too long.
        """
        asked = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if not all(page in self.demo.config["page"] for page in asked.get("page", [])):
            raise Refused(404, _REASONS[404], _SENTENCES[404])
        for name in asked.get("upload_id", []):
            _judge_name("upload_id", name)

    async def _judge(self, call: re.Match, scope, receive):
        """The scope and what is received, its files replaced. Raises `Refused`."""
        document = _parse(await _read(receive))
        if call["named"] == "call/v2":
            if f"/{call['name']}" not in self.endpoints:
                raise self._unknown(call["name"])
            function = self._find(call["name"])
            values = self._judge_named(function, document)
        else:
            function, values = self._judge_listed(call, document)
        if check := self.checks.get(function.api_name if function else ""):
            try:
                await asyncio.to_thread(check, scope, values)
            except OrfeasError as error:
                raise Refused(422 if isinstance(error, BadRequest) else 503, error.code, str(error)) from None
        body = json.dumps(document).encode()
        fields = [field for field in scope["headers"] if field[0] not in (b"content-length", b"transfer-encoding")]
        scope["headers"] = [*fields, (b"content-length", str(len(body)).encode())]  # in place: see `orfeas.web.access`
        return scope, _replay(body, receive)

    def _judge_named(self, function: BlockFunction, document: dict[str, Any]) -> dict[str, Any]:
        """The values by the names of the endpoint's arguments."""
        parameters = self.endpoints[f"/{function.api_name}"]["parameters"]
        names = [parameter["parameter_name"] for parameter in parameters]
        for name in document:
            if name not in names:
                takes = f"takes {', '.join(names)}" if names else "takes nothing"
                sentence = f"/{function.api_name} has no argument {name[:40]!r}: it {takes}."
                raise Refused(422, "bad_arguments", sentence)
        for parameter in parameters:
            if not parameter["parameter_has_default"] and parameter["parameter_name"] not in document:
                sentence = f"/{function.api_name} needs {parameter['parameter_name']}: {_DOCUMENT}"
                raise Refused(422, "bad_arguments", sentence)
        components = dict(zip(names, _seen(function), strict=True))
        for name, value in document.items():
            document[name] = self._hand_on(components[name], value)
        return document

    def _judge_listed(self, call: re.Match, document: dict[str, Any]) -> tuple[BlockFunction | None, Mapping[str, Any]]:
        """The endpoint, where that can be told, and the values by the names of its arguments, where it has any."""
        number, data, session = document.get("fn_index"), document.get("data"), document.get("session_hash")
        if isinstance(session, str):  # FastAPI says what is wrong with any other, and None is one that Gradio names
            _judge_name("session_hash", session)
        if call["door"] and number is None:
            raise Refused(422, "no_endpoint", f"This request names no endpoint: {_DOCUMENT}")
        function = self._find(call["name"]) if number is None else self._find_number(number)
        if document.get("batched"):
            raise Refused(422, "bad_arguments", "Batches are not taken: send one request each.")
        if function is None or not isinstance(data, list):
            return None, {}  # FastAPI says what is wrong with it
        components = function.inputs
        if call["named"] == "call" and len(data) == len(_seen(function)):
            components = _seen(function)
        documented = self.endpoints.get(f"/{function.api_name}", {"parameters": ()})["parameters"]
        if len(documented) == len(components):  # a script may know fewer options than there are by now
            left_out = documented[len(data) :]
            if all(parameter["parameter_has_default"] for parameter in left_out):
                data += [parameter["parameter_default"] for parameter in left_out]
        if len(data) != len(components) and not function.cancels:
            name = f"/{function.api_name}" if function.api_name else f"Endpoint {function._id}"
            least = sum(not parameter["parameter_has_default"] for parameter in documented) or len(components)
            number = f"{least} to {len(components)}" if least < len(components) else len(components)
            sentence = f"{name} takes {number} values, not {len(data)}: {_DOCUMENT}"
            raise Refused(422, "bad_arguments", sentence)
        document["data"] = [self._hand_on(component, value) for component, value in zip(components, data, strict=False)]
        names = [parameter["parameter_name"] for parameter in documented]
        return function, dict(zip(names, document["data"], strict=False))

    def _find(self, name: str) -> BlockFunction:
        for function in self.demo.fns.values():
            if function.api_name == name:
                return function
        raise self._unknown(name)

    def _unknown(self, name: str) -> Refused:
        return Refused(404, "no_endpoint", f"There is no endpoint /{name[:40]}: there are {', '.join(self.endpoints)}.")

    def _find_number(self, number: Any) -> BlockFunction | None:
        try:
            found = self.demo.fns.get(_INTEGER.validate_python(number))
        except ValidationError:
            return None
        if found is None:
            raise Refused(404, "no_endpoint", f"There is no endpoint {str(number)[:20]}: {_DOCUMENT}")
        return found

    def _hand_on(self, component: Any, value: Any) -> Any:
        """``value`` as the component is given it: of a file nothing but its path, and only where it was uploaded.

        Raises `Refused`.
        """
        if getattr(component, "takes_uploads", False) and value is not None:
            if isinstance(value, list) and getattr(component, "file_count", "single") == "multiple":
                try:
                    check_number(value)
                except BadRequest as error:
                    raise Refused(422, error.code, str(error)) from None
                return [self._hand_on(component, one if isinstance(one, Mapping) else {"path": one}) for one in value]
            path = value.get("path") if isinstance(value, Mapping) else None
            if isinstance(path, str):  # of MCP's tools, which name an upload by the address that Gradio serves it at
                path = _SERVED.sub("", path)
            return {"path": path, **_META} if _is_below(path, component.GRADIO_CACHE) else {"path": None}
        return value


_SERVED = re.compile(r"^https?://[^/]+(/[^?#]*)?/gradio_api/file=")
_META = {"meta": {"_type": "gradio.FileData"}}


class _Answer:
    """What Gradio answers, on its way to the caller: the errors that it does not explain get a sentence."""

    def __init__(self, send, path: str, observer: Observer):
        self._send = send
        self._observer = observer
        self._explains = bool(_EVENTS.fullmatch(path))
        self._is_gradio = path.startswith("/gradio_api/")  # what is ours says itself what it means
        self._failure: dict[str, Any] | None = None
        self._body = b""
        self.began = False

    async def send(self, message):
        if message["type"] == "http.response.start" and message["status"] == 500 and self._is_gradio:
            self._failure = message
        elif self._failure is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._explain()
        else:
            self.began = True
            if self._explains and b'"error"' in message.get("body", b""):
                message = {**message, "body": _UNEXPLAINED.sub(_EXPLAINED, message["body"])}
            await self._send(message)

    async def _explain(self) -> None:
        """Gradio's 500 is an endpoint's own sentence, or a value that its component could not take; a bug stays one."""
        try:
            sentence = json.loads(self._body).get("error") or NOT_UNDERSTOOD
        except (ValueError, AttributeError):
            log.error("unexplained", body=self._body[:200].decode(errors="replace"))
            sentence = NOT_UNDERSTOOD
        if sentence == NOT_UNDERSTOOD:
            self._observer.refused("not_understood")
        self.began = True
        await _say(500 if is_bug(sentence) else 422, sentence)({"type": "http"}, None, self._send)


async def explain_validation(observer: Observer, request: Request, error: Any) -> JSONResponse:
    """FastAPI's handler for bodies and parameters that do not fit: what is wrong with the first, in one sentence."""
    observer.refused("bad_values")
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")[:80]
    if first["type"] == "json_invalid":
        return _say(422, "The request is not JSON.")
    return _say(422, f"The request's {where or 'body'} does not fit: {first['msg'][:120].lower()}.")


async def explain_status(observer: Observer, request: Request, error: Any) -> JSONResponse:
    """Starlette's handler for what it or Gradio refuses: with a sentence where there was but the status's name."""
    observer.refused(_REASONS.get(error.status_code, f"status_{error.status_code}"))
    sentence = _SENTENCES.get(error.status_code) if error.detail == HTTPStatus(error.status_code).phrase else None
    if sentence is None:
        return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
    return JSONResponse({"detail": sentence, "error": sentence}, error.status_code, headers=error.headers)


def _say(status: int, sentence: str) -> JSONResponse:
    # of 422, gradio_client shows what it finds in a list of these, and nothing else
    shown = {"__type__": "validate", "is_valid": False, "parameter_name": "request", "message": sentence}
    return JSONResponse({"detail": [shown] if status == 422 else sentence, "error": sentence}, status)


async def _read(receive) -> bytes:
    """The request's whole body; `orfeas.web.limits.Gate` bounds it."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "broken_off", "The request broke off.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _replay(body: bytes, receive):
    given = False

    async def replay():
        nonlocal given
        if given:
            return await receive()  # that the caller has gone
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except RecursionError:
        raise Refused(400, "not_json", "The request is nested too deeply.") from None
    except ValueError:  # not JSON, not Unicode, or a number of more digits than Python reads
        raise Refused(422, "not_json", "The request is not JSON.") from None
    if not isinstance(document, dict):
        raise Refused(422, "not_json", "The request is not a JSON object.")
    return document


def _judge_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        sentence = f"The {what} cannot be {name[:40]!r}: use 1 to 64 letters, digits, hyphens, underscores and spaces."
        raise Refused(422, "bad_name", sentence)


def _seen(function: BlockFunction) -> list[Any]:
    """The inputs that a caller of the API gives."""
    return [component for component in function.inputs if not component.skip_api]


def _is_below(path: Any, folder: str) -> bool:
    if not isinstance(path, str) or len(path) > PATH_LENGTH:
        return False
    try:
        return Path(path).resolve(strict=True).is_relative_to(Path(folder).resolve())
    except (OSError, ValueError):  # ValueError: a NUL in the path; it is not there, or there is no such name
        return False
