from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from orfeas.engines.hunyuan3d.surface import extract_surface
from orfeas.engines.hunyuan3d.vae import GeoField
from orfeas.engines.hunyuan3d.volume import (
    CHUNK_BOUNDS,
    CPU_CHUNK,
    HALF_EXTENT,
    choose_chunk,
    dense,
    hierarchical,
    level_cells,
)
from orfeas.engines.hunyuan3d.weights import build_meta, load_part
from orfeas.errors import OrfeasError
from tests.engines.hunyuan3d import fields
from tests.engines.hunyuan3d.fields import drain
from tests.engines.hunyuan3d.tiny import FIXTURE, WEIGHTS, tiny_config

COARSE = 16  # the tests' coarsest level; the released one is 63


def test_levels_halve_down_to_the_coarsest():
    assert level_cells(512) == [64, 128, 256, 512]
    assert level_cells(384) == [96, 192, 384]
    assert level_cells(256) == [64, 128, 256]
    assert level_cells(100) == [100]
    assert level_cells(135) == [135]


def test_dense_asks_numpy_linspace_places_in_float32_x_slowest():
    asked = []
    _, volume = drain(dense(lambda points: asked.append(points) or points[:, 0], 10, chunk=100))
    axis = np.linspace(-HALF_EXTENT, HALF_EXTENT, 11, dtype=np.float32)
    expected = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    assert all(points.dtype == torch.float32 and len(points) <= 100 for points in asked)
    np.testing.assert_array_equal(torch.cat(asked).numpy(), expected)
    values, known = volume.to_dense()
    assert known.all()
    np.testing.assert_array_equal(values[:, 3, 4].numpy(), axis)


ALL = {
    "sphere": fields.sphere,
    "torus": fields.torus,
    "touching blobs": fields.touching_blobs,
    "thin plate": fields.plate,
    "thin tilted plate": lambda points: fields.plate(points, tilt=0.3),
    "thin steep plate": lambda points: fields.plate(points, tilt=0.3, scale=400.0),
    "gyroid": fields.gyroid,
    "cylinder through the box": fields.cylinder,
    "saturated": fields.saturated,
    "box full": fields.solid_box,
    "off-centre": lambda points: fields.sphere(points, 0.7, (0.5, 0.4, -0.6)),
}


@pytest.mark.parametrize("name", ALL)
def test_hierarchical_equals_dense(name):
    field = ALL[name]
    _, sparse = drain(hierarchical(field, 96, coarsest=24))
    _, full = drain(dense(field, 96))
    found, expected = sparse.surface_cells(), full.surface_cells()
    # The same cells with the same corners: so the same occupancy beside the surface and bitwise the same mesh.
    assert torch.equal(found.position, expected.position)
    torch.testing.assert_close(found.values, expected.values, rtol=1e-6, atol=1e-6)
    values, known = sparse.to_dense()
    truth, _ = full.to_dense()
    torch.testing.assert_close(values[known], truth[known], rtol=1e-6, atol=1e-6)
    assert known.sum() == sparse.evaluated < full.evaluated
    a, b = extract_surface(found), extract_surface(expected)
    assert torch.equal(a.faces, b.faces)
    assert (a.vertices - b.vertices).abs().max() < 1e-4 * 2 * HALF_EXTENT


def same_cells(field, cells, coarsest):
    _, sparse = drain(hierarchical(field, cells, coarsest=coarsest))
    _, full = drain(dense(field, cells))
    found, expected = sparse.surface_cells().position, full.surface_cells().position
    assert len(expected) > 100
    return torch.equal(found, expected)


@pytest.mark.parametrize("samples", [1, 2, 3], ids=["off level 48", "off level 24", "off both"])
def test_a_plate_between_the_coarse_samples_is_not_lost(samples):
    """One sample thick through the whole box, and so steep that |logit| < 0.95 says nothing: levels 24, 48 and 96."""
    cell = 2 * HALF_EXTENT / 96

    def plate(points):
        return 400 * (cell / 2 - (points[:, 0] - samples * cell).abs())

    assert same_cells(plate, 96, 24)


def test_surface_is_followed_where_the_coarse_grid_did_not_see_it():
    """A wire between all samples of all levels but the last, without a hint of its distance, hangs on a ball."""
    cell = 2 * HALF_EXTENT / 96

    def field(points):
        radial = (points[:, 1:] - cell).norm(dim=-1)
        wire = torch.maximum(radial - 1.2 * cell, points[:, 0].abs() - 0.9)
        return -3.0 * torch.sign(torch.minimum(points.norm(dim=-1) - 0.3, wire))

    assert same_cells(field, 96, 24)


