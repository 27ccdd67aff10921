"""Backups: taken while the app works, whole or refused, and the same library afterwards."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tarfile
import threading
import time

import pytest

from orfeas import cli
from orfeas.backup import HEADER, SUMS, restore_backup, unpack_backup, write_backup
from orfeas.errors import BadRequest
from orfeas.library import Library
from orfeas.request import GenerationRequest
from orfeas.verify import hash_file, verify_library
from tests.conftest import PacedEngine, open_studio
from tests.web.conftest import write_photo


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data folder with two results, as a studio left it; copy it before you change it."""
    from orfeas.settings import Settings

    root = tmp_path_factory.mktemp("made") / "data"
    studio = open_studio(Settings(_env_file=None, engine="sketch", data_dir=root), PacedEngine(), Library(root))
    photo = write_photo(tmp_path_factory.mktemp("photo") / "egg.jpg", (60, 70, 200))
    for options in ({"format": "stl"}, {"format": "3mf", "quality": "draft"}):
        *_, result = studio.run(GenerationRequest.from_options(photo.read_bytes(), {"seed": 1, **options}))
    assert result.folder.is_dir()
    studio.close()
    return root


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "data")


@pytest.fixture
def archive(root) -> bytes:
    target = io.BytesIO()
    write_backup(root, target)
    return target.getvalue()


def hashes(root) -> dict[str, str]:
    return {
        str(file.relative_to(root)): hash_file(file) for file in sorted((root / "results").rglob("*")) if file.is_file()
    }


def problems(root) -> dict[str, list[str]]:
    with contextlib.closing(Library(root)) as library:
        return {result.id: list(result.problems) for result in verify_library(library) if result.problems}


def test_a_restored_library_is_the_same_and_verifies(root, archive):
    before = hashes(root)
    with contextlib.closing(Library(root)) as library:
        entered = library.index.results()
    assert len(entered) == 2
    for ending in ("results", "library.sqlite3"):
        path = root / ending
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    archived, kept = restore_backup(root, io.BytesIO(archive))
    assert (archived.results, kept) == (2, None)
    assert hashes(root) == before
    with contextlib.closing(Library(root)) as library:
        assert library.index.results() == entered
    assert problems(root) == {}
    assert sorted(path.name for path in root.iterdir() if path.name != "instances") == [
        "library.sqlite3",
        "results",
        "staging",
    ]


def test_what_was_there_before_is_kept_beside(root, archive):
    changed = next((root / "results").glob("*/recipe.json"))
    changed.write_text("{}")
    _, kept = restore_backup(root, io.BytesIO(archive))
    assert problems(root) == {}
    assert (kept / changed.relative_to(root)).read_text() == "{}"
    assert (kept / "library.sqlite3").is_file()


def test_restores_in_the_same_second_keep_what_each_found(root, archive, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda form: "20260102-030405")
    kept = [restore_backup(root, io.BytesIO(archive))[1] for _ in range(3)]
    assert [path.name.removeprefix("before-restore-20260102-030405") for path in kept] == ["", "-2", "-3"]
    assert all(len(list((path / "results").iterdir())) == 2 for path in kept)


def test_an_app_that_runs_is_not_restored_under(root, archive):
    before = hashes(root)
    with contextlib.closing(Library(root)) as library:
        library.open()
        with pytest.raises(BadRequest, match="stop it"):
            restore_backup(root, io.BytesIO(archive))
    assert hashes(root) == before
    restore_backup(root, io.BytesIO(archive))


def test_a_backup_taken_while_results_come_and_go_is_whole(root, tmp_path):
    stop = threading.Event()

    def work(library: Library):
        with contextlib.closing(library):
            while not stop.is_set():
                new = library.new_id()
                with library.write(new) as folder:
                    shutil.copytree(source, folder, dirs_exist_ok=True)
                library.remove(new)

    source = next((root / "results").iterdir())
    shutil.copytree(source, tmp_path / "source")
    source = tmp_path / "source"
    thread = threading.Thread(target=work, args=(Library(root),))
    thread.start()
    try:
        for number in range(5):
            target = io.BytesIO()
            write_backup(root, target)
            target.seek(0)
            fresh = tmp_path / f"fresh-{number}"
            archived, _ = restore_backup(fresh, target)
            assert archived.results >= 2
            assert problems(fresh) == {}
    finally:
        stop.set()
        thread.join()


def rewritten(archive: bytes, change) -> bytes:
    """The archive with each (name, content) passed through ``change``, which may return several, or none."""
    target = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as source, tarfile.open(fileobj=target, mode="w") as tar:
        for member in source:
            for name, content in change(member.name, source.extractfile(member).read()):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


