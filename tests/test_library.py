from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone

import pytest

from orfeas.errors import OrfeasError
from orfeas.index import Index, StoredGroup, StoredJob, StoredResult
from orfeas.library import OPEN_SECONDS, Library, Retention, seconds_up


def test_making_a_library_makes_no_folder(tmp_path):
    library = Library(tmp_path / "data")
    assert library.find(library.new_id()) is None
    assert library.clean() == []
    assert library.expire() == []
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


@pytest.fixture
def died(tmp_path):
    """The name of an instance that was killed while it wrote a result and ran a job."""
    code = """
import os, signal, sys
from orfeas.index import Index, StoredGroup, StoredJob, StoredResult
from orfeas.library import Library
library = Library(sys.argv[1])
with library.write("e" * 32) as folder:
    (folder / "model.stl").write_text("half")
    library.index.put_job(StoredJob("d" * 32, library.instance.name, "running", "mug", 1.0))
    print(library.instance.name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL
    return killed.stdout.strip()


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path, died):
    library = Library(tmp_path)
    left = library.staging / f"{died}-{'e' * 32}"
    assert (left / "model.stl").read_text() == "half"
    other = Library(tmp_path)
    other.instance.announce()
    other.index.put_job(StoredJob("f" * 32, other.instance.name, "running", "cup", 2.0))
    with library.write(library.new_id()) as folder:
        (lost,) = library.clean()
        assert lost.token == "d" * 32
        assert folder.is_dir()
    assert not left.exists()
    stored = library.index.find_job("d" * 32)
    assert (stored.state, stored.code) == ("lost", "lost")
    assert "start it again" in stored.error
    assert library.index.find_job("f" * 32).state == "running"
    assert library.clean() == []
    other.close()
    assert [job.token for job in library.clean()] == ["f" * 32]


def write(library, created=None, size=1000, owner="", **request):
    """A small result; returns its id."""
    result_id = library.new_id()
    when = datetime.fromtimestamp(library.clock() if created is None else created, timezone.utc)
    recipe = {"created": when.isoformat(), "request": {"name": "mug", "quality": "draft", **request}, "notes": []}
    recipe["facts"] = {"engine": "sketch", "seconds": {"total": 2.5}}
    with library.write(result_id, owner) as folder:
        (folder / "model.stl").write_bytes(bytes(size))
        (folder / "recipe.json").write_text(json.dumps(recipe))
    return result_id


class Clock:
    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now


DAY = 86400.0


def test_results_are_kept_for_so_many_days(tmp_path):
    clock = Clock()
    library = Library(tmp_path, Retention(days=30), clock)
    old, young = write(library, clock.now - 31 * DAY), write(library, clock.now - 29 * DAY)
    assert library.expire() == [old]
    assert library.find(old) is None
    assert library.find(young)
    assert library.index.count_results() == (1, library.index.find_result(young).bytes)


def test_the_oldest_results_go_when_there_are_too_many_bytes(tmp_path):
    clock = Clock()
    library = Library(tmp_path, Retention(gigabytes=2500e-9), clock)
    ids = [write(library, clock.now - age * DAY, size=800) for age in (9, 8, 7, 6)]
    assert library.expire() == ids[:2]
    assert [library.find(one) is None for one in ids] == [True, True, False, False]


def test_what_copies_share_counts_once(tmp_path):
    """As it is on the disk: many copies of one result push out nobody else's."""
    clock = Clock()
    library = Library(tmp_path, Retention(gigabytes=100_000e-9), clock)
    other = write(library, clock.now - 9 * DAY, size=20_000)
    made = write(library, clock.now - 8 * DAY, size=30_000)
    copies = []
    for age in range(7, 2, -1):
        now, clock.now = clock.now, clock.now - age * DAY
        copies.append(library.copy(made, "a" * 32, "again").name)
        clock.now = now
    assert sum(result.bytes for result in library.index.results()) > 200_000
    assert library.expire() == []
    newest = write(library, clock.now - 2 * DAY, size=60_000)
    assert library.expire() == [other], "the disk holds 30,000 bytes for all of the copies, and their recipes"
    last = write(library, clock.now - DAY, size=35_000)
    assert library.expire() == [made, *copies], "the shared bytes are free when the last of them goes"
    assert [library.find(one) is None for one in (newest, last)] == [False, False]


def test_what_is_open_is_not_removed(tmp_path):
    clock = Clock()
    library = Library(tmp_path, Retention(days=30, gigabytes=1e-9), clock)
    opened, other, fresh = write(library, 1.0), write(library, 2.0), write(library)
    library.touch(opened)
    assert library.expire() == [other]
    clock.now += 1.5 * OPEN_SECONDS
    library._started = clock.now, seconds_up()
    assert library.expire() == [opened, fresh]


def test_a_clock_that_is_set_removes_nothing_for_its_age(tmp_path):
    clock = Clock()
    library = Library(tmp_path, Retention(days=30), clock)
    result = write(library)
    clock.now += 400 * DAY  # while this process runs, which no clock does by itself
    assert library.expire() == []
    clock.now -= 800 * DAY
    assert library.expire() == []
    assert library.find(result)


