"""Several jobs at once, without a server: in turn, found again, stopped, zipped, ranked, removed."""

from __future__ import annotations

import json
import threading
import time
import zipfile
from functools import partial
from types import SimpleNamespace

import pytest

from orfeas.errors import BadRequest, OrfeasError
from orfeas.mesh import Mesh
from orfeas.request import GenerationRequest, with_seeds
from orfeas.telemetry.metrics import Metrics
from orfeas.web import groups as room
from orfeas.web.groups import MAX_PICTURES, Groups, ask_batch
from orfeas.web.jobs import Jobs
from tests.conftest import PacedEngine
from tests.web.conftest import wait_until, write_photo

TOKEN = "ab" * 16


@pytest.fixture
def pictures(tmp_path):
    """Two photos of the same name, and between them a file that is none."""
    paths = [tmp_path / folder / "egg.jpg" for folder in "abc"]
    for path in paths:
        path.parent.mkdir()
        write_photo(path, (60, 70, 200))
    paths[1].write_text("no picture")
    return [str(path) for path in paths]


@pytest.fixture
def make_groups(make_studio):
    def make(engine=None, limit=2) -> Groups:
        studio = make_studio(engine or PacedEngine())
        studio.run = partial(studio.run, draw=False)  # stills take most of the time, and nothing here looks at them
        return Groups(Jobs(studio, limit, Metrics()))

    return make


def batch(pictures, **options):
    return ask_batch(pictures, {"quality": "draft", **options})


def counted(groups, name, **labels):
    return groups.jobs.observer.registry.get_sample_value(f"{name}_total", labels)


def end_of(group):
    return group.future.result(timeout=60)


def test_one_bad_picture_does_not_stop_the_rest_and_names_are_unique(make_groups, pictures):
    groups = make_groups()
    group = end_of(groups.start("batch", batch(pictures), TOKEN))
    assert [job.state for job in group.jobs] == ["done", "failed", "done"]
    assert group.fraction == 1.0
    state = groups.look(TOKEN)
    assert [member["name"] for member in state["members"]] == ["egg", "egg-2", "egg-3"]
    assert state["members"][1]["error"].endswith(".")
    with groups.bundle(TOKEN) as (file, manifest):
        with zipfile.ZipFile(file) as archive:
            assert archive.namelist() == ["egg_100mm.stl", "egg-3_100mm.stl", "manifest.json"]
            assert json.loads(archive.read("manifest.json")) == manifest
        assert [made["picture"] for made in manifest["made"]] == ["egg.jpg", "egg.jpg"]
        assert manifest["failed"][0]["code"] == "unsupported_type"
    assert not file.exists()
    assert not list(groups.jobs.studio.library.staging.iterdir())
    with groups.bundle("c" * 32) as nothing:
        assert nothing is None


def test_a_group_takes_one_place_in_the_queue_and_lets_others_in_between(make_groups, pictures):
    pace = threading.Semaphore(0)
    engine = PacedEngine(steps=1, pace=pace)
    groups = make_groups(engine, limit=1)
    jobs = groups.jobs
    group = groups.start("batch", batch([pictures[0], pictures[2], pictures[0]]))
    wait_until(lambda: engine.running, "the first of the group runs")
    other = jobs.start(batch(pictures)[0])
    wait_until(lambda: jobs.studio.health()["queue"] == 1, "the other one has its place in the lane")
    assert len(jobs.active()) == 2
    with pytest.raises(OrfeasError, match="The queue is full"):
        groups.start("batch", batch(pictures))
    assert counted(groups, "orfeas_refusals", reason="queue_full") == 1
    assert len(jobs.active()) == 2
    pace.release(2)
    assert other.future.result(timeout=60).state == "done"
    assert not group.is_over, "the other one came before the rest of the group"
    pace.release(10)
    end_of(group)
    assert engine.most_running == 1


