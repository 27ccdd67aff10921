"""Every format of a finished result, made afterwards: what a job asking for it would have written."""

from __future__ import annotations

import json
import threading
import zipfile

import cv2
import numpy as np
import pytest
import trimesh

from orfeas.errors import EngineUnavailable
from orfeas.export import EXPORTERS, file_name
from orfeas.formats import find_file, make_file, writable_formats
from orfeas.mesh import vertex_normals
from orfeas.mesh.load import load_mesh
from orfeas.request import FORMATS, GenerationRequest
from tests.conftest import PacedEngine, open_studio

SIZE = 62.5
Z_UP = ("stl", "3mf")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A function: the result of a job asking for a format, with or without colours, each made once."""
    from orfeas.library import Library
    from orfeas.settings import Settings

    folder = tmp_path_factory.mktemp("formats")
    settings = Settings(_env_file=None, engine="sketch", data_dir=folder)
    studio = open_studio(settings, PacedEngine(), Library(folder))
    photo = write_two_colours(folder / "mug.png")
    made = {}

    def result(format: str, texture: str = "photo"):
        if (format, texture) not in made:
            request = GenerationRequest(photo, quality="draft", format=format, size_mm=SIZE, seed=3, texture=texture)
            *_, made[format, texture] = studio.run(request)
        return made[format, texture]

    result.library = studio.library
    yield result
    studio.close()


def write_two_colours(path):
    """An egg, red above and blue below, on transparent ground."""
    picture = np.zeros((320, 400, 4), np.uint8)
    cv2.ellipse(picture, (200, 160), (90, 120), 0, 0, 360, (60, 70, 200, 255), -1)
    picture[160:, :, :3] = picture[160:, :, 2::-1]
    cv2.imwrite(str(path), picture)
    return path


@pytest.fixture(params=["photo", "none"])
def texture(request) -> str:
    return request.param


def make(results, format: str, texture: str = "photo"):
    """The file of that format, made from the result of a job that asked for another."""
    job = results("glb" if format == "stl" else "stl", texture)
    return make_file(results.library, job.id, file_name("mug", SIZE, format))


def read(path) -> trimesh.Trimesh:
    """In millimetres, front -Y if the format is Z up."""
    made = trimesh.load(path)
    made = made.to_geometry() if isinstance(made, trimesh.Scene) else made
    made.merge_vertices(merge_tex=True, merge_norm=True)
    if path.suffix == ".glb":
        made.apply_scale(1000)
    return made


@pytest.mark.parametrize("format", ["stl", "3mf", "glb", "obj", "ply"])
def test_each_format_loads_with_its_size_and_axis(results, format, texture):
    made = read(make(results, format, texture))
    extents = results("stl", texture).report["extents_mm"]  # x, y, z with Y up; the egg is wider than it is deep
    assert len({round(side) for side in extents}) == 3
    width, height, depth = extents
    assert made.extents == pytest.approx((width, depth, height) if format in Z_UP else extents, abs=0.01)
    assert max(made.extents) == pytest.approx(SIZE, abs=0.01)
    assert made.bounds[0][2 if format in Z_UP else 1] == pytest.approx(0, abs=1e-4)  # it stands
    assert made.is_watertight
    assert made.is_winding_consistent
    assert made.volume == pytest.approx(1000 * results("stl", texture).report["volume_cm3"], rel=1e-3)


def test_glb_is_the_same_to_the_byte(results, texture):
    direct = results("glb", texture).files["model"]
    assert direct.name == "mug_62.5mm.glb"
    assert make(results, "glb", texture).read_bytes() == direct.read_bytes()


def test_stl_differs_only_by_what_float32_metres_round(results):
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    made, direct = make(results, "stl").read_bytes(), results("stl").files["model"].read_bytes()
    assert made[:84] == direct[:84]
    made, direct = (np.frombuffer(data, record, offset=84) for data in (made, direct))
    assert np.abs(made["corners"] - direct["corners"]).max() < 2e-5  # mm, face by face, corner by corner
    assert np.abs(made["normal"] - direct["normal"]).max() < 0.01


@pytest.mark.parametrize(("format", "texture"), [("3mf", "photo"), ("obj", "photo"), ("ply", "photo"), ("ply", "none")])
def test_shape_and_colours_are_those_of_a_job(results, format, texture):
    made, direct = load_mesh(make(results, format, texture)), load_mesh(results(format, texture).files["model"])
    assert made.faces.shape == direct.faces.shape
    corners = made.vertices[made.faces], direct.vertices[direct.faces]
    assert np.abs(corners[0] - corners[1]).max() < 2e-5  # the vertices' order may differ, the faces' does not
    if texture == "none":
        assert made.colors is None
        assert direct.colors is None
    else:
        difference = np.abs(made.colors[made.faces].astype(int) - direct.colors[direct.faces])
        assert difference.mean() < 2  # of 255; the GLB's texture is a JPEG
        assert difference.max() < 32
        assert np.ptp(direct.colors, axis=0).max() > 60


def test_normals_are_those_of_the_shape(results):
    made = trimesh.load(make(results, "ply"), process=False)
    wanted = vertex_normals(np.asarray(made.vertices), np.asarray(made.faces))
    assert np.abs(made.vertex_normals - wanted).max() < 1e-3


def test_the_zip_holds_the_texture(results, tmp_path):
    file = make(results, "obj_zip")
    name = file.name.removesuffix(".obj.zip")
    with zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == [f"{name}.mtl", f"{name}.obj", f"{name}.png"]
        archive.extractall(tmp_path)
    made = trimesh.load(tmp_path / f"{name}.obj", process=False)
    assert made.extents == pytest.approx(results("stl").report["extents_mm"], abs=0.01)
    picture = np.asarray(made.visual.material.image)[..., :3].astype(int)
    in_glb = load_mesh(results("stl").files["glb"]).texture.image
    assert np.array_equal(picture, in_glb)


def test_usdz(results):
    usd = pytest.importorskip("pxr.Usd")
    from pxr import UsdGeom

    stage = usd.Stage.Open(str(make(results, "usdz")))
    points = np.array(UsdGeom.Mesh(stage.GetPrimAtPath("/model/surface")).GetPointsAttr().Get())
    assert np.ptp(points, axis=0) == pytest.approx(results("stl").report["extents_mm"], abs=0.01)
    assert UsdGeom.GetStageUpAxis(stage) == "Y"


def test_usdz_without_usd_core_is_a_sentence_and_not_offered(results, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pxr", None)
    monkeypatch.setattr("orfeas.formats.find_spec", lambda name: None)
    job = results("ply")
    with pytest.raises(EngineUnavailable, match="pip install usd-core"):
        make_file(results.library, job.id, "mug_62.5mm.usdz")
    assert find_file(results.library, job.id, "mug_62.5mm.usdz") is None
    assert writable_formats() == tuple(key for key in EXPORTERS if key != "usdz")
    assert set(FORMATS) <= set(writable_formats())


def test_looking_for_usd_core_does_not_import_it():
    import subprocess
    import sys

    check = (
        "import sys; from orfeas.formats import writable_formats; writable_formats(); assert 'pxr' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_it_is_kept_and_nothing_is_left_aside(results):
    job = results("obj")
    assert find_file(results.library, job.id, "mug_62.5mm.ply") is None
    made = make_file(results.library, job.id, "mug_62.5mm.ply")
    assert made.parent == job.folder
    written = made.stat().st_mtime_ns
    assert make_file(results.library, job.id, made.name).stat().st_mtime_ns == written
    assert find_file(results.library, job.id, made.name) == made
    assert not list(results.library.staging.iterdir())


def test_two_at_once(results):
    job = results("3mf")
    start, made = threading.Barrier(4), []

    def ask():
        start.wait()
        path = make_file(results.library, job.id, "mug_62.5mm.stl")
        made.append(path.read_bytes())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert len(set(made)) == 1
    assert not list(results.library.staging.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        "mug_62mm.stl",
        "mug_62.50mm.ply",
        "cup_62.5mm.ply",
        "mug_62.5mm.exe",
        "mug_62.5mm.",
        "../mug_62.5mm.ply",
        "",
        ".",
    ],
)
def test_only_names_that_the_recipe_allows(results, name):
    job = results("stl")
    before = sorted(path.name for path in job.folder.iterdir())
    assert make_file(results.library, job.id, name) is None
    assert sorted(path.name for path in job.folder.iterdir()) == before


def test_unknown_results_and_broken_recipes_are_nothing(results):
    assert make_file(results.library, "0" * 32, "mug_62.5mm.ply") is None
    assert make_file(results.library, "../results", "mug_62.5mm.ply") is None
    folder = results.library.results / ("e" * 32)
    folder.mkdir()
    for recipe in (None, "", "[]", '{"request": {"name": "mug", "size_mm": "large", "texture": "photo"}}'):
        if recipe is not None:
            (folder / "recipe.json").write_text(recipe)
        assert make_file(results.library, folder.name, "mug_62.5mm.ply") is None
    recipe = {"request": {"name": "../../mug", "size_mm": 62.5, "texture": "photo"}}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    assert make_file(results.library, folder.name, "mug_62.5mm.ply") is None
