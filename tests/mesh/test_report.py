"""`inspect` on meshes whose answers are known."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from orfeas.mesh import Mesh, grid, intersect
from orfeas.mesh.change import Change
from orfeas.mesh.cli import describe
from orfeas.mesh.finish import make_solid
from orfeas.mesh.grid import near_pair_batches
from orfeas.mesh.intersect import crossing_pairs
from orfeas.mesh.repair import inspect_as, repair
from orfeas.mesh.report import NOT_PRINTABLE, READY, REPAIRED, inspect
from orfeas.mesh.stability import tilted
from tests.mesh import shapes


def test_cube_is_ready():
    report = inspect(shapes.cube(10.0))
    assert report.verdict == READY
    assert report.sentence == "Ready."
    assert report.volume_cm3 == pytest.approx(1.0)
    assert report.area_cm2 == pytest.approx(6.0)
    assert report.extents_mm == pytest.approx((10, 10, 10))
    assert report.mass_g == pytest.approx(1.24)
    assert report.thinnest_wall_mm == pytest.approx(10.0)
    assert (report.bodies, report.genus, report.faces, report.vertices) == (1, 0, 12, 8)
    assert report.stands is True
    assert report.overhang_share == 0


def test_report_is_json():
    values = json.loads(json.dumps(inspect(shapes.torus(20, 5)).to_dict()))
    assert values["genus"] == 1
    assert values["printable"] is True
    assert values["extents_mm"] == pytest.approx([50, 10, 50], abs=0.05)


def test_open_cube():
    report = inspect(shapes.without_faces(shapes.cube(10.0), [0]))
    assert report.verdict == NOT_PRINTABLE
    assert not report.watertight
    assert report.boundary_edges == 3
    assert "open along 3 edges" in report.sentence
    assert report.volume_cm3 is None


def test_inverted_cube():
    report = inspect(shapes.inverted(shapes.cube(10.0)))
    assert report.verdict == NOT_PRINTABLE
    assert "inside out" in report.sentence
    assert (report.volume_cm3, report.mass_g, report.centre_of_mass_mm, report.stands) == (None,) * 4
    assert "unknown, PLA printed solid unknown" in describe(report)


def test_a_size_that_nobody_prints_is_noted_and_told_in_kilograms():
    large, small = inspect(shapes.cube(2000.0)), inspect(shapes.cube(0.5))
    assert large.notes == (
        "Its longest side is 2,000 mm: if the file was not made in millimetres, say how long that side is to be "
        "(size_mm).",
    )
    assert "PLA printed solid 9,920.00 kg" in describe(large)
    assert any("longest side is 0.5 mm" in note for note in small.notes)
    for size in (1, 1000):
        assert not any("longest side" in note for note in inspect(shapes.cube(float(size))).notes)


def test_two_bodies_are_ready_with_a_note():
    report = inspect(shapes.together(shapes.cube(10), shapes.cube(10, (30, 0, 0))))
    assert report.verdict == READY
    assert report.bodies == 2
    assert any("2 separate bodies" in note for note in report.notes)


@pytest.mark.parametrize("inner", [shapes.ball(10), shapes.inverted(shapes.ball(10))], ids=["solid", "cavity"])
def test_nested_balls(inner):
    report = inspect(shapes.together(shapes.ball(20), inner))
    assert report.verdict == NOT_PRINTABLE
    assert report.inner_shells == 1


COARSE = {
    "solid in a solid": (shapes.cube(100.0), shapes.cube(20.0), 1000.0),
    "cavity in a cube": (shapes.cube(100.0), shapes.inverted(shapes.cube(60.0)), 1000.0),
    "round cavity in a box": (shapes.cube(100.0), shapes.inverted(shapes.ball(30.0, 40)), 1000.0),
    "solid that touches from inside": (shapes.cube(100.0), shapes.cube(20.0, (40.0, 40.0, 40.0)), 1000.0),
    "box in a round solid": (shapes.ball(50.0, 24), shapes.box((40, 10, 40)), None),
}


@pytest.mark.parametrize("case", COARSE)
def test_coarse_walls_do_not_hide_what_is_inside(case):
    outer, inner, volume = COARSE[case]
    report = inspect(shapes.together(outer, inner))
    assert report.inner_shells == 1
    assert report.verdict == NOT_PRINTABLE
    assert "inside out" not in report.sentence
    made, after, changes = repair(shapes.together(outer, inner))
    assert [change.numbers for change in changes if change.step == "join_bodies"] == [{"inner_shells": 1}]
    assert len(made.faces) == len(outer.faces)
    assert after.volume_cm3 == pytest.approx(inspect(outer).volume_cm3 if volume is None else volume)


def test_a_body_that_pokes_out_is_not_inside():
    mesh = shapes.together(shapes.cube(100.0), shapes.box((20, 20, 120)))
    report = inspect(mesh)
    assert report.inner_shells == 0
    assert report.self_intersections > 0
    assert repair(mesh)[1].volume_cm3 == pytest.approx(1008)
    beside = shapes.together(shapes.cube(100.0), shapes.cube(20.0, (60.0, 0.0, 0.0)))  # touches from outside
    assert inspect(beside).inner_shells == 0


@pytest.mark.parametrize("other_way", [False, True], ids=["same faces", "other diagonals"])
def test_a_cube_that_is_there_twice(other_way):
    twin = shapes.cube(50.0)
    if other_way:  # a mirrored cube: its diagonals run the other way
        twin = shapes.inverted(Mesh(twin.vertices * [-1.0, 1, 1], twin.faces))
    mesh = shapes.together(shapes.cube(50.0), twin)
    report = inspect(mesh)
    assert report.sentence == (
        "Not printable: One body is there twice, in the same place: repair removes the duplicate."
    )
    assert report.inner_shells == 0
    made, after, changes = repair(mesh)
    assert "Removed 1 duplicate body." in [change.sentence for change in changes]
    assert after.volume_cm3 == pytest.approx(125)
    assert len(made.faces) == 12


def test_touching_tetrahedra():
    report = inspect(shapes.tetrahedra_at_an_edge())
    assert report.verdict == NOT_PRINTABLE
    assert report.nonmanifold_edges == 1
    assert report.boundary_edges == 0


def test_moebius_strip():
    report = inspect(shapes.moebius())
    assert report.verdict == NOT_PRINTABLE
    assert "only one side" in report.sentence
    assert not report.winding_consistent


def test_klein_bottle():
    report = inspect(shapes.klein_bottle())
    assert report.verdict == NOT_PRINTABLE
    assert "only one side" in report.sentence
    assert report.boundary_edges == 0


def test_plate_thinner_than_a_nozzle():
    report = inspect(shapes.box((50, 0.3, 50)))
    assert report.verdict == NOT_PRINTABLE
    assert report.thinnest_wall_mm == pytest.approx(0.3, abs=0.001)
    assert "133 mm" in report.sentence  # 50 mm * 0.8 / 0.3
    assert inspect(shapes.box((50, 1.0, 50))).verdict == READY
    assert inspect(shapes.box((50, 1.0, 50))).thin_share_fdm > 0.9


def test_crossing_tori():
    mesh = shapes.together(shapes.torus(20, 5), shapes.torus(20, 5, shift=(20.0, 0, 0)))
    report = inspect(mesh)
    assert report.verdict == NOT_PRINTABLE
    assert report.self_intersections > 50
    assert "runs through itself" in report.sentence


def test_very_many_crossings_are_not_all_counted(monkeypatch):
    monkeypatch.setattr(grid, "PAIRS_AT_ONCE", 20_000)
    random = np.random.default_rng(0)
    needles = random.normal(size=(1000, 1, 3)) + random.normal(size=(1000, 3, 3))
    mesh = Mesh(needles.reshape(-1, 3) * 10, np.arange(3000, dtype=np.int32).reshape(-1, 3))
    report = inspect(mesh)
    assert report.self_intersections == 10_001
    assert "runs through itself at more than 10,000 places" in report.sentence
    looked_at = []
    monkeypatch.setattr(intersect, "near_pair_batches", lambda c: (looked_at.append(b) or b for b in batches(c)))
    batches = near_pair_batches
    assert len(crossing_pairs(mesh, enough=10_000)) > 10_000
    assert len(looked_at) < sum(1 for _ in near_pair_batches(mesh.vertices[mesh.faces])) / 2


@pytest.mark.parametrize("corners", [(0, 0, 1), (5, 5, 5), (0, 1, 0), (3, 2, 2)])
@pytest.mark.parametrize("count", [1, 2])
def test_faces_that_are_lines_change_nothing(corners, count):
    mesh = shapes.cube(20)
    with_lines = Mesh(mesh.vertices, np.concatenate([mesh.faces, np.array([corners] * count, np.int32)]))
    plain, found = inspect(mesh), inspect(with_lines)
    assert (found.verdict, found.watertight, found.volume_cm3, found.genus) == ("Ready", True, 8.0, 0)
    assert found.faces == plain.faces + count
    assert any("no triangle" in note for note in found.notes)
    assert [note for note in found.notes if "no triangle" not in note] == list(plain.notes)
    assert inspect(Mesh(mesh.vertices, np.array([corners], np.int32))).verdict == "Not printable"


@pytest.mark.parametrize("stray", [1000.0, np.nan])
def test_a_size_is_that_of_the_model_and_not_of_stray_points(stray):
    mesh = shapes.cube(10)
    with_stray = Mesh(np.concatenate([mesh.vertices, [[stray, 0, 0]]]), mesh.faces)
    assert inspect_as(with_stray, 100).extents_mm == (100.0, 100.0, 100.0)


def test_broken_and_empty():
    mesh = shapes.ball(10)
    vertices = mesh.vertices.copy()
    vertices[7] = np.nan
    report = inspect(Mesh(vertices, mesh.faces))
    assert report.verdict == NOT_PRINTABLE
    assert report.faces == len(mesh.faces)
    assert "broken corners" in report.sentence
    empty = inspect(Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32)))
    assert empty.verdict == NOT_PRINTABLE
    assert empty.faces == 0


def test_repairs_are_named_and_wishes_are_not():
    cube = shapes.cube(10)
    wish = Change("scale", "Scaled.", {})
    assert inspect(cube, changes=[wish]).verdict == READY
    report = inspect(cube, changes=[Change("close_holes", "Closed 2 holes.", {}), wish])
    assert report.verdict == REPAIRED
    assert report.sentence == "Ready after repair: Closed 2 holes."


def test_leaning_box_falls():
    # a slanted column: the middle of its weight is far beside its foot
    column = shapes.box((10, 60, 10))
    leaning = Mesh(column.vertices + np.outer(column.vertices[:, 1], [1.0, 0, 0]), column.faces)
    report = inspect(leaning)
    assert report.stands is False
    assert report.overhang_share == 0  # exactly 45 degrees is still printable
    falls = "It would fall over as it stands"
    assert f"{falls}: cut it flat at the bottom, or put it on a plate." in report.notes
    seen_from_above = inspect(Mesh(tilted(column.vertices, -20), column.faces))
    assert f"{falls}: turn it to stand, cut it flat at the bottom, or put it on a plate." in seen_from_above.notes
    # what was done already is not advised again
    _, cut, _ = repair(leaning, flat_base="cut")
    assert cut.stands is False
    assert f"{falls}, the flat side that was cut is too small: put it on a plate." in cut.notes
    _, turned, _ = repair(leaning, orientation="standing")
    assert turned.stands is False  # it leans sideways, as no camera sees it
    assert f"{falls}: cut it flat at the bottom, or put it on a plate." in turned.notes
    _, plate, changes = repair(leaning, flat_base="plinth")
    assert plate.stands is True
    assert not any("fall" in note for note in plate.notes)
    # a plate is as wide as the shadow: nothing that it carries falls but by what was done to it afterwards
    assert f"{falls}, even on its plate." in inspect(leaning, changes=changes).notes


@pytest.mark.parametrize(
    ("extents", "degrees"),
    [((5, 100, 3.5), 2), ((10, 100, 14), 6), ((18, 100, 18), 0)],  # arctan of half a side by half the height
)
def test_a_slender_stick_stands_but_not_for_long(extents, degrees):
    report = inspect(shapes.box(extents))
    assert report.stands is True
    assert report.verdict == READY
    advice = "its foot is so small for its height: print it lying down, or with a brim."
    assert list(report.notes) == [f"It stands, but tips over when tilted by about {degrees}°, {advice}"] * bool(degrees)


def test_what_rocks_on_a_round_foot_does_not_tip_over():
    """A tumbler: a ball whose upper half is flattened comes back from every side, though its foot is a point."""
    ball = shapes.ball(20, 40)
    tumbler = inspect(
        Mesh(np.where(ball.vertices > [99, 0, 99], ball.vertices * [1, 0.2, 1], ball.vertices), ball.faces)
    )
    assert tumbler.stands is True
    assert not any("tips over" in note for note in tumbler.notes)
    egg = inspect(Mesh(ball.vertices * [1, 1.5, 1], ball.faces))
    assert any("tips over" in note for note in egg.notes)


def test_a_plate_is_advised_where_it_makes_steadier():
    stick, top = shapes.box((4, 60, 4)), shapes.box((40, 4, 40))
    top = Mesh(top.vertices + np.array([0, 31, 0]), top.faces)
    table = make_solid(shapes.together(stick, top), max_faces=1000)[0]
    report = inspect(table)
    assert report.stands is True
    advice = r"It stands, but tips over when tilted by about \d°: put it on a plate\."
    assert any(re.fullmatch(advice, note) for note in report.notes)
    steady = repair(table, flat_base="plinth")[1]
    assert steady.stands is True
    # its foot has 16 mm², and no depth gives it more; a plate of 1,600 mm² breaks off
    breaks = "The model touches its plate on 0.16 cm² only and may break off: print it larger, or without the plate."
    assert breaks in steady.notes
    assert not any("tips over" in note for note in steady.notes)


def test_bridge_overhangs():
    legs = shapes.box((10, 30, 10))
    top = Mesh(shapes.box((60, 10, 10)).vertices + np.array([0, 20, 0]), shapes.cube().faces)
    report = inspect(shapes.together(legs, top))
    under = 600 / (2 * (10 * 30 * 2 + 100) + 2 * (600 * 2 + 100))
    assert report.overhang_share == pytest.approx(under, abs=0.001)
