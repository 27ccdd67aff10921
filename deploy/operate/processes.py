"""Versions as folders and plain processes: for rehearsals, and for servers without Docker."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from operate.config import Config, Failed
from operate.drivers import Running


class ProcessDriver:
    """``ORFEAS_RELEASES/TAG`` is a version; each runs on one of the two ``ORFEAS_PORTS`` of 127.0.0.1."""

    def __init__(self, config: Config):
        self._config = config
        self._releases = config.path("ORFEAS_RELEASES", "releases")
        self._python = config.get("ORFEAS_PYTHON", "python3")
        self._ports = [int(port) for port in config.get("ORFEAS_PORTS", "7861,7862").split(",")]
        self._grace = config.number("ORFEAS_DRAIN_SECONDS", 110) + 20
        self._record = self._releases / "running.json"
        self.upstreams = config.path("ORFEAS_UPSTREAMS", "deploy/upstreams")

    def running(self) -> list[Running]:
        try:
            recorded = json.loads(self._record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        return [Running(**entry) for entry in recorded if _is_alive(entry["handle"])]

    def _remember(self, running: list[Running]) -> None:
        part = self._record.with_suffix(".part")
        part.write_text(json.dumps([vars(entry) for entry in running]), encoding="utf-8")
        part.replace(self._record)

    def has(self, tag: str) -> bool:
        return (self._releases / tag / "app.py").is_file()

    def build(self, tag: str) -> None:
        self._releases.mkdir(parents=True, exist_ok=True)
        folder, part = self._releases / tag, self._releases / f".{tag}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        archive = subprocess.Popen(["git", "archive", tag], cwd=self._config.root, stdout=subprocess.PIPE)
        unpacked = subprocess.run(["tar", "--extract"], cwd=part, stdin=archive.stdout)
        if archive.wait() or unpacked.returncode:
            raise Failed(f"git archive {tag} failed: is {tag} a tag of this checkout?")
        part.rename(folder)

    def start(self, tag: str) -> Running:
        running = self.running()
        taken = {entry.address for entry in running}
        free = [port for port in self._ports if f"127.0.0.1:{port}" not in taken]
        if not free:
            raise Failed("Two versions run already: stop one of them.")
        folder = self._releases / tag
        environment = {**self._config.all(), "ORFEAS_HOST": "127.0.0.1", "ORFEAS_PORT": str(free[0])}
        environment["ORFEAS_TAG"] = tag  # while a release is under way .env names the version before
        with (self._releases / f"{tag}.log").open("ab") as log:
            process = subprocess.Popen(
                [self._python, "app.py"],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        new = Running(tag, f"127.0.0.1:{free[0]}", f"{process.pid}:{_start_of(process.pid)}")
        self._remember([*running, new])
        return new

    def is_ready(self, running: Running) -> bool:
        if not _is_alive(running.handle):
            raise Failed(f"{running.tag} has ended:\n{self.log(running)}")
        connection = http.client.HTTPConnection(running.address, timeout=4)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def log(self, running: Running) -> str:
        lines = (self._releases / f"{running.tag}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-20:])

    def stop(self, running: Running) -> None:
        pid = int(running.handle.split(":")[0])
        deadline = time.monotonic() + self._grace
        with contextlib.suppress(ProcessLookupError):
            if _is_alive(running.handle):
                os.kill(pid, signal.SIGTERM)
        while _is_alive(running.handle):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        self._remember([entry for entry in self.running() if entry.handle != running.handle])

    def run(self, tag: str, words: Sequence[str], stdin: IO | None = None, stdout: IO | None = None) -> None:
        done = subprocess.run(
            [self._python, "-m", "orfeas", *words],
            cwd=self._releases / tag, env=self._config.all(), stdin=stdin or subprocess.DEVNULL,
            stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        if done.returncode:
            said = (b"" if stdout else done.stdout) + done.stderr
            raise Failed(f"orfeas {' '.join(words)} failed: {said.decode(errors='replace').strip()[-600:]}")

    def at_rest(self, running: Running) -> str:
        return running.address


def _start_of(pid: int) -> str:
    """When a process began, in the kernel's ticks; with its number it names it for ever. "" if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _is_alive(handle: str) -> bool:
    pid, start = handle.split(":")
    with contextlib.suppress(ChildProcessError):
        os.waitpid(int(pid), os.WNOHANG)
    return bool(start) and _start_of(int(pid)) == start
