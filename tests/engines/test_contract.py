"""What every engine promises (`orfeas.engines.Engine`), asked of each of them."""

import pickle
from itertools import islice

import numpy as np
import pytest

from orfeas.engines import Engine, Step
from orfeas.mesh import Mesh, signed_volume
from orfeas.request import QUALITIES, Quality


def make_sketch(folder, request):
    """As an installation gets it."""
    from orfeas.engines.choose import choose_engine
    from orfeas.settings import Settings

    return choose_engine(Settings(_env_file=None, engine="sketch")), Quality(grid=48, steps=1, faces=2000)


def make_hunyuan3d(folder, request):
    from orfeas.engines.hunyuan3d.engine import Hunyuan3DEngine
    from tests.engines.hunyuan3d.blob import write_blob_weights
    from tests.engines.hunyuan3d.tiny import tiny_config

    engine = Hunyuan3DEngine(
        write_blob_weights(folder), config=tiny_config(), device="cpu", reason="the test asked for it"
    )
    return engine, Quality(grid=20, steps=4, faces=2000)


def make_cluster(folder, request):
    """The built-in engine, in a worker of a Ray cluster: asked for as an installation's settings do."""
    from orfeas.engines.choose import choose_engine
    from orfeas.settings import Settings

    request.getfixturevalue("cluster")("sketch", engine="sketch", gpus=0)
    engine = choose_engine(Settings(_env_file=None, engine="ray", ray_app="sketch", data_dir=folder))
    return engine, Quality(grid=48, steps=1, faces=2000)


@pytest.fixture(scope="module", params=[make_sketch, make_hunyuan3d, make_cluster], ids=["sketch", "hunyuan3d", "ray"])
def made(request, tmp_path_factory):
    engine, quality = request.param(tmp_path_factory.mktemp("weights"), request)
    engine.load()
    yield engine, quality
    engine.close()


@pytest.fixture(scope="module")
def cutout():
    from orfeas.cutout import Cutout

    rows, columns = np.mgrid[:80, :60]
    inside = ((columns - 30) / 20) ** 2 + ((rows - 40) / 32) ** 2 < 1
    inside &= (rows > 40) | (columns < 34)  # what is quite round is not left to the sketch engine's network
    rgba = np.dstack([rows * 3, columns * 4, rows * 0 + 90, inside * 255]).astype(np.uint8)
    return Cutout(rgba, "alpha", "drawn by the test", float(inside.mean()), False)


@pytest.fixture(scope="module")
def events(made, cutout):
    engine, quality = made
    return list(engine.shape(cutout, quality, 7))


def test_it_says_what_it_is(made):
    engine, _ = made
    assert isinstance(engine, Engine)
    assert engine.name in QUALITIES
    assert engine.slots >= 1
    for text in (engine.title, engine.device, engine.reason, engine.version):
        assert isinstance(text, str)
        assert text
    assert isinstance(engine.caveat, str)
    assert "asked for" in engine.reason


def test_health_is_plain(made):
    import json

    json.dumps(made[0].health())


def test_steps_come_first_and_one_mesh_last(events):
    *steps, mesh = events
    assert len(steps) >= 2
    assert all(isinstance(step, Step) and step.message for step in steps)
    fractions = [step.fraction for step in steps]
    assert all(0 <= fraction <= 1 for fraction in fractions)
    assert fractions == sorted(fractions)
    assert isinstance(mesh, Mesh)


def test_all_that_is_yielded_survives_a_process_boundary(events):
    for event in events:
        assert type(pickle.loads(pickle.dumps(event))) is type(event)


def test_mesh_is_closed_oriented_and_about_two_long(events):
    mesh = events[-1]
    assert mesh.vertices.dtype == np.float64
    assert mesh.faces.dtype == np.int32
    assert np.isfinite(mesh.vertices).all()
    assert mesh.faces.min() == 0
    assert mesh.faces.max() == len(mesh.vertices) - 1
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]).astype(np.int64)
    forward = edges[:, 0] * len(mesh.vertices) + edges[:, 1]
    backward = edges[:, 1] * len(mesh.vertices) + edges[:, 0]
    assert np.array_equal(np.sort(forward), np.sort(backward))
    assert signed_volume(mesh.vertices, mesh.faces) > 0
    assert 0.1 < np.abs(mesh.vertices).max() < 1.2


def test_same_request_same_mesh_other_seed_other_mesh(made, cutout, events):
    engine, quality = made
    *_, again = engine.shape(cutout, quality, 7)
    assert np.array_equal(again.vertices, events[-1].vertices)
    assert np.array_equal(again.faces, events[-1].faces)
    *_, other = engine.shape(cutout, quality, 8)
    assert other.vertices.shape != again.vertices.shape or not np.array_equal(other.vertices, again.vertices)


def test_closing_cancels_at_any_step_and_the_engine_goes_on(made, cutout, events):
    engine, quality = made
    for taken in range(1, len(events), 3):
        running = engine.shape(cutout, quality, 7)
        for _ in islice(running, taken):  # a cluster's heartbeats are events as well, and not always as many
            pass
        running.close()
    *_, again = engine.shape(cutout, quality, 7)
    assert np.array_equal(again.vertices, events[-1].vertices)


def test_the_cutout_is_left_as_it_was(made, cutout):
    engine, quality = made
    before = cutout.rgba.copy()
    for _ in engine.shape(cutout, quality, 1):
        pass
    assert np.array_equal(cutout.rgba, before)
