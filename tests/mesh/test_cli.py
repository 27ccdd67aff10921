"""`inspect` and `repair` as a user calls them: files, sentences, exit status."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from orfeas.errors import BadMesh, BadRequest
from orfeas.export import export
from orfeas.mesh.cli import add_inspect_parser, add_repair_parser
from orfeas.mesh.load import load_mesh
from orfeas.mesh.report import inspect
from tests.mesh import shapes


def call(*words) -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    add_inspect_parser(commands)
    add_repair_parser(commands)
    arguments = parser.parse_args([str(word) for word in words])
    return arguments.func(arguments)


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.stl"
    export(shapes.cube(20.0), path, "stl")
    return path


@pytest.fixture
def open_cube(tmp_path):
    path = tmp_path / "open.ply"
    export(shapes.without_faces(shapes.cube(20.0), [0, 5]), path, "ply")
    return path


def test_inspect_says_and_returns(good, open_cube, capsys):
    assert call("inspect", good) == 0
    assert "Ready." in capsys.readouterr().out
    assert call("inspect", good, open_cube) == 1
    assert "Not printable: It is open along" in capsys.readouterr().out


def test_inspect_json_and_size(good, tmp_path, capsys):
    damaged = tmp_path / "damaged.glb"
    damaged.write_bytes(b"glTF and no more")
    assert call("inspect", damaged, good, "--json", "--size-mm", "50") == 1
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert "damaged.glb cannot be used" in first["error"]
    assert second["extents_mm"] == pytest.approx([50, 50, 50])
    assert second["volume_cm3"] == pytest.approx(125)
    assert call("repair", damaged, "-o", tmp_path / "out.stl", "--json") == 1
    assert "damaged.glb cannot be used" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("text.png", r"text\.png cannot be read: give a file that ends in \.stl"),
        ("missing.stl", r"There is no mesh file .*missing\.stl: check its name and its folder\."),
        ("folder.stl", r"folder\.stl cannot be read \(Is a directory\): give a file"),
    ],
)
def test_nothing_is_inspected_if_one_is_no_mesh_file(good, tmp_path, capsys, name, sentence):
    (tmp_path / "text.png").write_text("text")
    (tmp_path / "folder.stl").mkdir()
    with pytest.raises(BadMesh, match=sentence):
        call("inspect", good, tmp_path / name)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("ending", ["stl", "3mf", "glb", "obj", "ply", "obj.zip"])
def test_repair_writes_a_solid(open_cube, tmp_path, capsys, ending):
    output = tmp_path / f"fixed.{ending}"
    assert call("repair", open_cube, "-o", output, "--size-mm", "40", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == "Ready after repair"
    assert "close_holes" in [change["step"] for change in said["changes"]]
    assert any("Scaled to 40 mm" in change["sentence"] for change in said["changes"])
    assert said["volume_cm3"] == pytest.approx(64, rel=1e-6)
    if ending != "obj.zip":
        report = inspect(load_mesh(output))
        assert report.printable
        assert report.extents_mm == pytest.approx((40, 40, 40), abs=0.01)
    assert not list(tmp_path.glob("*.part"))


def test_repair_takes_every_option(tmp_path, capsys):
    path, output = tmp_path / "ball.stl", tmp_path / "out.stl"
    export(shapes.ball(30, 40), path, "stl")
    options = ["--max-faces", "4000", "--flat-base", "cut", "--base-mm", "3", "--hollow", "2.5", "--drain-mm", "4"]
    assert call("repair", path, "-o", output, *options) == 0
    said = capsys.readouterr().out
    assert "Cut 3 mm off" in said
    assert "Hollowed to walls of 2.5 mm" in said
    solid = load_mesh(output)
    assert len(solid.faces) <= 4000
    assert np.isclose(solid.extents.max(), load_mesh(path).extents.max(), atol=0.01)


def test_repair_says_no_more_than_it_did(good, tmp_path, capsys):
    for path in (good, tmp_path / "again.stl"):  # a file of ours stands on z = 0, which is the ground
        aloft = shapes.cube(20.0, (30, 0, 0)) if path == good else load_mesh(good)
        export(aloft, path, "stl")
        assert call("repair", path, "-o", good) == 0
        said = capsys.readouterr().out
        assert "Scaled" not in said
        assert ("Set on the ground, in the middle; its size was kept." in said) == (path == good)


def test_repair_puts_a_small_model_on_a_plate_that_prints(tmp_path, capsys):
    path, output = tmp_path / "ball.stl", tmp_path / "out.stl"
    export(shapes.ball(10, 40), path, "stl")
    assert call("repair", path, "-o", output, "--flat-base", "plinth") == 0
    said = capsys.readouterr().out
    assert "Set on a plate 1.2 mm thick." in said
    assert "walls under" not in said


def test_what_cannot_be_repaired_is_status_1_and_writes_nothing(tmp_path, capsys):
    path, output = tmp_path / "strip.stl", tmp_path / "out.stl"
    export(shapes.moebius(), path, "stl")
    assert call("repair", path, "-o", output) == 1
    assert "only one side" in capsys.readouterr().err
    assert not output.exists()


def test_wrong_use_is_an_error(good, tmp_path):
    with pytest.raises(BadRequest, match="let it end in"):
        call("repair", good, "-o", tmp_path / "out.blend")
    with pytest.raises(BadRequest, match="folder"):
        call("repair", good, "-o", tmp_path / "nowhere" / "out.stl")
    with pytest.raises(BadRequest, match=r"--size-mm cannot be 0\.1"):
        call("repair", good, "-o", tmp_path / "out.stl", "--size-mm", "0.1")
    with pytest.raises(BadRequest, match="--max-faces cannot be 3"):
        call("repair", good, "-o", tmp_path / "out.stl", "--max-faces", "3")
    with pytest.raises(BadRequest, match=r"--hollow cannot be 0\.1"):
        call("repair", good, "-o", tmp_path / "out.stl", "--hollow", "0.1")
    huge = tmp_path / "huge.stl"
    export(shapes.cube(2000.0), huge, "stl")
    with pytest.raises(BadRequest, match=r"say how large it is to be \(--size-mm\)"):
        call("repair", huge, "-o", tmp_path / "out.stl")
    with pytest.raises(BadRequest, match="--size-mm"):
        call("inspect", good, "--size-mm", "-4")
    with pytest.raises(BadMesh, match="There is no mesh file"):
        call("repair", tmp_path / "missing.stl", "-o", tmp_path / "out.stl")