def test_stop_stops_all_of_it(make_groups, pictures):
    pace = threading.Semaphore(0)
    engine = PacedEngine(pace=pace)
    groups = make_groups(engine)
    group = groups.start("batch", batch([pictures[0]] * 3), TOKEN, "page")
    wait_until(lambda: engine.running, "the first of the group runs")
    assert "1 of 3, egg: " in group.message
    assert groups.stop(TOKEN)
    assert [job.state for job in group.jobs] == ["stopping", "cancelled", "cancelled"]
    pace.release(10)
    end_of(group)
    assert [job.state for job in group.jobs] == ["cancelled"] * 3
    labels = {"outcome": "cancelled", "quality": "draft"}
    assert [counted(groups, "orfeas_jobs", stage=stage, **labels) for stage in ("waiting", "shape")] == [2, 1]
    assert counted(groups, "orfeas_refusals", reason="cancelled") is None
    assert engine.loads == 1
    assert not groups.jobs.active()
    assert not groups.stop("c" * 32)


def test_a_page_that_was_reloaded_keeps_its_group_and_one_that_is_gone_does_not(make_groups, pictures, monkeypatch):
    now, looks = [time.monotonic()], []  # time stands still between two questions, however slow the machine is
    monkeypatch.setattr("orfeas.web.jobs.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("orfeas.web.jobs.RELOAD_GRACE_SECONDS", 0.1)
    pace = threading.Semaphore(0)
    engine = PacedEngine(pace=pace)
    groups = make_groups(engine)
    watch = groups.jobs._watch_orphans
    monkeypatch.setattr(groups.jobs, "_watch_orphans", lambda *orphans: (looks.append(orphans), watch(*orphans)))
    group = groups.start("batch", batch([pictures[0]] * 2), TOKEN, "first page")
    wait_until(lambda: engine.running, "it runs")
    assert groups.look(TOKEN)
    groups.jobs.leave("first page")
    assert len(looks) == 1, "with one thread, not one for each picture"
    for times in (2, 4):
        now[0] += 0.09
        assert groups.look(TOKEN)  # whoever has the token asks, from whichever page
        wait_until(lambda times=times: len(looks) >= times, "it was looked whether anybody asks")
    assert not any(job.stop.is_set() for job in group.jobs)
    now[0] += 1
    wait_until(lambda: all(job.stop.is_set() for job in group.jobs), "nobody asks any more")
    pace.release(10)
    end_of(group)


def test_a_stopping_server_does_the_rest_of_a_group_and_what_there_is_no_time_for_says_so(make_groups, pictures):
    pace = threading.Semaphore(0)
    engine = PacedEngine(pace=pace)
    groups = make_groups(engine)
    group = groups.start("batch", batch([pictures[0]] * 2), TOKEN)
    wait_until(lambda: engine.running, "it runs")
    pace.release(10)
    assert groups.jobs.drain(30)
    assert group.is_over, "its ZIP can be fetched"
    assert [job.state for job in group.jobs] == ["done", "done"]

    engine.pace = pace = threading.Semaphore(0)  # without what the first group left
    groups = make_groups(engine)
    group = groups.start("batch", batch([pictures[0]] * 2), "cd" * 16)
    wait_until(lambda: engine.running, "it runs")
    assert not groups.jobs.drain(0.1)
    pace.release(10)
    end_of(group)
    assert [job.state for job in group.jobs] == ["cancelled", "lost"]
    assert group.jobs[1].error == "The server ended before this one's turn came: start it again."


def test_a_group_whose_first_job_is_stopped_before_it_begins_goes_on(make_groups, pictures):
    jobs = make_groups().jobs
    requests = batch([pictures[0]] * 2)
    first, second = jobs.hold(requests, "", False)
    assert jobs.active() == [first], "a group has one place before it begins"
    jobs.stop(first)
    assert jobs.active() == [second]
    for job, request in zip((first, second), requests, strict=True):
        worker = threading.Thread(target=jobs.run_held, args=(job, request), daemon=True)
        worker.start()
        worker.join(60)
        assert not worker.is_alive()
    assert (first.state, second.state) == ("cancelled", "done")
    assert not jobs.active()


def test_a_group_for_which_there_is_no_thread_keeps_no_place(make_groups, pictures, monkeypatch):
    def no_room(self):
        raise RuntimeError("can't start new thread")

    groups = make_groups()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_room)
        with pytest.raises(OrfeasError, match="no room for another job now"):
            groups.start("batch", batch([pictures[0]] * 2), TOKEN)
    assert not groups.jobs.active()
    assert groups.jobs.drain(0)
    state = groups.look(TOKEN)
    assert state["over"]
    assert {member["code"] for member in state["members"]} == {"no_thread"}


