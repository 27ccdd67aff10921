"""Every format, read back by programs that are not ours."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
import trimesh

from orfeas.errors import BadMesh, BadRequest, EngineUnavailable
from orfeas.export import EXPORTERS, MEDIA_TYPES, export, file_name, write_glb
from orfeas.mesh import Mesh, Texture, signed_volume
from orfeas.mesh.finish import place
from tests import npm
from tests.mesh import shapes

VALIDATOR_VERSION = "2.0.0-dev.3.10"

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)


def lopsided() -> Mesh:
    """A ball with a nose to the front (+Z) and an ear to the right (+X): a mirror or a wrong axis would show."""
    nose, ear = shapes.moved(shapes.ball(0.3, 12), (0, 0, 0.9)), shapes.moved(shapes.ball(0.2, 12), (0.95, 0.5, 0))
    from orfeas.mesh.finish import make_solid

    return make_solid(shapes.together(shapes.ball(), nose, ear), max_faces=20_000)[0]


@pytest.fixture(scope="module")
def plain() -> Mesh:
    return place(lopsided(), size_mm=77.7)[0]


@pytest.fixture(scope="module")
def colored(plain) -> Mesh:
    return shapes.painted(plain)


@pytest.fixture(scope="module")
def textured(plain) -> Mesh:
    """Two charts, front and back, so that there are seams."""
    low, high = plain.bounds
    uv = ((plain.vertices - low) / (high - low))[:, :2][plain.faces]
    front = plain.vertices[plain.faces][:, :, 2].mean(axis=1) > 0
    uv[..., 0] = np.where(front[:, None], uv[..., 0] / 2, 0.5 + uv[..., 0] / 2)
    rows, columns = np.mgrid[0:256, 0:512]
    image = np.stack([rows, columns // 2, np.full_like(rows, 90)], axis=2).astype(np.uint8)
    return Mesh(plain.vertices, plain.faces, None, Texture(uv.astype(np.float32), image))


@pytest.fixture(params=["plain", "colored", "textured"])
def model(request) -> Mesh:
    return request.getfixturevalue(request.param)


def read(path) -> trimesh.Trimesh:
    made = trimesh.load(path)
    made = made.to_geometry() if isinstance(made, trimesh.Scene) else made
    made.merge_vertices(merge_tex=True, merge_norm=True)
    return made


@pytest.mark.parametrize("format", ["stl", "3mf", "glb", "obj", "ply"])
def test_size_axes_and_solidity_survive(format, model, tmp_path):
    path = tmp_path / file_name("mug", 77.7, format)
    export(model, path, format, title="mug")
    made = read(path)
    points = made.vertices * (1000 if format == "glb" else 1)
    if format in ("stl", "3mf"):  # back from Z up, front -Y
        assert points[:, 2].min() == pytest.approx(0, abs=1e-4)
        if format == "3mf":  # beyond the plate's corner (3MF core, 3.3), and not around it
            assert points[:, :2].min(axis=0) == pytest.approx([0, 0], abs=1e-4)
            points = points + np.array([model.bounds[0][0], -model.bounds[1][2], 0])
        points = np.stack([points[:, 0], points[:, 2], -points[:, 1]], axis=1)
    assert np.ptp(points, axis=0) == pytest.approx(model.extents, abs=0.01)
    assert np.stack([points.min(axis=0), points.max(axis=0)]) == pytest.approx(model.bounds, abs=0.01)
    assert made.is_watertight
    assert made.is_winding_consistent
    assert len(made.faces) == len(model.faces)
    scale = 1e-9 if format == "glb" else 1
    expected = signed_volume(model.vertices, model.faces) * scale
    assert made.volume == pytest.approx(expected, rel=1e-4)
    nose = points[:, 2].argmax()  # mirrored in x, the ear would be on the other side
    assert abs(points[nose, 0] - model.vertices[model.vertices[:, 2].argmax(), 0]) < 0.5


@pytest.mark.parametrize("format", list(EXPORTERS))
def test_same_mesh_same_bytes(format, model, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    export(model, one, format)
    export(model, other, format)
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("format", ["3mf", "obj", "ply"])
def test_colors_of_vertices_survive(format, colored, tmp_path):
    path = tmp_path / f"model.{format}"
    export(colored, path, format)
    if format == "3mf":
        from orfeas.mesh.load import load_mesh

        made = load_mesh(path)
        points, colors = made.vertices + (colored.bounds[0] - made.bounds[0]), made.colors
    else:
        made = read(path)
        points, colors = made.vertices, made.visual.vertex_colors[:, :3]
    low, high = colored.bounds
    expected = (points - low) / (high - low) * 255
    assert np.abs(colors - expected).max() < 1.5


def test_texture_survives_in_glb_and_obj_zip(textured, tmp_path):
    low, high = textured.bounds

    def check(made, points):
        image = np.asarray(
            made.visual.material.baseColorTexture
            if hasattr(made.visual.material, "baseColorTexture")
            else made.visual.material.image
        )
        uv = made.visual.uv
        height, width = image.shape[:2]
        x, y = (
            np.clip(uv[:, 0] * width, 0, width - 1).astype(int),
            np.clip((1 - uv[:, 1]) * height, 0, height - 1).astype(int),
        )
        red = image[y, x, 0] / 255.0
        expected = ((points - low) / (high - low))[:, 1]  # red runs down the picture, which is laid on from below
        assert np.abs(red - expected).mean() < 0.01

    path = tmp_path / "model.glb"
    export(textured, path, "glb")
    made = trimesh.load(path).to_geometry()
    check(made, made.vertices * 1000)
    export(textured, tmp_path / "model.obj.zip", "obj_zip", title="../my 猫")
    with zipfile.ZipFile(tmp_path / "model.obj.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
        names = sorted(archive.namelist())
        assert names == [f"my-猫_{textured.extents.max():g}mm.{ending}" for ending in ("mtl", "obj", "png")]
        assert all(entry.flag_bits & 0x800 for entry in archive.infolist())  # the names are in UTF-8
    made = trimesh.load(tmp_path / "unpacked" / names[1], process=False)
    check(made, made.vertices)


def test_glb_is_what_it_says(textured, colored, tmp_path):
    def document(path):
        data = path.read_bytes()
        assert data[:4] == b"glTF"
        assert int.from_bytes(data[8:12], "little") == len(data)
        return json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])

    path = tmp_path / "model.glb"
    write_glb(textured, path, title="mug")
    found = document(path)
    assert found["asset"] == {"version": "2.0", "generator": "ORFEAS"}
    assert found["nodes"][0]["extras"]["size_mm"] == pytest.approx(textured.extents.tolist(), abs=1e-3)
    assert found["images"][0]["mimeType"] == "image/jpeg"
    seams = found["accessors"][0]["count"] - len(textured.vertices)
    assert 0 < seams < len(textured.vertices) / 4  # doubled only along the seam
    write_glb(colored, path, unit_scale=1 / colored.extents.max())
    found = document(path)
    place_ = found["accessors"][found["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    assert max(np.subtract(place_["max"], place_["min"])) == pytest.approx(1.0, abs=1e-6)
    material = found["materials"][0]["pbrMetallicRoughness"]
    assert (material["metallicFactor"], material["roughnessFactor"]) == (0.0, 0.8)


def test_stl_header_names_maker_and_unit(plain, tmp_path):
    path = tmp_path / "model.stl"
    export(plain, path, "stl", title="Käse " * 30)
    data = path.read_bytes()
    assert data.startswith(b"ORFEAS")
    assert b"millimetres" in data[:80]
    assert len(data) == 84 + 50 * len(plain.faces)


@pytest.mark.parametrize("title", ['<&"> mug', "猫", "a\nb"])
def test_lib3mf_reads_without_a_warning(title, colored, tmp_path):
    lib3mf = pytest.importorskip("lib3mf")
    path = tmp_path / "model.3mf"
    export(colored, path, "3mf", title=title, thumbnail=PNG)
    model = lib3mf.get_wrapper().CreateModel()
    reader = model.QueryReader("3mf")
    reader.SetStrictModeActive(True)
    reader.ReadFromFile(str(path))
    assert reader.GetWarningCount() == 0
    assert model.GetUnit() == lib3mf.ModelUnit.MilliMeter
    meshes = model.GetMeshObjects()
    assert meshes.MoveNext()
    mesh = meshes.GetCurrentMeshObject()
    assert mesh.IsManifoldAndOriented()
    assert mesh.GetTriangleCount() == len(colored.faces)
    assert model.GetColorGroups().MoveNext()
    assert model.HasPackageThumbnailAttachment()
    data = model.GetMetaDataGroup().GetMetaDataByKey("", "Title")
    assert data.GetValue().split() == title.split()


def test_admesh_repairs_nothing(plain, tmp_path):
    admesh = shutil.which("admesh")
    if not admesh:
        pytest.skip("admesh is not installed (Debian: apt install admesh)")
    path = tmp_path / "model.stl"
    export(plain, path, "stl")
    said = subprocess.run([admesh, path], capture_output=True, text=True, check=True).stdout
    numbers = dict(line.rsplit(":", 1) for line in said.splitlines() if line.count(":") == 1)
    for key in ("Edges fixed", "Facets removed", "Facets added", "Facets reversed", "Backwards edges", "Normals fixed"):
        found = [value for name, value in numbers.items() if name.strip() == key]
        assert int(found[0].split()[0]) == 0, said


@pytest.fixture(scope="module")
def validator(tmp_path_factory):
    """A folder with Khronos's own validator, and a script that runs it over a file."""
    folder = npm.install(tmp_path_factory.mktemp("validator"), f"gltf-validator@{VALIDATOR_VERSION}")
    (folder / "validate.js").write_text(
        'import { readFileSync } from "node:fs"; import validator from "gltf-validator";'
        "const found = await validator.validateBytes(new Uint8Array(readFileSync(process.argv[2])), { maxIssues: 0 });"
        "console.log(JSON.stringify(found.issues));"
    )
    return folder


