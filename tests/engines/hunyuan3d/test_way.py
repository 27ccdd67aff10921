"""The whole way with Hunyuan3D on a CPU: a tiny network with random weights, and everything around it for real."""

from __future__ import annotations

import json
import shutil
from html import escape

import numpy as np
import pytest
import trimesh

from orfeas import cli
from orfeas.engines.choose import choose_engine
from orfeas.errors import BadRequest
from orfeas.library import Library
from orfeas.progress import Progress
from orfeas.recipe import MAX_LATENT_BYTES, read_recipe
from orfeas.request import GenerationRequest, Quality
from orfeas.settings import Settings
from orfeas.studio import Studio
from orfeas.web.frame import hero
from tests import conftest
from tests.conftest import PacedEngine
from tests.drawings import draw
from tests.engines.hunyuan3d.blob import write_blob_weights

QUALITIES = {"draft": Quality(20, 4, 700), "standard": Quality(28, 4, 1500), "high": Quality(36, 6, 2500)}


def open_studio(settings: Settings) -> Studio:
    """As `orfeas.studio.build_studio` does it, with coarser grids."""
    return conftest.open_studio(settings, choose_engine(settings), Library(settings.data_dir), qualities=QUALITIES)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_blob_weights(folder)
    return folder


@pytest.fixture(scope="module")
def studio(weights, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    settings = Settings(_env_file=None, engine="hunyuan3d", device="cpu", hunyuan3d_path=weights, data_dir=data)
    studio = open_studio(settings)
    yield studio
    studio.close()


def ask(**options) -> GenerationRequest:
    return GenerationRequest(draw("blob"), **{"quality": "draft", "seed": 5, "name": "blob", **options})


@pytest.fixture(scope="module")
def events(studio):
    return list(studio.run(ask()))


@pytest.fixture(scope="module")
def first(events):
    return events[-1]


@pytest.fixture
def kept(first, tmp_path):
    """The first result's folder, to be spoilt."""
    return read_recipe(shutil.copytree(first.folder, tmp_path / "kept") / "recipe.json")


def make_again(studio, recipe, **options):
    request = GenerationRequest.from_options(recipe.picture, {**recipe.options, **options})
    *progress, result = studio.run(request, recipe.latent)
    return [event.message for event in progress], result


def steps_in(messages) -> list[str]:
    return [message for message in messages if message.startswith("Diffusion step")]


# --- one job ----------------------------------------------------------------------------------------------------------


def test_steps_are_counted_with_the_time_left_and_progress_never_falls(events):
    *progress, _ = events
    assert all(isinstance(event, Progress) for event in progress)
    fractions = [event.fraction for event in progress]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    steps = steps_in(event.message for event in progress)
    assert [step.split(",")[0] for step in steps] == [f"Diffusion step {k} of 3" for k in (1, 2, 3)]
    assert all(step.endswith(" left") for step in steps[1:])
    diffusion = [event.fraction for event in progress if event.message in steps]
    volume = [event.fraction for event in progress if event.message.startswith("Decoding the volume")]
    assert np.diff(diffusion) == pytest.approx(diffusion[1] - diffusion[0], rel=0.01)
    assert 0.5 < diffusion[-1] < volume[0] <= volume[-1] < 0.9


def test_the_result_is_solid_and_whole(first):
    assert first.report["watertight"]
    assert first.report["faces"] <= QUALITIES["draft"].faces
    mesh = trimesh.load_mesh(first.files["model"])
    assert mesh.is_watertight
    assert mesh.volume > 0
    assert mesh.extents.max() == pytest.approx(100, abs=0.01)
    for path in first.files.values():
        assert path.parent == first.folder
        assert path.stat().st_size > 100
    latent = np.load(first.files["latent"], allow_pickle=False)
    assert (latent.shape, latent.dtype) == ((24, 8), np.float16)


def test_the_recipe_tells_the_stages(first):
    recipe = json.loads(first.files["recipe"].read_text())
    facts = recipe["facts"]
    assert (facts["engine"], facts["device"]) == ("hunyuan3d", "cpu")
    assert set(facts["shape_seconds"]) == {"features", "diffusion", "decoding", "volume", "surface"}
    assert sum(facts["shape_seconds"].values()) <= facts["seconds"]["shape"] + 0.01
    assert (facts["grid"], facts["diffusion_steps"], facts["residency"]) == (20, 4, "resident")
    assert recipe["files"]["latent"] == "latent.npy"
    assert recipe["request"] == first.request.options()
    assert "latent" not in recipe["request"]


def test_approximations_are_on_the_page_in_the_notes_and_in_the_recipe(weights, tmp_path):
    settings = Settings(_env_file=None, engine="hunyuan3d", device="cpu", hunyuan3d_path=weights, data_dir=tmp_path)
    studio = open_studio(settings.model_copy(update={"hunyuan3d_approximate": "guidance,latents"}))
    names = [
        "guidance only from time 0.1 to 0.8 (16 to 34 % off, measured with random weights only)",
        "a third of the latents for each point (1.6 to 15 % off, measured with random weights only)",
    ]
    sentence = f"Approximated for speed or memory: {', '.join(names)}."
    assert escape(sentence) in hero(studio.engine)
    assert studio.health()["engine"]["approximations"] == names
    *_, result = studio.run(ask())
    studio.close()
    recipe = json.loads(result.files["recipe"].read_text())
    assert recipe["facts"]["approximations"] == names
    note = f"This shape was approximated for speed or memory: {', '.join(names)}."
    assert note in recipe["notes"]
    assert note in result.notes
    assert sentence not in result.notes  # which the command line takes for what is said of the engine, and leaves out


def test_an_exact_latent_that_is_meshed_again_is_not_called_approximated(weights, kept, tmp_path):
    settings = Settings(_env_file=None, engine="hunyuan3d", device="cpu", hunyuan3d_path=weights, data_dir=tmp_path)
    studio = open_studio(settings.model_copy(update={"hunyuan3d_approximate": "solver,guidance"}))
    _, again = make_again(studio, kept)
    assert again.facts["remeshed"]
    assert again.facts["approximations"] == []
    assert again.facts["engine_version"] == studio.engine.version.removesuffix("-solver-guidance")
    assert not any("approximated" in note.lower() for note in again.notes)
    studio.close()


def test_health_names_the_engine(studio, first):
    engine = studio.health()["engine"]
    assert (engine["name"], engine["title"], engine["device"]) == ("hunyuan3d", "Hunyuan3D-2.1", "cpu")
    assert engine["loaded"]
    assert engine["ready"]
    assert "ORFEAS_ENGINE=hunyuan3d" in engine["reason"]
    json.dumps(engine)


@pytest.mark.parametrize("place", ["Looking at the picture", "Diffusion step 2", "Decoding the volume"])
def test_cancel_between_steps_frees_the_lane_and_leaves_nothing(studio, first, place):
    before = set(studio.library.results.iterdir())
    job = studio.run(ask(seed=6))
    next(event for event in job if event.message.startswith(place))
    assert studio.health()["busy"]
    job.close()
    assert not studio.health()["busy"]
    assert set(studio.library.results.iterdir()) == before
    assert not any(studio.library.staging.iterdir())


# --- the kept latent --------------------------------------------------------------------------------------------------


def test_the_recipe_makes_the_same_model_without_diffusion(studio, first, kept):
    messages, again = make_again(studio, kept)
    assert not steps_in(messages)
    assert "Re-meshing from the kept latent" in messages
    for key in set(first.files) - {"recipe"}:
        assert again.files[key].read_bytes() == first.files[key].read_bytes(), key
    assert again.facts["remeshed"] is True
    assert again.facts["diffusion_steps"] == 4
    assert set(again.facts["shape_seconds"]) == {"decoding", "volume", "surface"}
    assert "Re-meshed from the kept latent of 4 diffusion steps; the diffusion was not run again." in again.notes


def test_another_grid_of_the_kept_latent_is_what_a_job_of_that_grid_makes(studio, first, kept):
    messages, finer = make_again(studio, kept, quality="standard", format="ply", size_mm=60, base="cut")
    assert not steps_in(messages)
    assert finer.facts["grid"] == 28
    assert finer.report["faces"] > first.report["faces"]
    *_, direct = studio.run(ask(quality="standard", format="ply", size_mm=60, base="cut"))  # the same count of steps
    assert "remeshed" not in direct.facts
    assert finer.files["model"].read_bytes() == direct.files["model"].read_bytes()
    # and once more, from the folder that the re-meshing made
    _, third = make_again(
        studio, read_recipe(finer.files["recipe"]), quality="draft", format="stl", size_mm=100, base="none"
    )
    assert third.files["model"].read_bytes() == first.files["model"].read_bytes()
    assert third.facts["diffusion_steps"] == 4


def test_progress_of_a_re_meshing_starts_where_it_starts(studio, kept):
    request = GenerationRequest.from_options(kept.picture, kept.options)
    shape = [event.fraction for event in studio.run(request, kept.latent) if getattr(event, "stage", "") == "shape"]
    assert shape == sorted(shape)
    assert shape[0] == shape[1] == shape[2] < 0.1
    assert shape[-1] > 0.8


@pytest.mark.parametrize(
    ("options", "why"),
    [({"seed": 6}, "its seed is 5, and 6 was asked for"), ({"taps": [[0.5, 0.5, "exclude"]]}, "the cutout is another")],
)
def test_another_seed_or_cutout_is_sampled_anew_and_says_so(studio, kept, options, why):
    messages, result = make_again(studio, kept, **options)
    assert len(steps_in(messages)) == 3
    assert f"The kept latent was not used, for {why}: the shape was made anew." in result.notes
    assert "remeshed" not in result.facts


def test_the_latent_of_other_weights_is_sampled_anew_and_says_so(studio, first, kept, tmp_path):
    identity = first.facts["weights_identity"]
    assert identity in first.facts["engine_version"]
    assert kept.latent.weights == identity
    recipe = kept.picture.with_name("recipe.json")
    text = recipe.read_text()
    recipe.write_text(text.replace(identity, "0123456789ab"))
    messages, result = make_again(studio, read_recipe(recipe))
    assert len(steps_in(messages)) == 3
    assert any("not used, for it was made with other weights than are here" in note for note in result.notes)
    older = json.loads(text)
    del older["facts"]["weights_identity"]
    recipe.write_text(json.dumps(older))
    _, result = make_again(studio, read_recipe(recipe))
    assert result.facts["remeshed"], "what an older recipe does not know does not keep it from being used"


def test_without_the_file_it_is_sampled_anew_and_the_model_is_the_same(studio, first, kept):
    kept.latent.path.unlink()
    messages, result = make_again(studio, kept)
    assert len(steps_in(messages)) == 3
    assert any("latent.npy is not beside the recipe" in note for note in result.notes)
    assert result.files["model"].read_bytes() == first.files["model"].read_bytes()


def test_another_engine_makes_it_anew_and_says_so(make_studio, kept):
    _, result = make_again(make_studio(PacedEngine()), kept)
    assert any("it is of the engine hunyuan3d, and here sketch runs" in note for note in result.notes)
    assert "latent" not in result.files


class Exploding:
    """Whoever unpickles this fails the test."""

    def __reduce__(self):
        return pytest.fail, ("a latent was unpickled",)


def write_pickle(path):
    np.save(path, np.array([Exploding()], object), allow_pickle=True)


def write_promise(path):
    """A header that promises a terabyte."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f2", "fortran_order": False, "shape": (1 << 19, 1 << 20)}
        )


def write_archive(path):
    with path.open("wb") as file:
        np.savez(file, latent=np.zeros((24, 8), np.float16))


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "pickle": write_pickle,
    "promise": write_promise,
    "archive": write_archive,
    "huge": lambda path: np.save(path, np.zeros(MAX_LATENT_BYTES, np.uint8)),
    "another model's": lambda path: np.save(path, np.zeros((4096, 64), np.float16)),
    "not numbers": lambda path: np.save(path, np.full((24, 8), "a")),
    "not finite": lambda path: np.save(path, np.full((24, 8), np.nan, np.float16)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_latent_is_one_sentence_with_the_remedy(studio, kept, damage):
    DAMAGES[damage](kept.latent.path)
    with pytest.raises(BadRequest, match="made anew") as refused:
        make_again(studio, kept)
    assert refused.value.code == "bad_latent"
    assert "\n" not in str(refused.value)
    assert not studio.health()["busy"]


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line_keeps_and_re_meshes(weights, tmp_path, monkeypatch, capsys):
    for name, value in {"ENGINE": "hunyuan3d", "DEVICE": "cpu", "HUNYUAN3D_PATH": weights}.items():
        monkeypatch.setenv(f"ORFEAS_{name}", str(value))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blob.png").write_bytes(draw("blob"))

    def orfeas(*arguments) -> dict:
        assert cli.main([*map(str, arguments), "--json"], open_studio) == 0
        return json.loads(capsys.readouterr().out)

    line = orfeas("blob.png", "-o", "a.stl", "--quality", "draft", "--keep")
    assert (line["engine"], line["remeshed"], line["watertight"]) == ("hunyuan3d", False, True)
    recipe = tmp_path / "a.orfeas" / "recipe.json"
    finer = orfeas("--recipe", recipe, "-o", "b.ply", "--quality", "high", "--size-mm", 50, "--max-faces", 1800)
    assert finer["remeshed"]
    assert finer["seed"] == line["seed"]
    assert line["faces"] < finer["faces"] <= 1800
    assert any("Re-meshed from the kept latent of 4 diffusion steps" in note for note in finer["notes"])
    assert trimesh.load_mesh(tmp_path / "b.ply").extents.max() == pytest.approx(50, abs=0.01)
    other = orfeas("--recipe", recipe, "-o", "c.stl", "--seed", (line["seed"] + 1) % 2**32)
    assert not other["remeshed"]

    (recipe.parent / "latent.npy").write_bytes(b"nothing")
    assert cli.main(["--recipe", str(recipe), "-o", "d.stl"], open_studio) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "latent.npy cannot be read" in said.err
    assert not (tmp_path / "d.stl").exists()
