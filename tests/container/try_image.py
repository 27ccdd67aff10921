"""Build the image, start it hardened, and run one real job against it: ``make test-container``.

Needs root, buildah (Debian: ``apt install buildah``) and no container engine: the image is built with chroot
isolation and started by ``harden.sh``. Ends with one JSON line. The storage is large, and removed afterwards.

Where no registry can be reached, ``--stand-in`` makes the base image of Debian's own packages (``apt install
debootstrap``): Debian's Python 3.11 then stands in for the official image's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
BASE = "docker.io/library/python:3.11-slim-bookworm"


def main() -> int:
    arguments = parse()
    for tool in ["buildah", "unshare"] + ["debootstrap"] * arguments.stand_in:
        if not shutil.which(tool):
            sys.exit(f"{tool} is not installed: apt install {tool.replace('unshare', 'util-linux')}")
    if os.geteuid():
        sys.exit("This needs root: buildah's chroot isolation and the mounts do.")
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="orfeas-image-"))
    buildah = Buildah(folder)
    try:
        facts = {"benchmark": "container", "target": arguments.target, "stand_in": arguments.stand_in}
        if arguments.stand_in:
            facts["stand_in_seconds"] = buildah.make_stand_in()
        facts |= buildah.build(arguments.target, arguments.cuda, pull=not arguments.stand_in)
        if arguments.target == "sketch":
            facts["torch_inside"] = buildah.holds("torch")
            if facts["torch_inside"]:
                sys.exit("The sketch image holds torch.")
        facts |= buildah.run_job(arguments.target)
    finally:
        if not arguments.keep:
            buildah.remove()
    print(json.dumps(facts))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=["sketch", "full"], default="sketch")
    parser.add_argument("--cuda", choices=["12", "13"], default="13")
    parser.add_argument("--stand-in", action="store_true", help="make the base image with debootstrap")
    parser.add_argument("--folder", help="where the storage goes (default: a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave the storage there")
    return parser.parse_args()


class Buildah:
    """buildah with a storage of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.command = [
            "buildah",
            "--root",
            f"{folder}/storage",
            "--runroot",
            f"{folder}/run",
            "--storage-driver",
            "vfs",
        ]
        self.image = ""

    def __call__(self, *words: str, quiet: bool = False) -> str:
        output = subprocess.PIPE if quiet else None
        return subprocess.run([*self.command, *words], check=True, text=True, stdout=output).stdout or ""

    def make_stand_in(self) -> float:
        started, tree = time.monotonic(), self.folder / "debian"
        packages = "--include=python3-venv,ca-certificates"
        subprocess.run(["debootstrap", "--variant=minbase", packages, "bookworm", tree], check=True)
        container = self("from", "scratch", quiet=True).strip()
        self("copy", "--quiet", container, str(tree), "/", quiet=True)
        self("commit", "--quiet", "--rm", container, BASE, quiet=True)
        shutil.rmtree(tree)
        return round(time.monotonic() - started, 1)

    def build(self, target: str, cuda: str, pull: bool) -> dict:
        started = time.monotonic()
        self.image = f"localhost/orfeas:{target}"
        certificates = ["--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"] if Path("/etc/ssl/certs").is_dir() else []
        self(
            "build", "--isolation", "chroot", "--network", "host", f"--pull={str(pull).lower()}", "--format", "docker",
            *certificates, "--target", target, "--build-arg", f"CUDA={cuda}", "--tag", self.image, str(ROOT),
        )  # fmt: skip
        seconds = round(time.monotonic() - started, 1)
        size = json.loads(self("images", "--json", self.image, quiet=True))[0]["size"]
        return {"build_seconds": seconds, "image_size": size}

    def mount(self) -> tuple[str, Path]:
        container = self("from", "--pull=never", self.image, quiet=True).strip()
        return container, Path(self("mount", container, quiet=True).strip())

    def holds(self, package: str) -> bool:
        container, root = self.mount()
        found = any(root.glob(f"opt/orfeas/lib/python3*/site-packages/{package}"))
        self("rm", container, quiet=True)
        return found

    def run_job(self, target: str) -> dict:
        """Start what the image starts, as its user, and make a model."""
        config = json.loads(self("inspect", "--type", "image", self.image, quiet=True))["Docker"]["config"]
        container, root = self.mount()
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        os.chown(data, 1000, 1000)
        from tests.web.conftest import call, file_data, free_port, upload, wait_until, write_photo

        port = free_port()
        command = [
            Path(__file__).with_name("harden.sh"), root, data, config["WorkingDir"], *config["Env"],
            f"ORFEAS_PORT={port}", "ORFEAS_HOST=127.0.0.1", *config["Entrypoint"], *config["Cmd"],
        ]  # fmt: skip
        if config["User"] != "1000:1000":
            sys.exit(f"The image's user is {config['User']!r}, not 1000:1000.")
        started = time.monotonic()
        with (self.folder / "app.log").open("wb") as log:
            app = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as http:

                def answers() -> bool:
                    if app.poll() is not None:
                        sys.exit(f"The app ended:\n{(self.folder / 'app.log').read_text()}")
                    try:
                        return http.get("/ready").status_code == 200
                    except httpx.TransportError:
                        return False

                wait_until(answers, "the app answers", 120)
                facts = {"start_seconds": round(time.monotonic() - started, 1)}
                status = self._status_of(app.pid)
                photo = write_photo(self.folder / "egg.jpg", (60, 70, 200))
                started = time.monotonic()
                event, answer = call(http, "generate", {"picture": file_data(upload(http, photo))})
                if event != "complete":
                    sys.exit(f"The job failed: {answer}")
                facts["job_seconds"] = round(time.monotonic() - started, 1)
                stl = http.get(answer[0]["url"].split(str(port), 1)[1]).content
                if len(stl) != 84 + 50 * int.from_bytes(stl[80:84], "little"):
                    sys.exit("The STL is not whole.")
            subprocess.run(["kill", "-TERM", str(self._inner(app.pid))], check=True)
            facts["exit_status"] = app.wait(timeout=60)
        finally:
            if app.poll() is None:
                app.send_signal(signal.SIGKILL)
                app.wait()
            self("umount", container, quiet=True)
            self("rm", container, quiet=True)
        return {**facts, **status, "stl_bytes": len(stl), "verdict": answer[1]["report"]["verdict"]}

    @staticmethod
    def _inner(pid: int) -> int:
        """The process that unshare started: tini, process 1 within."""
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def _status_of(self, pid: int) -> dict:
        """What the kernel says of the app: its user, capabilities and whether it may gain any; and its root."""
        inner = self._inner(pid)
        lines = Path(f"/proc/{inner}/status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        found = {
            "uid": int(fields["Uid"].split()[0]),
            "capabilities": fields["CapBnd"].strip(),
            "no_new_privileges": fields["NoNewPrivs"].strip() == "1",
            "root_is_read_only": not os.access(f"/proc/{inner}/root/app", os.W_OK),
        }
        expected = {"uid": 1000, "capabilities": "0" * 16, "no_new_privileges": True, "root_is_read_only": True}
        if found != expected:
            sys.exit(f"The app does not run hardened: {found}")
        return found

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