def test_a_machine_that_slept_removes_what_is_old(tmp_path, monkeypatch):
    """Its clock went on meanwhile, and `time.monotonic` did not: that is no clock that was set."""
    clock, up = Clock(), [100.0]
    kind = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    if kind is None:
        pytest.skip("here time.monotonic counts sleep as well")
    gettime = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda which: up[0] if which == kind else gettime(which))
    library = Library(tmp_path, Retention(days=30), clock)
    old = write(library, clock.now - 29.5 * DAY)
    clock.now, up[0] = clock.now + DAY, up[0] + DAY
    assert library.expire() == [old]


def test_a_damaged_index_is_rebuilt_from_the_folders(tmp_path):
    library = Library(tmp_path)
    ids = {write(library, owner="a" * 32, size_mm=80), write(library)}
    before = {result.id: result for result in library.index.results()}
    library.close()
    (tmp_path / "library.sqlite3").write_bytes(b"SQLite format 3\0" + os.urandom(5000))
    again = Library(tmp_path)
    after = {result.id: result for result in again.index.results()}
    assert set(after) == ids
    assert {one.id: (one.owner, one.name, one.created) for one in after.values()} == {
        one.id: (one.owner, one.name, one.created) for one in before.values()
    }
    job = again.index.find_job("a" * 32)
    assert (job.state, job.name, job.seconds, job.options["size_mm"]) == ("done", "mug", 2.5, 80)
    assert len(list(tmp_path.glob("library.damaged-*.sqlite3"))) == 1


def test_index_and_folders_are_made_to_agree(tmp_path):
    library = Library(tmp_path)
    gone, kept = write(library), write(library)
    shutil.rmtree(library.results / gone)
    library.index.remove_result(kept)
    library.clean()
    assert [result.id for result in library.index.results()] == [kept]


def test_removing_is_whole_and_happens_once(tmp_path):
    library = Library(tmp_path)
    result = write(library)
    assert library.remove(result)
    assert not library.remove(result)
    assert not library.remove("../results")
    assert library.index.count_results() == (0, 0)
    assert list(library.staging.iterdir()) == []


def test_two_processes_share_an_index(tmp_path):
    library, other = Library(tmp_path), Library(tmp_path)
    results = [write(library), write(other), write(library)]
    assert {result.id for result in other.index.results()} == set(results)
    threads = [threading.Thread(target=write, args=(one,)) for one in (library, other) * 10]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert library.index.count_results()[0] == 23


def test_an_index_that_is_busy_loses_no_result(tmp_path):
    library, before = Library(tmp_path), Library(tmp_path)
    library.index._connection.execute("PRAGMA busy_timeout = 50")
    result_id = library.new_id()
    with before.index._transaction(), library.write(result_id, "a" * 32) as folder:
        (folder / "model.stl").write_text("x")
    assert (library.find(result_id) / "model.stl").read_text() == "x"
    assert library.index.count_results() == (0, 0)
    assert library.expire() == []  # as the housekeeper does now and then
    assert [(one.id, one.owner) for one in library.index.results()] == [(result_id, "a" * 32)]

    for token in ("a" * 32, "b" * 32):  # nor could it be told that its job was done
        library.index.put_job(StoredJob(token, "gone", "running", "egg", 1.0))
    assert [job.token for job in library.clean()] == ["b" * 32]
    done, lost = (library.index.find_job(token) for token in ("a" * 32, "b" * 32))
    assert (done.state, done.result, lost.state) == ("done", result_id, "lost")


def test_the_version_before_can_use_the_index_of_the_next(tmp_path):
    """As it does during a release, and after one was taken back."""
    library = Library(tmp_path)
    index = library.index
    tables = ("results", "jobs", "groups")
    with sqlite3.connect(index.path) as later:
        for table in tables:
            later.execute(f"ALTER TABLE {table} ADD COLUMN added_later TEXT NOT NULL DEFAULT ''")
        later.execute("PRAGMA user_version = 99")
    later.close()
    again = Index(index.path)
    for one in (index, again):
        result = StoredResult(library.new_id(), "a" * 32, "mug", 1.0, 2.0, 3, "mark")
        job = StoredJob("b" * 32, "c" * 16, "done", "mug", 1.0, {"seed": 5}, 2.0, result.id, "no", "code", "mug.jpg")
        group = StoredGroup("d" * 32, "batch", 1.0, ({"token": job.token},), "note")
        one.add_result(result)
        one.put_job(job)
        one.put_group(group)
        assert one.find_result(result.id) == result
        assert one.find_job(job.token) == job
        assert one.find_group(group.token) == group
    again.close()


def test_a_result_that_cannot_be_removed_is_kept_in_the_index_and_keeps_no_other(tmp_path, monkeypatch):
    clock = Clock()
    library = Library(tmp_path, Retention(days=30), clock)
    stuck, other = write(library, clock.now - 32 * DAY), write(library, clock.now - 31 * DAY)
    rename = os.rename

    def refuse(source, target):
        if source == library.results / stuck:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        assert library.expire() == [other]
        with pytest.raises(OSError, match="Input/output error"):
            library.remove(stuck)
    assert [result.id for result in library.index.results()] == [stuck]
    assert library.find(stuck)
    assert library.expire() == [stuck]
    assert library.index.count_results() == (0, 0)


def test_a_result_that_cannot_be_entered_is_not_there(tmp_path):
    library = Library(tmp_path)
    library.index.close()
    with pytest.raises(sqlite3.Error):
        write(library)
    assert list(library.results.iterdir()) == []


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