def test_khronos_validator_finds_nothing(model, validator, tmp_path):
    def issues(path):
        run = ["node", "validate.js", path]
        said = subprocess.run(run, cwd=validator, capture_output=True, text=True, check=True).stdout
        found = json.loads(said)
        return (found["numErrors"], found["numWarnings"], found["numInfos"]), found["messages"]

    path = tmp_path / "model.glb"
    for options in ({}, {"unit_scale": 1 / 77.7}):
        write_glb(model, path, title="mug", **options)
        numbers, messages = issues(path)
        assert numbers == (0, 0, 0), messages
    path.write_bytes(path.read_bytes().replace(b'"scene":0', b'"scene":7'))
    assert issues(path)[0][0] > 0, "the validator found nothing wrong with a broken file"


def test_usdz_is_laid_out_and_complies(model, tmp_path):
    usd = pytest.importorskip("pxr.Usd")
    from pxr import UsdGeom, UsdValidation

    path = tmp_path / "model.usdz"
    export(model, path, "usdz", title="mug")
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            data = path.read_bytes()
            extra = int.from_bytes(data[entry.header_offset + 28 : entry.header_offset + 30], "little")
            assert (entry.header_offset + 30 + len(entry.filename) + extra) % 64 == 0
    stage = usd.Stage.Open(str(path))
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 0.001
    points = np.array(UsdGeom.Mesh(stage.GetPrimAtPath("/model/surface")).GetPointsAttr().Get())
    assert np.ptp(points, axis=0) == pytest.approx(model.extents, abs=0.01)
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()  # what usdchecker runs
    assert len(validators) > 20
    errors = UsdValidation.ValidationContext(validators).Validate(stage)
    assert not errors, [error.GetMessage() for error in errors]


