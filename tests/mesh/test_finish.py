"""Solids with known answers through `make_solid` and `place`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from orfeas.errors import BadMesh, BadRequest
from orfeas.mesh import Mesh, Texture, signed_volume
from orfeas.mesh.finish import make_solid, place
from orfeas.mesh.intersect import crossing_pairs
from orfeas.mesh.repair import repair
from orfeas.mesh.report import inspect
from orfeas.mesh.stability import tilted
from orfeas.mesh.topology import find_bodies, find_edges
from orfeas.mesh.transfer import sample_texture
from tests.mesh import shapes


def volume(mesh: Mesh) -> float:
    return signed_volume(mesh.vertices - mesh.vertices.mean(axis=0), mesh.faces)


def assert_solid(mesh: Mesh) -> None:
    """Closed and two faces to an edge by its indices, and still so after a file that only stores float32 positions."""
    assert find_edges(mesh.faces).manifold
    assert volume(mesh) > 0
    reloaded = trimesh.Trimesh(mesh.vertices.astype(np.float32), mesh.faces, process=True)
    assert reloaded.is_watertight
    assert reloaded.is_winding_consistent


def finish(mesh: Mesh, max_faces: int = 60_000):
    made, changes = make_solid(mesh, max_faces=max_faces)
    assert_solid(made)
    assert len(made.faces) <= max_faces
    return made, {change.step: change for change in changes}


def test_a_good_mesh_comes_back_as_it_is():
    mesh = shapes.painted(shapes.ball())
    made, steps = finish(mesh)
    assert not steps
    assert np.array_equal(made.vertices, mesh.vertices)
    assert np.array_equal(made.faces, mesh.faces)
    assert np.array_equal(made.colors, mesh.colors)


@pytest.mark.parametrize("missing", [[0], [0, 1], [3, 4]])
def test_cube_less_faces_is_closed(missing):
    made, steps = finish(shapes.without_faces(shapes.cube(), missing))
    assert steps["close_holes"].numbers["holes"] == 1
    assert volume(made) == pytest.approx(1.0, abs=1e-9)


def test_large_hole_is_closed_flat():
    ball = shapes.ball(cells=48)
    open_ball = shapes.without_faces(ball, ball.vertices[ball.faces][:, :, 1].max(axis=1) > 0.6)
    made, steps = finish(open_ball)
    cap = np.pi * 0.4**2 * (3 - 0.4) / 3
    assert steps["close_holes"].numbers["holes"] == 1
    assert volume(made) == pytest.approx(4 / 3 * np.pi - cap, rel=0.02)


def test_inverted_cube_is_turned():
    made, steps = finish(shapes.inverted(shapes.cube()))
    assert steps["face_outwards"].numbers["bodies"] == 1
    assert volume(made) == pytest.approx(1.0)


def test_mixed_winding_is_made_to_agree():
    mesh = shapes.ball()
    faces = mesh.faces.copy()
    faces[::3] = faces[::3, ::-1]
    made, steps = finish(Mesh(mesh.vertices, faces))
    assert steps["agree_winding"].numbers["faces"] == len(faces[::3])
    assert volume(made) == pytest.approx(volume(mesh))


def test_two_bodies_stay_two():
    made, steps = finish(shapes.together(shapes.ball(), shapes.moved(shapes.ball(), (3, 0, 0))))
    assert not steps
    assert find_bodies(made.faces, len(made.vertices))[0] == 2


@pytest.mark.parametrize("inner", [shapes.ball(0.5), shapes.inverted(shapes.ball(0.5))], ids=["solid", "cavity"])
def test_nested_shell_is_filled(inner):
    outer = shapes.ball()
    made, steps = finish(shapes.together(outer, inner))
    assert steps["join_bodies"].numbers["inner_shells"] == 1
    assert volume(made) == pytest.approx(volume(outer))


def test_crossing_tori_become_one_body():
    one, other = shapes.torus(1, 0.25), shapes.torus(1, 0.25, shift=(1.0, 0, 0))
    made, _ = finish(shapes.together(one, other))
    assert find_bodies(made.faces, len(made.vertices))[0] == 1
    assert volume(one) < volume(made) < 2 * volume(one)
    assert not len(crossing_pairs(made))


def test_tube_through_itself_is_rebuilt_and_said_so():
    made, steps = finish(shapes.figure_of_eight(0.15))
    assert "rebuilt" in steps["remesh"].sentence.lower()
    assert not len(crossing_pairs(made))
    assert find_bodies(made.faces, len(made.vertices))[0] == 1
    length = 2 * 3.0490  # arc of (sin t, 0.6 sin 2t), integrated numerically
    assert volume(made) == pytest.approx(np.pi * 0.15**2 * length, rel=0.06)  # less the part that was there twice


def test_klein_bottle_is_filled_by_parity():
    made, steps = finish(shapes.klein_bottle(), 20_000)
    assert "remesh" in steps
    assert not len(crossing_pairs(made))
    lobes = 8 / 3  # area of the figure of eight (sin t, sin 2t), the same at every turn
    assert volume(made) == pytest.approx(2 * np.pi * 2 * lobes, rel=0.05)  # Pappus: area times the way of its middle
    assert not make_solid(made, max_faces=20_000)[1]


def test_touching_tetrahedra_are_parted():
    made, steps = finish(shapes.tetrahedra_at_an_edge())
    assert "split_shared_edges" in steps
    assert volume(made) == pytest.approx(2 / 6, rel=0.01)


def test_soup_is_welded():
    mesh = shapes.ball()
    made, steps = finish(shapes.soup(mesh))
    assert steps["weld"].numbers["vertices"] == 3 * len(mesh.faces) - len(mesh.vertices)
    assert volume(made) == pytest.approx(volume(mesh))


def test_broken_vertices_are_dropped_and_closed():
    mesh = shapes.ball()
    vertices = mesh.vertices.copy()
    vertices[5], vertices[900] = np.nan, np.inf
    made, steps = finish(Mesh(vertices, mesh.faces))
    assert steps["drop_bad_vertices"].numbers["faces"] >= 6
    assert steps["close_holes"].numbers["holes"] == 2
    assert volume(made) == pytest.approx(volume(mesh), rel=0.01)


def test_double_and_degenerate_faces_are_dropped():
    mesh = shapes.cube()
    faces = np.concatenate([mesh.faces, mesh.faces[:2], [[0, 0, 1]]]).astype(np.int32)
    made, steps = finish(Mesh(mesh.vertices, faces))
    assert steps["drop_double_faces"].numbers["faces"] == 2
    assert steps["drop_degenerate_faces"].numbers["faces"] == 1
    assert len(made.faces) == 12


@pytest.mark.parametrize("indexed", [True, False])
def test_surface_written_with_both_sides_keeps_one(indexed):
    mesh = shapes.ball()
    both = Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:, ::-1]]))
    made, steps = finish(both if indexed else shapes.soup(both))
    assert steps["drop_double_faces"].numbers["faces"] == len(mesh.faces)
    assert volume(made) == pytest.approx(volume(mesh))
    patch = Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:40, ::-1]]))
    assert volume(finish(patch)[0]) == pytest.approx(volume(mesh))


def test_wall_between_two_solids_goes():
    made, _ = finish(shapes.soup(shapes.together(shapes.cube(), shapes.cube(1.0, (1.0, 0, 0)))))
    assert volume(made) == pytest.approx(2.0)
    assert find_bodies(made.faces, len(made.vertices))[0] == 1
    assert len(made.faces) == 20


def test_floaters_go_and_subjects_stay():
    crumb, far_bit, second = shapes.ball(0.02, 12), shapes.ball(0.1, 12), shapes.ball(0.5)
    parts = (shapes.ball(), shapes.moved(crumb, (1.3, 0, 0)), shapes.moved(far_bit, (0, 3, 0)))
    made, steps = finish(shapes.together(*parts, shapes.moved(second, (2, 0, 0))))
    assert steps["drop_floaters"].numbers["parts"] == 2
    assert find_bodies(made.faces, len(made.vertices))[0] == 2


def test_chain_mail_is_no_dirt():
    rings = [shapes.torus(1, 0.2, 12, 6, shift=(3.0 * (k % 20), 0.001 * k, 3.0 * (k // 20))) for k in range(400)]
    made, steps = finish(shapes.together(*rings))
    assert find_bodies(made.faces, len(made.vertices))[0] == 400
    assert not steps


def test_many_crumbs_that_are_much_of_the_surface_stay_and_are_told_of():
    crumbs = [shapes.cube(1.0, (20.0 + 3 * (k % 20), 0.0, 3.0 * (k // 20))) for k in range(100)]
    made, steps = finish(shapes.together(shapes.cube(22.0), *crumbs))
    assert find_bodies(made.faces, len(made.vertices))[0] == 101
    assert steps["keep_floaters"].numbers == {
        "parts": 100,
        "area_share": pytest.approx(600 / (600 + 6 * 484), abs=1e-6),
    }
    assert "17.1 % of the surface" in steps["keep_floaters"].sentence


def test_gap_to_a_coarse_wall_is_measured_to_the_wall():
    above = shapes.cube(13.0, (0.0, 50 + 1 + 6.5, 0.0))
    made, steps = finish(shapes.together(shapes.cube(100.0), above))
    assert find_bodies(made.faces, len(made.vertices))[0] == 2
    assert not steps
    away = shapes.cube(13.0, (0.0, 50 + 30 + 6.5, 0.0))
    made, steps = finish(shapes.together(shapes.cube(100.0), away))
    assert steps["drop_floaters"].sentence == "Removed 1 floating part (1.7 % of the surface)."


def test_small_part_that_overlaps_is_united_not_dropped():
    eye = shapes.moved(shapes.ball(0.05, 12), (0, 0, 1.0))
    made, steps = finish(shapes.together(shapes.ball(), eye))
    assert "drop_floaters" not in steps
    assert made.vertices[:, 2].max() == pytest.approx(1.05, abs=0.005)


@pytest.mark.parametrize(("budget", "lost"), [(20_000, 0.001), (3_000, 0.01), (500, 0.04), (100, 0.2)])
def test_budget_is_kept_and_solid(budget, lost):
    mesh = shapes.painted(shapes.torus(1, 0.4, 256, 128))
    made, _ = finish(mesh, budget)
    assert volume(made) == pytest.approx(volume(mesh), rel=lost)
    low, high = mesh.bounds
    expected = (made.vertices - low) / (high - low) * 255
    assert np.abs(made.colors - np.clip(expected, 0, 255)).mean() < 3


@pytest.mark.parametrize(
    ("mesh", "code"),
    [
        (Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32)), "empty_mesh"),
        (Mesh(np.full((4, 3), np.nan), np.array([[0, 1, 2]], np.int32)), "empty_mesh"),
        (Mesh(np.zeros((3, 3)), np.array([[0, 1, 9]], np.int32)), "empty_mesh"),
        (shapes.moebius(), "one_sided"),
        (Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]])), "no_volume"),
    ],
    ids=["no faces", "all NaN", "index too large", "moebius", "sheet"],
)
def test_what_cannot_be_solid_is_refused_in_a_sentence(mesh, code):
    with pytest.raises(BadMesh) as caught:
        make_solid(mesh, max_faces=1000)
    assert caught.value.code == code
    assert str(caught.value).endswith(".")


def test_place_is_exact_and_stands_on_the_ground():
    mesh = shapes.painted(shapes.torus(0.7, 0.2))
    placed, _ = place(mesh, size_mm=62.5)
    assert placed.extents.max() == pytest.approx(62.5, abs=1e-9)
    low, high = placed.bounds
    assert low[1] == pytest.approx(0, abs=1e-9)
    assert (low + high)[[0, 2]] == pytest.approx([0, 0], abs=1e-9)
    assert np.array_equal(placed.colors, mesh.colors)


@pytest.mark.parametrize("base_mm", [2.0, 10.0])
def test_cut_base_leaves_a_flat_side_and_the_exact_size(base_mm):
    placed, changes = place(shapes.painted(shapes.ball(cells=48)), size_mm=100, flat_base="cut", base_mm=base_mm)
    assert_solid(placed)
    assert placed.extents.max() == pytest.approx(100, abs=1e-9)
    radius = 50.0
    area = np.pi * (radius**2 - (radius - base_mm) ** 2)
    assert changes[-1].numbers["base_area_mm2"] == pytest.approx(area, rel=0.02)
    on_ground = placed.vertices[:, 1] < 1e-6
    assert on_ground.sum() > 8
    assert placed.vertices[:, 1].max() == pytest.approx(100 - base_mm, abs=0.01)


@pytest.mark.parametrize("flat_base", ["cut", "plinth"])
def test_small_models_get_a_base_too(flat_base):
    placed, _ = place(shapes.ball(cells=32), size_mm=5, flat_base=flat_base, base_mm=0.1 * 0.999)
    assert_solid(placed)
    assert placed.extents.max() == pytest.approx(5, abs=1e-9)
    assert place(shapes.ball(cells=32), size_mm=1, flat_base=flat_base, base_mm=0.02)[0].extents.max() == 1
    with pytest.raises(BadRequest, match=r"use 0\.01 to"):
        place(shapes.ball(cells=32), size_mm=5, flat_base=flat_base, base_mm=0.009)


def test_a_flat_model_loses_a_quarter_of_its_height_at_most():
    placed, changes = place(shapes.box((100, 1.6, 60)), size_mm=100, flat_base="cut", base_mm=2.0)
    assert_solid(placed)
    assert placed.extents == pytest.approx((100, 1.2, 60))
    cut = next(change for change in changes if change.step == "cut_base")
    assert cut.numbers["base_mm"] == pytest.approx(0.4)
    assert cut.sentence == (
        "Cut 0.4 mm, a quarter of the height and not the 2 mm asked for, off the bottom for a flat base of 60.0 cm²."
    )


@pytest.mark.parametrize(
    "options",
    [{"flat_base": "cut", "base_mm": 8.0}, {"flat_base": "plinth", "base_mm": 5.0}, {"wall_mm": 4.0}],
    ids=["cut", "plinth", "hollow"],
)
def test_texture_goes_along_and_new_faces_take_the_nearest_colour(options):
    ball = shapes.ball(cells=40)
    uv = (ball.vertices[:, :2] / 2 + 0.5)[ball.faces]  # the picture seen from the front and, mirrored, from behind
    back = ball.vertices[ball.faces].mean(axis=1)[:, 2] < 0
    uv[..., 0] = np.where(back[:, None], 1 - uv[..., 0] / 2, uv[..., 0] / 2)
    rows, columns = np.mgrid[0:256, 0:512]
    image = np.stack([rows, columns // 2, np.full_like(rows, 7)], axis=2).astype(np.uint8)
    placed, _ = place(
        Mesh(ball.vertices, ball.faces, None, Texture(uv.astype(np.float32), image)), size_mm=100, **options
    )
    assert_solid(placed)
    assert len(placed.texture.corner_uv) == len(placed.faces)
    assert placed.texture.corner_uv.min() >= 0
    assert placed.texture.corner_uv.max() <= 1
    height = sample_texture(placed.texture, placed.texture.corner_uv.reshape(-1, 2))[:, 0].reshape(-1, 3) / 255
    scale = 2 / placed.extents[0]
    middle = placed.vertices[:, 1].max() - 1 / scale
    expected = ((placed.vertices[placed.faces][:, :, 1] - middle) * scale + 1) / 2
    assert np.abs(height - expected).mean() < 0.03
    assert np.quantile(np.abs(height - expected), 0.99) < 0.2  # a plinth reaches beyond the ball


@pytest.mark.parametrize(("size_mm", "thick"), [(1, 1 / 3), (20, 1.2), (60, 1.2), (100, 2.0)])
def test_a_plate_is_never_too_thin_to_print(size_mm, thick):
    placed, changes = place(shapes.box((2, 1, 2)), size_mm=size_mm, flat_base="plinth")
    assert changes[-1].step == "add_plinth"
    assert changes[-1].numbers["base_mm"] == pytest.approx(thick)
    assert place(shapes.cube(), size_mm=size_mm, flat_base="cut")[1][-1].numbers["base_mm"] == 0.02 * size_mm
    if size_mm >= 20:
        assert not any("walls under" in note for note in inspect(placed, changes=changes).notes)


def leaning(mesh: Mesh, degrees: float) -> Mesh:
    """As a camera sees it that looks down by so much: the top leans towards it."""
    return replace(mesh, vertices=tilted(mesh.vertices, -degrees))


@pytest.mark.parametrize("degrees", [24.0, 3.5, -8.0])
def test_what_leans_is_tilted_to_stand(degrees):
    upright = shapes.painted(shapes.box((30, 50, 20)))
    seen = leaning(upright, degrees)
    assert inspect(seen).stands is False
    placed, changes = place(seen, size_mm=50, orientation="standing")
    assert placed.vertices == pytest.approx(place(upright, size_mm=50)[0].vertices, abs=1e-6)
    assert np.array_equal(placed.colors, upright.colors)
    assert np.array_equal(placed.faces, upright.faces)
    assert changes[0].numbers == {"degrees": degrees, "stands": True}
    way = "back" if degrees > 0 else "forward"
    assert changes[0].sentence == f"Tilted {way} by {abs(degrees):g}°, where it stands steadiest."
    assert inspect(placed, changes=changes).stands is True


def test_what_leans_and_has_its_weight_to_one_side_is_tilted_too():
    foot, body = shapes.box((40, 8, 40)), shapes.box((16, 60, 16))
    body = replace(body, vertices=body.vertices + np.array([6, 34, -8]))
    statue = make_solid(shapes.together(foot, body), max_faces=1000)[0]
    for degrees in (12.2, 29.9):
        _, changes = place(leaning(statue, degrees), size_mm=50, orientation="standing")
        assert changes[0].numbers["degrees"] == pytest.approx(degrees, abs=0.8)
        assert changes[0].numbers["stands"] is True


def test_what_stands_is_not_tilted():
    foot, torso = shapes.box((40, 6, 40)), shapes.box((12, 60, 12))
    bent = torso.vertices + np.array([0, 33, 0]) + np.outer(torso.vertices[:, 1] + 30, [0, 0, 0.3])
    statue = make_solid(shapes.together(foot, replace(torso, vertices=bent)), max_faces=1000)[0]
    upright = shapes.box((10, 90, 10))
    bracket = shapes.together(
        shapes.box((10, 10, 40)), replace(upright, vertices=upright.vertices + np.array([0, 45, -15]))
    )
    bracket = make_solid(bracket, max_faces=1000)[0]
    ball = shapes.ball(cells=48)
    for mesh in (shapes.cube(), shapes.box((40, 5, 40)), shapes.box((4, 90, 4)), statue, bracket, ball):
        assert inspect(mesh).stands is True
        placed, changes = place(mesh, size_mm=50, orientation="standing")
        assert np.array_equal(placed.vertices, place(mesh, size_mm=50)[0].vertices)
        assert changes[0].sentence == "Not tilted: it stands as it is."


@pytest.mark.parametrize("slope", [[0, 0, 3.0], [1.5, 0, 0]])
def test_what_no_tilt_lets_stand_is_said_to_fall(slope):
    column = shapes.box((10, 60, 10))
    slanted = replace(column, vertices=column.vertices + np.outer(column.vertices[:, 1], slope))
    placed, changes = place(slanted, size_mm=50, orientation="standing")
    assert changes[0].numbers["stands"] is inspect(placed).stands is False
    assert changes[0].numbers["degrees"] >= 0, "never forward for nothing"
    assert changes[0].sentence in (
        f"Tilted back by {changes[0].numbers['degrees']:g}°, where least is missing to stand.",
        "Not tilted: that does not make it stand.",
    )


def test_what_lies_flat_rests_there_with_its_front_up():
    slope = shapes.box((10, 60, 10))
    slanted = replace(slope, vertices=slope.vertices + np.outer(slope.vertices[:, 1], [0, 0, 3.0]))
    placed, changes = place(slanted, size_mm=50, orientation="flattest")
    assert changes[0].numbers["stands"] is inspect(placed).stands is True
    tablet = shapes.box((60, 80, 10))
    for turned_round in (False, True):
        nose = shapes.box((6, 6, 6))
        front = replace(nose, vertices=nose.vertices + np.array([0, 20, -7 if turned_round else 7]))
        face = make_solid(shapes.together(tablet, front), max_faces=1000)[0]
        placed, changes = place(face, size_mm=80, orientation="flattest")
        assert changes[0].sentence == "Turned by 90° to lie on the flattest side."
        assert changes[0].numbers["stands"] is inspect(placed).stands is True
        assert placed.extents[1] == pytest.approx(15)  # on the whole side, not on the nose
    thin, _ = place(tablet, size_mm=80, orientation="flattest", front_up=True)
    up = np.argmax(tablet.vertices[:, 2])  # of the two sides that are alike, the picture's is not the one below
    assert thin.vertices[up, 1] == pytest.approx(10)


@pytest.mark.parametrize("orientation", ["standing", "flattest"])
def test_a_part_that_is_only_turned_keeps_its_size(orientation):
    part = leaning(shapes.box((30, 50, 20)), 24)
    turned, _, _ = repair(part, orientation=orientation)
    assert sorted(turned.extents) == pytest.approx([20, 30, 50], abs=1e-6)


def test_what_falls_over_is_cut_deeper():
    # a ball with a weight to one side: 2 mm off its bottom leave a flat side that is not below its middle
    ball = shapes.ball(cells=48)
    leaning = Mesh(ball.vertices + np.outer(ball.vertices[:, 1] + 1, [0.4, 0, 0]), ball.faces)
    placed, changes = place(leaning, size_mm=100, flat_base="cut")
    assert inspect(placed).stands is True
    assert next(change.numbers["base_mm"] for change in changes if change.step == "cut_base") in (4, 6)
    asked, _ = place(leaning, size_mm=100, flat_base="cut", base_mm=2.0)
    assert inspect(asked).stands is False


def test_plinth_makes_it_stand():
    placed, changes = place(shapes.ball(cells=48), size_mm=100, flat_base="plinth", base_mm=4)
    assert_solid(placed)
    assert placed.extents == pytest.approx([100, 99, 100], abs=0.1)
    # half the plate deep, 2 mm, it would be held by 8 % of it; 5 mm deep by 19 %
    held = next(change.numbers for change in changes if change.step == "add_plinth")
    assert held["sink_mm"] == pytest.approx(5, abs=0.01)
    assert "its lowest 1 mm were cut off, so that the plate holds it" in " ".join(c.sentence for c in changes)
    assert held["held_mm2"] == pytest.approx(0.19 * np.pi * 50**2, rel=0.02)
    assert not any("break off" in note for note in inspect(placed, changes=changes).notes)
    assert place(shapes.cube(), size_mm=60, flat_base="plinth", base_mm=1)[1][1].numbers["sink_mm"] == 0.5
    assert find_bodies(placed.faces, len(placed.vertices))[0] == 1


def test_hollow_has_walls_and_a_drain():
    mesh = shapes.painted(shapes.ball(cells=48))
    placed, changes = place(mesh, size_mm=100, wall_mm=3.0, drain_mm=6.0)
    assert_solid(placed)
    shell = 4 / 3 * np.pi * (50**3 - 47**3)
    assert volume(placed) == pytest.approx(shell, rel=0.03)
    assert find_bodies(placed.faces, len(placed.vertices))[0] == 1  # inside and outside hang together by the drain
    assert changes[-1].numbers["drains"] == 1
    reach = np.linalg.norm(placed.vertices - [0, 50, 0], axis=1)
    inner = reach[(reach < 49) & (placed.vertices[:, 1] > 10)]
    assert inner.max() < 47.0 + 0.05  # walls are not thinner than asked
    expected = (placed.vertices + np.array([50, 0, 50])) / 100 * 255
    assert np.abs(placed.colors - expected).mean() < 8  # inside as on the outside nearest to it


@pytest.mark.parametrize("wall", [1.6, 3.0])
def test_walls_about_as_thin_as_the_grid_are_as_thick_as_asked(wall):
    placed, _ = place(shapes.ball(cells=64), size_mm=400, wall_mm=wall, drain_mm=6.0)  # cells of 2 mm
    reach = np.linalg.norm(placed.vertices - [0, 200, 0], axis=1)
    inner = reach[(reach < 200 - wall / 2) & (placed.vertices[:, 1] > 40)]
    assert inner.max() < 200 - wall + 0.2
    assert np.median(inner) == pytest.approx(200 - wall, abs=0.25)
    with pytest.raises(BadRequest, match=r"Walls of 1\.4 mm are too thin .* use 1\.5 mm or more"):
        place(shapes.ball(cells=64), size_mm=400, wall_mm=1.4, drain_mm=6.0)


def test_flattest_side_goes_down():
    lying = shapes.box((10, 40, 20))
    placed, changes = place(lying, size_mm=40, orientation="flattest")
    assert placed.extents[1] == pytest.approx(10, abs=1e-6)
    assert changes[0].numbers["degrees"] == pytest.approx(90)
    assert volume(placed) == pytest.approx(8000)


@pytest.mark.parametrize(
    "options",
    [
        {"size_mm": 0.5},
        {"size_mm": 5000},
        {"size_mm": 100, "flat_base": "glue"},
        {"size_mm": 100, "orientation": "left"},
        {"size_mm": 100, "flat_base": "cut", "base_mm": 60.0},
        {"size_mm": 100, "wall_mm": 40.0},
        {"size_mm": 10, "wall_mm": 2.4, "drain_mm": 2.5},
    ],
)
def test_place_names_the_limit(options):
    with pytest.raises(BadRequest):
        place(shapes.torus(1, 0.2), **options)
