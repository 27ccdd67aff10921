"""Close holes: every boundary loop gets a patch of triangles.

Small loops get the patch of least area (dynamic programming over the loop, after Barequet and Sharir, "Filling gaps in
the boundary of a polyhedron", 1995); larger ones are triangulated in their own plane, or, where their outline crosses
itself there, fanned from their middle.
"""

from __future__ import annotations

from dataclasses import replace

import manifold3d
import numpy as np

from orfeas.mesh import Mesh, Texture, face_cross
from orfeas.mesh.change import Change, counted
from orfeas.mesh.topology import boundary_loops, find_edges, is_closed, select_faces, split_vertices

LEAST_AREA_CORNERS = 64  # the work grows with the cube of the loop's corners
NEARLY_FLAT = 0.2  # a loop this much thicker than wide is not triangulated in a plane


def close_holes(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """Close every boundary loop; edges with unmatched faces (inner walls) are cut apart first and closed each.

    Numbers: holes, faces added, area added as a share of the surface, the longest rim as a share of the diagonal.
    """
    if is_closed(mesh.faces):
        return mesh, []
    split, _ = split_vertices(mesh)
    loops = boundary_loops(split.faces, find_edges(split.faces))
    same = np.arange(len(split.vertices))
    patches, middles, holes, longest = [], [], 0, 0.0
    for loop in loops:
        if len(loop) == 2:  # a slit whose two sides only have to be one: join their ends
            continue
        triangles, middle = _patch(split.vertices[loop])
        if middle is not None:
            loop = np.append(loop, len(split.vertices) + len(middles))
            middles.append((middle, loop[:-1]))
        patches.append(loop[triangles])
        holes += 1
        rim = split.vertices[loop[: len(loop) - (middle is not None)]]
        longest = max(longest, float(np.linalg.norm(np.roll(rim, -1, axis=0) - rim, axis=1).sum()))
    if not patches:
        return replace(split, faces=same[split.faces].astype(np.int32)), []
    before = len(split.faces)
    vertices, colors = split.vertices, split.colors
    if middles:
        vertices = np.concatenate([vertices, [middle for middle, _ in middles]])
        if colors is not None:
            mean = [colors[rim].mean(axis=0).round().astype(np.uint8) for _, rim in middles]
            colors = np.concatenate([colors, mean])
    added = np.concatenate(patches).astype(np.int32)
    faces = np.concatenate([split.faces, added])
    texture = split.texture and _texture_of_patches(split, added)
    closed = select_faces(Mesh(vertices, faces, colors, texture), slice(None))
    area = np.linalg.norm(face_cross(closed.vertices, closed.faces), axis=1)
    diagonal = float(np.linalg.norm(np.ptp(closed.vertices, axis=0)))
    numbers = {
        "holes": holes,
        "faces": len(added),
        "area_share": round(float(area[before:].sum() / max(area.sum(), 1e-300)), 6),
        "longest_rim_share": round(longest / max(diagonal, 1e-300), 4),
    }
    return closed, [Change("close_holes", f"Closed {counted(holes, 'hole')}.", numbers)]


def _patch(rim: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """(t, 3) indices of the loop's corners, and the added middle point (index n), or None if none was needed."""
    n = len(rim)
    if n == 3:
        return np.array([[0, 1, 2]]), None
    if n <= LEAST_AREA_CORNERS:
        return _least_area_patch(rim), None
    flat = _flat_patch(rim)
    if flat is not None:
        return flat, None
    around = np.arange(n)
    return np.stack([around, np.roll(around, -1), np.full(n, n)], axis=1), rim.mean(axis=0)


def _least_area_patch(rim: np.ndarray) -> np.ndarray:
    n = len(rim)
    # area[i, j, k] of all corner triples at once would be n^3: one anti-diagonal at a time is enough
    cost = np.zeros((n, n))
    best = np.zeros((n, n), np.int64)
    for gap in range(2, n):
        i = np.arange(n - gap)
        j = i + gap
        k = i[:, None] + np.arange(1, gap)[None, :]
        spoke = rim[k] - rim[i][:, None]
        area = np.linalg.norm(np.cross(spoke, (rim[j] - rim[i])[:, None]), axis=2)
        total = cost[i[:, None], k] + cost[k, j[:, None]] + area
        choice = total.argmin(axis=1)
        cost[i, j] = total[i, choice]
        best[i, j] = i + 1 + choice
    triangles, stack = [], [(0, n - 1)]
    while stack:
        i, j = stack.pop()
        if j - i < 2:
            continue
        k = int(best[i, j])
        triangles.append((i, k, j))
        stack += [(i, k), (k, j)]
    return np.array(triangles)


def _flat_patch(rim: np.ndarray) -> np.ndarray | None:
    centred = rim - rim.mean(axis=0)
    normal = np.cross(centred, np.roll(centred, -1, axis=0)).sum(axis=0)
    _, size, axes = np.linalg.svd(centred, full_matrices=False)
    if size[2] > NEARLY_FLAT * size[1]:
        return None
    u, v = axes[0], axes[1]
    if np.dot(np.cross(u, v), normal) < 0:
        v = -v
    outline = np.stack([centred @ u, centred @ v], axis=1)
    try:
        triangles = manifold3d.triangulate([outline])
    except RuntimeError:  # the outline crosses itself
        return None
    triangles = np.asarray(triangles).reshape(-1, 3)
    return triangles if len(triangles) == len(rim) - 2 else None


def _texture_of_patches(mesh: Mesh, added: np.ndarray) -> Texture:
    """Each new face takes one place of the texture: that of a face at its rim. (Its corners may lie on many charts.)"""
    uv = mesh.texture.corner_uv
    uv_of_vertex = np.zeros((int(max(added.max(), mesh.faces.max())) + 1, 2), np.float32)
    uv_of_vertex[mesh.faces.ravel()] = uv.reshape(-1, 2)
    known = np.minimum(added.min(axis=1), len(mesh.vertices) - 1)  # an added middle has the largest index
    flat = np.repeat(uv_of_vertex[known][:, None], 3, axis=1)
    return Texture(np.concatenate([uv, flat]), mesh.texture.image)
