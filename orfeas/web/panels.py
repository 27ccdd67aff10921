"""The parts of the studio that are text: cutout, stage, result. Each is HTML; what it is given is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from orfeas.export import EXPORTERS, file_name
from orfeas.formats import writable_formats
from orfeas.mesh.report import PLATE_ADVICE, TURN_ADVICE, say_mass
from orfeas.request import QUALITIES, QUALITY_NAMES
from orfeas.web.frame import MARK

if TYPE_CHECKING:
    from orfeas.cutout import Cutout
    from orfeas.request import Quality
    from orfeas.result import Result
    from orfeas.web.eta import Estimate, History

STAGE_TITLES = {
    "picture": "Read the picture",
    "cutout": "Find the subject",
    "shape": "Make the shape",
    "solid": "Make it solid",
    "texture": "Colour it",
    "report": "Measure",
    "files": "Write the files",
}
ORIENTATION_TITLES = {"picture": "As pictured", "standing": "Standing", "flattest": "Lying flat"}
BASE_TITLES = {"none": "As it is", "cut": "Cut flat", "plinth": "On a plate"}
FORMAT_TITLES = {
    "stl": "STL", "glb": "GLB", "obj": "OBJ", "ply": "PLY", "3mf": "3MF", "obj_zip": "OBJ zip", "usdz": "USDZ",
}  # fmt: skip
CAMERA = (70, 75, 2.0)  # where the viewer starts and is reset to: longitude and latitude in degrees, distance
VIEWS = (("solid", "Solid"), ("wireframe", "Wireframe"), ("normals", "Normals"))
_RESET = (
    '<svg viewBox="0 0 24 24" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap='
    '"round" stroke-linejoin="round"><path d="M4 4v5h5M4.6 9A8 8 0 1 1 4 13"/></svg>'
)
_FULL = (
    '<svg viewBox="0 0 24 24" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap='
    '"round" stroke-linejoin="round"><path d="M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5"/></svg>'
)


def quality_label(name: str, quality: Quality, here: Estimate | None, pace: float | None) -> str:
    """Three lines: the name, and what it costs. Seconds are those of the last jobs here, of the table, or not known.

    pace: by how much the other qualities took longer here than the table says, if any was made.
    """
    if here:
        seconds = f"{_seconds(here.seconds)} here"
    elif quality.seconds is None:
        seconds = "not measured"
    else:
        seconds = f"about {_seconds(quality.seconds * pace)}" if pace else f"{quality.seconds:.3g} s"
    return f"{name.capitalize()}\n{quality.faces:,} faces\n{seconds}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def quality_choices(engine: str, history: History) -> list[tuple[str, str]]:
    """Label and value of each quality. Times of two machines are never side by side: one would mislead the other."""
    known = {name: history.estimate(name) for name in QUALITIES[engine]}
    paces = [
        known[name].seconds / one.seconds for name, one in QUALITIES[engine].items() if known[name] and one.seconds
    ]
    pace = median(paces) if paces else None
    return [(quality_label(name, one, known[name], pace), name) for name, one in QUALITIES[engine].items()]


def measured_on(engine: str, history: History) -> str:
    """Where the seconds of `quality_choices` come from."""
    qualities = QUALITIES[engine]
    others = [one for name, one in qualities.items() if not history.estimate(name)]
    if not others:
        return "These times are from jobs here."
    if len(others) == len(qualities):
        machines = dict.fromkeys(one.measured_on.split(";")[0] for one in others if one.measured_on)
        return f"These times are from {', '.join(machines)}." if machines else "No model was made here yet."
    if any(one.seconds for one in others):
        return "“About” is worked out from jobs here."
    return "Not every one was made here yet."


def cutout_note(cutout: Cutout) -> str:
    """How the subject was found, and what the user should know."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in cutout.notes)
    return (
        f'<div class="note"><p>{escape(cutout.explanation)} <span class="quiet">The subject covers'
        f" {cutout.coverage:.0%} of the picture.</span></p>{f'<ul>{notes}</ul>' if notes else ''}</div>"
    )