def test_a_damaged_archive_changes_nothing(root, archive):
    before = hashes(root)
    where = archive.index(b"solid") if b"solid" in archive else len(archive) // 2
    flipped = bytearray(archive)
    flipped[where] ^= 1
    damaged = {
        "a bit is flipped": bytes(flipped),
        "cut off": archive[: len(archive) // 2],
        "its sums are missing": rewritten(archive, lambda name, data: [(name, data)] * (name != SUMS)),
        "a file is missing": rewritten(archive, lambda name, data: [(name, data)] * (not name.endswith("model.glb"))),
        "a file more": rewritten(archive, lambda n, d: [(n, d)] + [(f"results/{'0' * 32}/x", b"")] * (n == HEADER)),
        "another format": rewritten(
            archive, lambda n, d: [(n, json.dumps({"format": 2}).encode() if n == HEADER else d)]
        ),
        "nothing": b"",
        "no tar": b"PK\3\4" + bytes(2000),
    }
    for what, content in damaged.items():
        with pytest.raises(BadRequest, match=r"backup"):
            restore_backup(root, io.BytesIO(content))
        assert hashes(root) == before, what
        assert not list(root.glob("restoring-*")), what


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "results/../../evil", f"results/{'0' * 32}/..", "results/x/y", "instances/a.lock"]
)
def test_an_archive_writes_nowhere_else(tmp_path, archive, name):
    evil = rewritten(archive, lambda n, d: [(n, d)] + [(name, b"evil")] * (n == HEADER))
    with pytest.raises(BadRequest, match="no backup of ours does"):
        unpack_backup(io.BytesIO(evil), tmp_path / "inside")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"evil"]


def test_links_are_refused(tmp_path, archive):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        link = tarfile.TarInfo("library.sqlite3")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(BadRequest, match="no backup of ours does"):
        unpack_backup(io.BytesIO(target.getvalue()), tmp_path)


def test_verify_names_what_changed(root):
    first, second = sorted((root / "results").iterdir())
    model = next(first.glob("*.stl"), None) or next(first.glob("*.3mf"))
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    (second / "model.glb").unlink()
    found = problems(root)
    assert found == {first.name: [f"{model.name} has changed"], second.name: ["model.glb is missing"]}
    shutil.rmtree(second)
    with contextlib.closing(Library(root)) as library:
        found = {result.id: result.problems for result in verify_library(library)}
    assert found[second.name] == ("the index has it, and there is no folder",)


def test_results_of_earlier_versions_have_no_hashes_and_it_is_said(root, monkeypatch, capsys):
    folder = next((root / "results").iterdir())
    recipe = json.loads((folder / "recipe.json").read_text())
    del recipe["sha256"]
    (folder / "recipe.json").write_text(json.dumps(recipe))
    monkeypatch.setenv("ORFEAS_DATA_DIR", str(root))
    assert cli.main(["verify"]) == 0
    assert "1 of them, of an earlier version, have no hashes" in capsys.readouterr().out


def test_the_commands(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ORFEAS_DATA_DIR", str(root))
    before = hashes(root)
    assert cli.main(["verify"]) == 0
    assert "2 results, 0 with problems" in capsys.readouterr().out
    assert cli.main(["backup", str(tmp_path / "b.tar")]) == 0
    assert "backed up: 2 results" in capsys.readouterr().err
    assert cli.main(["backup", str(tmp_path / "b.tar")]) == 2, "an archive is never overwritten"
    victim = next((root / "results").glob("*/model.glb"))
    victim.unlink()
    assert cli.main(["verify"]) == 1
    assert "model.glb is missing" in capsys.readouterr().out
    assert cli.main(["restore", str(tmp_path / "b.tar")]) == 0
    assert "restored: 2 results" in capsys.readouterr().err
    assert hashes(root) == before
    assert cli.main(["restore", str(tmp_path / "none.tar")]) == 2
    assert cli.main(["backup", str(tmp_path / "no folder" / "b.tar")]) == 2
    monkeypatch.setenv("ORFEAS_DATA_DIR", str(tmp_path / "empty"))
    assert cli.main(["backup", str(tmp_path / "c.tar")]) == 2
    assert "There is no library" in capsys.readouterr().err
    assert cli.main(["verify"]) == 2, "nothing to verify is not all well"
    assert "There is no library" in capsys.readouterr().err
    assert not (tmp_path / "c.tar").exists()
    assert not (tmp_path / "empty").exists()
