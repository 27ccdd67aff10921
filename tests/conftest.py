"""What many tests need: settings that touch nothing of the user's, a studio, and an engine that we pace."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from orfeas.settings import Settings

if TYPE_CHECKING:
    from orfeas.studio import Studio


# --- which worker runs which file, and when (--dist loadfile) ---------------------------------------------------------

LONG = ("test_release.py",)  # few tests that take long: begun last, they would be waited for
TOGETHER = {  # they share what takes long to start
    "a Ray cluster": ("tests/engines/test_cluster.py", "tests/engines/test_contract.py"),
    "a program that is watched": (
        "tests/web/test_operators.py", "tests/web/test_log.py", "tests/web/test_prometheus.py",
    ),
}  # fmt: skip


def _unit(node: str) -> str:
    """What one worker runs from end to end: a file, or several of `TOGETHER`."""
    file = node.split("::")[0]
    return next((unit for unit, files in TOGETHER.items() if file in files), file)


def pytest_configure(config):
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # the order is that of the collection, as follows


def pytest_collection_modifyitems(items):
    if "PYTEST_XDIST_WORKER" in os.environ:
        sizes = Counter(_unit(item.nodeid) for item in items)
        items.sort(key=lambda item: (not _unit(item.nodeid).endswith(LONG), -sizes[_unit(item.nodeid)]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Units(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _unit(nodeid)

    return Units(config, log)


# --- what tests are given ---------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _isolate(monkeypatch, tmp_path_factory):
    """No test reads the user's settings or writes into the user's folders."""
    for variable in [name for name in os.environ if name.startswith("ORFEAS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("ORFEAS_DATA_DIR", str(tmp_path_factory.mktemp("data")))


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(_env_file=None, engine="sketch", data_dir=tmp_path / "data")


class PacedEngine:
    """A real engine by contract, whose mesh is an ellipsoid and whose steps wait for leave to go on.

    With ``pace`` None it never waits. Otherwise each step needs one `threading.Semaphore.release` by the test.
    """

    name, title, device, version = "sketch", "Paced", "cpu", "test"
    reason = "the test asked for it"
    caveat = ""

    def __init__(
        self,
        steps: int = 4,
        pace: threading.Semaphore | None = None,
        error: Exception | None = None,
        slots: int = 1,
    ):
        self.slots = slots
        self.steps, self.pace, self.error = steps, pace, error
        self.rings = 24  # of the mesh: four times their square are its faces
        self.loads = self.closed = self.cancelled = self.running = self.most_running = 0

    def load(self):
        self.loads += 1

    def health(self):
        return {}

    def close(self):
        self.closed += 1

    def shape(self, cutout, quality, seed) -> Iterator:
        from orfeas.engines import Step
        from orfeas.mesh import Mesh

        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for step in range(self.steps):
                if pace := self.pace:  # a test that ends takes it away meanwhile
                    assert pace.acquire(timeout=300)
                if self.error:
                    raise self.error
                yield Step((step + 1) / self.steps, f"step {step + 1} of {self.steps}")
            vertices, faces = sphere(self.rings + seed % 5)
            yield Mesh(vertices * (0.8, 0.6, 0.5), faces)
        except GeneratorExit:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


def sphere(rings: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A closed unit sphere by latitude and longitude: vertices (n, 3), faces (m, 3), outward."""
    polar = np.linspace(0, np.pi, rings + 1)[1:-1]
    around = np.arange(2 * rings) * np.pi / rings
    body = np.stack(
        [
            np.outer(np.sin(polar), np.cos(around)),
            np.outer(np.cos(polar), np.ones_like(around)),
            -np.outer(np.sin(polar), np.sin(around)),
        ],
        axis=2,
    ).reshape(-1, 3)
    vertices = np.concatenate([body, [(0, 1, 0), (0, -1, 0)]])
    n, faces = 2 * rings, []
    for ring in range(len(polar) - 1):
        for k in range(n):
            a, b = ring * n + k, ring * n + (k + 1) % n
            faces += [(a, a + n, b), (b, a + n, b + n)]
    last, north, south = (len(polar) - 1) * n, len(body), len(body) + 1
    for k in range(n):
        faces += [(north, k, (k + 1) % n), (south, last + (k + 1) % n, last + k)]
    return vertices, np.asarray(faces, np.int32)


def open_studio(settings, engine, library, **options) -> Studio:
    """A real studio that draws a result's still and turn small: at full size they are most of a `PacedEngine`'s job."""
    from orfeas.render.still import render_poster_and_turn
    from orfeas.studio import Studio

    views = partial(render_poster_and_turn, size=128, turn_size=32)
    return Studio(settings, engine, library, **{"draw_views": views, **options})


@pytest.fixture
def make_studio(settings):
    """A function that makes real studios around an engine; all are closed afterwards."""
    from orfeas.library import Library

    made = []

    def make(engine=None, **options) -> Studio:
        if engine is None:
            from orfeas.engines.sketch import SketchEngine

            engine = SketchEngine(reason="the test asked for it")
        made.append(open_studio(settings, engine, Library(settings.data_dir), **options))
        return made[-1]

    yield make
    for studio in made:
        studio.close()