def of_picture(note: str, picture: str | None) -> str:
    """The note, marked as that of an upload: the folder that Gradio keeps it in has a name of its own."""
    return f'<div data-picture="{escape(Path(picture).parent.name)}">{note}</div>' if picture else ""


def problem(sentence: str, unusable: bool = False) -> str:
    """unusable: whether the page lets go of the picture; assets/web/studio.js then says the sentence on the stage."""
    mark = " data-unusable" if unusable else ""
    return f'<div class="note bad" role="alert"{mark}><p>{escape(sentence)}</p></div>'


def stage_bar() -> str:
    """Over the stage: what it shows, and the viewer's tools. assets/web/viewer.js makes them act."""
    shows = _segments("The stage shows", "show", (("cutout", "Cutout"), ("model", "Model")))
    views = _segments(
        "Draw the model", "view", (("solid", "Solid"), ("wireframe", "Wireframe"), ("normals", "Normals"))
    )
    return (
        f'<div class="stage-bar">{shows}'
        '<button type="button" class="tool wide" data-do="replace">Replace picture</button>'
        f'<div class="tools">{views}'
        f'<button type="button" class="tool" data-do="reset-view" data-camera="{" ".join(map(str, CAMERA))}"'
        f' aria-label="Reset the view" title="Reset the view">'
        f"{_RESET}</button>"
        f'<button type="button" class="tool" data-do="fullscreen" aria-label="Full screen" title="Full screen">{_FULL}'
        '</button></div></div><a class="stage-download" id="stage-download" download></a>'
    )


def _segments(label: str, what: str, choices: tuple[tuple[str, str], ...]) -> str:
    buttons = "".join(
        f'<button type="button" data-do="{what}" data-value="{value}" aria-pressed="false">{title}</button>'
        for value, title in choices
    )
    return f'<div class="switch" id="switch-{what}" role="group" aria-label="{label}">{buttons}</div>'


def overlay() -> str:
    """What lies over the viewer until there is a model. assets/web/studio.js fills it in from the job's state."""
    stages = "".join(f'<li data-stage="{key}">{title}</li>' for key, title in STAGE_TITLES.items())
    earlier = '<button type="button" class="earlier" data-do="show" data-value="model">Back to the model</button>'
    return (
        '<div class="overlay" id="overlay">'
        f'<div class="face when-empty">{MARK}<h2>Your model will turn here</h2><p>Choose a picture, look at the'
        ' cutout, press Generate.</p><ul class="tips"><li>One thing, seen whole, not cut off by the frame</li>'
        "<li>A plain background and even light help</li><li>From the front, or a little from above</li></ul></div>"
        '<div class="face when-cutting"><span class="spinner" aria-hidden="true"></span>'
        '<p role="status">Finding the subject</p></div>'
        '<div class="face when-busy"><p class="percent" aria-hidden="true"><span id="percent">0</span>'
        '<small>%</small></p><p class="place" aria-hidden="true"><span id="ahead">0</span><small>before'
        " yours</small></p>"
        '<div class="bar" role="progressbar" aria-label="Progress of the job" aria-valuemin="0" aria-valuemax="100"'
        ' aria-valuenow="0" id="bar"><i></i></div>'
        '<p id="message" role="status" aria-live="polite"></p><p class="clock" id="clock"></p>'
        f'<ol class="stages">{stages}</ol></div>'
        '<div class="face when-cancelled"><h2>Stopped</h2><p>Nothing was kept of this job. <span'
        ' class="with-picture">Press Generate to start again.</span><span class="without-picture">Choose the picture'
        " again to start anew.</span></p></div>"
        '<div class="face when-gone"><h2>No longer here</h2><p role="status">This result was deleted, or it has'
        " expired. Press Generate to make another.</p></div>"
        f'<div class="face when-failed"><h2>This did not work</h2><p id="error" role="alert"></p>{earlier}</div>'
        f'<div class="face when-told"><h2 id="told-title"></h2><p id="told" role="status"></p>{earlier}</div>'
        '<div class="face when-done"><img id="poster" alt="" hidden></div>'
        '</div><p id="stage-note" role="status"></p>'
        '<div id="turntable" tabindex="0" role="slider" aria-label="Turn the model" aria-valuemin="0"'
        ' aria-valuenow="0" hidden></div><p id="turn-hint" class="quiet">Drag to turn. This browser has no WebGL, so'
        " these are stills that the server drew; the files are complete.</p>"
    )


