"""Uploads on their way back to the page: a picture is drawn anew, and nothing is ever served as it came."""

from __future__ import annotations

import asyncio
import os
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
_PREFIX = "/gradio_api/file="


class Uploads:
    """ASGI middleware: of an uploaded picture a smaller copy, of any other upload nothing.

    A file may be a picture and a program at once; the copy has nothing but pixels.
    """

    def __init__(self, app: Any, demo: gr.Blocks):
        self.app = app
        self.demo = demo

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if path.startswith(_PREFIX) and (file := self._find(path.removeprefix(_PREFIX))):
                return await (await _show(file))(scope, receive, send)
        return await self.app(scope, receive, send)

    def _find(self, path: str) -> str | None:
        try:
            file = os.path.abspath(path)
        except ValueError:
            return None
        return file if file in self.demo.upload_file_set else None


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
