"""The docs within the page: photographs, settings, API, licence. What can be generated is: nothing is told twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from orfeas import request
from orfeas.export import EXPORTERS
from orfeas.formats import writable_formats
from orfeas.request import FORMATS, OPTIONS, GenerationRequest
from orfeas.web.api import MEANINGS

if TYPE_CHECKING:
    from orfeas.engines import Engine
    from orfeas.request import Quality

ADDRESS = "http://127.0.0.1:7860"  # assets/web/frame.js puts the address of the page in its place
_PHOTOS = (
    ("One thing, seen whole.", "What the frame cuts off cannot be made. Leave some room on every side."),
    ("A plain ground in another colour.", "A sheet of paper or a wall will do. The more the subject stands out, the"
     " sharper its outline becomes."),
    ("Even light.", "A cloudy day, or a window at the side. The photo's shadows end up as colours of the model."),
    ("From the front, a little from above.", "As you would draw it. What the photo does not show has to be guessed. The"
     " model then leans towards the camera; “Standing”, among the options, tilts it back."),
    ("From two steps away.", "Step back and zoom in: a lens held close makes what is near too large."),
    ("Sharp, and large enough.", "A thousand pixels a side are plenty. Motion blur softens the outline."),
    ("Nothing transparent or mirroring.", "Glass and chrome show their surroundings, not themselves."),
)  # fmt: skip
_SKETCH_LICENCE = (
    "ORFEAS and its built-in engine are under the Apache License 2.0, and so is the network that finds the subject"
    " (U²-Netp). Your pictures and models are yours: no licence here claims anything in them."
)
_SNIPPETS: dict[str, str] = {
    "Python": "pip install gradio_client",
    "curl": "upload, ask, then read the events; the last one carries the file's address and the report",
    "JavaScript": "npm install @gradio/client, then as a file such as mug.mjs for node",
    "Command line": "in ORFEAS' own folder, without a server",
}


def docs(engine: Engine, qualities: Mapping[str, Quality], api: Mapping[str, Any]) -> str:
    """The docs as HTML that is drawn when it is first asked for.

    api: what Gradio's own ``get_api_info`` says of the named endpoints.
    """
    photos = "".join(f"<li><b>{title}</b> {text}</li>" for title, text in _PHOTOS)
    text = (
        '<article class="docs"><header><h1 id="docs-title" tabindex="-1">Docs</h1><nav aria-label="Docs">'
        '<a href="#docs-photos">Photos</a><a href="#docs-settings">Settings</a><a href="#docs-api">API</a>'
        '<a href="#docs-licence">Licence</a></nav></header>'
        f'<section><h2 id="docs-photos">Photos that make good models</h2><ul>{photos}</ul>{_about_engine(engine)}'
        "</section>"
        f'<section><h2 id="docs-settings">What the settings mean</h2>{_settings()}{_qualities(qualities)}{_formats()}'
        f'</section><section><h2 id="docs-api">API</h2>{_api(api["named_endpoints"])}</section>'
        f'<section><h2 id="docs-licence">Licence</h2><p>{escape(licence(engine.name))}</p></section></article>'
    )
    return f'<template id="docs-text">{text}</template><div id="docs-page"></div>'


def licence(engine: str) -> str:
    """The terms of the engine of that name, in plain words."""
    if engine == "hunyuan3d":
        from orfeas.engines.hunyuan3d.download import LICENSE_TERMS

        return LICENSE_TERMS
    return _SKETCH_LICENCE


def _about_engine(engine: Engine) -> str:
    caveat = f" {escape(engine.caveat)}" if engine.caveat else ""
    return f"<p>Here runs <b>{escape(engine.title)}</b>. {escape(engine.reason)}{caveat}</p>"


# --- settings --------------------------------------------------------------------------------------------------------


def _settings() -> str:
    fields = GenerationRequest.__dataclass_fields__
    rows = [
        (f"<code>{name}</code>", _allowed(name), _default(fields[name].default), escape(meaning))
        for name, meaning in MEANINGS.items()
        if name != "picture"
    ]
    return _table(("setting", "values", "default", "meaning"), rows, "table stacked")


def _allowed(name: str) -> str:
    """The choices or bounds of an option, as `orfeas.request` has them."""
    for constant in (f"{name.upper()}S", f"{name.upper()}_NAMES", name.upper()):
        if (bounds := getattr(request, constant, None)) and isinstance(bounds, tuple):
            break
    else:
        bounds = request.QUALITY_NAMES
    if isinstance(bounds[0], str):
        return ", ".join(f"<code>{choice}</code>" for choice in bounds)
    return f"{bounds[0]:.0f} to {bounds[1]:,.0f}"


def _default(value: Any) -> str:
    return (
        "none" if value is None else f"<code>{value:g}</code>" if isinstance(value, float) else f"<code>{value}</code>"
    )


def _qualities(qualities: Mapping[str, Quality]) -> str:
    columns: dict[str, Callable[[Quality], str]] = {
        "faces at most": lambda quality: f"{quality.faces:,}",
        "grid": lambda quality: f"{quality.grid}³",
        "steps": lambda quality: f"{quality.steps}",
        "time": lambda quality: "not measured" if quality.seconds is None else f"{quality.seconds:g} s",
        "memory": lambda quality: "not measured" if quality.memory_gb is None else f"{quality.memory_gb:g} GB",
    }
    if all(quality.steps <= 1 for quality in qualities.values()):
        del columns["steps"]  # this engine makes none
    rows = [(f"<code>{name}</code>", *(show(one) for show in columns.values())) for name, one in qualities.items()]
    machines = dict.fromkeys(quality.measured_on for quality in qualities.values() if quality.measured_on)
    note = f"<p>Times and memory were measured on {escape(', '.join(machines))}.</p>" if machines else ""
    return _table(("quality", *columns), rows) + note


def _formats() -> str:
    rows = [(f"<code>{key}</code>", escape(EXPORTERS[key].title)) for key in writable_formats()]
    chosen = ", ".join(f"<code>{name}</code>" for name in FORMATS)
    return (
        f"{_table(('file', 'good for'), rows)}<p>A job makes one of {chosen}; every other format of a finished result"
        " is a click away in its card, without a new job.</p>"
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], kind: str = "table") -> str:
    """kind: "table", or "table stacked" for one that a phone shows cell below cell."""
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    cells = ([f'<td data-title="{title}">{cell}</td>' for title, cell in zip(head, row, strict=True)] for row in rows)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return (
        f'<div class="{kind}" tabindex="0" role="region" aria-label="Table of {head[0]}s"><table><thead>'
        f"<tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )


# --- API -------------------------------------------------------------------------------------------------------------


def _api(endpoints: Mapping[str, Any]) -> str:
    listed = "".join(
        f"<li><code>{name}</code> {escape(endpoint.get('description', ''))}</li>"
        for name, endpoint in endpoints.items()
    )
    blocks = "".join(
        f'<h3>{title}</h3><p>{escape(_SNIPPETS[title])}.</p><div class="snippet"><pre tabindex="0"'
        f' aria-label="{title}"><code data-snippet="{title}">{_with_address(code)}</code></pre>'
        '<button type="button" class="pill" data-do="copy">Copy</button></div>'
        for title, code in snippets(endpoints["/generate"]).items()
    )
    return (
        f"<p>Named endpoints, with the settings above; “Use via API” at the foot of the page describes each.</p>"
        f"<ul>{listed}</ul>{blocks}"
    )


def _with_address(code: str) -> str:
    return escape(code, quote=False).replace(ADDRESS, f'<span class="address">{ADDRESS}</span>')


def snippets(endpoint: Mapping[str, Any]) -> dict[str, str]:
    """Programs that call ``/generate`` with a file ``mug.jpg``, every argument written out with its default.

    endpoint: its entry in Gradio's API info; what is in its signature is in the programs.
    """
    defaults = {
        parameter["parameter_name"]: parameter["parameter_default"]
        for parameter in endpoint["parameters"]
        if parameter["parameter_has_default"]
    }
    return {title: write(defaults) for title, write in _WRITERS.items()}


def _python(defaults: Mapping[str, Any]) -> str:
    arguments = "".join(f"    {name}={_literal(value)},\n" for name, value in defaults.items())
    return (
        "from gradio_client import Client, handle_file\n\n"
        f'client = Client("{ADDRESS}")\n'
        'file, answer = client.predict(\n    picture=handle_file("mug.jpg"),\n'
        f'{arguments}    api_name="/generate",\n)\n'
        'print(file, answer["report"]["verdict"], answer["request"]["seed"])\n'
    )


def _literal(value: Any) -> str:
    """As Python writes it, but strings as JSON does."""
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _curl(defaults: Mapping[str, Any]) -> str:
    arguments = json.dumps(defaults, indent=2)[2:-2]
    return (
        f"URL={ADDRESS}/gradio_api\n"
        "PICTURE=$(curl -s -F files=@mug.jpg $URL/upload | cut -d'\"' -f2)\n"
        "JOB=$(curl -s $URL/call/v2/generate -H 'Content-Type: application/json' -d '{\n"
        '  "picture": {"path": "\'"$PICTURE"\'", "meta": {"_type": "gradio.FileData"}},\n'
        f"{arguments}\n}}' | cut -d'\"' -f4)\n"
        "curl -sN $URL/call/v2/generate/$JOB\n"
    )


def _javascript(defaults: Mapping[str, Any]) -> str:
    arguments = "".join(f"  {name}: {json.dumps(value)},\n" for name, value in defaults.items())
    return (
        'import { readFileSync } from "node:fs";\nimport { Client } from "@gradio/client";\n\n'
        f'const app = await Client.connect("{ADDRESS}");\n'
        f'const {{ data: [file, answer] }} = await app.predict("/generate", {{\n'
        f'  picture: new File([readFileSync("mug.jpg")], "mug.jpg"),\n{arguments}}});\n'
        "console.log(file.url, answer.report.verdict);\nprocess.exit(0);\n"
    )


def _command_line(defaults: Mapping[str, Any]) -> str:
    given = {name: value for name, value in defaults.items() if name in OPTIONS and value is not None}
    options = " ".join(
        f"--{name.replace('_', '-')} {value:g}" if isinstance(value, float) else f"--{name.replace('_', '-')} {value}"
        for name, value in given.items()
    )
    return f".venv/bin/python -m orfeas mug.jpg -o mug.{given['format']} {options}\n"


_WRITERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "Python": _python, "curl": _curl, "JavaScript": _javascript, "Command line": _command_line,
}  # fmt: skip
