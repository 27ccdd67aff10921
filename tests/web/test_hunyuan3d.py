"""A server whose engine is Hunyuan3D, on a CPU with a tiny network of random weights."""

from __future__ import annotations

from html import escape

import httpx
import pytest
import trimesh
from gradio_client import handle_file

from orfeas.engines.choose import choose_engine
from orfeas.engines.hunyuan3d.approximations import EXPERTS_IN_8_BIT
from orfeas.engines.hunyuan3d.residency import INT8, Residency
from orfeas.library import Library
from orfeas.request import Quality
from orfeas.settings import Settings
from orfeas.web.serve import start
from tests.conftest import open_studio
from tests.engines.hunyuan3d.blob import write_blob_weights
from tests.web.conftest import connect, free_port, wait_until

# Drafts are quick; a standard job goes on until it is stopped.
QUALITIES = {"draft": Quality(20, 6, 700), "standard": Quality(20, 20_000, 700), "high": Quality(36, 6, 2500)}


@pytest.fixture(scope="module")
def hunyuan3d(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hunyuan3d")
    write_blob_weights(folder / "weights")
    settings = Settings(
        _env_file=None, engine="hunyuan3d", device="cpu", hunyuan3d_path=folder / "weights", data_dir=folder / "data",
        port=free_port(),
    )  # fmt: skip
    studio = open_studio(settings, choose_engine(settings), Library(settings.data_dir), qualities=QUALITIES)
    server = start(studio, settings)
    yield server
    server.close()


@pytest.fixture
def script(hunyuan3d):
    client = connect(hunyuan3d.url)
    yield client
    client.close()


def health(server) -> dict:
    return httpx.get(f"{server.url.rstrip('/')}/health", timeout=30).json()


def test_health_names_the_engine_and_why(hunyuan3d):
    engine = health(hunyuan3d)["engine"]
    assert (engine["name"], engine["title"], engine["device"]) == ("hunyuan3d", "Hunyuan3D-2.1", "cpu")
    assert "ORFEAS_ENGINE=hunyuan3d" in engine["reason"]


def test_the_page_names_what_is_approximated_once_the_engine_knows(hunyuan3d, monkeypatch):
    """Which networks fit is known when they are loaded, after the page was built."""
    telling = [
        function
        for function in hunyuan3d.demo.fns.values()
        if any(getattr(output, "elem_id", "") == "header" for output in function.outputs)
    ]
    assert any("load" in [event for _, event in function.targets] for function in telling)
    assert "8 bit" not in telling[0].fn()[1]
    engine = hunyuan3d.jobs.studio.engine
    hunyuan3d.jobs.studio.load()
    monkeypatch.setattr(engine._networks, "residency", Residency(INT8, "Little is free."))
    for function in telling:
        assert escape(EXPERTS_IN_8_BIT) in function.fn()[1]


def test_a_script_gets_a_solid_and_its_facts(script, photo):
    file, answer = script.predict(handle_file(photo), quality="draft", seed=3, size_mm=60, api_name="/generate")
    model = trimesh.load(file)
    assert model.is_watertight
    assert max(model.extents) == pytest.approx(60, abs=0.01)
    assert answer["facts"]["engine"] == "hunyuan3d"
    assert answer["facts"]["diffusion_steps"] == 6
    assert answer["facts"]["shape_seconds"]["diffusion"] > 0
    assert "latent" not in answer["facts"]


def test_a_script_that_cancels_sees_steps_and_frees_the_lane(script, hunyuan3d, photo):
    job = script.submit(handle_file(photo), quality="standard", seed=3, api_name="/generate")

    def now() -> str:
        units = job.status().progress_data
        return units[0].desc if units else ""

    first = wait_until(lambda: now().startswith("Diffusion step") and now(), "no diffusion step reached the client", 90)
    assert "of 19999" in first
    wait_until(lambda: now().startswith("Diffusion step") and now() != first, "the steps do not go on", 60)
    assert health(hunyuan3d)["busy"]
    job.cancel()
    wait_until(lambda: not health(hunyuan3d)["busy"], "the lane is still taken", 60)
    assert not hunyuan3d.jobs.active()
    _, answer = script.predict(handle_file(photo), quality="draft", seed=3, api_name="/generate")
    assert answer["report"]["watertight"]
