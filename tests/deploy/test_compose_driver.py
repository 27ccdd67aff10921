"""What Docker is told in a release: no engine runs here, a stand-in for its command line writes everything down."""

from __future__ import annotations

import json
import os
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

    def operate(self, *words: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "STAND_IN": str(self.folder), "PATH": f"{self.folder}:{os.environ['PATH']}"}
        command = [sys.executable, ROOT / "deploy" / words[0], *words[1:], "--root", self.root]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

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
        state = json.loads((self.folder / "state.json").read_text())
        return [(entry["name"], entry["tag"]) for entry in state["containers"]]


@pytest.fixture
def docker(tmp_path):
    docker = Docker(tmp_path)
    for tag in ("v1", "v2", "broken"):
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
        "v1 run --rm --no-deps -T app -m orfeas backup -",
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
    assert told[2] == "v1 run --rm --no-deps -T app -m orfeas restore -"
    assert told[3] == "v1 run --rm --no-deps -T app -m orfeas verify"
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


def test_too_little_memory_starts_the_new_one_after_the_old(docker):
    text = (docker.root / ".env").read_text()
    (docker.root / ".env").write_text(text.replace("ORFEAS_BESIDE_MB=1", "ORFEAS_BESIDE_MB=100000000"))
    done = docker.operate("release", "v2")
    assert "after the old version" in done.stderr
    assert "ORFEAS_BESIDE_MB" in done.stderr
    order = [step.split(" ")[1] for step in steps(docker.told())]
    assert order.index("stop") < order.index("up")


def test_one_operator_at_a_time(docker):
    import fcntl

    with (docker.root / "backups" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = docker.operate("release", "v2")
    assert done.returncode == 1
    assert "under way" in done.stderr
