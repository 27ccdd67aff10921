"""Below the studio: the results of this browser, which remembers their tokens and nothing else; also several at once.

assets/web/history.js draws them from what the routes of `orfeas.web.history_routes` say, and compare.js two of them.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from orfeas.errors import BadRequest, OrfeasError
from orfeas.picture import MAX_BYTES
from orfeas.request import BEST_OF, OPTIONS, Tap, with_seeds
from orfeas.web.access import follow
from orfeas.web.callers import Caller
from orfeas.web.groups import MAX_PICTURES, ask_batch, check_number
from orfeas.web.handlers import Corrections, Desk, ask
from orfeas.web.inputs import default_of, on_page, uploaded_file
from orfeas.web.owners import may_have_job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradio.components import Component

    from orfeas.web.groups import Groups
    from orfeas.web.handlers import Handlers
    from orfeas.web.inputs import Picture
    from orfeas.web.jobs import Jobs

MAX_TOKENS = 200  # that a browser may ask after at once
LISTED = 100  # that it remembers, by assets/web/history.js
GONE = "The picture of this job is no longer here: choose it again. Its options are set."
UNKNOWN = "This job is no longer known here: it was deleted, or it has expired."


class History:
    """The events of the list of results."""

    def __init__(self, jobs: Jobs, groups: Groups, page: Handlers):
        self.jobs = jobs
        self.groups = groups
        self.page = page

    async def restore(self, wanted: str, current: str | None, desk: Desk, request: gr.Request):
        """Updates of the picture, the options as in `OPTIONS`, and what `Handlers.change_background` updates; and "",
        "gone" where only the picture is not there any more, or the sentence that says why nothing came back.

        wanted: a job's token; with " random" behind it, the seed is left to chance as it was.
        """
        token, _, seed = str(wanted or "").partition(" ")
        try:
            found = await asyncio.to_thread(self._find_request, token, Caller.of(request).account)
        except OrfeasError as error:
            return *[gr.skip()] * (1 + len(OPTIONS) + 3), str(error)
        if found is None:
            return *[gr.skip()] * (1 + len(OPTIONS) + 3), UNKNOWN
        picture, options = found
        if seed == "random":
            options["seed"] = None
        values = [options.get(name, default_of(name)) for name in OPTIONS]
        values = ["" if value is None else value for value in values]  # what a text field shows
        path = _to_upload(picture, str(options.get("name") or "picture")) if picture else None
        if path is None:
            desk.put(Corrections())
            return None, *values, gr.skip(), gr.skip(), gr.skip(), "gone"
        taps = tuple(Tap(x, y, what == "include") for x, y, what in options.get("taps", ()))
        desk.put(Corrections(path, taps))
        if path == current:  # the picture does not change, so nothing else draws its cutout anew
            return gr.skip(), *values, *await self.page.change_background(path, options.get("background"), desk), ""
        return path, *values, gr.skip(), gr.skip(), gr.skip(), ""

    def _find_request(self, token: str, account: str) -> tuple[Path | None, dict[str, Any]] | None:
        return self.jobs.find_request(token) if may_have_job(self.jobs, token, account) else None

    def start(
        self, spec: str, picture, quality, format, size_mm, seed, background, texture, base, max_faces,
        orientation, desk: Desk, request: gr.Request,
    ) -> str:  # fmt: skip
        """Start what ``spec`` asks for, and answer with JSON: the group's token, or the sentence that refuses it.

        spec: JSON with "token", and "pictures" (paths of uploads) or "best_of" (how many seeds).
        """
        follow()
        values = (quality, format, size_mm, seed, background, texture, base, max_faces, orientation)
        options = dict(zip(OPTIONS, values, strict=True))
        try:
            wanted = _read(spec)
            if "best_of" in wanted:
                asked = ask(picture, {**options, "taps": desk.corrections.of(picture).taps})
                kind, requests = "best_of", with_seeds(asked, wanted["best_of"])
            else:
                check_number(wanted["pictures"])
                uploads = [str(uploaded_file(str(path), get_upload_folder())) for path in wanted["pictures"]]
                kind, requests = "batch", ask_batch(uploads, options)
            self.groups.start(kind, requests, wanted["token"], request.session_hash, Caller.of(request))
        except (OrfeasError, gr.Error) as error:
            return json.dumps({"error": str(error.message if isinstance(error, gr.Error) else on_page(error))})
        return json.dumps({"token": wanted["token"]})


def add_history(
    history: History, picture: Picture, options: Sequence[Component], seen: Sequence[Component], desk: gr.State
) -> gr.Button:
    """Add the events of the list of results to the Blocks being built; returns the button that shows one on the stage.

    options: a component for each of `OPTIONS`. seen: what `Handlers.change_background` updates. desk: holds its `Desk`.
    """
    quiet = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    passed = gr.Textbox(visible=False)  # from the script to an event
    answer, said = gr.Textbox(visible=False), gr.Textbox(visible=False)
    opener = gr.Button("Open a result", visible="hidden", elem_id="history-open")
    restorer = gr.Button("Restore its options", visible="hidden", elem_id="history-restore")
    starter = gr.Button("Start several", visible="hidden", elem_id="history-start")
    restored = restorer.click(
        history.restore,
        [passed, picture, desk],
        [picture, *options, *seen, said],
        js="(passed, ...rest) => [window.orfeas.history.restoring(), ...rest]",
        **quiet,
    )
    shown = "(picture, said) => window.orfeas.history.restored(picture, said)"
    restored.then(None, [picture, said], js=shown, **quiet)
    restored.failure(None, js="() => window.orfeas.keepSide(false)", **quiet)
    started = starter.click(
        history.start,
        [passed, picture, *options, desk],
        [answer],
        js="(passed, ...rest) => [window.orfeas.history.spec(), ...rest]",
        **quiet,
    )
    started.then(None, [answer], js="(answer) => window.orfeas.history.started(answer)", **quiet)
    started.failure(None, js="() => window.orfeas.history.failed()", **quiet)
    return opener


def results_panel(keep_days: float) -> str:
    """The list and what belongs to it, empty: assets/web/history.js fills them. keep_days: 0 for without limit."""
    latest = f", after {keep_days:g} days at the latest" if keep_days else ""
    return (
        '<section aria-labelledby="history-title"><div class="history-head"><h2 id="history-title">Your results</h2>'
        '<p class="quiet" id="history-count"></p></div>'
        '<div id="several" class="card" hidden><h3 id="several-title"></h3><ul></ul><p class="quiet">They are made one'
        " after the other with the options above, and one that fails does not stop the rest.</p>"
        '<p class="history-acts"><button type="button" class="strong" data-history="make-several"></button>'
        '<button type="button" data-history="more-pictures">Add more</button>'
        '<button type="button" data-history="drop-several">Discard</button></p>'
        '<p class="history-error" role="alert"></p></div>'
        '<p class="history-error" id="several-refused" role="alert"></p>'
        '<p class="quiet" id="history-empty">What you make appears here, in this browser only, until it is deleted or'
        f" expires{latest}. The last {LISTED} are listed.</p>"
        '<ul id="history-list"></ul><p class="hidden-text" role="status" id="history-said"></p>'
        '<p class="history-error" id="history-error" role="alert"></p></section>'
        f'<dialog id="compare" aria-labelledby="compare-title" data-viewer="{viewer_module()}"><form method="dialog">'
        '<h2 id="compare-title">Compare</h2><button aria-label="Close" class="close">×</button></form>'
        '<div class="compare-turns"><figure></figure><figure></figure></div>'
        '<p class="quiet" id="compare-hint" role="status"></p><label class="compare-turn">Turn both'
        '<input type="range" min="0" max="23" value="0" id="compare-turn"></label><table></table></dialog>'
    )


def viewer_module() -> str:
    """The address of the module, among those of Gradio's page, that makes viewers as `gr.Model3D` does; "" if none."""
    modules = Path(gr.__file__).parent / "templates" / "frontend" / "assets"
    for module in sorted(modules.glob("lib-*.js")):
        if "as CreateViewerForCanvas" in module.read_text(encoding="utf-8"):
            return f"assets/{module.name}"
    return ""