def test_usdz_without_usd_core_is_one_sentence(plain, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(EngineUnavailable, match="pip install usd-core"):
        export(plain, tmp_path / "model.usdz", "usdz")
    assert not (tmp_path / "model.usdz").exists()


@pytest.mark.parametrize(
    ("size", "format", "name"),
    [(100, "stl", "mug_100mm.stl"), (62.5, "3mf", "mug_62.5mm.3mf"), (7.126, "obj_zip", "mug_7.13mm.obj.zip")],
)
def test_file_names_say_what_they_are(size, format, name):
    assert file_name("mug", size, format) == name


def test_table_is_whole():
    from orfeas.request import FORMATS

    assert set(FORMATS) <= set(EXPORTERS)
    assert MEDIA_TYPES["stl"] == "model/stl"
    assert len({exporter.suffix for exporter in EXPORTERS.values()}) == len(EXPORTERS)


def test_what_cannot_be_written_is_named(plain, tmp_path):
    with pytest.raises(BadRequest, match=r"use stl, 3mf"):
        export(plain, tmp_path / "x", "fbx")
    with pytest.raises(BadMesh):
        export(Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32)), tmp_path / "x", "stl")


def test_titles_do_not_break_text_formats(plain, tmp_path):
    for format in ("ply", "obj", "stl"):
        path = tmp_path / f"model.{format}"
        export(plain, path, format, title="a b\nend_header\nf 1 2 3\x00 Müller 猫")
        assert len(read(path).faces) == len(plain.faces)
        assert ("Müller_猫" if format == "obj" else "Muller").encode() in path.read_bytes()
    buffer = io.BytesIO((tmp_path / "model.obj").read_bytes())
    assert sum(line.startswith(b"f ") for line in buffer) == len(plain.faces)