def test_hierarchical_equals_dense_on_the_fixture():
    """A field that a network computes, with the noise of its random weights."""
    vae = load_part(build_meta(tiny_config())["vae"], WEIGHTS, "vae")
    field = GeoField(vae.geo_decoder, load_file(FIXTURE / "tiny_io.safetensors")["vae.decoded"])
    _, sparse = drain(hierarchical(field, 64, coarsest=32))
    _, full = drain(dense(field, 64))
    found, expected = sparse.surface_cells(), full.surface_cells()
    assert len(found.position) > 1000
    assert sparse.evaluated < 0.7 * full.evaluated
    assert torch.equal(found.position, expected.position)
    a, b = extract_surface(found), extract_surface(expected)
    assert torch.equal(a.faces, b.faces)
    assert (a.vertices - b.vertices).abs().max() < 1e-4 * 2 * HALF_EXTENT


def test_dense_is_the_fixture_s_volume():
    """The public implementation's dense grid; it asks at coordinates in the latents' type, here float32."""
    vae = load_part(build_meta(tiny_config())["vae"], WEIGHTS, "vae")
    numbers = load_file(FIXTURE / "tiny_io.safetensors")
    _, volume = drain(dense(GeoField(vae.geo_decoder, numbers["vae.decoded"]), 32))
    expected = numbers["vol.vanilla32"][0]
    assert (volume.to_dense()[0] - expected).abs().max() <= 2e-5 * expected.abs().max()


def test_no_sample_is_asked_twice():
    keys = []

    def field(points):
        keys.append(((points.double() + HALF_EXTENT) * 64 / (2 * HALF_EXTENT)).round().long())
        return fields.torus(points)

    _, volume = drain(hierarchical(field, 64, coarsest=COARSE, chunk=5000))
    asked = torch.cat(keys)
    assert len(torch.unique(asked, dim=0)) == len(asked) == volume.evaluated


def test_chunks_are_bounded_and_progress_rises_to_one():
    sizes = []

    def field(points):
        sizes.append(len(points))
        return fields.sphere(points)

    fractions, _ = drain(hierarchical(field, 64, coarsest=COARSE, chunk=1000))
    assert max(sizes) == 1000
    assert len(fractions) == len(sizes)
    assert all(0 < a <= b <= 1 for a, b in pairwise(fractions))
    assert fractions[-1] == pytest.approx(1.0)
    fractions, _ = drain(dense(fields.sphere, 20, chunk=1000))
    assert fractions[-1] == 1.0
    assert len(fractions) == 10


def test_closing_the_generator_stops_asking():
    asked = []
    running = hierarchical(lambda points: asked.append(1) or fields.sphere(points), 64, coarsest=COARSE, chunk=500)
    next(running)
    running.close()
    assert len(asked) == 1


def test_small_or_odd_grids_are_dense():
    _, volume = drain(hierarchical(fields.sphere, 33))
    assert volume.evaluated == 34**3


BOTH = {"dense": dense, "hierarchical": partial(hierarchical, coarsest=COARSE)}


@pytest.mark.parametrize("decode", BOTH.values(), ids=BOTH)
def test_not_finite_is_refused(decode):
    def field(points):
        return torch.where(points[:, 0] > 1.0, torch.nan, fields.sphere(points))

    with pytest.raises(OrfeasError, match="not finite"):
        drain(decode(field, 32))


def test_nothing_has_no_surface():
    for decode in BOTH.values():
        _, volume = drain(decode(fields.nothing, 32))
        assert len(volume.surface_cells().position) == 0


def test_hierarchical_asks_for_a_small_part_of_a_large_grid():
    _, volume = drain(hierarchical(fields.sphere, 256))
    assert volume.evaluated < 0.1 * 257**3
    held = volume.keys.nbytes + volume.values.nbytes + volume.blocks.nbytes
    assert held < 0.4 * 4 * 257**3  # a dense float32 grid


def test_chunk_is_a_constant_on_the_cpu():
    assert choose_chunk("cpu") == CPU_CHUNK


def test_chunk_follows_free_memory_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    for free, expected in (
        (3_000_000_000, 16_384),
        (4_000_000_000, 32_768),
        (10**6, CHUNK_BOUNDS[0]),
        (10**12, CHUNK_BOUNDS[1]),
    ):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        assert choose_chunk("cuda", 40_000) == expected
