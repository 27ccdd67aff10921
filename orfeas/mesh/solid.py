"""Meshes as solids: to and from `manifold3d`, one outer skin, bodies apart, parts that float away.

`manifold3d` works on closed, consistently wound meshes and promises such meshes back. Colours and texture
coordinates travel as vertex properties: it interpolates them where it cuts.
"""

from __future__ import annotations

from dataclasses import replace

import manifold3d
import numpy as np
from scipy.spatial import cKDTree

from orfeas.errors import BadMesh
from orfeas.mesh import Mesh, Texture, face_cross, signed_volume, vertex_normals
from orfeas.mesh.change import Change, counted
from orfeas.mesh.clean import unique_rows
from orfeas.mesh.grid import face_boxes
from orfeas.mesh.intersect import crossing_pairs
from orfeas.mesh.topology import find_bodies, find_edges, flip_faces, is_closed, is_manifold, select_faces

TOUCH_GAP = 1e-4  # of the diagonal
FLOATER_AREA = 0.003  # a separate part with less than this share of the largest part's surface is a floater
FAR_FLOATER_AREA = 0.02  # and so is one with less than this share...
FAR_DISTANCE = 0.05  # ...whose gap to the rest is more than this share of the diagonal
MOST_FLOATERS = 0.05  # of the whole surface: what adds up to more is no dirt, it is the model
UNDER_FACE = 1e-7  # of the diagonal: how far under a face a point is asked for what it is inside of
SAME_PLACE = 1e-9  # of the diagonal: boxes that differ by less are the same
GAP_SAMPLES = 2_000_000  # triangles at most that gaps are measured between


def to_manifold(mesh: Mesh) -> manifold3d.Manifold:
    """The mesh as a `manifold3d.Manifold`, colours and texture coordinates as properties. Check its ``status()``."""
    properties = [mesh.vertices]
    if mesh.texture is None:
        if mesh.colors is not None:
            properties.append(mesh.colors.astype(np.float64))
        return manifold3d.Manifold(
            manifold3d.Mesh64(np.ascontiguousarray(np.concatenate(properties, axis=1)), mesh.faces.astype(np.uint64))
        )
    corner_uv = mesh.texture.corner_uv.reshape(-1, 2).astype(np.float64)
    rows = np.concatenate([mesh.faces.reshape(-1, 1).astype(np.float64), corner_uv], axis=1)
    first, row_of_corner = unique_rows(rows)
    vertex = mesh.faces.ravel()[first]
    properties = [mesh.vertices[vertex], corner_uv[first]]
    if mesh.colors is not None:
        properties.append(mesh.colors[vertex].astype(np.float64))
    _, leader, of_row = np.unique(vertex, return_index=True, return_inverse=True)
    leader = leader[of_row]
    merged = np.flatnonzero(leader != np.arange(len(vertex)))
    return manifold3d.Manifold(
        manifold3d.Mesh64(
            np.ascontiguousarray(np.concatenate(properties, axis=1)),
            row_of_corner.reshape(-1, 3).astype(np.uint64),
            merge_from_vert=merged.astype(np.uint64),
            merge_to_vert=leader[merged].astype(np.uint64),
        )
    )


def from_manifold(solid: manifold3d.Manifold, like: Mesh) -> tuple[Mesh, np.ndarray]:
    """The mesh of a solid with the colours and texture of ``like``, and the (m,) original id of each face."""
    raw = solid.to_mesh64()
    properties = np.asarray(raw.vert_properties)
    corners = np.asarray(raw.tri_verts).astype(np.int64)
    leader = np.arange(len(properties))
    leader[np.asarray(raw.merge_from_vert).astype(np.int64)] = np.asarray(raw.merge_to_vert).astype(np.int64)
    kept, index = np.unique(leader, return_inverse=True)
    faces = index[corners].astype(np.int32)
    column = 3
    texture = colors = None
    if like.texture is not None:
        uv = np.clip(properties[corners, 3:5], 0.0, 1.0).astype(np.float32)
        texture, column = Texture(uv, like.texture.image), 5
    if like.colors is not None:
        colors = np.clip(np.rint(properties[kept, column : column + 3]), 0, 255).astype(np.uint8)
    runs = np.diff(np.asarray(raw.run_index).astype(np.int64)) // 3
    origin = np.repeat(np.asarray(raw.run_original_id).astype(np.int64)[: len(runs)], runs)
    return Mesh(np.ascontiguousarray(properties[kept, :3]), faces, colors, texture), origin


def is_solid(mesh: Mesh) -> bool:
    """Whether `manifold3d` takes the mesh as a solid: finite, closed and consistently wound."""
    return to_manifold(Mesh(mesh.vertices, mesh.faces)).status() == manifold3d.Error.NoError


