"""The named endpoints for scripts, /generate and /cutout. "Use via API" shows their docstrings and defaults."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from orfeas.errors import OrfeasError
from orfeas.request import (
    BACKGROUNDS,
    FORMATS,
    MAX_FACES,
    QUALITY_NAMES,
    SEED,
    SIZE_MM,
    TEXTURES,
    GenerationRequest,
)
from orfeas.telemetry import report_bug
from orfeas.web.handlers import ask, finish, start, to_cache
from orfeas.web.inputs import Amount, Choice, Picture, refusal

if TYPE_CHECKING:
    from orfeas.cutout import Cutout
    from orfeas.studio import Result
    from orfeas.web.handlers import Cutter
    from orfeas.web.jobs import Jobs

_OPTIONS = GenerationRequest.__dataclass_fields__


def add_api(jobs: Jobs, cutter: Cutter) -> None:
    """Add both endpoints to the Blocks being built. Their components are never drawn: they carry the types."""

    async def generate(
        picture, quality, format, size_mm, seed=None, background=None, texture=None, max_faces=None,
        request: gr.Request = None, progress=gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ):  # fmt: skip
        options = {
            "quality": quality, "format": format, "size_mm": size_mm, "seed": seed, "background": background,
            "texture": texture, "max_faces": max_faces,
        }  # fmt: skip
        try:
            asked = ask(picture, options)
        except OrfeasError as error:
            raise refusal(error) from None
        job = start(jobs, asked, request)
        try:
            result = await finish(job, progress)
        except asyncio.CancelledError:  # job.cancel() of a client, POST /gradio_api/cancel, or the server closing
            jobs.stop(job)
            raise
        if result is None:
            raise refusal(job.error)
        return to_cache(result.files["model"]), result_report(result)

    async def cutout(picture, background):
        try:
            found = await cutter.cut(picture, background)
            return await asyncio.to_thread(_png, found), cutout_report(found)
        except OrfeasError as error:
            raise refusal(error) from None
        except Exception as bug:
            raise refusal(report_bug(bug)) from None

    generate.__doc__ = GENERATE_DOC
    cutout.__doc__ = CUTOUT_DOC
    with gr.Row(visible=False):
        picture = Picture(label="picture")
        background = Choice(list(BACKGROUNDS), value=_default("background"), label="background")
        gr.Button().click(
            generate,
            [
                picture,
                Choice(list(QUALITY_NAMES), value=_default("quality"), label="quality"),
                Choice(list(FORMATS), value=_default("format"), label="format"),
                Amount(_default("size_mm"), label="size_mm", minimum=SIZE_MM[0], maximum=SIZE_MM[1]),
                Amount(None, label="seed", minimum=SEED[0], maximum=SEED[1], precision=0),
                background,
                Choice(list(TEXTURES), value=_default("texture"), label="texture"),
                Amount(None, label="max_faces", minimum=MAX_FACES[0], maximum=MAX_FACES[1], precision=0),
            ],
            [gr.File(label="file"), gr.JSON(label="report")],
            api_name="generate",
            concurrency_limit=None,
        )
        gr.Button().click(
            cutout,
            [picture, background],
            [gr.File(label="file"), gr.JSON(label="info")],
            api_name="cutout",
            concurrency_limit=None,
        )


def result_report(result: Result) -> dict[str, Any]:
    """What an API caller gets beside the file: the request as it was run (with its seed), numbers, facts, notes."""
    return {
        "id": result.id,
        "name": result.name,
        "request": result.request.options(),
        "report": _plain(result.report),
        "facts": _plain(result.facts),
        "notes": list(result.notes),
    }


def cutout_report(cutout: Cutout) -> dict[str, Any]:
    return {
        "method": cutout.method,
        "explanation": cutout.explanation,
        "coverage": round(float(cutout.coverage), 4),
        "notes": list(cutout.notes),
    }


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    return dict(facts)


def _default(option: str) -> Any:
    return _OPTIONS[option].default


def _png(cutout: Cutout) -> str:
    from gradio.processing_utils import save_bytes_to_cache
    from gradio.utils import get_upload_folder

    from orfeas.picture import encode_png

    return save_bytes_to_cache(encode_png(cutout.rgba), "cutout.png", get_upload_folder())


def _listed(names) -> str:
    return ", ".join(names)


GENERATE_DOC = f"""Make a solid, printable 3D model of the thing in a picture.

Args:
    picture: JPEG, PNG or WebP of one thing, seen whole.
    quality: {_listed(QUALITY_NAMES)}.
    format: {_listed(FORMATS)}. STL and 3MF are Z-up and stand on the bed; GLB and OBJ are Y-up.
    size_mm: longest side of the model in millimetres, {SIZE_MM[0]:g} to {SIZE_MM[1]:g}.
    seed: {SEED[0]} to {SEED[1]}; the same picture, options and seed give the same file.
        Omitted: drawn at random and reported.
    background: auto (use transparency if there is any, else find the subject), keep (use the
        transparency as it is) or remove (find the subject in any case).
    texture: photo (colours from the picture) or none.
    max_faces: at most so many triangles, {MAX_FACES[0]} to {MAX_FACES[1]:,}. Omitted: what the quality allows.
Returns:
    file: the model.
    report: the request as it was run, the check of the mesh, seconds of each stage, and notes.
"""

CUTOUT_DOC = """Show what would be built: the subject of a picture on transparent ground. Takes a second or two.

Args:
    picture: JPEG, PNG or WebP of one thing, seen whole.
    background: auto, keep or remove, as for /generate.
Returns:
    file: a PNG with transparency.
    info: how the subject was found, and how much of the picture it covers.
"""
