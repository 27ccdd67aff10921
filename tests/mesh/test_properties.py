"""Whatever solids are thrown together, with noise, holes, floaters and wrong winding: one solid of the right size."""

from __future__ import annotations

from dataclasses import replace

import manifold3d
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from orfeas.mesh import Mesh
from orfeas.mesh.decimate import decimate
from orfeas.mesh.finish import make_solid, place
from orfeas.mesh.intersect import crossing_pairs
from orfeas.mesh.solid import to_manifold
from orfeas.mesh.stability import centre_of_mass, stands, tilted
from orfeas.mesh.stand import tilt_to_stand
from tests.mesh import shapes
from tests.mesh.test_finish import assert_solid, volume

QUICK = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    phases=[Phase.generate],
)
shift = st.tuples(*[st.floats(-1.2, 1.2)] * 3)


def turned(mesh: Mesh, seed: int) -> Mesh:
    matrix = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    matrix *= np.sign(np.linalg.det(matrix))
    return Mesh(mesh.vertices @ matrix.T, mesh.faces)


@st.composite
def parts(draw) -> Mesh:
    kind = draw(st.sampled_from(["ball", "box", "torus"]))
    size = draw(st.floats(0.4, 1.0))
    if kind == "ball":
        made = shapes.ball(size, 20)
    elif kind == "box":
        made = shapes.box(tuple(size * draw(st.floats(0.6, 2.0)) for _ in range(3)))
    else:
        made = shapes.torus(size, size * draw(st.floats(0.15, 0.4)), 40, 20)
    return shapes.moved(turned(made, draw(st.integers(0, 1000))), draw(shift))


@st.composite
def wrecks(draw) -> tuple[Mesh, float]:
    """A wreck and the volume that it had as a solid."""
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    whole = draw(st.lists(parts(), min_size=1, max_size=4))
    truth = manifold3d.Manifold.batch_boolean([to_manifold(part) for part in whole], manifold3d.OpType.Add).volume()
    wrecked = []
    for part in whole:
        noise = draw(st.sampled_from([0.0, 1e-4]))
        part = Mesh(
            part.vertices + random.normal(0, noise, part.vertices.shape) if noise else part.vertices, part.faces
        )
        if draw(st.booleans()):
            part = shapes.inverted(part)
        if draw(st.booleans()) and len(part.faces) > 100:
            part = shapes.without_faces(part, random.integers(0, len(part.faces), draw(st.integers(1, 3))))
        wrecked.append(part)
    for _ in range(draw(st.integers(0, 2))):
        wrecked.append(shapes.moved(shapes.ball(0.02, 8), random.normal((4, 0, 0), 1)))
    mesh = shapes.together(*wrecked)
    if draw(st.booleans()):
        mesh = shapes.soup(mesh)
    if draw(st.booleans()):
        mesh = Mesh(mesh.vertices, mesh.faces[random.permutation(len(mesh.faces))])
    return mesh, truth


@QUICK
@given(wrecks())
def test_wrecks_become_solids_of_the_true_volume(wreck):
    mesh, truth = wreck
    made, _ = make_solid(mesh, max_faces=50_000)
    assert_solid(made)
    assert volume(made) == pytest.approx(truth, rel=0.01)
    assert not len(crossing_pairs(made))
    again, changes = make_solid(made, max_faces=50_000)
    assert not changes
    assert np.array_equal(again.vertices, made.vertices)


@QUICK
@given(wrecks(), st.integers(200, 3000), st.floats(1, 1000))
def test_budget_and_size_are_exact(wreck, budget, size_mm):
    made, _ = make_solid(wreck[0], max_faces=budget)
    assert len(made.faces) <= budget
    placed, _ = place(made, size_mm=size_mm)
    assert_solid(placed)
    stored = placed.vertices.astype(np.float32)
    assert np.ptp(stored, axis=0).max() == pytest.approx(size_mm, abs=0.01)
    again, changes = make_solid(made, max_faces=budget)
    assert not changes, [change.sentence for change in changes]
    assert np.array_equal(again.faces, made.faces)


@QUICK
@given(
    parts(),
    st.floats(0.5, 8.0),
    st.sampled_from(["cut", "plinth"]),
    st.sampled_from(["upright", "standing", "flattest"]),
)
def test_bases_keep_size_and_solidity(part, base_mm, flat_base, orientation):
    placed, _ = place(part, size_mm=60, flat_base=flat_base, base_mm=base_mm, orientation=orientation)
    assert_solid(placed)
    assert placed.extents.max() == pytest.approx(60, abs=1e-6)
    assert placed.vertices[:, 1].min() == pytest.approx(0, abs=1e-9)
    ground = (placed.vertices[:, 1] < 1e-6)[placed.faces].all(axis=1)
    assert ground.any()


@QUICK
@given(parts(), st.floats(-12.0, 50.0))
def test_what_is_said_of_a_tilt_is_so_and_what_stood_stands(part, degrees):
    part = replace(part, vertices=tilted(part.vertices, -degrees))
    stood = stands(part.vertices, centre_of_mass(part))
    made, (change,) = tilt_to_stand(part)
    assert -10 <= change.numbers["degrees"] <= 45
    assert change.numbers["stands"] is stands(made.vertices, centre_of_mass(made))
    assert change.numbers["stands"] or not stood


@QUICK
@given(st.integers(0, 1000), st.integers(60, 2000))
def test_decimation_stays_solid(seed, budget):
    random = np.random.default_rng(seed)
    ball = shapes.ball(1, 40)
    mesh = Mesh(ball.vertices * (1 + 0.01 * random.normal(size=(len(ball.vertices), 1))), ball.faces)
    made, changes = decimate(mesh, budget)
    assert len(made.faces) <= budget
    assert_solid(made)
    assert made.extents == pytest.approx(mesh.extents, rel=1e-9) or budget < 200
    assert changes[0].numbers["faces"] == len(made.faces)
