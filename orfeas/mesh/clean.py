"""Put the arrays of a mesh in order: finite vertices, welded seams, no degenerate or double faces, agreeing winding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from orfeas.errors import BadMesh
from orfeas.mesh import Mesh
from orfeas.mesh.change import Change, counted
from orfeas.mesh.topology import find_bodies, find_edges, flip_faces, is_closed, select_faces, winding_flips

SHORTEST_EDGE = 1e-6  # of the longest side
WELD_SHARE = 1e-5  # open edges whose ends lie closer than this share of the diagonal are one


def check_arrays(mesh: Mesh) -> Mesh:
    """The mesh with the array types of the contract. Raises `BadMesh` if there is nothing to work on."""
    vertices = np.ascontiguousarray(mesh.vertices, np.float64).reshape(-1, 3)
    faces = np.ascontiguousarray(mesh.faces, np.int32).reshape(-1, 3)
    if not len(faces) or not len(vertices):
        raise BadMesh("The mesh has no faces: give one with at least four triangles.", "empty_mesh")
    return replace(mesh, vertices=vertices, faces=faces)


def drop_bad_vertices(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """Remove faces whose corners are not finite numbers or do not exist, and vertices that no face uses."""
    usable = np.isfinite(mesh.vertices).all(axis=1)
    usable &= np.abs(np.where(usable[:, None], mesh.vertices, 0.0)).max(axis=1) < 1e30
    inside = ((mesh.faces >= 0) & (mesh.faces < len(mesh.vertices))).all(axis=1)
    keep = inside & usable[np.where(inside[:, None], mesh.faces, 0)].all(axis=1)
    dropped = int((~keep).sum())
    if not dropped:
        return select_faces(mesh, slice(None)), []
    if not keep.any():
        raise BadMesh("No face of the mesh has three finite corners: export it again.", "empty_mesh")
    sentence = f"Removed {counted(dropped, 'face')} with broken corners."
    return select_faces(mesh, keep), [Change("drop_bad_vertices", sentence, {"faces": dropped})]


def unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first, inverse) of the distinct rows of an (n, k) array of 8-byte numbers, in the order of their first use.

    A 64-bit hash only sorts: rows whose hashes agree are compared in full, so a collision cannot join two of them.
    """
    bits = np.ascontiguousarray(rows + 0.0 if rows.dtype.kind == "f" else rows).view(np.uint64)  # + 0.0: no -0.0
    mixed = np.zeros(len(bits), np.uint64)
    for column in bits.T:
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    order = np.argsort(mixed, kind="stable")
    new = np.ones(len(bits), bool)
    new[1:] = (bits[order[1:]] != bits[order[:-1]]).any(axis=1)
    first = order[new]  # the sort is stable: the first of equal rows
    rank = np.argsort(first)
    place = np.empty(len(first), np.int64)
    place[rank] = np.arange(len(first))
    inverse = np.empty(len(bits), np.int64)
    inverse[order] = place[np.cumsum(new) - 1]
    return first[rank], inverse


def join_same_places(mesh: Mesh) -> Mesh:
    """One vertex for each place; where colours differ there, the first one's."""
    first, merged = unique_rows(mesh.vertices)
    if len(first) == len(mesh.vertices):
        return mesh
    colors = None if mesh.colors is None else mesh.colors[first]
    return Mesh(mesh.vertices[first], merged[mesh.faces].astype(np.int32), colors, mesh.texture)