def several_button() -> str:
    """Beside the examples: the way to choose several pictures."""
    return (
        '<button type="button" class="quiet-link" data-history="more-pictures">Several pictures at once</button>'
        '<input type="file" id="several-input" accept="image/jpeg,image/png,image/webp" multiple hidden'
        f' data-most="{MAX_PICTURES}" data-bytes="{MAX_BYTES}" aria-label="Several pictures">'
    )


def gone_note() -> str:
    """Below the picture: what is said where that of a job is not there any more."""
    return f'<p class="history-error" id="history-gone" role="alert" data-sentence="{GONE}"></p>'


def best_of_button() -> str:
    """Above Generate: the way to try several seeds."""
    low, high = BEST_OF
    choices = "".join(f"<option{' selected' if n == 4 else ''}>{n}</option>" for n in range(low, high + 1))
    return (
        '<div class="best-of"><label>Try several seeds<select id="best-of-count">'
        f'{choices}</select></label><button type="button" data-history="best-of">Best of <span>4</span></button></div>'
        '<p class="history-error" id="best-of-error" role="alert"></p>'
    )


def _read(spec: str) -> dict[str, Any]:
    """Raises `BadRequest` for anything that the page's script does not send."""
    try:
        wanted = json.loads(spec)
        if isinstance(wanted["token"], str) and ("best_of" in wanted or isinstance(wanted["pictures"], list)):
            return wanted
    except (ValueError, TypeError, KeyError):
        pass
    raise BadRequest("The page sent something else than was expected: reload it and try again.")


def _to_upload(picture: Path, name: str) -> str | None:
    """The picture as an upload, called ``name``; None if it is gone."""
    try:
        data = picture.read_bytes()
    except OSError:
        return None
    path = save_bytes_to_cache(data, f"{name}{picture.suffix}", get_upload_folder())
    return str(Path(path).resolve())
