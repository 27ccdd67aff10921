"""The README is what users go by: its tables and its tree have to be true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard

from orfeas import generate_cli, request
from orfeas.arguments import COMMANDS, Parser, add_command
from orfeas.mesh import load, report
from orfeas.mesh.stability import TIP_DEGREES
from orfeas.picture import MAX_BYTES
from orfeas.request import QUALITIES, GenerationRequest
from orfeas.settings import OPERATED, Settings
from orfeas.web.history import LISTED, results_panel
from orfeas.web.limits import ADDRESS_LENGTH, JSON_BYTES
from orfeas.web.mesh_api import MAX_UPLOADED_FACES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def rows(first_cell: str) -> dict[str, list[str]]:
    """A table by the text of its header's first cell: {first cell without backticks: the other cells}."""
    table = re.search(rf"^\| {re.escape(first_cell)} \|.*?(?:\n\n|\Z)", README, flags=re.MULTILINE | re.DOTALL).group(0)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    return {cells[0].strip("`"): cells[1:] for cells in lines[2:]}


def test_the_table_of_options_is_the_request():
    table = rows("option")
    fields = GenerationRequest.__dataclass_fields__
    assert set(table) == set(fields) - {"taps", "name"}
    for name, (values, default, _) in table.items():
        allowed = getattr(request, {"quality": "QUALITY_NAMES"}.get(name, name.upper() + "S"), None)
        if name == "picture":
            continue
        if isinstance(allowed, tuple) and isinstance(allowed[0], str):
            assert values == ", ".join(f"`{choice}`" for choice in allowed), name
        else:
            low, high = getattr(request, name.upper())
            assert values == f"{low:.0f} to {high:.0f}", name
        shown = {None: None}.get(fields[name].default, fields[name].default)
        if shown is not None:
            assert default == (f"`{shown:g}`" if isinstance(shown, float) else f"`{shown}`"), name


def test_the_table_of_qualities_is_the_table():
    table = rows("quality")
    for name in request.QUALITY_NAMES:
        sketch, hunyuan = QUALITIES["sketch"][name], QUALITIES["hunyuan3d"][name]
        assert table[name][0] == f"grid {sketch.grid}, {sketch.faces:,} faces"
        assert table[name][1] == f"grid {hunyuan.grid}, {hunyuan.steps} steps, {hunyuan.faces:,} faces"


def test_the_table_of_what_was_measured_is_what_the_page_says():
    table = rows("sketch engine, photo to files")
    for column, name in enumerate(request.QUALITY_NAMES):
        quality = QUALITIES["sketch"][name]
        assert float(table["seconds, all"][column]) == quality.seconds, name
        assert round(float(table["peak memory, MB"][column]) / 1000, 2) == quality.memory_gb, name


def test_the_verdicts_go_by_the_numbers_that_are_said():
    verdicts, notes = rows("verdict"), rows("note")
    assert set(verdicts) == {report.READY, report.REPAIRED, report.NOT_PRINTABLE}
    thin = f"{report.TOO_THIN_SHARE:.0%} of the surface has walls under {report.RESIN_WALL_MM} mm".replace("%", " %")
    assert f"more than {thin}" in verdicts[report.NOT_PRINTABLE][0]
    share = f"{report.THIN_SHARE:.0%}".replace("%", " %")
    assert notes["thin walls"] == [
        f"more than {share} of the surface has walls under {report.FDM_WALL_MM} mm, which FDM wants"
    ]
    assert f"more than {report.OVERHANG_DEGREES:.0f}°" in notes["support"][0]
    assert f"less than {TIP_DEGREES}°; or it touches less than 1/{1 / report.LEAST_HELD:.0f} of" in notes["stance"][0]
    assert notes["unit"] == ["the longest side is below {:.0f} mm or above {:.0f} mm".format(*report.LIKELY_MM)]
    assert f"the one that {share} of the surface undercuts" in README
    assert f"PLA ({report.PLA_G_PER_CM3} g/cm³)" in README


