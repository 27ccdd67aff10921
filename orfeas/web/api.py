"""The named endpoints for scripts, /generate and /cutout; those for meshes are in `orfeas.web.mesh_api`.

"Use via API" shows their docstrings and defaults.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from orfeas.bundle import describe_result
from orfeas.errors import OrfeasError
from orfeas.request import (
    BACKGROUNDS,
    BASES,
    FORMATS,
    MAX_FACES,
    OPTIONS,
    ORIENTATIONS,
    QUALITY_NAMES,
    SEED,
    SIZE_MM,
    TEXTURES,
)
from orfeas.telemetry import report_bug
from orfeas.web.copies import in_cache, to_cache
from orfeas.web.handlers import ask, finish
from orfeas.web.inputs import Amount, Choice, Picture, default_of, refusal
from orfeas.web.job import Job
from orfeas.web.repeats import start_or_join

if TYPE_CHECKING:
    from orfeas.cutout import Cutout
    from orfeas.result import Result
    from orfeas.web.groups import Groups
    from orfeas.web.handlers import Cutter
    from orfeas.web.jobs import Jobs

# What each option means, for "Use via API" and for MCP tools.
MEANINGS: Mapping[str, str] = {
    "picture": "A JPEG, PNG or WebP of one thing, seen whole.",
    "quality": "How fine: more faces take longer.",
    "format": "The file to make. STL and 3MF are Z-up and stand on the bed; GLB, OBJ and PLY are Y-up.",
    "size_mm": f"The longest side of the model in millimetres, {SIZE_MM[0]:g} to {SIZE_MM[1]:g}.",
    "seed": f"{SEED[0]} to {SEED[1]}. The same picture, options and seed give the same file. Without one, it is drawn"
    " at random and reported.",
    "background": "auto: use transparency if there is any, else find the subject. keep: use the transparency as it is."
    " remove: find the subject in any case.",
    "texture": "photo: colours from the picture. none: no colours.",
    "base": "How it stands. none: as it is. cut: cut flat at the bottom, by 2 % of size_mm, or up to 6 % until"
    " it stands. plinth: on a plate, 2 % of size_mm thick, 1.2 mm at least.",
    "max_faces": f"At most so many triangles, {MAX_FACES[0]} to {MAX_FACES[1]:,}. Without it, what the quality allows.",
    "orientation": "picture: as the picture shows it. standing: tilted, back by up to 45 degrees or forward by up to"
    " 10, to where it stands steadiest, for what was seen from above leans towards the camera. flattest: turned to lie"
    " on its largest flat side.",
}


def add_api(groups: Groups, cutter: Cutter) -> None:
    """Add both endpoints to the Blocks being built. Their components are never drawn: they carry the types."""
    jobs = groups.jobs

    async def generate(
        picture, quality, format, size_mm, seed=None, background=None, texture=None, base=None, max_faces=None,
        orientation=None, request: gr.Request = None, progress=gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ):  # fmt: skip
        options = {
            "quality": quality, "format": format, "size_mm": size_mm, "seed": seed, "background": background,
            "texture": texture, "base": base, "max_faces": max_faces, "orientation": orientation,
        }  # fmt: skip
        try:
            asked = ask(picture, options)
            made = await start_or_join(groups, asked, options, request)
        except OrfeasError as error:
            jobs.observer.refused(error.code)
            raise refusal(error) from None
        result = await wait_for(jobs, made, progress) if isinstance(made, Job) else made
        try:
            return to_cache(result.files["model"], [result.folder]), describe_result(result)
        except OrfeasError as error:
            raise refusal(error) from None

    async def cutout(picture, background):
        try:
            if jobs.room:
                jobs.room.check()
            found = await cutter.cut(picture, background)
            return await asyncio.to_thread(_png, found), cutout_report(found)
        except OrfeasError as error:
            raise refusal(error) from None
        except Exception as bug:
            raise refusal(report_bug(bug)) from None

    generate.__doc__ = docstring(
        "Make a solid, printable 3D model of the thing in a picture.",
        MEANINGS,
        {
            "file": "The model.",
            "report": "The request as it was run, the check of the mesh, the seconds of each stage, and notes.",
        },
    )
    cutout.__doc__ = docstring(
        "Show what would be built: the subject of a picture on transparent ground. Takes a second or two.",
        {name: MEANINGS[name] for name in ("picture", "background")},
        {"file": "A PNG with transparency.", "info": "How the subject was found, and its share of the picture."},
    )
    with gr.Row(visible=False):
        picture = explain(Picture(label="picture"))
        options = option_inputs()
        background = options[OPTIONS.index("background")]
        gr.Button().click(
            generate,
            [picture, *options],
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


async def wait_for(jobs: Jobs, job: Job, progress: gr.Progress) -> Result:
    """The job's result. Raises `gr.Error` if it fails or is stopped, or too many wait for it already.

    The last caller that goes away stops it.
    """
    try:
        jobs.check_callers(job)
    except OrfeasError as error:
        raise refusal(error) from None
    job.callers += 1
    try:
        result = await finish(job, progress)
    except asyncio.CancelledError:  # job.cancel() of a client, POST /gradio_api/cancel, or the server closing
        job.callers -= 1
        if not job.callers:
            jobs.stop(job)
        raise
    if result is None:
        raise refusal(job.error)
    return result


def cutout_report(cutout: Cutout) -> dict[str, Any]:
    return {
        "method": cutout.method,
        "explanation": cutout.explanation,
        "coverage": round(float(cutout.coverage), 4),
        "notes": list(cutout.notes),
    }


def option_inputs() -> list[gr.components.Component]:
    """A component for each of `OPTIONS`."""
    return [
        choice("quality", QUALITY_NAMES),
        choice("format", FORMATS),
        amount("size_mm", SIZE_MM),
        amount("seed", SEED, precision=0),
        choice("background", BACKGROUNDS),
        choice("texture", TEXTURES),
        choice("base", BASES),
        amount("max_faces", MAX_FACES, precision=0),
        choice("orientation", ORIENTATIONS),
    ]


def choice(name: str, choices: tuple[str, ...]) -> Choice:
    return explain(Choice(list(choices), value=default_of(name), label=name))


def amount(name: str, bounds: tuple[float, float], precision: int | None = None) -> Amount:
    return explain(Amount(default_of(name), label=name, minimum=bounds[0], maximum=bounds[1], precision=precision))


def explain(component, meanings: Mapping[str, str] = MEANINGS):
    """The component, with what its label means."""
    component.meaning = meanings[component.label]
    return component


def docstring(promise: str, parameters: Mapping[str, str], returns: Mapping[str, str]) -> str:
    """In the form that Gradio reads: a promise, Args, Returns."""
    sections = ("Args", parameters), ("Returns", returns)
    lines = [f"{title}:\n" + "\n".join(f"    {name}: {text}" for name, text in of.items()) for title, of in sections]
    return "\n".join([promise, "", *lines])


def _png(cutout: Cutout) -> str:
    from orfeas.picture import encode_png

    with in_cache("cutout.png") as path:
        path.write_bytes(encode_png(cutout.rgba))
    return str(path)
