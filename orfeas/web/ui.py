"""The page: picture and options at the left, cutout and model in the middle, the result at the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from orfeas.picture import MAX_BYTES
from orfeas.request import (
    BACKGROUNDS,
    BASES,
    FORMATS,
    MAX_FACES,
    ORIENTATIONS,
    SEED,
    SIZE_MM,
    TEXTURES,
)
from orfeas.web import frame, handlers, panels
from orfeas.web.api import add_api
from orfeas.web.copies import made_folder
from orfeas.web.docs import docs
from orfeas.web.group_api import add_group_api
from orfeas.web.history import History, add_history, best_of_button, gone_note, results_panel, several_button
from orfeas.web.inputs import LABELS, Amount, Choice, Picture, default_of
from orfeas.web.mesh_api import add_mesh_api

if TYPE_CHECKING:
    from orfeas.web.groups import Groups
    from orfeas.web.jobs import Jobs
    from orfeas.web.mesh_api import MeshBench

_ASSETS = Path(__file__).resolve().parents[2] / "assets"
EXAMPLES = _ASSETS / "examples"
WEB_ASSETS = _ASSETS / "web"
STYLES = ("frame.css", "studio.css", "history.css")
SCRIPTS = ("frame.js", "viewer.js", "studio.js", "history.js", "compare.js")
PICTURE_TYPES = (".jpg", ".jpeg", ".png", ".webp")
_BACKGROUND_TITLES = {"auto": "Automatic", "keep": "Use as is", "remove": "Remove it"}
_TEXTURE_TITLES = {"photo": "From the photo", "none": "None"}


def page_head() -> str:
    """The page's own style and script, inline: Gradio inserts the head by script, a linked file would come too late.

    Not ``css=``: Gradio emits each of its rules twice, which makes states that hide and show contradict each other.
    """
    styles, scripts = (
        "\n".join((WEB_ASSETS / name).read_text(encoding="utf-8") for name in names) for names in (STYLES, SCRIPTS)
    )
    return f'<meta name="color-scheme" content="light dark"><style>{styles}</style><script>{scripts}</script>'


def login_message() -> str:
    """What the page of the login shows, with its style: Gradio gives that page no head."""
    return frame.login((WEB_ASSETS / "login.css").read_text(encoding="utf-8"))


def example_pictures() -> list[Path]:
    return sorted(path for path in EXAMPLES.glob("*") if path.suffix.lower() in PICTURE_TYPES)


def build_app(jobs: Jobs, cutter: handlers.Cutter, meshes: MeshBench, groups: Groups) -> gr.Blocks:
    """The page and the API as Blocks, not launched yet: `orfeas.web.serve` does that."""
    studio = jobs.studio
    page = handlers.Handlers(jobs, cutter)
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    light = {**quiet, "queue": False}  # answered at once, also while the queue is full

    with gr.Blocks(title="ORFEAS", analytics_enabled=False) as demo:
        gr.HTML(frame.nav(bool(studio.settings.auth)), elem_id="nav")
        header = gr.HTML(frame.hero(studio.engine), elem_id="header")
        token = gr.Textbox(visible=False)  # filled in by studio.js: the page names its job
        draws = gr.Textbox(visible=False)  # "no" where the browser has no WebGL
        again_of = gr.Textbox(visible=False), gr.Textbox(visible=False)  # a result's id, and what is to change
        again_button = gr.Button("Make it again", visible="hidden", elem_id="again")  # pressed by the result's buttons
        collect_button = gr.Button("Fetch the result", visible="hidden", elem_id="collect")  # pressed by studio.js
        clear_button = gr.Button("Clear the result", visible="hidden", elem_id="clear")  # pressed by history.js
        desk = gr.State(handlers.Desk())
        with gr.Row(elem_id="studio", equal_height=False):  # a grid, whose areas assets/web/studio.css lays out
            with gr.Column(elem_id="source", elem_classes="card", min_width=300):
                picture = _source()
                gr.HTML(several_button(), elem_id="several-button")
                gr.HTML(gone_note(), elem_id="gone")
            with gr.Column(elem_id="stage", min_width=300):
                gr.HTML(panels.stage_bar(), elem_id="stage-bar")
                viewer = gr.Model3D(
                    label="Model",
                    show_label=False,
                    interactive=False,
                    elem_id="viewer",
                    clear_color=(0.0, 0.0, 0.0, 0.0),
                    camera_position=panels.CAMERA,
                    buttons=[],
                )
                with gr.Column(elem_id="cutout", visible=False) as cutout_panel:
                    cutout_view = gr.Image(
                        label="What will be built",
                        show_label=False,
                        interactive=False,
                        elem_id="cutout-view",
                        format="webp",
                        buttons=[],
                        alt_text="The picture with its background faded: what is clear will be built",
                    )
                    cutout_view.GRADIO_CACHE = str(made_folder())  # what it shows was drawn here
                    with gr.Row(elem_id="cutout-tools"):
                        background = Choice(
                            [(_BACKGROUND_TITLES[name], name) for name in BACKGROUNDS],
                            value=default_of("background"),
                            label="Background",
                            elem_id="background",
                            elem_classes="segments",
                            min_width=250,
                        )
                        tap_mode = Choice(
                            [("+ include", "include"), ("− exclude", "exclude")],
                            value="exclude",
                            label="Tap the picture to",
                            elem_id="tap-mode",
                            elem_classes="segments",
                            min_width=170,
                        )
                        reset = gr.Button("Reset", size="sm", min_width=60, scale=0, elem_id="reset-taps")
                explanation = gr.HTML("", elem_id="explanation")
                gr.HTML(panels.overlay(), elem_id="overlay-holder")
            with gr.Column(elem_id="options", elem_classes="card", min_width=300):
                options = _options(page)
                gr.HTML(best_of_button(), elem_id="best-of")
                with gr.Column(elem_id="act", min_width=0):  # the card's foot, in sight while the options are
                    generate = gr.Button("Generate", variant="primary", size="lg", elem_id="generate")
                    stop = gr.Button("Stop", variant="secondary", size="lg", elem_id="stop")
            with gr.Column(elem_id="right", min_width=280):
                result = gr.HTML(panels.empty_result(), elem_id="result")
        gr.HTML(results_panel(studio.settings.keep_days), elem_id="history")
        gr.HTML(frame.about(), elem_id="about")
        docs_page = gr.HTML(elem_id="docs")

        seen = [cutout_panel, cutout_view, explanation]
        picture.change(page.take_picture, [picture, background, desk], seen, **light)
        background.input(page.change_background, [picture, background, desk], seen, **light)
        cutout_view.select(page.tap, [picture, background, desk, tap_mode], seen, **light)
        reset.click(page.reset, [picture, background, desk], seen, **light)

        quality, format_, size_mm, seed, texture, base, max_faces, orientation = options
        asked = [
            *(token, draws, picture, quality, format_, size_mm, seed, background),
            *(texture, base, max_faces, orientation),
        ]
        shown = [viewer, result]
        begin = "(token, draws, ...rest) => [window.orfeas.begin(rest[4]), window.orfeas.draws(), ...rest]"  # [4]: seed
        settle = "() => window.orfeas.settle()"
        run = generate.click(page.make, [*asked, desk], shown, js=begin, concurrency_limit=None, **quiet)
        again = again_button.click(
            page.again,
            [token, draws, *again_of],
            shown,
            js="() => [window.orfeas.begin(), window.orfeas.draws(), ...window.orfeas.again()]",
            concurrency_limit=None,
            **quiet,
        )
        for over in (run.then, run.failure, again.then, again.failure):  # 6.31: no `then` after an error
            over(None, js=settle, **quiet)
        stop.click(None, js="() => window.orfeas.stop()", **light)
        # the times of the jobs here, the last one's with them, and the engine, whose caveat is known once it is loaded
        for told in (demo.load, run.then, again.then):
            told(lambda: (gr.update(**page.qualities()), frame.hero(studio.engine)), None, [quality, header], **light)
        found = demo.load(
            page.resume,
            [token, draws],
            shown,
            js="() => [window.orfeas.resume(), window.orfeas.draws()]",
            concurrency_limit=None,
            **quiet,
        )
        found.then(None, js="() => window.orfeas.settleResumed()", **quiet)
        collected = collect_button.click(
            page.resume,
            [token, draws],
            shown,
            js="() => [window.orfeas.token(), window.orfeas.draws()]",
            concurrency_limit=None,
            **quiet,
        )
        collected.then(None, js="() => window.orfeas.settleResumed()", **quiet)
        clear_button.click(lambda: (None, panels.empty_result()), None, shown, **light)
        demo.unload(page.leave)

        history = History(jobs, groups, page)
        opener = add_history(history, picture, asked[3:], seen, desk)
        opened = opener.click(
            page.resume,
            [token, draws],
            shown,
            js="() => [window.orfeas.open(window.orfeas.history.wanted()), window.orfeas.draws()]",
            concurrency_limit=None,
            **quiet,
        )
        opened.then(None, js="() => window.orfeas.settleResumed()", **quiet)

        add_api(groups, cutter)
        add_mesh_api(meshes, jobs.room)
        add_group_api(groups)
    docs_page.value = docs(studio.engine, studio.qualities, demo.get_api_info())  # once every endpoint is there
    return demo.queue(max_size=None, default_concurrency_limit=None)


def _source() -> Picture:
    """Where the picture comes from: a drop zone and the examples."""
    picture = Picture(
        sources=["upload", "clipboard", "webcam"],
        label="Picture",
        show_label=False,
        elem_id="picture",
        height=130,
        buttons=[],
        placeholder=f"Drop a picture, or click to choose\nJPEG, PNG or WebP, up to {MAX_BYTES >> 20} MB",
    )
    if pictures := example_pictures():
        gr.Examples(
            [[str(path)] for path in pictures],
            inputs=[picture],
            label="Or try one of these",
            examples_per_page=12,
            elem_id="examples",
            api_visibility="private",
        )
    return picture


def _options(page: handlers.Handlers) -> tuple[gr.components.Component, ...]:
    """quality, format, size_mm, seed, texture, base, max_faces, orientation."""
    quality = Choice(
        value=default_of("quality"),
        label="Quality",
        **page.qualities(),
        elem_id="quality",
        elem_classes="segments tall",
    )
    format_ = _segments("format", "File format", panels.FORMAT_TITLES, FORMATS, "All but STL keep the colours.")
    size_mm = Amount(
        default_of("size_mm"),
        label=LABELS["size_mm"],
        minimum=SIZE_MM[0],
        maximum=SIZE_MM[1],
        step=1,
        elem_id="size",
    )
    with gr.Accordion("More options", open=False, elem_id="advanced"):
        texture = _segments("texture", "Colours", _TEXTURE_TITLES, TEXTURES)
        leans = "What is seen from above leans"
        orientation = _segments("orientation", "Orientation", panels.ORIENTATION_TITLES, ORIENTATIONS, leans)
        base = _segments("base", "Base", panels.BASE_TITLES, BASES)
        # text fields: Gradio's number field turns into 0 when a closed accordion around it is opened
        seed = gr.Textbox(
            label=LABELS["seed"],
            info=f"{SEED[0]} to {SEED[1]:,}. Empty: drawn at random and shown with the result",
            placeholder="random",
            max_lines=1,
            elem_id="seed",
        )
        max_faces = gr.Textbox(
            label=LABELS["max_faces"],
            info=f"{MAX_FACES[0]:,} to {MAX_FACES[1]:,}. Empty: what the quality allows",
            placeholder="as the quality",
            max_lines=1,
            elem_id="max-faces",
        )
    return quality, format_, size_mm, seed, texture, base, max_faces, orientation


def _segments(
    option: str, label: str, titles: Mapping[str, str], choices: Sequence[str], info: str | None = None
) -> Choice:
    """One choice of a few side by side; its element has the option's name."""
    return Choice(
        [(titles[name], name) for name in choices],
        value=default_of(option),
        label=label,
        info=info,
        elem_id=option,
        elem_classes="segments",
    )