def weld(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """Join vertices at the same place, then the ends of open edges that lie within `WELD_SHARE` of the diagonal.

    A mesh that is closed by its indices is left alone: solids that only touch must stay apart.
    """
    if is_closed(mesh.faces):
        return mesh, []
    first, merged = unique_rows(mesh.vertices)
    faces = merged[mesh.faces]
    edges = find_edges(faces)
    vertices = mesh.vertices[first]
    loose = np.unique(edges.pairs[edges.balance != 0])
    if len(loose):
        distance = WELD_SHARE * float(np.linalg.norm(np.ptp(vertices, axis=0)))
        close = cKDTree(vertices[loose]).query_pairs(distance, output_type="ndarray")
        if len(close):
            near = loose[close]
            graph = coo_matrix((np.ones(len(near), bool), (near[:, 0], near[:, 1])), shape=(len(vertices),) * 2)
            cluster = connected_components(graph, directed=False)[1]
            _, kept, cluster = np.unique(cluster, return_index=True, return_inverse=True)
            merged, first = cluster[merged], first[kept]
    joined = len(mesh.vertices) - len(first)
    if not joined:
        return mesh, []
    faces = merged[mesh.faces].astype(np.int32)
    colors = None if mesh.colors is None else mesh.colors[first]
    mesh = Mesh(mesh.vertices[first], faces, colors, mesh.texture)
    return mesh, [Change("weld", f"Joined {counted(joined, 'vertex', 'vertices')}.", {"vertices": joined})]


def drop_degenerate_faces(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """Remove faces that have a corner twice. Slivers of three corners stay: the surface needs them."""
    a, b, c = mesh.faces.T
    keep = (a != b) & (b != c) & (c != a)
    dropped = int((~keep).sum())
    if not dropped:
        return mesh, []
    if not keep.any():
        raise BadMesh("Every face of the mesh is a point or a line: it has no surface.", "empty_mesh")
    sentence = f"Removed {counted(dropped, 'degenerate face')}."
    return select_faces(mesh, keep), [Change("drop_degenerate_faces", sentence, {"faces": dropped})]


def drop_double_faces(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """Keep one of the faces that lie on the same three corners, or none where they are a wall between two solids.

    Where as many face one way as the other it is either such a wall (none stays) or a surface that was written with
    both of its sides (one stays): what leaves fewer edges with an odd number of faces is right.
    """
    corners = np.sort(mesh.faces, axis=1).astype(np.int64)
    first, group = unique_rows(corners)
    if len(first) == len(corners):
        return mesh, []
    a, b, c = mesh.faces.T
    sign = np.where(((a < b) & (b < c)) | ((b < c) & (c < a)) | ((c < a) & (a < b)), 1, -1)
    total = np.bincount(group, sign, minlength=len(first))
    stays = np.ones(len(first), bool)
    stays[total == 0] = _closes_the_surface(mesh.faces[first], total == 0)
    # of each group that stays, the first face that looks the way most of it does
    wanted = stays[group] & ((sign == np.sign(total)[group]) | (total[group] == 0))
    chosen, one = np.unique(np.where(wanted, group, -1), return_index=True)
    keep = np.zeros(len(corners), bool)
    keep[one[chosen >= 0]] = True
    dropped = int((~keep).sum())
    if not keep.any():
        raise BadMesh("The faces of the mesh lie on one another and enclose nothing.", "no_volume")
    sentence = f"Removed {counted(dropped, 'double face')}."
    return select_faces(mesh, keep), [Change("drop_double_faces", sentence, {"faces": dropped})]


def _closes_the_surface(faces: np.ndarray, doubtful: np.ndarray) -> np.ndarray:
    """For each connected patch of the ``doubtful`` faces: does the surface have fewer odd edges with it?

    faces: (g, 3), one a group. doubtful: (g,) mask. Returns a bool for each doubtful face.
    """
    if not doubtful.any():
        return np.zeros(0, bool)
    edges = find_edges(faces)
    of_patch = np.repeat(doubtful, 3)
    without = np.bincount(edges.of_side[~of_patch], minlength=len(edges.count)) % 2
    n_patches, patch = find_bodies(faces[doubtful], int(faces.max()) + 1)
    side_patch = np.repeat(patch, 3)
    # each edge once a patch
    pairs = np.unique(np.stack([side_patch, edges.of_side[of_patch]]), axis=1)
    odd_with = np.bincount(pairs[0], edges.count[pairs[1]] % 2, minlength=n_patches)
    odd_without = np.bincount(pairs[0], without[pairs[1]], minlength=n_patches)
    return (odd_with <= odd_without)[patch]


def collapse_short_edges(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """Make a point of every edge that a file in float32 could not tell from one: cuts between bodies leave some.

    A closed mesh stays closed: what is drawn together loses as many edges one way as the other.
    """
    shortest = SHORTEST_EDGE * float(np.ptp(mesh.vertices, axis=0).max())
    collapsed = 0
    for _ in range(4):  # what has been drawn together may have come close to something else
        ends = np.concatenate([mesh.faces[:, [k, (k + 1) % 3]] for k in range(3)])
        length = np.linalg.norm(mesh.vertices[ends[:, 0]] - mesh.vertices[ends[:, 1]], axis=1)
        short = ends[length < shortest]
        if not len(short):
            break
        graph = coo_matrix((np.ones(len(short), bool), (short[:, 0], short[:, 1])), shape=(len(mesh.vertices),) * 2)
        _, first, place = np.unique(
            connected_components(graph, directed=False)[1], return_index=True, return_inverse=True
        )
        collapsed += len(mesh.vertices) - len(first)
        drawn = replace(mesh, faces=first[place][mesh.faces].astype(np.int32))
        mesh = drop_double_faces(drop_degenerate_faces(drawn)[0])[0]
    if not collapsed:
        return mesh, []
    sentence = f"Collapsed {counted(collapsed, 'edge')} too short to be stored."
    return mesh, [Change("collapse_short_edges", sentence, {"edges": collapsed})]


def agree_winding(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """Turn faces so that neighbours agree which side is out. One-sided pieces (Moebius, Klein) stay as they are."""
    edges = find_edges(mesh.faces)
    if not ((edges.count == 2) & (edges.balance != 0)).any():
        return mesh, []
    turned = int((flips := winding_flips(mesh.faces, edges)[0]).sum())
    if not turned:
        return mesh, []
    sentence = f"Turned {counted(turned, 'face')} to agree with the neighbours."
    return flip_faces(mesh, flips), [Change("agree_winding", sentence, {"faces": turned})]
