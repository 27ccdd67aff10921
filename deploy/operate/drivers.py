"""How a version is started and stopped: as a container by Docker Compose, or as a plain process."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from operate.config import Config, Failed

COMPOSE_FILE = "docker-compose.production.yml"
_ASK_READY = (
    "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 7860, timeout=4); c.request('GET', '/ready');"
    "sys.exit(c.getresponse().status != 200)"
)


@dataclass(frozen=True)
class Running:
    """A version that runs. address: host:port by which the proxy reaches it. handle: a container's or process's id."""

    tag: str
    address: str
    handle: str


class Driver(Protocol):
    """What `operate.switch` needs of the machine."""

    def running(self) -> list[Running]: ...

    def has(self, tag: str) -> bool:
        """Whether that version is there to be started."""

    def build(self, tag: str) -> None:
        """Make it from the checkout."""

    def start(self, tag: str) -> Running:
        """Start one more; returns before it is ready."""

    def is_ready(self, running: Running) -> bool:
        """Raises `Failed`, with the end of its log, if it has ended, even if it was started again since."""

    def log(self, running: Running) -> str:
        """The last lines of its log."""

    def stop(self, running: Running) -> None:
        """Tell it to end, and wait until it has: it refuses new jobs and finishes the one that runs."""

    def run(self, tag: str, words: Sequence[str], stdin: IO | None = None, stdout: IO | None = None) -> None:
        """``python -m orfeas WORDS`` of that version on the data folder. Raises `Failed`."""

    def at_rest(self, running: Running) -> str:
        """The address for the proxy while this is the only version."""

    @property
    def upstreams(self) -> Path:
        """The folder with the files that the proxy reads, as this program sees it."""


def choose_driver(config: Config) -> Driver:
    kind = config.get("ORFEAS_DRIVER", "compose")
    if kind == "compose":
        return ComposeDriver(config)
    if kind == "process":
        from operate.processes import ProcessDriver

        return ProcessDriver(config)
    raise Failed(f"ORFEAS_DRIVER is {kind!r} in .env: it can be compose or process.")


class ComposeDriver:
    """Versions are containers of the service ``app``; two of them while one takes over from the other.

    The service's name is an alias of all its containers, so that ``app:7860`` is right whenever only one runs: also
    after a reboot, or ``docker compose up``. During a switch each is addressed by its container's name.
    """

    def __init__(self, config: Config):
        if not shutil.which("docker"):
            raise Failed("docker is not installed: install Docker Engine with its compose plugin.")
        self._config = config
        if self._docker("compose", "version", check=False).returncode:
            raise Failed(
                "Docker's compose plugin is missing: install docker-compose-plugin from Docker's own packages"
                " (https://docs.docker.com/compose/install/linux/)."
            )
        self._image = config.get("ORFEAS_IMAGE", "orfeas")
        self._grace = config.number("ORFEAS_DRAIN_SECONDS", 110) + 20  # read now: a switch is no time to refuse it
        self.upstreams = config.root / "deploy" / "upstreams"

    def _docker(self, *words: str, check: bool = True, tag: str = "", **options) -> subprocess.CompletedProcess:
        environment = self._config.all()
        if tag:
            environment["ORFEAS_TAG"] = tag
        if "stdout" not in options:
            options["stdout"] = subprocess.PIPE
        done = subprocess.run(
            ["docker", *words], cwd=self._config.root, env=environment, stderr=subprocess.PIPE, **options
        )
        if check and done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise Failed(f"docker {' '.join(words[:6])} failed: {said[-600:]}")
        return done

    def _compose(self, *words: str, **options) -> subprocess.CompletedProcess:
        return self._docker("compose", "-f", COMPOSE_FILE, *words, **options)

    def running(self) -> list[Running]:
        found = []
        for container in self._compose("ps", "--quiet", "app").stdout.decode().split():
            told = self._docker("inspect", "--format", "{{.Name}} {{.Config.Image}}", container).stdout.decode()
            name, image = told.split()
            found.append(Running(image.rsplit(":", 1)[1], f"{name.lstrip('/')}:7860", container))
        return found

    def has(self, tag: str) -> bool:
        return self._docker("image", "inspect", f"{self._image}:{tag}", check=False).returncode == 0

    def build(self, tag: str) -> None:
        self._compose("build", "app", tag=tag, stdout=None)

    def start(self, tag: str) -> Running:
        self._remove_leftovers()
        before = {running.handle for running in self.running()}
        scale = f"app={len(before) + 1}"
        try:
            self._compose(
                "up", "--detach", "--no-deps", "--no-recreate", "--no-build", "--scale", scale, "app", tag=tag
            )
        except Failed:
            self._remove_leftovers()
            raise
        (new,) = [running for running in self.running() if running.handle not in before]
        if new.tag != tag:
            self.stop(new)
            raise Failed(
                f"Compose started {new.tag} in place of {tag}: remove what `docker ps --all` shows of the app."
            )
        return new

    def _remove_leftovers(self) -> None:
        """Containers that do not run: Compose counts them towards the scale, and would start one of them as it is."""
        statuses = [word for status in ("created", "exited", "dead") for word in ("--status", status)]
        for container in self._compose("ps", "--all", "--quiet", *statuses, "app").stdout.decode().split():
            self._docker("rm", container, check=False)  # one of `run --rm` may be gone by now

    def is_ready(self, running: Running) -> bool:
        # one that ends is started again, and Docker calls it running meanwhile
        asked = "{{.State.Running}} {{.State.Restarting}} {{.RestartCount}}"
        state = self._docker("inspect", "--format", asked, running.handle).stdout.decode().strip()
        if state != "true false 0":
            raise Failed(f"{running.tag} has ended:\n{self.log(running)}")
        return self._docker("exec", running.handle, "python", "-c", _ASK_READY, check=False).returncode == 0

    def log(self, running: Running) -> str:
        told = self._docker("logs", "--tail", "20", running.handle, check=False)
        return (told.stdout + told.stderr).decode(errors="replace").strip()

    def stop(self, running: Running) -> None:
        self._docker("stop", "-t", str(self._grace), running.handle)
        self._docker("rm", running.handle)

    def run(self, tag: str, words: Sequence[str], stdin: IO | None = None, stdout: IO | None = None) -> None:
        options = {"stdin": stdin or subprocess.DEVNULL, "stdout": stdout or subprocess.PIPE}
        self._compose("run", "--rm", "--no-deps", "-T", "data", "-m", "orfeas", *words, tag=tag, **options)

    def at_rest(self, running: Running) -> str:
        return "app:7860"
