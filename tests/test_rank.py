from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from orfeas.mesh import Mesh
from orfeas.rank import Ranked, compare_outlines, draw_outline, explain_ranking, rank
from orfeas.request import GenerationRequest
from tests.conftest import PacedEngine, sphere
from tests.web.conftest import photo  # noqa: F401 (a fixture)


def ellipse(width: int, height: int, size: int = 200) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5
    return (2 * x / width) ** 2 + (2 * y / height) ** 2 <= 1


def test_an_outline_agrees_with_itself_wherever_it_lies_and_however_large_it_is():
    small = np.zeros((90, 120), bool)
    small[5:65, 70:115] = ellipse(45, 60, 60)[:, 7:52]
    assert compare_outlines(ellipse(90, 120), ellipse(90, 120)) == 1.0
    assert compare_outlines(ellipse(90, 120), small) > 0.97


def test_agreement_is_intersection_over_union():
    square, half = np.ones((50, 50), bool), np.ones((50, 25), bool)
    assert compare_outlines(square, half) == pytest.approx(0.5, abs=0.01)
    assert compare_outlines(square, np.zeros((50, 50), bool)) == 0.0


def test_a_mesh_is_seen_from_the_front_the_right_way_up():
    vertices, faces = sphere(24)
    cone = Mesh(
        vertices * np.stack([(1 - vertices[:, 1]) / 2, np.ones(len(vertices)), np.ones(len(vertices))], 1), faces
    )
    outline = draw_outline(cone)
    rows = outline.sum(axis=1)
    assert rows[40] < rows[215], "narrow above, wide below"
    assert compare_outlines(draw_outline(Mesh(vertices * (0.9, 1.2, 0.3), faces)), ellipse(90, 120)) > 0.97


def test_printable_comes_before_agreement_and_agreement_before_order():
    def result(name, printable, agreement):
        return SimpleNamespace(name=name, report={"printable": printable}, facts={"agreement": agreement})

    made = [result("a", False, 0.99), result("b", True, 0.80), result("c", True, 0.95), result("d", True, 0.80)]
    ranked = rank(made)
    assert [one.result.name for one in ranked] == ["c", "b", "d", "a"]
    assert "Ranked by" in explain_ranking(ranked)
    same = [Ranked(one.result, 0.9) for one in ranked[:3]]
    assert "about equally well" in explain_ranking(same)


def test_the_results_of_a_studio_are_ranked(make_studio, photo):  # noqa: F811
    class Squeezed(PacedEngine):
        """Seeds that differ: the higher, the flatter."""

        def shape(self, cutout, quality, seed):
            for step in super().shape(cutout, quality, seed):
                yield Mesh(step.vertices * (1, 1 - seed / 10, 1), step.faces) if hasattr(step, "vertices") else step

    studio = make_studio(Squeezed())

    def make(**options):
        return [
            list(studio.run(GenerationRequest(photo, quality="draft", seed=seed, **options), draw=False))[-1]
            for seed in (6, 0, 3)
        ]

    turned = rank(make(orientation="flattest", base="plinth"))
    results = make()
    ranked = rank(results)
    assert [one.result.request.seed for one in ranked] == [one.result.request.seed for one in turned]
    assert [one.agreement for one in ranked] == [one.agreement for one in turned], "however it is set down"
    old = [dataclasses.replace(result, facts={}) for result in results]
    assert [one.agreement for one in rank(old)] == pytest.approx([one.agreement for one in ranked], abs=0.02)
    agreements = [one.agreement for one in ranked]
    assert agreements == sorted(agreements, reverse=True)
    assert agreements[0] - agreements[-1] > 0.1
    aspect = lambda one: one.result.report["extents_mm"][0] / one.result.report["extents_mm"][1]  # noqa: E731
    wanted = 180 / 240  # of the photo's egg
    misfits = [abs(np.log(aspect(one) / wanted)) for one in ranked]
    assert misfits == sorted(misfits)
