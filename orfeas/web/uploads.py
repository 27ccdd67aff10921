"""Uploads on their way back to the page: a picture is drawn anew, and nothing is ever served as it came."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from starlette.responses import JSONResponse, Response

from orfeas.errors import OrfeasError
from orfeas.picture import load_picture
from orfeas.render.encode import encode_webp
from orfeas.telemetry import report_bug

if TYPE_CHECKING:
    import gradio as gr

SHOWN_PX = 1200  # longest side
MARK = ".uploaded"  # beside an upload, so that another process of the same data folder knows it for one
_PREFIX = "/gradio_api/file="
_UPLOAD = re.compile(r"/gradio_api/upload/?")


class Uploads:
    """ASGI middleware: of an uploaded picture a smaller copy, of any other upload nothing.

    A file may be a picture and a program at once; the copy has nothing but pixels.
    """

    def __init__(self, app: Any, demo: gr.Blocks):
        self.app = app
        self.demo = demo

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] == "POST" and _UPLOAD.fullmatch(path):
            return await self.app(scope, receive, self._mark_before(send))
        reads = scope["method"] in ("GET", "HEAD") and path.startswith(_PREFIX)
        if reads and (file := self._find(path.removeprefix(_PREFIX))):
            return await (await _show(file))(scope, receive, send)
        return await self.app(scope, receive, send)

    def _find(self, path: str) -> str | None:
        try:
            file = os.path.abspath(path)
        except ValueError:
            return None
        is_upload = file in self.demo.upload_file_set or os.path.exists(os.path.join(os.path.dirname(file), MARK))
        return file if is_upload else None

    def _mark_before(self, send):
        """Nobody is told where an upload lies before it is marked."""

        async def marking(message):
            if message["type"] == "http.response.start":
                await asyncio.to_thread(self._mark)
            await send(message)

        return marking

    def _mark(self) -> None:
        for file in list(self.demo.upload_file_set):
            try:
                (Path(file).parent / MARK).touch()
            except FileNotFoundError:  # it has expired
                self.demo.upload_file_set.discard(file)


async def _show(file: str) -> Response:
    try:
        copy = await asyncio.to_thread(_draw, file)
    except OrfeasError as error:
        return JSONResponse({"error": str(error)}, 404)
    except Exception as bug:
        return JSONResponse({"error": report_bug(bug)}, 500)
    return Response(copy, media_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})


def _draw(file: str) -> bytes:
    """The picture in ``file``, at most `SHOWN_PX` a side, as WebP. Raises `OrfeasError`."""
    image = Image.fromarray(load_picture(Path(file)).rgba)
    image.thumbnail((SHOWN_PX, SHOWN_PX))
    return encode_webp(np.asarray(image))
