"""Plain HTTP beside the page: /health, /ready, the state of a job, the files of a result."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from orfeas import export
from orfeas.errors import EngineUnavailable, OrfeasError
from orfeas.formats import find_file, make_file, writable_formats
from orfeas.telemetry import report_bug
from orfeas.web.access import follow
from orfeas.web.owners import account_of, may_have_job

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from orfeas.web.bench import Bench
    from orfeas.web.jobs import Jobs
    from orfeas.web.readiness import Readiness

MEDIA_TYPES = {
    **{Path(f"model.{suffix}").suffix: kind for suffix, kind in export.MEDIA_TYPES.items()},
    ".json": "application/json",
    ".png": "image/png",
    ".webp": "image/webp",
}
_NO_STORE = {"Cache-Control": "no-store"}


def _explain_no_file(name: str) -> str:
    """Judged by the name alone: nobody learns from it which results there are."""
    if Path(name).suffix in MEDIA_TYPES:
        return "There is no such result, or no such file of it: it may have expired."
    endings = [f".{export.EXPORTERS[key].suffix}" for key in writable_formats()]
    return f"No result has a file of that name: a model's file ends in {', '.join(endings[:-1])} or {endings[-1]}."


def build_routes(
    jobs: Jobs, converter: Bench, readiness: Readiness, remover: Bench, release: str = ""
) -> list[BaseRoute]:
    """Routes for Gradio's own application; each answers HEAD too, and also while a job runs.

    converter: writes the other formats of a result; one at a time, so that none is made twice.
    remover: deletes, which waits for jobs to stop. release: what the operator calls this version.
    """

    async def health(request: Request) -> Response:
        facts = jobs.studio.health()
        engine = facts.pop("engine")
        active = jobs.active()
        running = [job for job in active if job.state != "waiting"]
        status = "draining" if jobs.draining else "healthy"
        body = {
            "status": status,
            "release": release or None,
            "gpu_available": str(engine.get("device", "")).startswith("cuda"),
            "engine": engine,
            **facts,
            "busy": bool(running),
            "queue": len(active) - len(running),
        }
        # 200 also while it drains: whoever restarts what does not live would cut the running job off
        return JSONResponse(body, headers=_NO_STORE)

    async def ready(request: Request) -> Response:
        problem = await asyncio.to_thread(readiness.find_problem)
        if problem is None:
            return JSONResponse({"ready": True}, headers=_NO_STORE)
        body = {"ready": False, "reason": problem.code, "detail": str(problem)}
        return JSONResponse(body, 503, headers={"Retry-After": "30", **_NO_STORE})

    def look(token: str, account: str) -> dict[str, Any] | None:
        return jobs.look(token) if may_have_job(jobs, token, account) else None

    async def job_state(request: Request) -> Response:
        # unknown is no error: a page asks for its job before the job has arrived, and browsers log every 404
        token, account = request.path_params["token"], account_of(request.scope)
        try:  # the index is asked in a thread: a disk may be slow
            state = look(token, account) if jobs.get(token) else await asyncio.to_thread(look, token, account)
        except OrfeasError as error:
            return JSONResponse({"error": str(error)}, 503, headers=_NO_STORE)
        return JSONResponse(state or {"state": "unknown"}, headers=_NO_STORE)

    def remove(token: str, account: str) -> bool:
        return may_have_job(jobs, token, account) and jobs.remove(token)

    async def remove_job(request: Request) -> Response:
        try:
            removed = await remover.run(remove, request.path_params["token"], account_of(request.scope))
        except OrfeasError as error:
            return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "60", **_NO_STORE})
        return JSONResponse({"removed": removed}, 200 if removed else 404, headers=_NO_STORE)

    async def stop_job(request: Request) -> Response:
        job = jobs.get(request.path_params["token"])
        if job and may_have_job(jobs, job.token, account_of(request.scope)):
            await asyncio.to_thread(jobs.stop, job)
        return await job_state(request)

    async def result_file(request: Request) -> Response:
        follow(request.headers)
        library, wanted = jobs.studio.library, (request.path_params["result_id"], request.path_params["name"])
        try:
            file = await asyncio.to_thread(find_file, library, *wanted)
            if file is None:
                file = await converter.run(make_file, library, *wanted)
            if file is not None:
                await asyncio.to_thread(library.touch, wanted[0])
        except OrfeasError as error:
            return JSONResponse({"error": str(error)}, 501 if isinstance(error, EngineUnavailable) else 503)
        except Exception as bug:
            return JSONResponse({"error": report_bug(bug)}, 500)
        if file is None:
            return JSONResponse({"error": _explain_no_file(wanted[1])}, 404)
        kind = MEDIA_TYPES.get(file.suffix, "application/octet-stream")
        shown = kind.startswith("image/")
        return FileResponse(
            file,
            media_type=kind,
            filename=file.name,
            content_disposition_type="inline" if shown else "attachment",
            # any page may read a result whose unguessable address it was given: 3DViewer.net does
            headers={
                "Access-Control-Allow-Origin": "*",
                "Cache-Control": "private, max-age=3600",
                "X-Content-Type-Options": "nosniff",
            },
        )

    return [
        Route("/health", health),
        Route("/ready", ready),
        Route("/jobs/{token}", job_state),
        Route("/jobs/{token}", remove_job, methods=["DELETE"]),
        Route("/jobs/{token}/stop", stop_job, methods=["POST"]),
        Route("/r/{result_id}/{name}", result_file),
    ]
