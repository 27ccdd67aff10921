"""The real Caddy before the real app."""

# ruff: noqa: F401, F811 (pytest finds fixtures by the names imported here)

from __future__ import annotations

import pytest

from orfeas.library import Library
from orfeas.settings import Settings
from orfeas.web.serve import start
from tests.conftest import PacedEngine, open_studio
from tests.deploy.caddy import Caddy
from tests.web.conftest import _leave_it_idle, engine, free_port, pace, photo, server, url


@pytest.fixture(scope="session")
def caddy(server, tmp_path_factory):
    caddy = Caddy(tmp_path_factory.mktemp("caddy"), server.url)
    yield caddy
    caddy.close()


@pytest.fixture(scope="session")
def below_a_path(tmp_path_factory):
    """Caddy and an app of its own that are shown below /studio."""
    folder = tmp_path_factory.mktemp("below")
    settings = Settings(
        _env_file=None, engine="sketch", data_dir=folder / "data", port=free_port(), host="127.0.0.1",
        root_path="/studio",
    )  # fmt: skip
    server = start(open_studio(settings, PacedEngine(), Library(settings.data_dir)), settings)
    caddy = Caddy(folder / "caddy", f"http://127.0.0.1:{settings.port}", "/studio")
    yield caddy
    caddy.close()
    server.close()


@pytest.fixture
def https(caddy):
    with caddy.client() as client:
        yield client