def empty_result() -> str:
    return (
        '<section class="card result idle" aria-label="Result"><h2>Result</h2><p class="quiet">When your model is made,'
        " this is where you find</p><ul><li>the file to print, and every other format</li><li>size in millimetres,"
        " volume, thinnest wall</li><li>the check that it is solid and stands</li></ul></section>"
    )


def result_card(result: Result, public_url: str = "") -> str:
    """Downloads (the format asked for first), verdict, numbers, timings and notes of one result."""
    report, facts, request = {**result.facts, **result.report}, result.facts, result.request
    model = result.files["model"]
    address = f"r/{result.id}"
    links = [
        f'<a class="download first" href="{address}/{quote(model.name)}" download>'
        f"<span>Download {FORMAT_TITLES[request.format]}</span><small>{file_size(model)}</small></a>"
    ]
    others = {"poster": "Still", "cutout": "Cutout", "recipe": "Recipe"}
    for key, title in others.items():
        file = result.files.get(key)
        if file:
            links.append(
                f'<a class="download" href="{address}/{escape(file.name)}" download>{title}'
                f"<small>{file_size(file)}</small></a>"
            )
    rows = [
        ("Size", " × ".join(f"{side:.1f}" for side in report["extents_mm"]) + " mm"),
        ("Faces", f"{report['faces']:,}"),
        ("Volume", _number(report.get("volume_cm3"), "cm³")),
        ("Thinnest wall", _number(report.get("thinnest_wall_mm"), "mm")),
        ("Solid", "watertight" if report["watertight"] else "not watertight"),
        ("Seed", f"<code>{request.seed}</code>"),
        ("Quality", escape(request.quality)),
    ]
    table = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
    return (
        f'<section class="card result" data-result="{result.id}" data-files="{address}"><h2>{escape(result.name)}</h2>'
        f'{_verdict(report)}<div class="downloads">{links[0]}{_also_as(result)}{"".join(links[1:])}</div>'
        f"{_stand(result)}{_again(result)}{_online_viewer(result, public_url)}<dl>{table}</dl>"
        f"{_details(result.report)}{_timings(facts)}"
        f"{f'<h3>Good to know</h3><ul class=notes>{notes}</ul>' if notes else ''}</section>"
    )


def _also_as(result: Result) -> str:
    """The other formats of the result: each is made when its link is first followed (`orfeas.formats`)."""
    request = result.request
    formats = [key for key in writable_formats() if key != request.format]
    if request.texture == "none":
        formats.remove("obj_zip")  # without a texture it is the OBJ
    pills = "".join(
        f'<a class="pill" href="r/{result.id}/{quote(file_name(result.name, request.size_mm, key))}" download'
        f' title="{escape(EXPORTERS[key].title)}">{FORMAT_TITLES[key]}</a>'
        for key in formats
    )
    return f'<p class="also"><span class="quiet">Also as</span>{pills}</p>'


def _again(result: Result) -> str:
    """The same picture and options once more, with one thing changed."""
    others = [name for name in QUALITY_NAMES if name != result.request.quality]
    changes = [("", "Another seed"), *((f"quality:{name}", f"{name.capitalize()} quality") for name in others)]
    return _remakes(result, "Make it again", changes)


def _stand(result: Result) -> str:
    """What makes a model stand that falls over, or that is advised to be put on a plate; else ""."""
    advised = " ".join(result.report["notes"])
    changes = [("orientation:standing", "Turn it")] if TURN_ADVICE in advised else []
    bases = {"none": ("cut", "plinth"), "cut": ("plinth",), "plinth": ()}[result.request.base]
    changes += [(f"base:{base}", BASE_TITLES[base]) for base in bases]
    if result.report["stands"] is False and changes:
        return _remakes(result, "Make it stand", changes)
    if PLATE_ADVICE in advised:
        return _remakes(result, "Make it steadier", [("base:plinth", BASE_TITLES["plinth"])])
    return ""