def test_groups_outlive_the_server(make_groups, pictures):
    groups = make_groups()
    end_of(groups.start("batch", batch(pictures), TOKEN))
    before = groups.look(TOKEN)
    groups.jobs.studio.close()

    later = make_groups()
    state = later.look(TOKEN)
    assert [member["token"] for member in state["members"]] == [member["token"] for member in before["members"]]
    assert [member["state"] for member in state["members"]] == ["done", "failed", "done"]
    assert state["over"]
    with pytest.raises(OrfeasError, match="started already"):
        later.start("batch", batch(pictures), TOKEN)
    later.jobs.remove(state["members"][0]["token"])
    assert later.look(TOKEN)["members"] == state["members"][1:], "what was deleted is no longer listed"
    with later.bundle(TOKEN) as (_, manifest):
        assert len(manifest["made"]) == 1
    assert later.remove(TOKEN)
    assert later.look(TOKEN) is None
    assert not later.remove(TOKEN)
    assert not list(later.jobs.studio.library.results.iterdir())


def test_removing_a_group_that_runs_stops_it(make_groups, pictures):
    pace = threading.Semaphore(1)
    groups = make_groups(PacedEngine(pace=pace))
    group = groups.start("best_of", with_seeds(batch(pictures)[0], 3), TOKEN)
    remover = threading.Thread(target=groups.remove, args=(TOKEN,))
    remover.start()
    assert group.jobs[0].stop.wait(30)
    pace.release(100)
    remover.join(30)
    assert groups.look(TOKEN) is None
    assert not list(groups.jobs.studio.library.results.glob("*"))


def test_best_of_ranks_seeds_that_differ_and_keeps_them_all(make_groups, pictures):
    class Squeezed(PacedEngine):
        """Only the second seed that it is asked for has the egg's shape."""

        def shape(self, cutout, quality, seed):
            for step in super().shape(cutout, quality, seed):
                narrow = 0.56 if seed == wanted else 1.0
                yield Mesh(step.vertices * (narrow, 1, 1), step.faces) if hasattr(step, "vertices") else step

    groups = make_groups(Squeezed())
    requests = with_seeds(GenerationRequest(pictures[0], quality="draft", seed=5), "3")
    wanted = requests[1].seed
    assert requests[0].seed == 5
    assert len({request.seed for request in requests}) == 3
    group = end_of(groups.start("best_of", requests, TOKEN))
    state = groups.look(TOKEN)
    best = min(state["members"], key=lambda member: member["rank"])
    assert best["options"]["seed"] == wanted
    assert sorted(member["rank"] for member in state["members"]) == [1, 2, 3]
    assert best["agreement"] == max(member["agreement"] for member in state["members"]) > 0.9
    assert all(job.result.folder.is_dir() for job in group.jobs)
    assert state["note"].startswith("Ranked by")
    groups.jobs.studio.close()
    assert make_groups().look(TOKEN)["note"] == state["note"]


@pytest.mark.parametrize("count", [0, 1, 9, 2.5, True, None, "many", "1e999", [3]])
def test_best_of_takes_2_to_8(pictures, count):
    with pytest.raises(BadRequest, match=r"use a whole number from 2 to 8\.$"):
        with_seeds(GenerationRequest(pictures[0]), count)


def test_a_batch_is_bounded(pictures, monkeypatch):
    with pytest.raises(BadRequest, match="No pictures were given"):
        ask_batch([], {})
    with pytest.raises(BadRequest, match=f"give up to {MAX_PICTURES} at once"):
        ask_batch([pictures[0]] * (MAX_PICTURES + 1), {})
    monkeypatch.setattr(room, "MAX_BATCH_BYTES", 1000)
    with pytest.raises(BadRequest, match="MB together"):
        ask_batch(pictures, {})
    with pytest.raises(BadRequest, match="size_mm cannot be 5000"):
        ask_batch(pictures[1:2], {"size_mm": 5000})


def test_pictures_of_one_long_name_are_named_apart():
    asked = ask_batch([f"{folder}/{'x' * 70}.png" for folder in "abc"], {})
    assert len({one.name for one in asked}) == 3
