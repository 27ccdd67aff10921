"""What the list of results asks the server: how its jobs are, a group's ZIP, stop and delete. A token is the key."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from orfeas.errors import OrfeasError
from orfeas.export import file_name
from orfeas.formats import writable_formats
from orfeas.web.access import follow
from orfeas.web.history import MAX_TOKENS
from orfeas.web.owners import account_of, may_have_group, may_have_job
from orfeas.web.panels import FORMAT_TITLES

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from orfeas.web.bench import Bench
    from orfeas.web.groups import Groups
    from orfeas.web.jobs import Jobs

_TOKEN = re.compile(r"[0-9a-f]{32}")
_NO_STORE = {"Cache-Control": "no-store"}


def build_history_routes(jobs: Jobs, groups: Groups, bundler: Bench, remover: Bench) -> list[BaseRoute]:
    """Routes for Gradio's own application. bundler: writes the ZIPs, one at a time. remover: as of `build_routes`."""

    def look(token: str, account: str) -> dict[str, Any] | None:
        if state := may_have_job(jobs, token, account) and jobs.look(token):
            return _with_files(state)
        if group := look_at_group(token, account):
            group["members"] = [_with_files(member) for member in group["members"]]
        return group

    def look_at_group(token: str, account: str) -> dict[str, Any] | None:
        return groups.look(token) if may_have_group(groups, token, account) else None

    def stop(token: str, account: str) -> bool:
        return may_have_group(groups, token, account) and groups.stop(token)

    def remove(token: str, account: str) -> bool:
        return may_have_group(groups, token, account) and groups.remove(token)

    async def look_at_all(request: Request) -> Response:
        try:
            tokens = json.loads(await request.body())["tokens"]
            if not isinstance(tokens, list) or len(tokens) > MAX_TOKENS:
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            sentence = f'Send {{"tokens": [...]}} with up to {MAX_TOKENS} tokens.'
            return JSONResponse({"error": sentence}, 400, headers=_NO_STORE)
        known = [token for token in tokens if isinstance(token, str) and _TOKEN.fullmatch(token)]
        try:
            account = account_of(request.scope)
            states = await asyncio.to_thread(lambda: {token: look(token, account) for token in known})
        except OrfeasError as error:  # not "there is none": a page would believe that
            return JSONResponse({"error": str(error)}, 503, headers=_NO_STORE)
        return JSONResponse(states, headers=_NO_STORE)

    async def stop_group(request: Request) -> Response:
        try:
            stopped = await asyncio.to_thread(stop, request.path_params["token"], account_of(request.scope))
        except OrfeasError as error:
            return JSONResponse({"error": str(error)}, 503, headers=_NO_STORE)
        return JSONResponse({"stopped": stopped}, 200 if stopped else 404, headers=_NO_STORE)

    async def remove_group(request: Request) -> Response:
        try:
            removed = await remover.run(remove, request.path_params["token"], account_of(request.scope))
        except OrfeasError as error:
            return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "60", **_NO_STORE})
        return JSONResponse({"removed": removed}, 200 if removed else 404, headers=_NO_STORE)

    async def group_zip(request: Request) -> Response:
        follow(request.headers)
        token, account = request.path_params["token"], account_of(request.scope)
        if request.method == "HEAD":  # how long it is only its making would tell
            try:
                there = await asyncio.to_thread(look_at_group, token, account)
            except OrfeasError:
                return Response(status_code=503, headers=_NO_STORE)
            return Response(status_code=200 if there else 404, media_type="application/zip", headers=_NO_STORE)
        no_group = JSONResponse({"error": "There is no such group of models here."}, 404, headers=_NO_STORE)
        bundle = groups.bundle(token)
        try:
            if not await asyncio.to_thread(may_have_group, groups, token, account):
                return no_group
            written = await bundler.run(bundle.__enter__)
        except OrfeasError as error:
            return JSONResponse({"error": str(error)}, 503, headers=_NO_STORE)
        if written is None:
            bundle.__exit__(None, None, None)
            return no_group
        return _FileOnce(written[0], bundle)

    return [
        Route("/jobs/look", look_at_all, methods=["POST"]),
        Route("/groups/{token}", remove_group, methods=["DELETE"]),
        Route("/groups/{token}/stop", stop_group, methods=["POST"]),
        Route("/groups/{token}/models.zip", group_zip),
    ]


class _FileOnce(FileResponse):
    """A file that is removed when it was sent, or its reader has gone."""

    def __init__(self, file, bundle):
        super().__init__(file, media_type="application/zip", filename="models.zip", headers=_NO_STORE)
        self._bundle = bundle

    async def __call__(self, scope, receive, send):
        try:
            await super().__call__(scope, receive, send)
        finally:
            await asyncio.to_thread(self._bundle.__exit__, None, None, None)


def _with_files(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a job and, if its result is there, the address of each format: [title, address]."""
    if "result" not in state or state.get("expired"):
        return state
    options = state["options"]
    formats = [key for key in writable_formats() if key != "obj_zip" or options.get("texture") != "none"]
    formats.sort(key=lambda key: key != options.get("format"))
    names = [(FORMAT_TITLES[key], file_name(state["name"], options["size_mm"], key)) for key in formats]
    return {**state, "files": [[title, f"r/{state['result']}/{quote(name)}"] for title, name in names]}