def face_areas(mesh: Mesh) -> np.ndarray:
    """(m,) float64 area of each face."""
    return np.linalg.norm(face_cross(mesh.vertices, mesh.faces), axis=1) / 2


def face_outwards(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """Turn every closed piece that is inside out. Cavities turn too: `join_bodies` then fills them."""
    n_bodies, body = find_bodies(mesh.faces, len(mesh.vertices))
    volume = volume_by_body(mesh, body, n_bodies)
    inside_out = volume < 0
    if not inside_out.any():
        return mesh, []
    inside, _, _ = nested_bodies(mesh, body, n_bodies)
    turned = int((inside_out & ~inside).sum())
    mesh = flip_faces(mesh, inside_out[body])
    if not turned:  # only cavities: what becomes of them is said by `join_bodies`
        return mesh, []
    sentence = f"Turned {counted(turned, 'body', 'bodies')} the right way out."
    return mesh, [Change("face_outwards", sentence, {"bodies": turned})]


def join_bodies(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """One outer skin for closed pieces, all facing outwards: drops what lies inside another, unites what overlaps.

    Raises `BadMesh` if nothing encloses a volume.
    """
    changes = []
    n_bodies, body = find_bodies(mesh.faces, len(mesh.vertices))
    volume = volume_by_body(mesh, body, n_bodies)
    diagonal = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    flat = np.abs(volume) <= 1e-9 * diagonal**3
    if flat.all():
        raise BadMesh(
            "The surface is open like a sheet of paper and encloses no volume: "
            "give it a thickness in the program that made it.",
            "no_volume",
        )
    if flat.any():
        mesh = select_faces(mesh, ~flat[body])
        sentence = f"Removed {counted(int(flat.sum()), 'piece')} that enclosed nothing."
        changes.append(Change("join_bodies", sentence, {"flat_pieces": int(flat.sum())}))
        n_bodies, body = find_bodies(mesh.faces, len(mesh.vertices))
    inside, twins, apart = nested_bodies(mesh, body, n_bodies)
    if inside.any():
        mesh = select_faces(mesh, ~inside[body])
        doubles, shells = int(twins.sum()), int((inside & ~twins).sum())
        if doubles:
            sentence = f"Removed {counted(doubles, 'duplicate body', 'duplicate bodies')}."
            changes.append(Change("join_bodies", sentence, {"duplicate_bodies": doubles}))
        if shells:
            sentence = f"Removed {counted(shells, 'inner shell')}."
            changes.append(Change("join_bodies", sentence, {"inner_shells": shells}))
        n_bodies, body = find_bodies(mesh.faces, len(mesh.vertices))
    if n_bodies == 1 or apart:
        return mesh, changes
    if mesh.texture is not None:
        raise ValueError("bake the texture first: overlapping bodies are united with vertex colours")
    solids = [to_manifold(select_faces(mesh, body == k)) for k in range(n_bodies)]
    if any(solid.status() != manifold3d.Error.NoError for solid in solids):
        raise BadMesh("The parts of the mesh could not be joined into one solid.", "not_solid")
    united = manifold3d.Manifold.batch_boolean(solids, manifold3d.OpType.Add)
    joined, _ = from_manifold(united, mesh)
    left = find_bodies(joined.faces, len(joined.vertices))[0]
    if len(joined.faces) == len(mesh.faces) and left == n_bodies:  # their boxes overlap but they do not
        return mesh, changes
    sentence = f"United {n_bodies} overlapping parts into {counted(left, 'body', 'bodies')}."
    changes.append(Change("join_bodies", sentence, {"parts": n_bodies, "bodies": left}))
    return joined, changes


def drop_floaters(mesh: Mesh, *, touching_stays: bool = False) -> tuple[Mesh, list[Change]]:
    """Remove small parts that hang apart from the rest: crumbs at any distance, larger bits only far away.

    The largest part always stays, so do parts with a fair share of its surface (several subjects). Where all small
    parts together make up more than `MOST_FLOATERS` of the surface none is removed, and a "keep_floaters" says so.
    touching_stays: keep crumbs that may touch a larger part, because they are still to be united with it.
    """
    n_bodies, body = find_bodies(mesh.faces, len(mesh.vertices))
    if n_bodies == 1:
        return mesh, []
    area = np.bincount(body, face_areas(mesh), minlength=n_bodies)
    share = area / max(area.max(), 1e-300)
    floats = share < FLOATER_AREA
    floats[area.argmax()] = False
    maybe = np.flatnonzero(~floats & (share < FAR_FLOATER_AREA))
    doubtful = np.union1d(maybe, np.flatnonzero(floats)) if touching_stays else maybe
    if len(doubtful):
        is_doubtful = np.isin(np.arange(n_bodies), doubtful)
        far = FAR_DISTANCE * float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
        rest, _ = _spread_points(mesh.vertices[mesh.faces[~is_doubtful[body]]], far / 8)
        faces = np.flatnonzero(is_doubtful[body])
        points, of_face = _spread_points(mesh.vertices[mesh.faces[faces]], far / 8)
        gap = np.full(n_bodies, np.inf)
        np.minimum.at(gap, body[faces[of_face]], cKDTree(rest).query(points)[0])
        floats[maybe] = gap[maybe] > far
        if touching_stays:
            edge = mesh.vertices[mesh.faces] - np.roll(mesh.vertices[mesh.faces], 1, axis=1)
            reach = np.zeros(n_bodies)
            np.maximum.at(reach, body, np.linalg.norm(edge, axis=2).max(axis=1))
            crumbs = np.flatnonzero(floats)
            floats[crumbs] = gap[crumbs] > np.maximum(reach[crumbs], reach[~is_doubtful].max())
    if not floats.any():
        return mesh, []
    count, lost = int(floats.sum()), float(area[floats].sum() / max(area.sum(), 1e-300))
    numbers = {"parts": count, "area_share": round(lost, 6)}
    said = "less than 0.1 %" if lost < 0.001 else f"{100 * lost:.1f} %"
    if lost > MOST_FLOATERS:
        sentence = f"Kept {counted(count, 'small part')}: together {said} of the surface, too much to be dirt."
        return mesh, [Change("keep_floaters", sentence, numbers)]
    sentence = f"Removed {counted(count, 'floating part')} ({said} of the surface)."
    return select_faces(mesh, ~floats[body]), [Change("drop_floaters", sentence, numbers)]


def _spread_points(corners: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """(p, 3) points on (m, 3, 3) triangles, no edge longer than ``spacing`` between them, and the triangle of each.

    Halves the longest edge over and over: a sliver gets points along its length and not a grid of them.
    """
    made, origin = [], []
    of_face = np.arange(len(corners))
    while len(corners):
        length = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)
        long = length.max(axis=1) > spacing
        if sum(map(len, origin)) + len(corners) + long.sum() > GAP_SAMPLES:
            long[:] = False
        made.append(corners[~long])
        origin.append(of_face[~long])
        at = length[long].argmax(axis=1)
        a, b, c = (corners[long, (at + k) % 3] for k in range(3))
        middle = (a + b) / 2
        corners = np.concatenate([np.stack([a, middle, c], axis=1), np.stack([middle, b, c], axis=1)])
        of_face = np.tile(of_face[long], 2)
    return np.concatenate(made).reshape(-1, 3), np.repeat(np.concatenate(origin), 3)


def winding_number(point: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> float:
    """How often the surface goes round ``point``: 1 inside a solid, 0 outside, in between for open surfaces.

    The sum of the signed solid angles of the faces (Van Oosterom and Strackee, 1983) over 4 pi.
    """
    a, b, c = (vertices[faces[:, k]] - point for k in range(3))
    la, lb, lc = (np.linalg.norm(edge, axis=1) for edge in (a, b, c))
    dot = lambda x, y: np.einsum("ij,ij->i", x, y)  # noqa: E731
    numerator = dot(a, np.cross(b, c))
    denominator = la * lb * lc + dot(a, b) * lc + dot(b, c) * la + dot(c, a) * lb
    return float(np.arctan2(numerator, denominator).sum() / (2 * np.pi))


def volume_by_body(mesh: Mesh, body: np.ndarray, n_bodies: int) -> np.ndarray:
    if n_bodies == 1:
        centred = mesh.vertices - mesh.vertices.mean(axis=0)
        return np.array([signed_volume(centred, mesh.faces)])
    a, b, c = ((mesh.vertices - mesh.vertices.mean(axis=0))[mesh.faces[:, k]] for k in range(3))
    return np.bincount(body, np.einsum("ij,ij->i", a, np.cross(b, c)) / 6, minlength=n_bodies)


def nested_bodies(mesh: Mesh, body: np.ndarray, n_bodies: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Which closed pieces lie wholly inside another, which of these are its twins (the same surface once more), and
    whether no two of the others' boxes overlap.

    A piece is inside if no face of it crosses one of the other and points just under its faces are within the other:
    that holds for pieces that touch from inside as well, and for walls of any coarseness.
    """
    inside, twins = np.zeros(n_bodies, bool), np.zeros(n_bodies, bool)
    if n_bodies == 1:
        return inside, twins, True
    low, high = np.full((n_bodies, 3), np.inf), np.full((n_bodies, 3), -np.inf)
    corners = mesh.vertices[mesh.faces]
    face_low, face_high = face_boxes(corners)
    np.minimum.at(low, body, face_low)
    np.maximum.at(high, body, face_high)
    diagonal = float(np.linalg.norm(high.max(axis=0) - low.min(axis=0)))
    volume = volume_by_body(mesh, body, n_bodies)
    by_size = np.argsort(-np.prod(high - low, axis=1), kind="stable")
    for place, k in enumerate(by_size):
        slack = SAME_PLACE * diagonal
        larger = by_size[:place]
        within = (low[larger] <= low[k] + slack).all(axis=1) & (high[larger] >= high[k] - slack).all(axis=1)
        candidates = larger[within & ~inside[larger]]
        if not len(candidates):
            continue
        own = np.flatnonzero(body == k)
        points = _points_under_faces(corners[own], 1.0 if volume[k] >= 0 else -1.0, UNDER_FACE * diagonal)
        for outer in candidates:
            other = np.flatnonzero(body == outer)
            if any(abs(winding_number(point, mesh.vertices, mesh.faces[other])) < 0.5 for point in points):
                continue
            beside = (face_low[other] <= high[k] + slack).all(axis=1) & (face_high[other] >= low[k] - slack).all(axis=1)
            both = np.concatenate([own, other[beside]])
            if beside.any() and len(crossing_pairs(Mesh(mesh.vertices, mesh.faces[both]), between=body[both])):
                continue
            inside[k] = True
            same = np.abs(np.stack([low[k] - low[outer], high[k] - high[outer]])).max() <= slack
            twins[k] = same and np.isclose(abs(volume[k]), abs(volume[outer]), rtol=1e-6)
            break
    out = np.flatnonzero(~inside)
    order = out[np.argsort(low[out, 0], kind="stable")]
    apart = True
    for place, k in enumerate(order):
        after = order[place + 1 :]
        after = after[low[after, 0] <= high[k, 0]]
        meets = (low[after] <= high[k]).all(axis=1) & (high[after] >= low[k]).all(axis=1)
        if meets.any():
            apart = False
            break
    return inside, twins, apart


def _points_under_faces(corners: np.ndarray, side: float, depth: float) -> np.ndarray:
    """(s, 3) points ``depth`` under the middle of some of a body's faces, the largest and others spread over it.

    side: 1 for a body that faces outwards, -1 for one that is inside out.
    """
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    size = np.linalg.norm(cross, axis=1)
    spread = np.linspace(0, len(corners) - 1, min(len(corners), 16)).astype(int)
    some = np.union1d(np.argsort(-size)[:8], spread)
    some = some[size[some] > 0]
    return corners[some].mean(axis=1) - side * depth * cross[some] / size[some, None]


def split_shared_edges(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """Give bodies that touch along an edge or at a corner vertices of their own, so that no edge has four faces."""
    if is_manifold(mesh.faces) or not is_closed(mesh.faces):
        return mesh, []
    edges = find_edges(mesh.faces)
    shared = int((edges.count > 2).sum())
    if not shared:
        return mesh, []
    apart, _ = from_manifold(to_manifold(mesh), mesh)
    sentence = f"Separated {counted(shared, 'edge')} that belonged to more than two faces."
    return apart, [Change("split_shared_edges", sentence, {"edges": shared})]


def part_touching(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """Move vertices that share a place, though not an index, apart: inwards by `TOUCH_GAP` of the diagonal.

    Solids that touch at a corner or an edge are solid by their indices, but a format that stores only positions (STL)
    would weld them into an edge of four faces.
    """
    size = float(np.ptp(mesh.vertices, axis=0).max())
    # positions as a file in float32 will hold them, whatever the unit will be
    stored = ((mesh.vertices - mesh.vertices.mean(axis=0)) / size).astype(np.float32).astype(np.float64)
    first, place = unique_rows(stored)
    if len(first) == len(stored):
        return mesh, []
    several = np.bincount(place, minlength=len(first))[place] > 1
    gap = TOUCH_GAP * float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    vertices = mesh.vertices.copy()
    vertices[several] -= gap * vertex_normals(mesh.vertices, mesh.faces)[several]
    moved = int(several.sum())
    sentence = f"Moved {counted(moved, 'touching vertex', 'touching vertices')} apart by {100 * TOUCH_GAP:g} %."
    return replace(mesh, vertices=vertices), [Change("part_touching", sentence, {"vertices": moved})]
