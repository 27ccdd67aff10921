"""Size and stance of a solid: scale, turn, lay flat, base, hollow. Millimetres, Y up, ground at y = 0."""

from __future__ import annotations

import math
from dataclasses import replace

import manifold3d
import numpy as np
from scipy.spatial import ConvexHull, QhullError

from orfeas.errors import BadMesh, BadRequest
from orfeas.mesh import Mesh, Texture
from orfeas.mesh.change import Change, counted
from orfeas.mesh.field import inner_solid, least_depth
from orfeas.mesh.solid import from_manifold, to_manifold
from orfeas.mesh.stability import best_tilt, centre_of_mass, stands, tilted
from orfeas.mesh.transfer import paint_new_faces

SINK_SHARE = 0.5  # how deep a model stands in its plate at least, of the plate's thickness
HELD_SHARE = 1 / 6  # of the plate's area: a model sinks until it is held by so much
SINK_STEPS = np.array([0.002, 0.01, 0.02, 0.03, 0.04, 0.05])  # of the height: how deep it may sink for that
FRONT = 0.3  # z of the normals of sides that count as the front
LIKES_FRONT = 1 / 3  # how much of its area such a side counts with for what is to lie on the ground
MOST_CUT = 0.25  # of the height: a deeper cut would leave little of a flat model
LEAST_CHAMBER = 0.01  # of the largest chamber: smaller ones stay filled, they would each need a drain hole


def scale_to(
    mesh: Mesh, size_mm: float, *, flat_base: str | None = None, base_mm: float = 0.0
) -> tuple[Mesh, list[Change]]:
    """Scale so that the longest side is ``size_mm`` once the base has been made; stand on y = 0, centre x and z.

    A cut shortens the mesh and may narrow it, a plate makes it taller: the scale allows for either.
    """
    low, extents = mesh.vertices.min(axis=0), mesh.extents
    if not extents.max() > 0:
        raise BadMesh("The mesh has no size: all its points are one.", "no_volume")

    sink_share = _sink_share(mesh) if flat_base == "plinth" else 0.0

    def longest(scale: float) -> float:
        if flat_base == "plinth":
            high = scale * extents[1] - max(base_mm * SINK_SHARE, scale * extents[1] * sink_share) + base_mm
            return float(max(scale * extents[0], scale * extents[2], high))
        if flat_base == "cut":
            cut = min(base_mm / scale, MOST_CUT * extents[1])
            return float((_extents_above(mesh, low[1] + cut) * scale).max())
        return float((scale * extents).max())

    below, above = 0.5 * size_mm / extents.max(), 4 * size_mm / extents.max()
    if flat_base is None:
        scale = size_mm / float(extents.max())
    else:
        for _ in range(60):  # longest() grows with the scale: halve the bracket
            scale = (below + above) / 2
            below, above = (scale, above) if longest(scale) < size_mm else (below, scale)
    middle = (mesh.vertices.max(axis=0) + low) / 2
    ground = np.array([middle[0], low[1], middle[2]])
    placed = replace(mesh, vertices=(mesh.vertices - ground) * scale)
    if abs(scale - 1) > 1e-6:
        sentence = f"Scaled to {size_mm:g} mm along the longest side and set on the ground."
    elif np.abs(ground).max() > 1e-6 * size_mm:
        sentence = "Set on the ground, in the middle; its size was kept."
    else:
        return mesh, []
    return placed, [Change("scale", sentence, {"factor": float(scale), "size_mm": float(size_mm)})]


