"""The command line as a user types it: real processes, real files."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest
import trimesh
from PIL import Image

from orfeas import arguments, cli, generate_cli
from orfeas.errors import BadRequest
from orfeas.library import Library
from orfeas.settings import Settings
from tests.conftest import PacedEngine, open_studio
from tests.drawings import draw

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "blob.png").write_bytes(draw("blob"))
    (folder / "star.webp").write_bytes(draw("star", transparent=False))  # by content a PNG
    (folder / "notes.txt").write_text("not a picture")
    return folder


def orfeas(*arguments, cwd, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "orfeas", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ORFEAS_ENGINE": "sketch", **environment},
    )


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """The same as `orfeas` in tmp_path, in this process: what takes a process of its own is proven by the others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORFEAS_ENGINE", "sketch")

    def run(*arguments) -> subprocess.CompletedProcess:
        status = cli.main([str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return run


@pytest.fixture
def paced(tmp_path, monkeypatch, capsys):
    """`here` with an ellipsoid of no work; ``on_shape`` is called with the data folder whenever a shape is begun."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, on_shape=lambda data_dir: None) -> subprocess.CompletedProcess:
        def make_studio(settings):
            class Engine(PacedEngine):
                def shape(self, cutout, quality, seed):
                    on_shape(settings.data_dir)
                    yield from super().shape(cutout, quality, seed)

            return open_studio(settings, Engine(), Library(settings.data_dir))

        status = cli.main([str(argument) for argument in (*arguments, "--quality", "draft")], make_studio)
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return run


@contextmanager
def begun(*words, cwd, hangup="SIG_DFL"):
    """A process of the command line after its first line of output; its scratch folders are in cwd/tmp."""
    (cwd / "tmp").mkdir()
    code = (  # whatever these tests' own process ignores
        "import signal, sys; from orfeas import cli; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"signal.signal(signal.SIGHUP, signal.{hangup}); sys.exit(cli.main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ORFEAS_ENGINE": "sketch", "TMPDIR": str(cwd / "tmp")},
    )  # fmt: skip
    with process:
        try:
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


def json_lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_photo_becomes_one_file(photos, tmp_path):
    done = orfeas(
        photos / "blob.png", "-o", "out.stl", "--quality", "draft", "--size-mm", 80, "--seed", 7, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("out.stl: ")
    assert "seed 7" in done.stdout
    mesh = trimesh.load_mesh(tmp_path / "out.stl")
    assert mesh.is_watertight
    assert mesh.extents.max() == pytest.approx(80, abs=0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.stl", "photos"]
    assert done.stderr == ""


def test_a_folder_becomes_a_folder_and_a_bad_picture_stops_nothing(photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    done = orfeas(photos, "-o", "models", "--quality", "draft", "--format", "ply", "--json", cwd=tmp_path)
    assert done.returncode == 1
    lines = {Path(line["picture"]).name: line for line in json_lines(done.stdout)}
    assert set(lines) == {"blob.png", "broken.jpg", "star.webp"}
    assert lines["broken.jpg"]["code"] == "corrupt"
    assert "broken.jpg" in done.stderr
    assert "Traceback" not in done.stderr
    for name in ("blob.png", "star.webp"):
        line = lines[name]
        mesh = trimesh.load_mesh(tmp_path / line["path"])
        assert len(mesh.faces) == line["faces"]
        assert mesh.extents == pytest.approx(line["extents_mm"], abs=0.01)
        assert mesh.volume / 1000 == pytest.approx(line["volume_cm3"], rel=0.001)
        assert line["watertight"] is True
        assert line["report"]["genus"] is not None
        assert line["report"]["mass_g"] == pytest.approx(1.24 * line["volume_cm3"], rel=0.01)
        assert line["engine"] == "sketch"
        assert 0 <= line["seed"] < 2**32
        assert line["seconds"]["total"] > 0
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["blob_100mm.ply", "star_100mm.ply"]


def test_pictures_of_one_name_do_not_overwrite_each_other(here, photos, tmp_path):
    (photos / "blob.jpg").write_bytes(draw("mug"))
    done = here(photos / "blob.png", photos / "blob.jpg", "--quality", "draft", "-o", "models/")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["blob-2_100mm.stl", "blob_100mm.stl"]


def test_names_that_differ_in_case_only_do_not_overwrite_each_other(here, photos, tmp_path):
    """Some disks take them for one."""
    other = tmp_path / "more"
    other.mkdir()
    (other / "Blob.png").write_bytes((photos / "blob.png").read_bytes())
    assert here(photos / "blob.png", other / "Blob.png", "-o", "out", "--quality", "draft").returncode == 0
    made = sorted(path.name.lower() for path in (tmp_path / "out").iterdir())
    assert made == ["blob-2_100mm.stl", "blob_100mm.stl"]


def test_a_name_that_the_terminal_cannot_write_stops_nothing(photos, tmp_path):
    (photos / "blob.png").rename(photos / "τύμβος.png")
    done = orfeas(photos, "-o", "out", "--quality", "draft", cwd=tmp_path, PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert r"\u03c4\u03cd\u03bc" in done.stdout


def test_a_kept_result_can_be_made_again_from_its_recipe(here, photos, tmp_path):
    first = here(photos / "blob.png", "-o", "a.stl", "--quality", "draft", "--keep")
    assert first.returncode == 0, first.stderr
    recipe = tmp_path / "a.orfeas" / "recipe.json"
    assert here("--recipe", recipe, "-o", "b.stl").returncode == 0
    assert (tmp_path / "b.stl").read_bytes() == (tmp_path / "a.stl").read_bytes()
    assert here("--recipe", recipe, "-o", "c.stl", "--size-mm", 50).returncode == 0
    assert trimesh.load_mesh(tmp_path / "c.stl").extents.max() == pytest.approx(50, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "No picture was given"),
        (["PHOTO", "--quality", "ultra"], "draft, standard or high"),
        (["PHOTO", "--size-mm", "5000"], "--size-mm cannot be '5000': use a number from 1 to 1,000 millimetres."),
        (["PHOTO", "--seed", "-1"], "0 to 4294967295"),
        (["PHOTO", "--max-faces", "3"], "100 to 2000000"),
        (["PHOTO", "--format", "exe"], "stl, glb, obj, ply or 3mf"),
        (["PHOTO", "--texture", "oil"], "photo or none"),
        (["PHOTO", "--base", "round"], "none, cut or plinth"),
        (["PHOTO", "--orientation", "upright"], "picture, standing or flattest"),
        (["PHOTO", "--background", "blur"], "auto, keep or remove"),
        (["PHOTO", "-o", "a.stl", "--format", "glb"], "does not fit"),
        (["PHOTO", "PHOTO", "-o", "a.stl"], "give a folder"),
        (["PHOTO", "-o", "models/", "--engine", "magic"], "ORFEAS_ENGINE"),
        (["PHOTO", "--recipe", "r.json"], "either"),
        (["--recipe", "none.json"], "There is no file none.json"),
        (["PHOTO", "-o", "mug.usdz"], "no format here"),
        (["PHOTO", "--size-mm", "abc"], "cannot be 'abc'"),
        (["PHOTO", "--best-of", "1"], "--best-of cannot be '1': use a whole number from 2 to 8"),
        (["PHOTO", "--keep", "-o", "a.zip"], "a ZIP has no place for"),
        (["PHOTO", "-o", "PHOTO/x/"], "cannot be made"),
        (["PHOTO", "-o", "none/of/a.stl"], "none/of cannot be made: none is not there"),
        (["PHOTO", "-o", f"new/{'a' * 250}.stl"], "aaa.stl cannot be written: "),  # its part has a longer name
        (["EMPTY"], "no JPEG, PNG or WebP"),
        (["PHOTO", "none.png"], "There is no picture none.png: check its name and its folder."),
        (["generate", "PHOTO", "-o", "a.stl"], "a command generate: write python -m orfeas PHOTO."),
        (["docter"], "neither a picture nor a command docter: did you mean python -m orfeas doctor?"),
        (["PHOTO", "--size", "80"], "There is no option --size: did you mean --size-mm?"),
        (["--nonsense"], "There is no option --nonsense (python -m orfeas --help tells more)."),
        (["PHOTO", "--quality"], "--quality needs a value (python -m orfeas --help tells more)."),
        (["inspect"], "MESH is missing (python -m orfeas inspect --help tells more)."),
        (["inspect", "a.stl", "--size-mm", "big"], "--size-mm cannot be 'big': use a number"),
        (["repair", "a.stl", "-o", "b.stl", "--max-faces", "2.5"], "--max-faces cannot be '2.5': use a whole number"),
        (["repair", "a.stl", "-o", "b.stl", "--flat-base", "x"], "--flat-base cannot be 'x': use one of"),
        (["repair", "a.stl", "-o", "b.stl", "--bogus=1"], "There is no option --bogus (python -m orfeas repair --help"),
        (["verify", "all"], "'all' is one too many"),
    ],
)
def test_wrong_use_is_one_sentence_and_status_2(photos, tmp_path, capsys, monkeypatch, arguments, sentence):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    places = {"PHOTO": str(photos / "blob.png"), "EMPTY": str(tmp_path / "empty")}
    arguments = [argument.replace("PHOTO", places["PHOTO"]).replace("EMPTY", places["EMPTY"]) for argument in arguments]
    sentence = sentence.replace("PHOTO", places["PHOTO"])
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("orfeas: ")
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "photos"}, "nothing was begun"


def test_a_folder_that_nothing_came_into_is_not_left(here, photos, tmp_path):
    (photos / "bad.png").write_text("not a picture")
    assert here(photos / "bad.png", "-o", "models/").returncode == 1
    assert not (tmp_path / "models").exists()
    (tmp_path / "mine").mkdir()
    assert here(photos / "bad.png", "-o", "mine/").returncode == 1
    assert (tmp_path / "mine").is_dir(), "it was there before"


def test_a_folder_becomes_one_zip_and_each_picture_the_best_of_two_seeds(here, photos, tmp_path):
    (photos / "bad.png").write_text("not a picture")
    (photos / "star.webp").unlink()
    done = here(
        photos, "-o", "out/models.zip", "--quality", "draft", "--size-mm", 30, "--best-of", 2, "--seed", 7, "--json",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    lines = json_lines(done.stdout)
    made = [line for line in lines if "error" not in line]
    assert [(Path(line["picture"]).name, line["rank"]) for line in made] == [
        ("blob.png", 1),
        ("blob.png", 2),
    ]
    assert all(0.8 < line["agreement"] <= 1 for line in made)
    assert sum(line["seed"] == 7 for line in made) == 1
    with zipfile.ZipFile(tmp_path / "out" / "models.zip") as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read("manifest.json"))
        with archive.open("blob_30mm.stl") as model:
            assert max(trimesh.load(model, file_type="stl").extents) == pytest.approx(30, abs=0.01)
    assert names == ["blob_30mm.stl", "blob_30mm-2.stl", "manifest.json"]
    assert [one["file"] for one in manifest["made"]] == names[:-1]
    assert [Path(one["picture"]).name for one in manifest["failed"]] == ["bad.png"]  # once, not with every seed
    assert done.stderr.count("bad.png") == 1
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "models.zip"]


def test_the_best_gets_the_name_and_the_others_their_seed(here, photos, tmp_path):
    done = here(photos / "blob.png", "-o", "out.stl", "--quality", "draft", "--best-of", 2, "--seed", 7)
    assert done.returncode == 0, done.stderr
    assert "about equally well" in done.stderr, "a sketch has the picture's outline whatever its seed"
    best, other = (line for line in done.stdout.splitlines() if not line.startswith("  "))
    assert best.startswith("out.stl: ")
    seed = other.split("seed ")[1].split(",")[0]
    assert other.startswith(f"out-seed-{seed}.stl: ")
    models = [tmp_path / "out.stl", tmp_path / f"out-seed-{seed}.stl"]
    assert sorted(tmp_path.glob("*.stl")) == sorted(models)
    assert models[0].read_bytes() != models[1].read_bytes()


def test_notes_are_told_as_well(here, photos, tmp_path):
    done = here(photos / "blob.png", "-o", "zipped.zip", "--quality", "draft", "--seed", 7)
    assert done.returncode == 0, done.stderr
    line, *notes = done.stdout.splitlines()
    assert line.startswith(f"{photos / 'blob.png'}: ")
    told = here(photos / "blob.png", "-o", "a.stl", "--quality", "draft", "--seed", 7, "--json")
    assert notes == [f"  {note}" for note in json_lines(told.stdout)[0]["report"]["notes"]]
    assert any("fall over" in note for note in notes)


def test_of_several_pictures_each_line_says_whose_it_is_and_what_was_left_out(here, photos, tmp_path):
    with Image.open(photos / "blob.png") as blob:
        blob.save(photos / "猫 ü.png", save_all=True, append_images=[Image.new(blob.mode, blob.size)] * 2)
    (photos / "blob.png").unlink()
    (photos / "star.webp").unlink()
    done = here(photos, "-o", "models", "--quality", "draft", "--size-mm", 30)
    assert done.returncode == 0, done.stderr
    line, *notes = done.stdout.splitlines()
    assert line.startswith(f"{photos / '猫 ü.png'} -> models/猫-ü_30mm.stl: ")
    assert "  The picture is an animation: only the first frame of 3 was used." in notes
    assert (tmp_path / "models" / "猫-ü_30mm.stl").read_bytes()[:80].isascii()


def test_a_reader_that_goes_away_is_no_bug(photos, tmp_path):
    command = (
        f"{sys.executable} -m orfeas {photos / 'blob.png'} -o a.stl --quality draft --engine sketch --json | head -0"
    )
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert trimesh.load_mesh(tmp_path / "a.stl").is_watertight


def test_a_zip_has_what_was_made_when_the_reader_goes_away(photos, tmp_path):
    command = f"{sys.executable} -m orfeas {photos} -o a.zip --quality draft --engine sketch | head -0"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stderr == "a.zip: 1 model, 1 failed\n"
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["blob_100mm.stl", "manifest.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send it to another there")
def test_a_zip_has_what_was_made_when_it_is_interrupted(photos, tmp_path):
    for number in range(8):  # no run is so fast that it ends before it hears of it
        (photos / f"more{number}.png").write_bytes(draw("blob"))
    with begun(photos, "-o", "a.zip", "--quality", "draft", cwd=tmp_path) as process:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 130, said
    assert re.fullmatch(r"a\.zip: \d models?, \d failed\norfeas: stopped\n", said)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        manifest = json.loads(archive.read("manifest.json"))
        with archive.open("blob_100mm.stl") as model:
            assert trimesh.load(model, file_type="stl").is_watertight
    assert len(manifest["made"]) + len(manifest["failed"]) == 10
    assert {one["code"] for one in manifest["failed"]} == {"cancelled"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "photos", "tmp"]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has other ways")
@pytest.mark.parametrize(
    ("hangup", "sent", "status"),
    [
        ("SIG_DFL", ["SIGTERM"], 143),
        ("SIG_DFL", ["SIGHUP", "SIGHUP"], 129),  # a terminal that is closed sends two
        ("SIG_IGN", ["SIGHUP", "SIGTERM"], 143),  # as under nohup
    ],
)
def test_what_is_ended_by_a_signal_leaves_no_photo_behind(photos, tmp_path, hangup, sent, status):
    for number in range(8):
        (photos / f"more{number}.png").write_bytes(draw("blob"))
    with begun(photos, "-o", "models/", "--quality", "draft", cwd=tmp_path, hangup=hangup) as process:
        assert list((tmp_path / "tmp").glob("orfeas-*/results"))
        for name in sent:
            process.send_signal(getattr(signal, name))
        said = process.communicate(timeout=60)[1]
        assert process.returncode == status, said
    assert list((tmp_path / "tmp").iterdir()) == []
    assert "Traceback" not in said


def test_signals_are_handled_as_before_once_a_command_is_done(monkeypatch, capsys):
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "else this proves nothing"
    assert cli.main(["inspect"]) == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(cli.main(["inspect"])))  # which may set no handler
    thread.start()
    thread.join()
    assert statuses == [2]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there a folder takes no file, not even of root's")
def test_an_output_that_cannot_be_written_is_told_before_the_work(photos, paced):
    shapes = []
    for output in ("/proc/a.stl", "/proc/a.zip", "/proc"):
        done = paced(photos / "blob.png", "-o", output, on_shape=shapes.append)
        assert done.returncode == 2
        assert re.fullmatch(r"orfeas: /proc/\S+ cannot be written: [^:]+; name another output with -o\.\n", done.stderr)
    assert shapes == []


def test_a_zip_that_cannot_be_written_is_a_failure_of_its_models(photos, paced, tmp_path):
    (tmp_path / "out").mkdir()

    def lose(data_dir):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)

    done = paced(photos / "blob.png", "-o", "out/a.zip", "--json", on_shape=lose)
    assert done.returncode == 1
    (line,) = json_lines(done.stdout)
    output = Path("out", "a.zip")
    assert line["error"] == f"{output} cannot be written: {os.strerror(errno.ENOENT)}."
    assert (line["picture"], line["code"]) == (str(photos / "blob.png"), "output")
    assert done.stderr == f"orfeas: {line['error']}\n"


@pytest.mark.parametrize("output", ["models/", "models.zip"])
def test_a_batch_keeps_of_earlier_results_what_is_needed(photos, paced, output):
    there = []

    def look(data_dir):
        there.append([path.name for path in (data_dir / "results").rglob("*") if path.is_file()])

    done = paced(photos, "-o", output, "--best-of", 2, "--seed", 1, on_shape=look)
    assert done.returncode == 0, done.stderr
    first, second, third, _ = there
    assert first == []
    assert "recipe.json" in second, "it is ranked with the next"
    assert third == (["blob_100mm.stl"] * 2 if output.endswith(".zip") else [])


def copy_until_full(source, target):
    """`shutil.copyfile` on a disk that is full once half a file is there."""
    Path(target).write_bytes(Path(source).read_bytes()[:100])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))


def copy_until_interrupted(source, target):
    Path(target).write_bytes(Path(source).read_bytes()[:100])
    raise KeyboardInterrupt


@pytest.mark.parametrize(("copy", "status"), [(copy_until_full, 1), (copy_until_interrupted, 130)])
def test_no_half_file_is_left(photos, paced, tmp_path, monkeypatch, copy, status):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(shutil, "copyfile", copy)
    assert paced(photos / "blob.png", "-o", "out/").returncode == status
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status"), [(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1), (KeyboardInterrupt(), 130)]
)
def test_no_half_zip_is_left(photos, paced, tmp_path, monkeypatch, error, status):
    def write(archive, path, *options, **more):
        raise error

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(zipfile.ZipFile, "write", write)
    assert paced(photos / "blob.png", "-o", "out/a.zip").returncode == status
    assert list((tmp_path / "out").iterdir()) == []


def test_a_kept_folder_stays_until_another_is_whole(photos, paced, tmp_path, monkeypatch):
    def read() -> dict[str, bytes]:
        return {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.glob("a.*/*")}

    def copy(source, target, **options):
        (copy_until_full if Path(source).name == "recipe.json" else whole)(source, target)

    assert paced(photos / "blob.png", "-o", "a.stl", "--keep", "--seed", 1).returncode == 0
    before, whole = read(), shutil.copyfile
    assert len(before) >= 8
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", copy)
        done = paced("--recipe", "a.orfeas/recipe.json", "-o", "a.stl", "--keep", "--seed", 2)
    assert done.returncode == 1
    assert f"a.stl cannot be written: {os.strerror(errno.ENOSPC)}." in done.stderr
    assert read() == before
    assert paced("--recipe", "a.orfeas/recipe.json", "-o", "a.stl", "--keep", "--seed", 3).returncode == 0
    assert json.loads((tmp_path / "a.orfeas" / "recipe.json").read_text())["request"]["seed"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.orfeas", "a.stl", "photos"]


def on_a_terminal(*words, cwd, stdout) -> str:
    """What the command line writes to a terminal while its standard output goes to the file ``stdout``."""
    pty = pytest.importorskip("pty")  # Windows has none
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "orfeas", *map(str, words)],
        cwd=cwd, stdin=terminal, stdout=stdout, stderr=terminal,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ORFEAS_ENGINE": "sketch", "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(terminal)
    pieces = []
    with process:
        try:
            while piece := os.read(master, 1 << 16):
                pieces.append(piece)
        except OSError:  # how Linux says that nobody has the terminal open any more
            pass
    os.close(master)
    assert process.returncode == 0
    return b"".join(pieces).decode()


def test_results_go_where_standard_output_goes_and_a_bar_shows_the_picture_at_work(photos, tmp_path):
    (photos / "blob.png").rename(photos / "blob [final].png")
    with (tmp_path / "made.txt").open("wb") as made:
        shown = on_a_terminal(photos, "-o", "models", "--quality", "draft", "--best-of", 2, cwd=tmp_path, stdout=made)
    lines = [line for line in (tmp_path / "made.txt").read_text().splitlines() if not line.startswith("  ")]
    assert len(lines) == 4
    assert all(" -> models/" in line and " faces, seed " in line for line in lines)
    bars = re.findall(r"(blob \[final\]\.png|star\.webp)\b.*?(\d+) %", shown)
    assert [name for name, _ in bars] == sorted(name for name, _ in bars), "the first is gone when the second begins"
    for name in ("blob [final].png", "star.webp"):
        fractions = [int(fraction) for of, fraction in bars if of == name]
        assert fractions == sorted(fractions), "one bar for both seeds"
        assert fractions[-1] > 50


@pytest.mark.parametrize("words", [["PHOTO"], ["doctor"], ["verify"]])
def test_an_env_file_that_cannot_be_read_is_one_sentence(photos, here, tmp_path, words):
    (tmp_path / ".env").write_bytes("ORFEAS_AUTH=größe".encode("latin-1"))
    done = here(*(word.replace("PHOTO", str(photos / "blob.png")) for word in words))
    assert done.returncode == 2
    assert done.stderr == (
        "orfeas: The file .env of this folder cannot be read: it is not UTF-8; mend it or run in another folder.\n"
    )


def test_a_setting_that_is_mistyped_is_told(photos, monkeypatch, tmp_path, capsys):
    def stop(settings):
        raise BadRequest("That will do.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORFEAS_SKETCH_SHAP", "learned")
    assert cli.main([str(photos / "blob.png")], open_studio=stop) == 2
    told = "orfeas: ORFEAS_SKETCH_SHAP is no setting and does nothing: did you mean ORFEAS_SKETCH_SHAPE?\n"
    assert capsys.readouterr().err == told + "orfeas: That will do.\n"
    assert cli.main(["verify"]) == 2
    assert capsys.readouterr().err.startswith(told)


def test_the_sketch_way_never_imports_torch_or_gradio(photos, tmp_path):
    code = (
        "import sys; from orfeas import cli; status = cli.main(sys.argv[1:]); "
        "print({'torch', 'gradio', 'numba'} & set(sys.modules), file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(photos / "blob.png"), "--quality", "draft", "--engine", "sketch"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "set()"


def test_help_names_every_option_and_command():
    help_text = generate_cli.build_parser().format_help()
    for option in generate_cli.OPTIONS:
        assert f"--{option.replace('_', '-')}" in help_text
    for command in arguments.COMMANDS:
        assert command in help_text
        assert command in cli.__doc__
    for engine in get_args(Settings.model_fields["engine"].annotation):
        assert re.search(rf"--engine NAME[^-]+\b{engine}\b", help_text)
