"""A rehearsal of releases: real versions of the app as plain processes behind the real Caddy, by the real scripts.

Everything but the container engine is as in production. What Docker Compose is told is tested in test_compose_driver.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field

import httpx
import pytest

from tests.deploy.caddy import ROOT, Caddy
from tests.web.conftest import file_data, free_port, upload, wait_until

IDENTITY = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org"}
IDENTITY |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in IDENTITY.items()}


class Machine:
    """A server's checkout with its .env, its versions and Caddy."""

    def __init__(self, folder):
        self.root, self.data = folder / "checkout", folder / "data"
        for name in ("app.py", "orfeas", "assets", "deploy"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            self.root.mkdir(exist_ok=True)
            copy(ROOT / name, self.root / name)
        for cache in self.root.rglob("__pycache__"):
            shutil.rmtree(cache)
        (self.root / ".gitignore").write_text("__pycache__/\n.env\n")
        self.git("init", "--quiet")
        self.caddy = Caddy(folder / "caddy", "http://127.0.0.1:9", ORFEAS_CADDY_LOG="DEBUG")
        settings = {
            "ORFEAS_DRIVER": "process",
            "ORFEAS_TAG": "none",
            "ORFEAS_ENGINE": "sketch",
            "ORFEAS_DATA_DIR": self.data,
            "ORFEAS_BACKUPS": folder / "backups",
            "ORFEAS_RELEASES": folder / "releases",
            "ORFEAS_PYTHON": sys.executable,
            "ORFEAS_PORTS": f"{free_port()},{free_port()}",
            **{name: value for name, value in self.caddy.environment.items() if name.startswith("ORFEAS_")},
        }
        self.settings = {name: str(value) for name, value in settings.items() if name != "ORFEAS_ROOT_PATH"}
        text = "# of this server\n" + "".join(f'{name}="{value}"\n' for name, value in self.settings.items())
        (self.root / ".env").write_text(text)

    def git(self, *words: str) -> None:
        environment = {**os.environ, **IDENTITY}
        subprocess.run(["git", *words], cwd=self.root, check=True, env=environment, capture_output=True)

    def commit(self, path: str, before: str, after: str) -> None:
        file = self.root / path
        text = file.read_text(encoding="utf-8")
        assert before in text
        file.write_text(text.replace(before, after, 1), encoding="utf-8")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", after)

    def operate(self, *words: str) -> subprocess.CompletedProcess:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ORFEAS_") and k != "GRADIO_TEMP_DIR"}
        command = [sys.executable, self.root / "deploy" / words[0], *words[1:]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
        print(done.stderr)
        return done

    def running(self) -> list[dict]:
        return json.loads((self.data.parent / "releases" / "running.json").read_text())

    def version(self) -> str:
        return self.health()["version"]

    def health(self) -> dict:
        with self.caddy.client() as https:
            return https.get("/health").json()

    def close(self) -> None:
        self.caddy.close()
        record = self.data.parent / "releases" / "running.json"
        for running in json.loads(record.read_text()) if record.is_file() else ():
            subprocess.run(["kill", "-KILL", running["handle"].split(":")[0]], check=False)


def patient(machine: Machine, kept: int = 1) -> httpx.Client:
    """Waits as long as Caddy holds a request, and asks for nothing twice. kept: connections that it goes on using."""
    return machine.caddy.client(timeout=200, limits=httpx.Limits(max_keepalive_connections=kept))


@dataclass
class Customer:
    """Generates one model after the other; fetches each when no job runs any more, or the version has changed.

    late: its second model is fetched when the version has changed, however long ago it was done.
    """

    machine: Machine
    photo: object
    late: bool = False
    until: threading.Event = field(default_factory=threading.Event)
    joined: int = 0
    made: list[str] = field(default_factory=list)
    straddled: int = 0
    trouble: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        try:
            with patient(self.machine) as https:
                while not self.until.is_set():
                    self._make_one(https)
        except Exception:
            self.trouble.append(traceback.format_exc(limit=-12))

    def _make_one(self, https: httpx.Client) -> None:
        before = https.get("/health").json()["version"]
        body = {"picture": file_data(upload(https, self.photo)), "quality": "draft"}
        joined = https.post("/gradio_api/call/v2/generate", json=body)
        joined.raise_for_status()
        self.joined += 1
        waits_for_change = self.late and len(self.made) == 1
        while not self.until.is_set():
            health = https.get("/health").json()
            if health["version"] != before:
                self.straddled += 1
                break
            if not (waits_for_change or health["busy"] or health["queue"]):
                break
            time.sleep(0.1)
        events = https.get(f"/gradio_api/call/v2/generate/{joined.json()['event_id']}").text
        found = re.search(r'"url": ?"(https://[^"]+\.stl)"', events)
        if "event: complete" not in events or not found:
            self.trouble.append(events[-500:])
            return
        stl = https.get(found[1]).content
        assert len(stl) == 84 + 50 * int.from_bytes(stl[80:84], "little")
        self.made.append(found[1])

    def leave(self) -> None:
        self.until.set()
        self.thread.join(timeout=200)
        assert not self.thread.is_alive()
        assert self.trouble == []


class Prober:
    """Asks for the API's description all the time, by one connection as a browser and by new ones as curl.

    trouble: what came in place of an answer.
    """

    def __init__(self, machine: Machine):
        self.statuses: dict[int, int] = {}
        self.trouble: list[Exception] = []
        self._until = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(machine,))
        self._thread.start()

    def _work(self, machine: Machine) -> None:
        with patient(machine) as browser, patient(machine, kept=0) as curl:
            while not self._until.is_set():
                for https in (browser, curl):
                    try:
                        status = https.get("/gradio_api/info").status_code
                    except httpx.TransportError as error:
                        self.trouble.append(error)
                        continue
                    self.statuses[status] = self.statuses.get(status, 0) + 1
                time.sleep(0.05)

    def stop(self) -> None:
        self._until.set()
        self._thread.join(timeout=200)
        assert self.trouble == []


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    machine = Machine(tmp_path_factory.mktemp("server"))
    yield machine
    machine.close()


def results(machine: Machine) -> set[str]:
    return {folder.name for folder in (machine.data / "results").iterdir()}


def test_releases_and_rollbacks_lose_no_job(machine, photo):
    machine.commit("orfeas/__init__.py", '__version__ = "', '__version__ = "1.')
    first = machine.operate("release", "v1")
    assert first.returncode == 0, first.stderr
    assert machine.version().startswith("1.")
    assert "ORFEAS_TAG=v1" in (machine.root / ".env").read_text()

    # the second version starts beside the first, under load
    machine.commit("orfeas/__init__.py", '__version__ = "1.', '__version__ = "2.')
    late = Customer(machine, photo, late=True)
    customers = [late, Customer(machine, photo), Customer(machine, photo)]
    prober = Prober(machine)
    wait_until(lambda: all(customer.made for customer in customers), "each has made a model", 300)
    wait_until(lambda: late.joined > 1, "the old version has the job that is fetched late", 300)
    second = machine.operate("release", "v2", "--beside")
    assert second.returncode == 0, second.stderr
    prober.stop()
    for customer in customers:
        customer.leave()
    assert "archived the data" in second.stderr
    assert machine.version().startswith("2.")
    assert machine.health()["release"] == "v2", "although .env named v1 when it was started"
    assert [running["tag"] for running in machine.running()] == ["v2"]
    assert set(prober.statuses) == {200}, "no request was refused"
    assert late.straddled >= 1, "a job of the old version was fetched after the switch"
    made = [url for customer in customers for url in customer.made]
    with machine.caddy.client() as https:
        assert {https.get(url).status_code for url in made} == {200}, "what the first version made is still served"
    assert "ORFEAS_TAG=v2" in (machine.root / ".env").read_text()
    assert (machine.root / ".env").read_text().startswith("# of this server\n")

    # a version that does not start changes nothing
    machine.commit("app.py", "def main() -> int:\n", 'def main() -> int:\n    print("out of luck")\n    return 3\n')
    (machine.root / "deploy/upstreams/newest").write_text("app-1:7860\n")  # as a release that was broken off leaves it
    broken = machine.operate("release", "v3", "--no-backup")
    assert broken.returncode == 1
    assert "v3 has ended" in broken.stderr
    assert "out of luck" in broken.stderr
    assert machine.version().startswith("2.")
    assert "ORFEAS_TAG=v2" in (machine.root / ".env").read_text()

    # back to the first version, and to the data that it had
    before = results(machine)
    (archive,) = (machine.data.parent / "backups").glob("before-v2-*.tar")
    prober = Prober(machine)
    back = machine.operate("rollback", "--data")
    prober.stop()
    assert back.returncode == 0, back.stderr
    assert "are back, and verified" in back.stderr
    assert machine.version().startswith("1.")
    assert set(prober.statuses) == {200}, "requests were held while no version ran"
    assert results(machine) < before
    assert results(machine) == archived_results(archive)
    (kept,) = machine.data.glob("before-restore-*")
    assert {folder.name for folder in (kept / "results").iterdir()} == before
    took = float(re.search(r"rolled back to v1 in ([\d.]+) s", back.stderr).group(1))
    assert took < 300

    # a backup taken by hand, and put back
    done = machine.operate("backup")
    assert done.returncode == 0, done.stderr
    lost = sorted(results(machine))[0]
    with_all = results(machine)
    shutil.rmtree(machine.data / "results" / lost)
    assert machine.operate("restore", done.stdout.strip()).returncode == 0
    assert results(machine) == with_all


def archived_results(archive) -> set[str]:
    import tarfile

    with tarfile.open(archive) as tar:
        return {name.split("/")[1] for name in tar.getnames() if name.startswith("results/")}


def test_what_cannot_be_done_is_said_in_a_sentence(machine):
    running = machine.running()[0]["tag"]
    for words, sentence in (
        (["release", "latest"], "cannot be a version"),
        (["release", running], f"{running} runs already"),
        (["rollback", "v9"], "v9 is not here any more"),
        (["restore", "none.tar"], "There is no file none.tar"),
    ):
        done = machine.operate(*words)
        assert done.returncode == 1, words
        assert sentence in done.stderr, words
        assert "Traceback" not in done.stderr, words
    (machine.root / "app.py").write_text("changed")
    done = machine.operate("release", "v8")
    assert "The checkout has changes" in done.stderr
    machine.git("checkout", "--quiet", "app.py")