def tilt_to_stand(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """Tilt a closed mesh back by up to 45° or forward by up to 10°, about x, to where it stands steadiest.

    A picture from above shows a thing leaning towards the camera, and so does a model made in the picture's frame; a
    camera is level sideways, so it is turned about no other axis. What stands steadily stays as it is. The change says
    so if nothing was turned, and if it does not stand for all that: see `orfeas.mesh.stability.best_tilt`.
    """
    degrees, it_stands = best_tilt(mesh.vertices, centre_of_mass(mesh))
    way = f"Tilted {'back' if degrees > 0 else 'forward'} by {abs(degrees):g}°"
    if degrees:
        sentence = f"{way}, where it stands steadiest." if it_stands else f"{way}, where least is missing to stand."
    else:
        sentence = "Not tilted: it stands as it is." if it_stands else "Not tilted: that does not make it stand."
    turned = replace(mesh, vertices=tilted(mesh.vertices, degrees)) if degrees else mesh
    return turned, [Change("tilt_to_stand", sentence, {"degrees": degrees, "stands": it_stands})]


def lay_flat(mesh: Mesh, *, front_up: bool = False) -> tuple[Mesh, list[Change]]:
    """Turn a closed mesh to lie on the side of its convex hull with the most area, of those on which it rests.

    front_up: the front, +Z, is what a picture shows, and lies on the ground only if no other side has a third of its
    area. The change says so if nothing was turned, and if it rests on no side, which the largest then is.
    """
    try:
        hull = ConvexHull(mesh.vertices)
    except QhullError as error:
        raise BadMesh("The mesh is flat or a line: it has no side to lie on.", "no_volume") from error
    corners = mesh.vertices[hull.simplices]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    normals = hull.equations[:, :3]
    # one side of the hull can be many triangles: add up those that face the same way, within about 2 degrees
    some = np.argsort(-area)[:512]
    same = normals[some] @ normals.T > 0.9994
    share = same @ area / max(area.sum(), 1e-300)
    points, centre = mesh.vertices[hull.vertices], centre_of_mass(mesh)

    def rotation_to(side: int) -> np.ndarray:
        down = (area * same[side]) @ normals
        return _turn(down / np.linalg.norm(down), np.array([0.0, -1.0, 0.0]))

    liked = share * np.where(normals[some, 2] > FRONT, LIKES_FRONT, 1.0) if front_up else share
    order = np.argsort(-liked, kind="stable")
    resting = (side for side in order if stands((points - centre) @ rotation_to(side).T, np.zeros(3)))
    side = next(resting, None)
    rests = side is not None
    side = side if rests else int(share.argmax())
    rotation = rotation_to(side)
    degrees = float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))
    numbers = {"degrees": round(degrees, 2), "hull_share": round(float(share[side]), 4), "stands": rests}
    if degrees < 1:
        return mesh, [Change("lay_flat", "Not turned: it lies on its flattest side.", {**numbers, "degrees": 0.0})]
    sentence = f"Turned by {degrees:.0f}° to lie on the flattest side{'' if rests else ', on which it does not rest'}."
    return replace(mesh, vertices=mesh.vertices @ rotation.T), [Change("lay_flat", sentence, numbers)]


def cut_base(mesh: Mesh, base_mm: float) -> tuple[Mesh, list[Change]]:
    """Cut off the lowest ``base_mm``, a quarter of the height at most, and close the cut; the rest stands on y = 0."""
    solid = _checked(mesh)
    asked, base_mm = base_mm, min(base_mm, MOST_CUT * float(mesh.extents[1]))
    floor = float(mesh.vertices[:, 1].min()) + base_mm
    kept = solid.trim_by_plane((0.0, 1.0, 0.0), floor)
    if kept.is_empty():
        raise BadRequest(f"Cutting {base_mm:g} mm off the base leaves nothing: cut less.", "out_of_range")
    made, _ = from_manifold(kept, mesh)
    new = _on_floor(made, floor)
    made = paint_new_faces(made, new, mesh)
    made = replace(made, vertices=made.vertices - np.array([0.0, floor, 0.0]))
    area = _area(made, _on_floor(made, 0.0))
    less = f", a quarter of the height and not the {asked:g} mm asked for," if base_mm < asked else ""
    sentence = f"Cut {base_mm:.3g} mm{less} off the bottom for a flat base of {area / 100:.1f} cm²."
    return made, [Change("cut_base", sentence, {"base_mm": float(base_mm), "base_area_mm2": round(area, 2)})]