def _remakes(result: Result, title: str, changes: list[tuple[str, str]]) -> str:
    """A row of buttons; assets/web/studio.js hands their change to `Handlers.again`."""
    buttons = "".join(
        f'<button type="button" class="pill" data-do="again" data-result="{result.id}" data-change="{change}">{says}'
        "</button>"
        for change, says in changes
    )
    return f'<p class="again"><span class="quiet">{title}</span>{buttons}</p>'


def _online_viewer(result: Result, public_url: str) -> str:
    """The link that opens the model on 3DViewer.net, which fetches it from here in the visitor's browser."""
    if not public_url.startswith("https://"):
        return (
            '<p class="online quiet">To see it on <a href="https://3dviewer.net" target="_blank" rel="noopener">'
            "3DViewer.net</a>, download it and drop the file there.</p>"
        )
    # the part behind # is read as it is: nothing in it may be percent-encoded, and no "," or "$" may occur
    model = f"#model={public_url}/r/{result.id}/{result.files['glb'].name}"
    frame = (
        f'<iframe src="https://3dviewer.net/embed.html{model}" title="{result.name}" width="640" height="480"'
        ' style="border:0"></iframe>'
    )
    return (
        f'<div class="online"><a href="https://3dviewer.net/{escape(model)}" target="_blank" rel="noopener">Open on'
        ' 3DViewer.net</a><details><summary>Embed it in a page</summary><div class="embed"><textarea readonly rows=3'
        f' aria-label="HTML that embeds the model">{escape(frame)}</textarea><button type="button" class="pill"'
        ' data-do="copy">Copy</button></div></details></div>'
    )


def file_size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{max(1, round(size / 1e3))} kB"


def _verdict(report: Mapping[str, Any]) -> str:
    notes, printable = report["notes"], report["printable"]
    heading = ""
    if notes and printable:  # or a note would seem to contradict the verdict
        heading = f"<p class=noted>Printable. Note{'s' if len(notes) > 1 else ''}:</p>"
    return (
        f'<p class="verdict {"good" if printable else "bad"}">{escape(report["verdict"])}</p>'
        '<p class="verdict before">Earlier result</p>'
        f"{_reasons(report['reasons'])}{heading}{_reasons(notes)}"
    )


def _reasons(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul class=reasons>{items}</ul>" if items else ""


def _number(value: float | None, unit: str) -> str:
    return "not measured" if value is None else f"{value:.1f} {unit}"


def _details(report: Mapping[str, Any]) -> str:
    """The rest of what was measured, folded away."""
    centre = report["centre_of_mass_mm"]
    rows = [
        ("Bodies", f"{report['bodies']:,}"),
        ("Holes through it", "not measured" if report["genus"] is None else f"{report['genus']:,}"),
        ("Open edges", f"{report['boundary_edges']:,}"),
        ("Edges of three faces or more", f"{report['nonmanifold_edges']:,}"),
        ("Places where it crosses itself", f"{report['self_intersections']:,}"),
        ("Surface", f"{report['area_cm2']:.1f} cm²"),
        ("Weight in PLA, printed solid", say_mass(report["mass_g"])),
        ("Centre of mass, mm", "not measured" if centre is None else ", ".join(f"{at:.1f}" for at in centre)),
        ("Stands by itself", {True: "yes", False: "no", None: "not measured"}[report["stands"]]),
        ("Overhangs over 45°", f"{report['overhang_share']:.0%} of the surface"),
    ]
    table = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)
    return f"<details><summary>Full report</summary><dl>{table}</dl></details>"


def _timings(facts: Mapping[str, Any]) -> str:
    seconds = dict(facts.get("seconds", {}))
    total = seconds.pop("total", sum(seconds.values()))
    rows = "".join(
        f"<div><dt>{STAGE_TITLES.get(stage, escape(stage))}</dt><dd>{spent:.2f} s</dd></div>"
        for stage, spent in seconds.items()
    )
    memory = facts.get("peak_memory_mb")
    if memory:
        rows += f"<div><dt>Peak memory of the app</dt><dd>{memory:,.0f} MB</dd></div>"
    return f"<details><summary>Made in {total:.1f} s</summary><dl>{rows}</dl></details>"
