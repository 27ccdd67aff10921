"""What is handed out of Gradio's folder: our own copies, and of uploads a picture that is drawn anew."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from starlette.responses import JSONResponse, Response

from orfeas.errors import BadPicture, OrfeasError
from orfeas.picture import load_picture
from orfeas.render.encode import encode_webp
from orfeas.telemetry import log, report_bug
from orfeas.web.copies import made_folder, may_be_had
from orfeas.web.inputs import PATH_LENGTH

if TYPE_CHECKING:
    import gradio as gr

    from orfeas.web.bench import Bench

SHOWN_PX = 1200  # longest side
SHOWN = "shown"  # the folder of what was drawn, as the uploads lie beside it
KEPT_REFUSALS = 1000
_PREFIX = "/gradio_api/file="
_ROUTE = SimpleNamespace(path="/gradio_api/file={path_or_url:path}")  # as Gradio calls it, for the log
_NOT_THERE = "There is no such file: it may have expired."
# What a page's <img> gets for an upload that is no picture: the page says what is wrong with it, and to a refusal the
# browser would add an error of its own in its console.
_NO_PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="240" height="240" fill="none" stroke="#888"'
    ' stroke-width="1"><path d="M4 5h16v14H4zM4 16l5-5 5 5 2-2 4 4M4 5l16 14"/></svg>'
)


class Uploads:
    """ASGI middleware: of an uploaded picture a smaller copy, of any other upload nothing, and nothing from elsewhere.

    A file may be a picture and a program at once; the copy has nothing but pixels. Gradio itself would fetch whatever
    address it is asked for.

    bench: draws.
    """

    def __init__(self, app: Any, demo: gr.Blocks, bench: Bench):
        self.app = app
        self.demo = demo
        self.bench = bench
        self._refused: OrderedDict[Path, str] = OrderedDict()  # what cannot be drawn is not tried again

    async def __call__(self, scope, receive, send):
        reads = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        path = scope["path"].removeprefix(scope.get("root_path", "")) if reads else ""
        if not path.startswith(_PREFIX):
            return await self.app(scope, receive, send)
        file = self._find(path.removeprefix(_PREFIX))
        if file and self._is_ours(file):
            return await self.app(scope, receive, send)
        scope["route"] = _ROUTE
        answer = await self._show(file) if file else JSONResponse({"error": _NOT_THERE}, 404)
        if file and answer.status_code == 404 and (b"sec-fetch-dest", b"image") in scope["headers"]:
            answer = Response(_NO_PICTURE, media_type="image/svg+xml", headers={"Cache-Control": "no-store"})
        return await answer(scope, receive, send)

    def _find(self, path: str) -> Path | None:
        """The file below Gradio's folder of that absolute path, links resolved; an address is none."""
        try:
            is_one = os.path.isabs(path) and len(path) <= PATH_LENGTH
            file = Path(path).resolve(strict=True) if is_one else None
        except (OSError, ValueError, RuntimeError):  # ValueError: a NUL; RuntimeError: links that lead to themselves
            return None
        cache = Path(self.demo.GRADIO_CACHE).resolve()
        if file is None or not file.is_file() or not file.is_relative_to(cache):
            return None
        made = made_folder(cache)
        return None if file.is_relative_to(made) and not self._is_handed_out(file) else file

    def _is_handed_out(self, copy: Path) -> bool:
        return not copy.name.startswith(".") and may_be_had(copy)

    def _is_ours(self, file: Path) -> bool:
        return file.is_relative_to(made_folder(Path(self.demo.GRADIO_CACHE).resolve())) or file in needed(self.demo)

    async def _show(self, file: Path) -> Response:
        try:
            if file in self._refused:
                raise BadPicture(self._refused[file])
            copy = await self.bench.run(self._draw, file)
        except BadPicture as error:
            self._refused[file] = str(error)
            while len(self._refused) > KEPT_REFUSALS:
                self._refused.popitem(last=False)
            return JSONResponse({"error": str(error)}, 404)
        except OrfeasError as error:
            return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "30"})
        except Exception as bug:
            return JSONResponse({"error": report_bug(bug)}, 500)
        return Response(copy, media_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})

    def _draw(self, file: Path) -> bytes:
        """The picture in ``file``, at most `SHOWN_PX` a side, as WebP, drawn once. Raises `OrfeasError`."""
        kept = shown_copy(Path(self.demo.GRADIO_CACHE).resolve(), file)
        with contextlib.suppress(OSError):
            return kept.read_bytes()
        image = Image.fromarray(load_picture(file).rgba)
        image.thumbnail((SHOWN_PX, SHOWN_PX))
        copy = encode_webp(np.asarray(image))
        part = kept.with_name(f".{secrets.token_hex(8)}")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(copy)
            os.replace(part, kept)
        except OSError as trouble:  # it is drawn again next time
            log.warning("copy_not_kept", error=trouble.strerror)
            with contextlib.suppress(OSError):
                part.unlink()
        return copy


def shown_copy(cache: Path, upload: Path) -> Path:
    """Where the drawn copy of ``upload`` is kept below ``cache``; `orfeas.web.leftovers` removes both."""
    relative = upload.relative_to(cache)
    return cache / SHOWN / relative.with_name(relative.name + ".webp")


def needed(demo: gr.Blocks) -> set[Path]:
    """The files in Gradio's folder that the page itself is made of, such as its examples."""
    return {
        Path(file).resolve() for block in list(demo.blocks.values()) for file in getattr(block, "keep_in_cache", ())
    }