def add_plinth(mesh: Mesh, base_mm: float) -> tuple[Mesh, list[Change]]:
    """Set the solid into a plate ``base_mm`` thick with the outline of the convex hull of its shadow.

    As deep as half the plate, or deeper until it is held by `HELD_SHARE` of the plate's area, if the lowest 5 % of its
    height are enough for that; what would come out below the plate is cut off.
    """
    solid = _checked(mesh)
    sink = max(base_mm * SINK_SHARE, _sink_share(mesh) * float(mesh.extents[1]))
    lift = base_mm - sink
    low = float(mesh.vertices[:, 1].min())
    held = _area_at(solid, low + sink)
    shadow = mesh.vertices[:, [0, 2]]
    outline = shadow[ConvexHull(shadow).vertices]
    plate = manifold3d.CrossSection([np.ascontiguousarray(outline)]).extrude(base_mm)
    # the section lies in x and y = our z: stand it up, so that its height runs along our y
    plate = plate.transform(np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, 1.0, 0, 0]]))
    raw = plate.to_mesh64()
    corners = np.asarray(raw.tri_verts).astype(np.int32)
    stand = Mesh(np.asarray(raw.vert_properties)[:, :3].copy(), corners)
    plate = to_manifold(_like(stand, mesh)).as_original()  # only originals have an id to know their faces by
    model = solid.translate((0.0, lift - low, 0.0))
    if lift < 0:
        model = model.trim_by_plane((0.0, 1.0, 0.0), 0.0)
    made, origin = from_manifold(model + plate, mesh)
    lifted = replace(mesh, vertices=mesh.vertices + np.array([0.0, lift - low, 0.0]))
    made = paint_new_faces(made, origin == plate.original_id(), lifted)
    lost = f"; its lowest {-lift:.2g} mm were cut off, so that the plate holds it" if lift < 0 else ""
    sentence = f"Set on a plate {base_mm:.3g} mm thick{lost}."
    numbers = {
        "base_mm": float(base_mm),
        "sink_mm": round(sink, 3),
        "held_mm2": round(held, 2),
        "plate_mm2": round(float(ConvexHull(shadow).volume), 2),
    }
    return made, [Change("add_plinth", sentence, numbers)]


def _sink_share(mesh: Mesh) -> float:
    """How deep to set the solid into a plate, as a share of its height: least for `HELD_SHARE`, or where sinking
    deeper would hardly hold it better."""
    solid, low, high = _checked(mesh), *mesh.bounds[:, 1]
    held = np.array([_area_at(solid, low + share * (high - low)) for share in SINK_STEPS])
    wanted = HELD_SHARE * float(ConvexHull(mesh.vertices[:, [0, 2]]).volume)  # in the plane the volume is the area
    return float(SINK_STEPS[np.argmax(held >= min(wanted, 0.9 * held.max()))])


def _area_at(solid: manifold3d.Manifold, height: float) -> float:
    """The area of the solid's section at y = ``height``."""
    stood = solid.transform(np.array([[1.0, 0, 0, 0], [0, 0, -1.0, 0], [0, 1.0, 0, 0]]))
    return float(stood.slice(height).area())


