from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from orfeas.errors import OrfeasError
from orfeas.library import Library


def test_making_a_library_makes_no_folder(tmp_path):
    library = Library(tmp_path / "data")
    assert library.find(library.new_id()) is None
    assert library.clean() == 0
    assert not (tmp_path / "data").exists()


def test_a_result_appears_whole(tmp_path):
    library = Library(tmp_path)
    result_id = library.new_id()
    with library.write(result_id) as folder:
        (folder / "model.stl").write_text("x")
        assert library.find(result_id) is None
    assert (library.find(result_id) / "model.stl").read_text() == "x"
    assert list(library.staging.iterdir()) == []


def test_a_failed_result_leaves_nothing(tmp_path):
    library = Library(tmp_path)
    result_id = library.new_id()
    with pytest.raises(RuntimeError), library.write(result_id) as folder:
        (folder / "model.stl").write_text("x")
        raise RuntimeError
    assert library.find(result_id) is None
    assert list(library.staging.iterdir()) == []


@pytest.mark.parametrize("stranger", ["", "..", "../results", "x" * 32, "0" * 31, "0" * 32 + "/.."])
def test_only_ids_are_looked_up(tmp_path, stranger):
    library = Library(tmp_path)
    library.results.mkdir(parents=True)
    assert library.find(stranger) is None


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    library = Library(tmp_path)
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    ).stdout.strip()
    left = library.staging / f"{dead}-{library.new_id()}"
    left.mkdir(parents=True)
    (left / "model.stl").write_text("half")
    with library.write(library.new_id()) as folder:
        assert library.clean() == 1
        assert folder.is_dir()
    assert not left.exists()


@pytest.mark.parametrize(
    ("number", "code", "remedy"),
    [(errno.ENOSPC, "disk_full", "free some space"), (errno.EROFS, "data_dir", "ORFEAS_DATA_DIR")],
)
def test_disk_trouble_is_a_sentence(tmp_path, number, code, remedy):
    library = Library(tmp_path)
    with pytest.raises(OrfeasError, match=remedy) as refused, library.write(library.new_id()):
        raise OSError(number, os.strerror(number))
    assert refused.value.code == code


def test_a_data_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OrfeasError, match="ORFEAS_DATA_DIR"), Library(tmp_path / "file").write("0" * 32):
        pass