def test_the_limits_of_uploads_are_those_that_are_said():
    said = " ".join(README.split())
    assert f"up to {MAX_UPLOADED_FACES:,} faces; the command line takes {load.MAX_FACES:,} and 500 MB" in said
    assert load.MAX_BYTES == 500_000_000
    status = rows("status")["413, 414"][0]
    assert f"more than {MAX_BYTES >> 20} MiB" in status
    assert f"more than {JSON_BYTES // 1_000_000} MB" in status
    assert f"more than {ADDRESS_LENGTH:,} characters" in status


def test_the_file_tree_exists():
    tree = next(block for block in blocks("text") if block.startswith("app.py"))
    listed = []
    folders: list[str] = []
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        listed.append("".join(folders))
    for path in listed:
        assert (ROOT / path).exists(), path
    modules = {f"orfeas/{path.name}" for path in (ROOT / "orfeas").glob("*.py") if not path.name.startswith("__")}
    packages = {f"orfeas/{path.parent.name}/" for path in (ROOT / "orfeas").glob("*/__init__.py")}
    assert modules | packages <= set(listed), "every module has its line in the README's tree"


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines() if "-m orfeas" in line])
def test_every_command_line_is_understood(line):
    words = shlex.split(line, comments=True)
    arguments = words[words.index("orfeas") + 1 :]
    if arguments[0] in COMMANDS:
        parser = Parser()
        add_command(parser.add_subparsers(), arguments[0])
        parser.parse_args(arguments)
    else:
        parsed = generate_cli.build_parser().parse_args(arguments)
        given = {key: getattr(parsed, key) for key in generate_cli.OPTIONS if getattr(parsed, key) is not None}
        GenerationRequest.from_options(b"", given)


def test_every_setting_is_in_the_example_file():
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    named = set(re.findall(r"^# (ORFEAS_[A-Z0-9_]+)=", example, flags=re.MULTILINE))
    settings = {f"ORFEAS_{name.upper()}" for name in Settings.model_fields}
    assert settings <= named
    operated = "".join(
        path.read_text(encoding="utf-8")
        for path in [ROOT / "docker-compose.production.yml", *(ROOT / "deploy").rglob("*.py")]
    )
    read = set(re.findall(r"\$\{([A-Z0-9_]+)|\"((?:ORFEAS|COMPOSE)_[A-Z_]+)\"", operated))
    assert named - settings == {name for pair in read for name in pair if name.startswith("ORFEAS_")} - settings
    caddy = re.findall(r"\{\$(ORFEAS_[A-Z_]+)", (ROOT / "deploy/Caddyfile").read_text(encoding="utf-8"))
    assert {f"ORFEAS_{name}" for name in OPERATED} == (named | set(caddy)) - settings
    for name in ("GRAFANA_PASSWORD", "HF_TOKEN", "COMPOSE_PROFILES"):
        assert f"\n# {name}=" in example


def test_the_front_matter_matches_what_is_pinned():
    pinned = re.search(r"^gradio==(\S+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE).group(1)
    card = SpaceCard(README).data
    assert (card.sdk, card.sdk_version, card.app_file, card.license) == ("gradio", pinned, "app.py", "apache-2.0")
    assert card.python_version == "3.12"  # a string: of a number, 3.10 is 3.1. ZeroGPU has this one
    assert len(card.short_description) <= 60  # Hugging Face's limit
    assert {card.colorFrom, card.colorTo} <= {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def test_the_list_of_results_is_as_long_as_is_said():
    script = (ROOT / "assets/web/history.js").read_text(encoding="utf-8")
    assert f"const MOST = {LISTED};" in script
    assert f"the last {LISTED}" in " ".join(README.split())
    assert f"The last {LISTED} are listed" in results_panel(30)
    assert "after 30 days at the latest" in results_panel(30)
    assert "days" not in re.search(r'id="history-empty">[^<]*', results_panel(0)).group(0)


def test_every_picture_and_link_of_the_readme_is_here():
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
