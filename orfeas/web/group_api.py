"""The named endpoints for several models at once: /batch (many pictures) and /best_of (many seeds)."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import gradio as gr

from orfeas.bundle import MANIFEST, describe_result
from orfeas.errors import OrfeasError
from orfeas.rank import explain_ranking
from orfeas.request import BEST_OF, with_seeds
from orfeas.web.access import follow
from orfeas.web.api import MEANINGS, OPTIONS, docstring, explain, option_inputs
from orfeas.web.callers import Caller
from orfeas.web.copies import to_cache
from orfeas.web.groups import MAX_BATCH_BYTES, MAX_PICTURES, ask_batch
from orfeas.web.handlers import ask, in_thread, watch
from orfeas.web.inputs import Amount, Picture, Pictures, refusal

if TYPE_CHECKING:
    from orfeas.request import GenerationRequest
    from orfeas.web.groups import Group, Groups

_OF_GROUPS = {
    **MEANINGS,
    "pictures": f"JPEG, PNG or WebP files, up to {MAX_PICTURES} and {MAX_BATCH_BYTES // 1_000_000} MB together, each of"
    " one thing, seen whole.",
    "best_of": f"How many seeds to try, {BEST_OF[0]} to {BEST_OF[1]}.",
    "seed": f"{MEANINGS['seed']} The other seeds are drawn at random.",
}


def add_group_api(groups: Groups) -> None:
    """Add both endpoints to the Blocks being built. Their components are never drawn: they carry the types."""

    async def batch(
        pictures, quality=None, format=None, size_mm=None, seed=None, background=None, texture=None, base=None,
        max_faces=None, request: gr.Request = None, progress=gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ):  # fmt: skip
        values = (quality, format, size_mm, seed, background, texture, base, max_faces)
        try:
            asked = ask_batch(pictures, dict(zip(OPTIONS, values, strict=True)))
        except OrfeasError as error:
            raise refusal(error) from None
        group = await _run(groups, "batch", asked, request, progress)
        try:
            return await asyncio.to_thread(_zip, groups, group)
        except OrfeasError as error:
            raise refusal(error) from None

    async def best_of(
        picture, best_of, quality=None, format=None, size_mm=None, seed=None, background=None, texture=None, base=None,
        max_faces=None, request: gr.Request = None, progress=gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ):  # fmt: skip
        values = (quality, format, size_mm, seed, background, texture, base, max_faces)
        try:
            asked = with_seeds(ask(picture, dict(zip(OPTIONS, values, strict=True))), best_of)
        except OrfeasError as error:
            raise refusal(error) from None
        group = await _run(groups, "best_of", asked, request, progress)
        ranked = await asyncio.to_thread(groups.ranked, group)
        if not ranked:
            raise refusal(group.jobs[0].error)
        models = [{**describe_result(one.result), "agreement": round(one.agreement, 4)} for one in ranked]
        report = {"models": models, "note": explain_ranking(ranked), "failed": _failures(group)}
        try:
            return to_cache(ranked[0].result.files["model"], [ranked[0].result.folder]), report
        except OrfeasError as error:
            raise refusal(error) from None

    batch.__doc__ = docstring(
        "Make a model of each of several pictures. One that fails does not stop the rest.",
        {name: _OF_GROUPS[name] for name in ("pictures", *OPTIONS)} | {"seed": MEANINGS["seed"]},
        {
            "file": f"A ZIP of the models and a {MANIFEST}.",
            "report": "The manifest: what was made, what failed and why.",
        },
    )
    best_of.__doc__ = docstring(
        "Make several models of one picture, each with another seed, and give the best one first.",
        {name: _OF_GROUPS[name] for name in ("picture", "best_of", *OPTIONS)},
        {
            "file": "The best model.",
            "report": "All models, the best first, each with its id, its report and how well its outline agrees with"
            " the picture's, 0 to 1; GET /r/{id}/{name} gives their files.",
        },
    )
    with gr.Row(visible=False):
        outputs = [gr.File(label="file"), gr.JSON(label="report")]
        gr.Button().click(
            batch,
            [explain(Pictures(label="pictures"), _OF_GROUPS), *option_inputs()],
            outputs,
            api_name="batch",
            concurrency_limit=None,
        )
        number = explain(Amount(4, label="best_of", minimum=BEST_OF[0], maximum=BEST_OF[1], precision=0), _OF_GROUPS)
        gr.Button().click(
            best_of,
            [explain(Picture(label="picture")), number, *option_inputs()],
            outputs,
            api_name="best_of",
            concurrency_limit=None,
        )


async def _run(
    groups: Groups, kind: str, asked: list[GenerationRequest], request: gr.Request, progress: gr.Progress
) -> Group:
    """Start a group and wait for it. Raises `gr.Error` when it is not admitted."""
    follow()
    session, caller = request.session_hash, Caller.of(request)
    begin = functools.partial(groups.start, kind, asked, session=session, caller=caller)
    try:
        group = await in_thread(begin, lambda begun: groups.stop(begun.token))
    except OrfeasError as error:
        raise refusal(error) from None
    try:
        await watch(group.future, lambda: (group.fraction, group.message), progress)
    except asyncio.CancelledError:  # the client cancelled, or the server closes
        await asyncio.to_thread(groups.stop, group.token)
        raise
    return group


def _zip(groups: Groups, group: Group) -> tuple[str, dict[str, Any]]:
    with groups.bundle(group.token) as (file, manifest):
        results = [job.result.folder for job in group.jobs if job.result and job.result.folder.is_dir()]
        return to_cache(file, results), manifest


def _failures(group: Group) -> list[dict[str, Any]]:
    return [{"seed": job.options["seed"], "error": job.error, "code": job.code} for job in group.jobs if not job.result]