def hollow_out(mesh: Mesh, wall_mm: float, drain_mm: float) -> tuple[Mesh, list[Change]]:
    """Hollow the solid to walls ``wall_mm`` thick, with a drain hole ``drain_mm`` across under each chamber.

    Raises `BadRequest` if the solid is nowhere thick enough to be hollowed, or too large for such thin walls.
    """
    if wall_mm < (least := least_depth(mesh)):
        raise BadRequest(
            f"Walls of {wall_mm:g} mm are too thin for a model of this size: use {math.ceil(10 * least) / 10:g} mm or"
            " more, or a smaller size.",
            "out_of_range",
        )
    solid = _checked(mesh)
    inner = inner_solid(mesh, wall_mm)
    chambers = [] if inner is None else to_manifold(inner).simplify(wall_mm * 0.02).decompose()
    largest = max((chamber.volume() for chamber in chambers), default=0.0)
    # a chamber narrower than its drain hole is no chamber
    chambers = [c for c in chambers if c.volume() > max(LEAST_CHAMBER * largest, drain_mm**3 / 4)]
    if not chambers:
        raise BadRequest(
            f"The model is too thin to be hollowed with walls of {wall_mm:g} mm and a drain hole of {drain_mm:g} mm: "
            "use thinner walls, a smaller hole or a larger size.",
            "too_thin_to_hollow",
        )
    before = solid.volume()
    ground = float(mesh.vertices[:, 1].min())
    cutters = []
    for chamber in chambers:
        points = np.asarray(chamber.to_mesh64().vert_properties)[:, :3]
        bottom = float(points[:, 1].min())
        lowest = points[points[:, 1] < bottom + 0.05 * float(np.ptp(points[:, 1])) + 0.5 * wall_mm]
        at = lowest[np.linalg.norm(lowest[:, [0, 2]] - np.median(lowest[:, [0, 2]], axis=0), axis=1).argmin()]
        height = at[1] + drain_mm / 2 - (ground - 1.0)
        drain = manifold3d.Manifold.cylinder(height, drain_mm / 2, drain_mm / 2, 32)
        drain = drain.transform(np.array([[1.0, 0, 0, at[0]], [0, 0, 1.0, ground - 1.0], [0, -1.0, 0, at[2]]]))
        cutters.append(chamber + drain)
    cutter = manifold3d.Manifold.batch_boolean(cutters, manifold3d.OpType.Add)
    raw = cutter.to_mesh64()
    tool = Mesh(np.asarray(raw.vert_properties)[:, :3].copy(), np.asarray(raw.tri_verts).astype(np.int32))
    tool_solid = to_manifold(_like(tool, mesh)).as_original()
    made, origin = from_manifold(solid - tool_solid, mesh)
    made = paint_new_faces(made, origin == tool_solid.original_id(), mesh)
    saved = 1 - (solid - tool_solid).volume() / before
    sentence = (
        f"Hollowed to walls of {wall_mm:g} mm with {counted(len(chambers), 'drain hole')} of {drain_mm:g} mm: "
        f"{100 * saved:.0f} % less material."
    )
    numbers = {
        "wall_mm": float(wall_mm),
        "drain_mm": float(drain_mm),
        "drains": len(chambers),
        "saved_share": round(float(saved), 4),
    }
    return made, [Change("hollow_out", sentence, numbers)]


def _checked(mesh: Mesh) -> manifold3d.Manifold:
    solid = to_manifold(mesh)
    if solid.status() != manifold3d.Error.NoError:
        raise BadMesh("The mesh is not closed, so it can be neither cut nor hollowed: repair it first.", "not_solid")
    return solid


def _like(tool: Mesh, mesh: Mesh) -> Mesh:
    """``tool`` with as many properties as ``mesh``, so that a boolean of the two has the columns of ``mesh``."""
    colors = None if mesh.colors is None else np.zeros((len(tool.vertices), 3), np.uint8)
    texture = mesh.texture and Texture(np.zeros((len(tool.faces), 3, 2), np.float32), mesh.texture.image)
    return replace(tool, colors=colors, texture=texture)


def _extents_above(mesh: Mesh, floor: float) -> np.ndarray:
    """(3,) extents of the part of the mesh above y = ``floor``."""
    above = mesh.vertices[:, 1] >= floor
    points = mesh.vertices[above]
    first, second, third = above[mesh.faces].T
    crossing = mesh.vertices[mesh.faces[(first != second) | (second != third)]]  # a bisection asks often: no others
    a, b = crossing.reshape(-1, 3), np.roll(crossing, -1, axis=1).reshape(-1, 3)
    crosses = (a[:, 1] < floor) & (b[:, 1] > floor)
    share = ((floor - a[crosses, 1]) / (b[crosses, 1] - a[crosses, 1]))[:, None]
    points = np.concatenate([points, a[crosses] + share * (b[crosses] - a[crosses])])
    return np.ptp(points, axis=0) if len(points) else np.zeros(3)


def _on_floor(mesh: Mesh, floor: float) -> np.ndarray:
    tolerance = 1e-7 * float(np.ptp(mesh.vertices, axis=0).max())
    return (np.abs(mesh.vertices[:, 1] - floor) < tolerance)[mesh.faces].all(axis=1)


def _area(mesh: Mesh, which: np.ndarray) -> float:
    corners = mesh.vertices[mesh.faces[which]]
    return float(
        np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    )


def _turn(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(3, 3) the smallest rotation that takes one unit vector to another (Rodrigues' formula)."""
    axis, cosine = np.cross(start, end), float(start @ end)
    if cosine < -0.999999:
        return np.diag([1.0, -1.0, -1.0]) if abs(start[0]) < 0.5 else np.diag([-1.0, -1.0, 1.0])
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + cosine)
