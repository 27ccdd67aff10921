"""The one way: order, lane, cancel, files, and that what comes out is solid, sized and repeatable."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from PIL import Image

from orfeas.cutout.border import flood_border
from orfeas.engines.sketch import SketchEngine
from orfeas.engines.sketch.learned import LearnedShape
from orfeas.errors import BadPicture, OrfeasError, OutOfMemory
from orfeas.mesh import Mesh
from orfeas.progress import STAGE_SHARES, STAGES, Progress
from orfeas.recipe import read_recipe
from orfeas.request import FORMATS, QUALITIES, GenerationRequest
from orfeas.result import Result
from tests.conftest import PacedEngine, sphere
from tests.drawings import DRAWINGS, draw
from tests.web.conftest import wait_until

EXAMPLES = Path(__file__).parents[1] / "assets" / "examples"


def cv_memory_error() -> cv2.error:
    error = cv2.error("Insufficient memory")
    error.code = cv2.Error.StsNoMem
    return error


def finish(studio, request) -> Result:
    *_, result = studio.run(request)
    assert isinstance(result, Result)
    return result


def test_a_job_that_is_stopped_leaves_no_copy_of_what_was_made_before(make_studio):
    studio, request = make_studio(PacedEngine()), GenerationRequest(draw("blob"), name="blob", seed=7)
    made = finish(studio, request)
    events = studio.run(request, owner="a" * 32, reuse=True)
    assert next(events).message == "This was made before"
    assert studio.library.index.count_results()[0] == 2
    events.close()
    assert [folder.name for folder in studio.library.results.iterdir()] == [made.id]
    assert [result.id for result in studio.library.index.results()] == [made.id]


def test_another_way_to_the_cutout_is_no_repeat(make_studio, monkeypatch):
    studio, request = make_studio(PacedEngine()), GenerationRequest(draw("blob"), name="blob", seed=7)
    finish(studio, request)
    assert next(studio.run(request, reuse=True)).message == "This was made before"
    better = [("border", flood_border), ("rembg:isnet-general-use", flood_border)]
    monkeypatch.setattr("orfeas.cutout.default_finders", lambda: better)
    assert next(studio.run(request, reuse=True)).message != "This was made before"


def test_what_cannot_be_made_solid_is_told_to_somebody_who_has_a_picture(make_studio):
    class Sheet(PacedEngine):
        def shape(self, cutout, quality, seed):
            for step in super().shape(cutout, quality, seed):
                flat = np.array([1.0, 1.0, 0.0])
                yield Mesh(step.vertices * flat, step.faces) if hasattr(step, "vertices") else step

    with pytest.raises(
        BadPicture, match=r"^No solid model could be made of this picture: try another picture"
    ) as error:
        finish(make_studio(Sheet()), GenerationRequest(draw("blob")))
    assert error.value.code == "not_solid"


def test_the_sphere_of_the_tests_is_a_sphere():
    mesh = trimesh.Trimesh(*sphere(), process=False)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi, rel=0.02)


def test_shares_of_the_stages_make_a_whole():
    for shares in STAGE_SHARES.values():
        assert tuple(shares) == STAGES
        assert sum(shares.values()) == pytest.approx(1)


def test_progress_never_falls_and_the_result_comes_last(make_studio):
    studio, request = make_studio(PacedEngine()), GenerationRequest(draw("blob"), name="blob")
    assert "Loading the engine" in [event.message for event in studio.run(request) if isinstance(event, Progress)]
    events = list(studio.run(request))
    progress, result = events[:-1], events[-1]
    assert isinstance(result, Result)
    fractions = [event.fraction for event in progress]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] == 1
    stages = list(dict.fromkeys(event.stage for event in progress))
    assert tuple(stages) == STAGES
    assert list(dict.fromkeys(event.message for event in progress)) == [
        *("Reading the picture", "Finding the subject", "Making the shape"),
        *("step 1 of 4", "step 2 of 4", "step 3 of 4", "step 4 of 4", "Making it solid"),
        *("Putting the photo's colours on it", "Measuring", "Drawing it from all sides", "Writing the files"),
        *("Writing the recipe", "Done"),
    ]  # what users read


def test_a_result_is_a_whole_folder(make_studio):
    result = finish(make_studio(PacedEngine()), GenerationRequest(draw("blob"), name="blob", size_mm=80, format="3mf"))
    assert result.files["model"].name == "blob_80mm.3mf"
    assert set(result.files) == {
        "model",
        "glb",
        "preview",
        "poster",
        "turntable",
        "picture",
        "cutout",
        "recipe",
    }
    for path in result.files.values():
        assert path.parent == result.folder
        assert path.stat().st_size > 100
    recipe = json.loads(result.files["recipe"].read_text())
    assert recipe["request"]["seed"] == result.request.seed
    assert recipe["report"] == result.report
    assert set(recipe["facts"]["seconds"]) == {*STAGES, "total"}
    assert recipe["facts"]["seconds"]["total"] == pytest.approx(
        sum(recipe["facts"]["seconds"][stage] for stage in STAGES), abs=0.01
    )
    assert recipe["facts"]["peak_memory_mb"] > 50


@pytest.mark.parametrize("format", ["stl", "3mf"])
def test_without_drawing_the_file_is_the_same(make_studio, format):
    studio = make_studio(PacedEngine(), draw_views=None)  # in their real size: a 3MF shows the still
    request = GenerationRequest(draw("blob"), quality="draft", seed=2, format=format)
    drawn = finish(studio, request)
    *_, plain = studio.run(request, draw=False)
    assert set(drawn.files) - set(plain.files) == {"poster", "turntable"}
    with Image.open(drawn.files["poster"]) as poster, Image.open(drawn.files["turntable"]) as turn:
        assert (poster.size, turn.size) == ((512, 512), (24 * 256, 256))
    assert plain.files["model"].read_bytes() == drawn.files["model"].read_bytes()


def test_as_many_jobs_run_at_once_as_the_engine_has_slots(make_studio):
    engine = PacedEngine(steps=1, pace=threading.Semaphore(0), slots=2)
    studio = make_studio(engine)
    request = GenerationRequest(draw("blob"), quality="draft", seed=1)
    threads = [threading.Thread(target=finish, args=(studio, request)) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: (engine.running, studio.health()["queue"]) == (2, 1), "two run and one waits", 60)
    engine.pace.release(3)
    for thread in threads:
        thread.join(timeout=60)
    assert engine.most_running == 2
    assert studio.health()["jobs"] == {"finished": 3, "failed": 0}


def test_a_recipe_makes_the_same_model_again(make_studio):
    studio = make_studio()
    first = finish(studio, GenerationRequest(draw("mug", transparent=False), quality="draft", seed=11, name="mug"))
    recipe = read_recipe(first.files["recipe"])
    assert recipe.latent is None
    again = finish(studio, GenerationRequest.from_options(recipe.picture, recipe.options))
    assert again.id != first.id
    for key in set(first.files) - {"recipe"}:
        assert again.files[key].read_bytes() == first.files[key].read_bytes(), key


@pytest.mark.parametrize(
    "trouble",
    [
        "not json",
        "[]",
        '{"request": {}}',
        '{"picture": {"file": "a.png"}, "request": {}}',
        '{"picture": {"file": "a.png"}, "request": {}, "files": {"latent": 7}, "facts": []}',
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path, trouble):
    (tmp_path / "recipe.json").write_text(trouble)
    with pytest.raises(OrfeasError, match="recipe"):
        read_recipe(tmp_path / "recipe.json")


def test_the_number_of_cores_does_not_matter(make_studio):
    import cv2

    request = GenerationRequest(draw("mug", transparent=False), quality="draft", seed=11, name="mug")
    studio, before = make_studio(), cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = finish(studio, request)
        cv2.setNumThreads(2)
        both = finish(studio, request)
    finally:
        cv2.setNumThreads(before)
    for key in set(alone.files) - {"recipe"}:
        assert both.files[key].read_bytes() == alone.files[key].read_bytes(), key


def test_another_seed_makes_another_model(make_studio):
    studio = make_studio()
    models = {
        finish(studio, GenerationRequest(draw("blob"), quality="draft", seed=seed)).files["model"].read_bytes()
        for seed in (1, 2)
    }
    assert len(models) == 2


@pytest.mark.parametrize("name", DRAWINGS)
def test_awkward_subjects_come_out_solid(make_studio, name):
    request = GenerationRequest(draw(name), quality="draft", seed=3, size_mm=60)
    result = finish(make_studio(), request)
    mesh = trimesh.load_mesh(result.files["model"])
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0
    assert mesh.area_faces.min() > 0
    assert mesh.extents.max() == pytest.approx(60, abs=0.01)
    assert len(mesh.faces) == result.report["faces"] <= QUALITIES["sketch"]["draft"].faces
    parts = {"three parts": {3}, "letters": {2}, "two that touch at a point": {1, 2}}.get(name, {1})
    assert result.report["bodies"] in parts
    assert len(mesh.split(only_watertight=True)) == result.report["bodies"]


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_has_the_size_asked_for(make_studio, format):
    request = GenerationRequest(draw("star"), quality="draft", size_mm=73.21, seed=3, format=format)
    result = finish(make_studio(), request)
    scene = trimesh.load_scene(result.files["model"])
    extents = scene.extents * (1000 if format == "glb" else 1)  # glTF is in metres
    assert extents.max() == pytest.approx(73.21, abs=0.01)
    upright = {"stl": 2, "3mf": 2}.get(format, 1)
    assert scene.bounds[0][upright] == pytest.approx(0, abs=0.01)
    wide, high, deep = result.report["extents_mm"]
    found = (wide, deep, high) if upright == 2 else (wide, high, deep)
    assert extents == pytest.approx(found, abs=0.01)


def test_fewer_faces_are_made_when_asked(make_studio):
    result = finish(make_studio(), GenerationRequest(draw("mug"), quality="draft", max_faces=900, seed=1))
    assert 400 < result.report["faces"] <= 900
    assert result.report["watertight"]


@pytest.mark.parametrize("base", ["cut", "plinth"])
def test_a_flat_base_makes_it_stand(make_studio, base):
    studio = make_studio()
    request = GenerationRequest(draw("blob"), quality="draft", base=base, size_mm=50, seed=1)
    result = finish(studio, request)
    mesh = trimesh.load_mesh(result.files["model"])
    assert mesh.is_watertight
    assert mesh.extents.max() == pytest.approx(50, abs=0.01)
    on_the_bed = (mesh.vertices[mesh.faces][:, :, 2] < 1e-4).all(axis=1)
    assert mesh.area_faces[on_the_bed].sum() > 100  # square millimetres
    assert result.report["stands"] is True
    assert result.report["faces"] <= QUALITIES["sketch"]["draft"].faces


@pytest.mark.parametrize(  # the camera looked down on the teapot by 18°
    ("name", "stood", "least", "most"), [("teapot.jpg", True, 9, 27), ("mushroom.jpg", False, 6, 18)]
)
def test_what_was_seen_from_above_is_turned_to_stand(make_studio, name, stood, least, most):
    studio, photo = make_studio(SketchEngine(source=LearnedShape())), EXAMPLES / name
    leaning, standing = (
        finish(studio, GenerationRequest(photo, quality="draft", size_mm=50, seed=1, orientation=orientation))
        for orientation in ("picture", "standing")
    )
    assert leaning.report["stands"] is stood
    assert standing.report["stands"] is True
    turned = re.fullmatch(r"Tilted back by ([\d.]+)°, where it stands steadiest\.", standing.notes[-2])
    assert least < float(turned[1]) < most
    assert not any("ilted" in note for note in leaning.notes)
    models = [trimesh.load_mesh(result.files["model"]) for result in (leaning, standing)]
    assert [model.extents.max() for model in models] == pytest.approx([50, 50], abs=0.01)
    assert models[0].extents != pytest.approx(models[1].extents, rel=0.001)
    assert models[0].volume / models[0].area ** 1.5 == pytest.approx(models[1].volume / models[1].area ** 1.5, rel=1e-4)


@pytest.mark.parametrize("base", ["cut", "plinth"])
def test_a_base_fits_the_smallest_and_the_flattest(make_studio, base):
    request = GenerationRequest(draw("needle", size=(480, 60)), quality="draft", base=base, size_mm=1, seed=1)
    result = finish(make_studio(), request)
    assert trimesh.load_mesh(result.files["model"]).extents.max() == pytest.approx(1, abs=0.01)
    assert result.report["watertight"]


def test_without_texture_there_are_no_colours(make_studio):
    studio = make_studio()
    plain = finish(studio, GenerationRequest(draw("blob"), quality="draft", texture="none", format="ply", seed=1))
    photo = finish(studio, GenerationRequest(draw("blob"), quality="draft", texture="photo", format="ply", seed=1))
    assert trimesh.load_mesh(plain.files["model"]).visual.kind is None
    colors = trimesh.load_mesh(photo.files["model"]).visual.vertex_colors
    assert np.ptp(colors[:, 0]) > 60


def test_one_lane(make_studio):
    engine = PacedEngine()
    studio = make_studio(engine)
    results = []
    threads = [
        threading.Thread(
            target=lambda seed=seed: results.append(finish(studio, GenerationRequest(draw("blob"), seed=seed)))
        )
        for seed in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(result.request.seed for result in results) == list(range(5))
    assert engine.most_running == 1
    assert engine.loads == 1
    assert studio.health()["jobs"] == {"finished": 5, "failed": 0}


def test_cancel_frees_the_lane_and_leaves_nothing(make_studio, settings):
    pace = threading.Semaphore(1)
    engine = PacedEngine(pace=pace)
    studio = make_studio(engine)
    job = studio.run(GenerationRequest(draw("blob")))
    while next(job).message != "step 1 of 4":
        pass
    assert studio.health()["busy"]
    job.close()
    assert (engine.cancelled, engine.running) == (1, 0)
    assert not studio.health()["busy"]
    assert not (settings.data_dir / "results").exists()
    engine.pace = None
    finish(studio, GenerationRequest(draw("blob")))


def test_who_waits_is_told_and_may_leave(make_studio):
    studio = make_studio(PacedEngine())
    first, second, third = (studio.run(GenerationRequest(draw("blob"))) for _ in range(3))
    next(first)
    waiting = next(second)
    assert (waiting.stage, waiting.fraction, waiting.message) == (
        "waiting",
        0,
        "Waiting for one job before this one",
    )
    assert next(third).message == "Waiting for 2 jobs before this one"
    second.close()
    assert next(third).message == "Waiting for one job before this one"
    first.close()
    *_, result = third
    assert isinstance(result, Result)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), OutOfMemory),
        (cv_memory_error(), OutOfMemory),
        (BadPicture("No."), BadPicture),
        (ZeroDivisionError(), ZeroDivisionError),
    ],
)
def test_a_failure_fails_one_job_only(make_studio, error, kind):
    engine = PacedEngine(error=error)
    studio = make_studio(engine)
    with pytest.raises(kind):
        finish(studio, GenerationRequest(draw("blob")))
    engine.error = None
    finish(studio, GenerationRequest(draw("blob")))
    assert studio.health()["jobs"] == {"finished": 1, "failed": 1}


def test_a_small_picture_of_any_shape_works(make_studio):
    for size in ((64, 640), (640, 64), (33, 40)):
        result = finish(make_studio(), GenerationRequest(draw("blob", size=size), quality="draft", seed=1))
        assert result.report["watertight"]
