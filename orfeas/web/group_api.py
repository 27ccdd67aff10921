"""The named endpoints for several models at once: /batch (many pictures) and /best_of (many seeds)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from orfeas.bundle import MANIFEST, describe_result
from orfeas.errors import OrfeasError
from orfeas.index import StoredGroup
from orfeas.rank import explain_ranking, rank
from orfeas.request import BEST_OF, OPTIONS, with_seeds
from orfeas.web.api import MEANINGS, docstring, explain, option_inputs
from orfeas.web.copies import to_cache
from orfeas.web.groups import MAX_BATCH_BYTES, MAX_PICTURES, ask_batch
from orfeas.web.handlers import ask, watch
from orfeas.web.inputs import Amount, Picture, Pictures, refusal
from orfeas.web.repeats import SEEDS, start_or_join_group

if TYPE_CHECKING:
    from orfeas.request import GenerationRequest
    from orfeas.web.groups import Group, Groups, Outcome

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
        max_faces=None, orientation=None, request: gr.Request = None, progress=gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ):  # fmt: skip
        values = (quality, format, size_mm, seed, background, texture, base, max_faces, orientation)
        options = dict(zip(OPTIONS, values, strict=True))
        group = await _run(groups, "batch", lambda: ask_batch(pictures, options), options, request, progress)
        try:
            return await asyncio.to_thread(_zip, groups, group)
        except OrfeasError as error:
            raise refusal(error) from None

    async def best_of(
        picture, best_of, quality=None, format=None, size_mm=None, seed=None, background=None, texture=None, base=None,
        max_faces=None, orientation=None, request: gr.Request = None, progress=gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ):  # fmt: skip
        values = (quality, format, size_mm, seed, background, texture, base, max_faces, orientation)
        options = dict(zip(OPTIONS, values, strict=True))
        read = lambda: with_seeds(ask(picture, options), best_of)  # noqa: E731
        group = await _run(groups, "best_of", read, options, request, progress)
        try:
            outcomes = await asyncio.to_thread(groups.outcomes, group)
            ranked = await asyncio.to_thread(rank, [one.result for one in outcomes if one.result])
        except OrfeasError as error:
            raise refusal(error) from None
        if not ranked:
            raise refusal(outcomes[0].error)
        models = [{**describe_result(one.result), "agreement": round(one.agreement, 4)} for one in ranked]
        report = {"models": models, "note": explain_ranking(ranked), "failed": _failures(outcomes)}
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
            " the picture's, 0 to 1; GET /r/{id}/{name}_{size}mm.{ending} gives their files.",
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
        number = explain(
            Amount(SEEDS, label="best_of", minimum=BEST_OF[0], maximum=BEST_OF[1], precision=0), _OF_GROUPS
        )
        gr.Button().click(
            best_of,
            [explain(Picture(label="picture")), number, *option_inputs()],
            outputs,
            api_name="best_of",
            concurrency_limit=None,
        )


async def _run(
    groups: Groups,
    kind: str,
    read: Callable[[], list[GenerationRequest]],
    options: Mapping[str, Any],
    request: gr.Request,
    progress: gr.Progress,
) -> Group | StoredGroup:
    """Start what ``read`` gives, or join what runs under its key, and wait for it. Raises `gr.Error` when refused.

    The last caller that goes away stops it.
    """
    try:
        group = await start_or_join_group(groups, kind, read(), options, request)
        if isinstance(group, StoredGroup):
            return group
        groups.jobs.check_callers(group)
    except OrfeasError as error:
        raise refusal(error) from None
    group.callers += 1
    try:
        await watch(group.future, lambda: (group.fraction, group.message), progress)
    except asyncio.CancelledError:  # the client cancelled, or the server closes
        group.callers -= 1
        if not group.callers:
            await asyncio.to_thread(groups.stop, group.token)
        raise
    return group


def _zip(groups: Groups, group: Group | StoredGroup) -> tuple[str, dict[str, Any]]:
    with groups.bundle(group.token) as (file, manifest):
        folders = [one.result.folder for one in groups.outcomes(group) if one.result]
        return to_cache(file, [folder for folder in folders if folder.is_dir()]), manifest


def _failures(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    return [
        {"seed": one.options["seed"], "error": one.error, "code": one.code} for one in outcomes if one.result is None
    ]
