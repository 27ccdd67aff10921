"""What Docker is told in a release: no engine runs here, a stand-in for its command line writes everything down."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.caddy import ROOT


def read_upstreams(root: Path) -> dict[str, str]:
    return {name: (root / "deploy" / "upstreams" / name).read_text() for name in ("newest", "oldest")}


class Docker:
    """The scripts of deploy/ with the stand-in first in PATH."""

    def __init__(self, folder):
        self.folder, self.root = folder, folder / "checkout"
        (self.root / "deploy" / "upstreams").mkdir(parents=True)
        (self.root / ".env").write_text("ORFEAS_TAG=v0\nORFEAS_DRAIN_SECONDS=90\nORFEAS_BESIDE_MB=1\n")
        program = folder / "docker"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/deploy/docker_stand_in.py "$@"\n')
        program.chmod(0o755)

    def operate(self, *words: str, **options) -> subprocess.CompletedProcess:
        environment = {**os.environ, "STAND_IN": str(self.folder), "PATH": f"{self.folder}:{os.environ['PATH']}"}
        command = [sys.executable, ROOT / "deploy" / words[0], *words[1:], "--root", self.root]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run(command, env=environment, text=True, timeout=60, **options)

    def signal_at(self, word: str, number: int) -> None:
        """What the script is sent as soon as Docker has done ``word``."""
        (self.folder / f"{word}.signal").write_text(str(int(number)))

    def told(self) -> list[list[str]]:
        """Every command since last asked: ORFEAS_TAG, then the words, without -f FILE."""
        file = self.folder / "told.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        file.unlink()
        return [
            [word for word in line if word not in ("compose", "-f", "docker-compose.production.yml")] for line in lines
        ]

    def routes_at(self, word: str) -> tuple[str, ...]:
        """What the proxy read while Docker was last told ``word``."""
        lines = [json.loads(line) for line in (self.folder / "routes.jsonl").read_text().splitlines()]
        return next(tuple(routes) for words, *routes in reversed(lines) if word in words)

    def upstreams(self) -> dict[str, str]:
        return read_upstreams(self.root)

    def containers(self) -> list[tuple[str, str]]:
        """All of them, whatever their state."""
        state = json.loads((self.folder / "state.json").read_text())
        return [(entry["name"], entry["tag"]) for entry in state["containers"]]

    def running(self) -> list[str]:
        state = json.loads((self.folder / "state.json").read_text())
        return [entry["tag"] for entry in state["containers"] if entry["state"] == "running"]

    def record(self) -> list[dict]:
        return json.loads((self.root / "backups" / "releases.json").read_text())

    def stop_all(self) -> None:
        """As `docker compose stop app` does: they are there, and do not run."""
        state = json.loads((self.folder / "state.json").read_text())
        for entry in state["containers"]:
            entry["state"] = "exited"
        (self.folder / "state.json").write_text(json.dumps(state))


@pytest.fixture
def docker(tmp_path):
    docker = Docker(tmp_path)
    for tag in ("v1", "v2", "broken", "unstartable"):
        (tmp_path / tag).touch()  # these images are there
    done = docker.operate("release", "v1")
    assert done.returncode == 0, done.stderr
    docker.told()
    return docker


def steps(told: list[list[str]]) -> list[str]:
    """The first words of what changes something, with the tag that it was told for."""
    changing = ("up", "stop", "rm", "run", "exec")
    return [f"{tag} {' '.join(words)}" for tag, *words in told if words[0] in changing and "-c" not in words]


@pytest.mark.parametrize("words", [("backup",), ("release", "v2")])
def test_without_the_compose_plugin(docker, words):
    (docker.folder / "no-compose").touch()
    done = docker.operate(*words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{words[0]}: Docker's compose plugin is missing: install docker-compose-plugin")
    assert done.stderr.count("\n") == 1


def test_beside(docker):
    done = docker.operate("release", "v2", "--beside")
    assert done.returncode == 0, done.stderr
    assert steps(docker.told()) == [
        "v1 run --rm --no-deps -T data -m orfeas backup -",
        "v2 up --detach --no-deps --no-recreate --no-build --scale app=2 app",
        "v1 stop -t 110 c1",
        "v1 rm c1",
    ]
    assert docker.routes_at("up") == ("orfeas-app-1:7860\n",) * 2, "the name app is both containers' by then"
    assert docker.routes_at("stop") == ("orfeas-app-2:7860\n", "orfeas-app-1:7860\n")
    assert docker.containers() == [("orfeas-app-2", "v2")]
    assert docker.upstreams() == read_upstreams(ROOT), "at rest the files are what the repository has"
    assert (docker.root / ".env").read_text().splitlines()[-1] == "ORFEAS_TAG=v2"
    assert next((docker.root / "backups").glob("before-v2-*.tar")).read_text() == "an archive\n"


def test_after_and_back_with_the_data(docker):
    assert docker.operate("release", "v2", "--after").returncode == 0
    order = [step.split(" ", 1)[1].split(" ")[0] for step in steps(docker.told())]
    assert order == ["run", "stop", "rm", "up"]
    assert docker.routes_at("up") == ("app:7860\n",) * 2, "the proxy tries the name that both containers have"
    done = docker.operate("rollback", "--data")
    assert done.returncode == 0, done.stderr
    told = steps(docker.told())
    assert [step.split(" ")[1] for step in told] == ["stop", "rm", "run", "run", "up"]
    assert told[2] == "v1 run --rm --no-deps -T data -m orfeas restore -"
    assert told[3] == "v1 run --rm --no-deps -T data -m orfeas verify"
    assert docker.containers() == [("orfeas-app-3", "v1")]


def test_a_version_that_ends_is_removed_and_the_old_one_stays(docker):
    before = docker.upstreams()
    done = docker.operate("release", "broken", "--beside")
    assert done.returncode == 1
    assert "broken has ended" in done.stderr
    assert "out of luck" in done.stderr
    assert docker.containers() == [("orfeas-app-1", "v1")]
    assert docker.upstreams() == before
    assert "ORFEAS_TAG=v1" in (docker.root / ".env").read_text()


def test_a_version_that_does_not_get_ready_shows_its_log(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "deploy"))
    from operate import config, switch
    from operate.drivers import Running

    class Waiting:
        def is_ready(self, running):
            return False

        def log(self, running):
            return "waits for its weights"

    monkeypatch.setattr(switch, "READY_SECONDS", 0.1)
    with pytest.raises(config.Failed, match=r"not ready within 0 s:\nwaits for its weights"):
        switch._wait_until_ready(Waiting(), Running("v1", "orfeas-app-1:7860", "c1"))


def test_a_container_that_was_left_is_not_taken_for_the_new_version(docker):
    docker.stop_all()
    done = docker.operate("release", "v2")
    assert done.returncode == 0, done.stderr
    assert docker.containers() == [("orfeas-app-2", "v2")]


@pytest.mark.parametrize("way", ["--beside", "--after"])
def test_a_container_that_cannot_be_started_is_removed_and_the_old_version_runs(docker, way):
    done = docker.operate("release", "unstartable", way)
    assert done.returncode == 1
    assert "nvidia-container-cli: initialization error" in done.stderr
    assert [tag for _, tag in docker.containers()] == ["v1"]
    assert docker.running() == ["v1"]


def test_too_little_memory_starts_the_new_one_after_the_old(docker):
    text = (docker.root / ".env").read_text()
    (docker.root / ".env").write_text(text.replace("ORFEAS_BESIDE_MB=1", "ORFEAS_BESIDE_MB=100000000"))
    done = docker.operate("release", "v2")
    assert "after the old version" in done.stderr
    assert "ORFEAS_BESIDE_MB" in done.stderr
    order = [step.split(" ")[1] for step in steps(docker.told())]
    assert order.index("stop") < order.index("up")


@pytest.mark.parametrize(("written", "waited"), [("90.5", "111"), ("600", "620")])
def test_the_old_version_has_as_long_as_the_app_waits(docker, written, waited):
    text = (docker.root / ".env").read_text()
    (docker.root / ".env").write_text(text.replace("ORFEAS_DRAIN_SECONDS=90", f"ORFEAS_DRAIN_SECONDS={written}"))
    assert docker.operate("release", "v2", "--beside").returncode == 0
    assert f"v1 stop -t {waited} c1" in steps(docker.told())


def test_a_number_that_is_none_is_refused_before_anything_starts(docker):
    text = (docker.root / ".env").read_text()
    (docker.root / ".env").write_text(text.replace("ORFEAS_DRAIN_SECONDS=90", "ORFEAS_DRAIN_SECONDS=inf"))
    done = docker.operate("release", "v2", "--beside")
    assert done.stderr == "release: ORFEAS_DRAIN_SECONDS is 'inf' in .env: it has to be a number.\n"
    assert steps(docker.told()) == []


def test_one_operator_at_a_time(docker):
    import fcntl

    with (docker.root / "backups" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = docker.operate("release", "v2")
    assert done.returncode == 1
    assert "under way" in done.stderr


def test_an_archive_that_has_no_room_is_not_begun(docker):
    last = docker.root / "backups" / "backup-20300101-120000.tar"
    last.touch()
    os.truncate(last, shutil.disk_usage(docker.root).free + 1_000_000_000)  # takes no room itself
    done = docker.operate("release", "v2", "--beside")
    assert done.returncode == 1
    assert re.search(r"has \d+ MB free, and the last archive took \d+: remove old archives", done.stderr)
    assert steps(docker.told()) == []


def test_the_last_five_archives_of_releases_are_kept_and_all_of_the_operator_s(docker):
    backups = docker.root / "backups"
    names = [f"before-v0-2020010{day}-120000.tar" for day in range(1, 8)] + ["backup-20200101-120000.tar"]
    for age, name in enumerate(reversed(names)):
        (backups / name).touch()
        os.utime(backups / name, (1e9 - age, 1e9 - age))
    assert docker.operate("release", "broken", "--beside").returncode == 1
    assert {path.name for path in backups.glob("*.tar")} > set(names), "what failed removes nothing"
    assert docker.operate("release", "v2", "--beside").returncode == 0
    kept = {path.name for path in backups.glob("*.tar")}
    assert kept & set(names) == {*names[4:]}
    assert len(kept) == 6


# --- broken off --------------------------------------------------------------------------------------------------


def test_a_release_that_was_broken_off_while_the_old_version_ended_is_finished(docker):
    docker.signal_at("stop", signal.SIGKILL)
    assert docker.operate("release", "v2", "--beside").returncode == -signal.SIGKILL
    assert docker.upstreams() == {"newest": "orfeas-app-2:7860\n", "oldest": "orfeas-app-1:7860\n"}
    assert (docker.root / ".env").read_text().endswith("ORFEAS_TAG=v2\n"), "docker compose up would leave v2 alone"
    done = docker.operate("release", "v2")
    assert done.returncode == 0, done.stderr
    assert docker.upstreams() == read_upstreams(ROOT)
    assert docker.running() == ["v2"]
    assert docker.operate("release", "v2").stderr == "release: v2 runs already: name another version.\n"
    assert [(entry["kind"], entry["tag"], entry["previous"]) for entry in docker.record()] == [
        ("release", "v1", ""),
        ("release", "v2", "v1"),
    ]


def test_a_release_that_was_broken_off_is_rolled_back_to_the_version_before(docker):
    docker.signal_at("stop", signal.SIGKILL)
    docker.operate("release", "v2", "--beside")
    done = docker.operate("rollback")
    assert done.returncode == 0, done.stderr
    assert docker.running() == ["v1"]
    assert docker.upstreams() == read_upstreams(ROOT)


def test_a_new_version_that_was_not_routed_to_yet_is_begun_anew(docker):
    docker.signal_at("up", signal.SIGKILL)
    docker.operate("release", "v2", "--beside")
    assert docker.running() == ["v1", "v2"]
    done = docker.operate("release", "v2", "--beside")
    assert done.returncode == 0, done.stderr
    assert docker.containers() == [("orfeas-app-3", "v2")]


def test_what_could_not_be_written_down_is_written_by_the_same_command(docker):
    (docker.root / "backups" / "releases.part").mkdir()  # as a full disk, or another's file
    done = docker.operate("release", "v2", "--beside")
    assert done.returncode == 1
    assert "Is a directory" in done.stderr
    assert "Traceback" not in done.stderr
    (docker.root / "backups" / "releases.part").rmdir()
    assert docker.operate("release", "v2").returncode == 0
    assert docker.running() == ["v2"]
    assert (docker.root / ".env").read_text().endswith("ORFEAS_TAG=v2\n")
    (archive,) = (docker.root / "backups").glob("before-v2-*.tar")
    assert docker.record()[-1]["archive"] == str(archive)


def test_a_connection_that_drops_leaves_nothing_half_done(docker):
    docker.signal_at("stop", signal.SIGHUP)
    reading, writing = os.pipe()
    os.close(reading)  # nobody reads what is said
    done = docker.operate("release", "v2", "--beside", stderr=writing)
    os.close(writing)
    assert done.returncode == 0
    assert docker.containers() == [("orfeas-app-2", "v2")]
    assert docker.upstreams() == read_upstreams(ROOT)


@pytest.mark.parametrize("way", ["--beside", "--after"])
def test_an_interrupted_start_is_taken_back(docker, way):
    docker.signal_at("up", signal.SIGINT)
    done = docker.operate("release", "v2", way)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("release: Interrupted: give the command again")
    assert docker.running() == ["v1"]
    assert [tag for _, tag in docker.containers()] == ["v1"]
    assert docker.upstreams() == read_upstreams(ROOT)


def test_routes_that_cannot_be_written_stop_nothing(docker):
    (docker.root / "deploy" / "upstreams" / ".newest.part").mkdir()
    done = docker.operate("release", "v2", "--beside")
    assert done.returncode == 1
    assert "Is a directory" in done.stderr
    assert "Traceback" not in done.stderr
    assert docker.running() == ["v1"]


def test_an_archive_that_cannot_be_read_stops_nothing(docker, monkeypatch):
    """In this process: to root, as who the tests may run, every file is readable."""
    monkeypatch.syspath_prepend(str(ROOT / "deploy"))
    from operate import commands, config
    from operate.drivers import Running

    class Untouched:
        upstreams = docker.root / "deploy" / "upstreams"

        def running(self):
            return [Running("v1", "orfeas-app-1:7860", "c1")]

        def at_rest(self, running):
            return "app:7860"

    class Theirs(type(Path())):
        def open(self, *_):
            raise PermissionError(13, "Permission denied", str(self))

    archive = Theirs(docker.root / "theirs.tar")
    archive.touch()
    with pytest.raises(config.Failed, match=r"theirs\.tar cannot be read \(Permission denied\): take the user"):
        commands.restore(argparse.Namespace(archive=archive), config.Config(docker.root), Untouched())


def test_a_second_rollback_does_not_go_forward_and_the_data_are_found(docker):
    assert docker.operate("release", "v2", "--beside").returncode == 0
    assert docker.operate("rollback").returncode == 0
    again = docker.operate("rollback")
    assert again.stderr == "rollback: v1 runs already: name another version.\n"
    docker.told()
    with_data = docker.operate("rollback", "--data")
    assert with_data.returncode == 0, with_data.stderr
    assert "v1 run --rm --no-deps -T data -m orfeas restore -" in steps(docker.told())
    assert docker.running() == ["v1"]


def test_a_failure_after_the_data_were_put_back_says_whose_they_are(docker):
    assert docker.operate("release", "v2", "--beside").returncode == 0
    done = docker.operate("rollback", "broken", "--data")
    assert done.returncode == 1
    assert "broken has ended" in done.stderr
    assert re.search(r"The data are those of \S+before-v2-\S+\.tar now; .* before-restore-", done.stderr)
    assert docker.running() == ["v2"]
