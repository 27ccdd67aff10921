"""The approximate field: exact with all latents, near with most, and always the same."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from orfeas.engines.hunyuan3d.top_latents import CELLS, TopLatentsField
from orfeas.engines.hunyuan3d.vae import GeoField
from orfeas.engines.hunyuan3d.weights import build_meta, load_part
from tests.engines.hunyuan3d.tiny import FIXTURE, WEIGHTS, tiny_config


@pytest.fixture(scope="module")
def parts():
    vae = load_part(build_meta(tiny_config())["vae"], WEIGHTS, "vae")
    return vae.geo_decoder, load_file(FIXTURE / "tiny_io.safetensors")["vae.decoded"]


@pytest.fixture(scope="module")
def points() -> torch.Tensor:
    return (torch.rand(3000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1) * 1.01


def test_all_latents_are_the_exact_field(parts, points):
    exact, every = GeoField(*parts)(points), TopLatentsField(*parts, kept=24)(points)
    torch.testing.assert_close(every, exact, rtol=1e-5, atol=3e-4)


def test_the_more_latents_the_nearer(parts, points):
    exact = GeoField(*parts)(points)
    errors = [float((TopLatentsField(*parts, kept=k)(points) - exact).abs().mean()) for k in (4, 8, 16, 22)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 2 * errors[-1] > 0


def test_field_does_not_depend_on_what_else_is_asked(parts, points):
    field = TopLatentsField(*parts, kept=8)
    together = field(points)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(field(points[order]), together[order], rtol=1e-5, atol=3e-4)
    torch.testing.assert_close(torch.cat([field(p) for p in points.split(101)]), together, rtol=1e-5, atol=3e-4)


def test_every_cell_keeps_what_scores_highest_at_its_middle(parts):
    """One probe a cell would be its middle; the mean of 64 around it mostly agrees with it."""
    field = TopLatentsField(*parts, kept=8)
    decoder, _ = parts
    middle = ((torch.arange(CELLS) + 0.5) / CELLS * 2 - 1) * 1.01
    queries = decoder.block.project_points(decoder.project(torch.cartesian_prod(middle, middle, middle)))
    best = (queries[0] @ field.keys[0].transpose(1, 2)).topk(8, dim=-1).indices.transpose(0, 1)
    shared = (field.chosen.unsqueeze(-1) == best.unsqueeze(-2)).any(-1).float().mean()
    assert field.chosen.shape == (CELLS**3, 4, 8)
    assert all(len(set(row.tolist())) == 8 for row in field.chosen.view(-1, 8))
    assert shared > 0.5  # by chance it would be a third


def test_cells_number_the_box_and_its_outside(parts):
    field = TopLatentsField(*parts, kept=3)
    corners = torch.tensor([[-1.01, -1.01, -1.01], [1.01, 1.01, 1.01], [5.0, 5.0, 5.0], [-1.0, -1.0, 1.0]])
    assert field.cell_of(corners).tolist() == [0, CELLS**3 - 1, CELLS**3 - 1, CELLS - 1]


@pytest.mark.parametrize("kept", [0, 25])
def test_impossible_numbers_are_a_mistake(parts, kept):
    with pytest.raises(ValueError, match="24 latents"):
        TopLatentsField(*parts, kept=kept)
