"""How the triangles of a mesh hang together: edges, boundaries, bodies, orientation. Pure numpy and scipy, no geometry.

A *directed edge* (half-edge) is one side of one triangle, from its corner k to its corner k + 1. An undirected edge is
closed when as many triangles run along it in one direction as in the other, which is what a solid needs everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from orfeas.mesh import Mesh, Texture


@dataclass(frozen=True)
class Edges:
    """The undirected edges of a mesh.

    of_side: (3 m,) int64, the edge of each directed edge, in the order face 0 side 0, side 1, side 2, face 1 side 0...
    forward: (3 m,) bool, whether that directed edge runs from the smaller vertex index to the larger.
    pairs: (e, 2) int64 vertex indices, the smaller first.
    count: (e,) int64, how many triangles use each edge.
    balance: (e,) int64, forward uses minus backward uses: 0 on a consistently wound closed surface.
    """

    of_side: np.ndarray
    forward: np.ndarray
    pairs: np.ndarray
    count: np.ndarray
    balance: np.ndarray

    @property
    def closed(self) -> bool:
        """Every edge is used as often forwards as backwards: what `manifold3d` accepts as a solid."""
        return not self.balance.any()

    @property
    def manifold(self) -> bool:
        """Every edge belongs to exactly two triangles that run along it in opposite directions."""
        return self.closed and bool((self.count == 2).all())


def directed_edges(faces: np.ndarray) -> np.ndarray:
    """(3 m, 2) int64 vertex indices of the directed edges, three a face."""
    return np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2).astype(np.int64)


def find_edges(faces: np.ndarray) -> Edges:
    """The undirected edges of (m, 3) ``faces``."""
    sides = directed_edges(faces)
    forward = sides[:, 0] < sides[:, 1]
    low, high = sides.min(axis=1), sides.max(axis=1)
    stride = int(faces.max()) + 1 if len(faces) else 1
    keys, of_side = np.unique(low * stride + high, return_inverse=True)
    count = np.bincount(of_side, minlength=len(keys))
    balance = 2 * np.bincount(of_side[forward], minlength=len(keys)) - count
    return Edges(of_side, forward, np.stack([keys // stride, keys % stride], axis=1), count, balance)


def is_closed(faces: np.ndarray) -> bool:
    """Whether every directed edge has its opposite; a quick form of ``find_edges(faces).closed``."""
    sides = directed_edges(faces)
    stride = int(faces.max()) + 1 if len(faces) else 1
    ahead = np.sort(sides[:, 0] * stride + sides[:, 1])
    back = np.sort(sides[:, 1] * stride + sides[:, 0])
    return bool(np.array_equal(ahead, back))


def is_manifold(faces: np.ndarray) -> bool:
    """Whether every edge has exactly two faces that agree; a quick form of ``find_edges(faces).manifold``."""
    sides = directed_edges(faces)
    stride = int(faces.max()) + 1 if len(faces) else 1
    ahead = np.sort(sides[:, 0] * stride + sides[:, 1])
    if (ahead[1:] == ahead[:-1]).any():
        return False
    return bool(np.array_equal(ahead, np.sort(sides[:, 1] * stride + sides[:, 0])))


def find_bodies(faces: np.ndarray, n_vertices: int) -> tuple[int, np.ndarray]:
    """How many connected pieces there are, and the (m,) piece of each face. Pieces that share a vertex are one."""
    if not len(faces):
        return 0, np.zeros(0, np.int64)
    ends = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_matrix((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(n_vertices, n_vertices))
    label = connected_components(graph, directed=False)[1][faces[:, 0]]
    _, label = np.unique(label, return_inverse=True)
    return int(label.max()) + 1, label


def select_faces(mesh: Mesh, which: np.ndarray) -> Mesh:
    """The mesh with only the faces of ``which`` (mask or indices) and the vertices that they use."""
    faces = mesh.faces[which]
    used = np.zeros(len(mesh.vertices), bool)
    used[faces] = True
    texture = mesh.texture and Texture(mesh.texture.corner_uv[which], mesh.texture.image)
    if used.all():
        return replace(mesh, faces=faces, texture=texture)
    new_index = (np.cumsum(used) - 1).astype(np.int32)
    colors = None if mesh.colors is None else mesh.colors[used]
    return Mesh(mesh.vertices[used], new_index[faces], colors, texture)


def flip_faces(mesh: Mesh, which: np.ndarray) -> Mesh:
    """The mesh with the winding of the faces of the mask ``which`` turned round."""
    faces = np.where(which[:, None], mesh.faces[:, ::-1], mesh.faces)
    texture = mesh.texture
    if texture is not None:
        uv = np.where(which[:, None, None], texture.corner_uv[:, ::-1], texture.corner_uv)
        texture = Texture(np.ascontiguousarray(uv), texture.image)
    return replace(mesh, faces=np.ascontiguousarray(faces), texture=texture)


def join_meshes(meshes: list[Mesh]) -> Mesh:
    """Meshes side by side in one. Colours are kept where all have them; a texture only where there is one mesh."""
    if len(meshes) == 1:
        return meshes[0]
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)]
    colored = all(mesh.colors is not None for mesh in meshes)
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate(faces).astype(np.int32),
        np.concatenate([mesh.colors for mesh in meshes]) if colored else None,
    )


def winding_flips(faces: np.ndarray, edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    """Which faces to turn so that neighbours agree, and which cannot be made to agree.

    Returns two (m,) masks: faces to turn, and faces of one-sided (non-orientable) pieces, such as a Moebius strip.
    Only edges with exactly two faces pass the winding on. In each piece the smaller part is turned.

    Every face stands for two nodes, as it is and turned; an edge links the nodes that agree along it. A piece is
    one-sided exactly when both nodes of a face end up in the same connected component.
    """
    m = len(faces)
    order = np.argsort(edges.of_side, kind="stable")
    start = np.concatenate([[0], np.cumsum(edges.count)])[:-1]
    two = np.flatnonzero(edges.count == 2)
    first, second = order[start[two]], order[start[two] + 1]
    agree = edges.forward[first] != edges.forward[second]
    a, b = first // 3, second // 3
    rows = np.concatenate([a, a + m])
    columns = np.concatenate([np.where(agree, b, b + m), np.where(agree, b + m, b)])
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(2 * m, 2 * m))
    label = connected_components(graph, directed=False)[1]
    as_is, turned = label[:m], label[m:]
    one_sided = as_is == turned
    # the two labels of a piece are one choice and its mirror image: take the one that more faces like as they are
    likes = np.bincount(as_is, minlength=label.max() + 1)
    flip = (likes[turned] > likes[as_is]) | ((likes[turned] == likes[as_is]) & (turned < as_is))
    return flip & ~one_sided, one_sided


def split_vertices(mesh: Mesh) -> tuple[Mesh, int]:
    """Give each fan of faces around a vertex, and each side of an unbalanced edge, a vertex of its own.

    Returns the mesh and how many vertices were added. After it the boundary of the mesh is made of simple loops.
    """
    faces = mesh.faces
    m = len(faces)
    edges = find_edges(faces)
    order = np.argsort(edges.of_side, kind="stable")
    start = np.concatenate([[0], np.cumsum(edges.count)])[:-1]
    joined = np.flatnonzero((edges.balance == 0) & (edges.count == 2))
    first, second = order[start[joined]], order[start[joined] + 1]
    # side s of a face goes from corner s to corner s + 1; the opposite side of the neighbour has them swapped
    after = lambda side: side - side % 3 + (side % 3 + 1) % 3  # noqa: E731
    rows = np.concatenate([first, after(first)])
    columns = np.concatenate([after(second), second])
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(3 * m, 3 * m))
    fan = connected_components(graph, directed=False)[1]
    _, one_corner, of_corner = np.unique(fan, return_index=True, return_inverse=True)
    old = faces.ravel()[one_corner]
    added = len(old) - len(np.unique(old))
    if added == 0:
        return mesh, 0
    colors = None if mesh.colors is None else mesh.colors[old]
    return Mesh(mesh.vertices[old], of_corner.reshape(-1, 3).astype(np.int32), colors, mesh.texture), added


def boundary_loops(faces: np.ndarray, edges: Edges) -> list[np.ndarray]:
    """The closed loops of vertex indices along the open edges, each in the direction that a face closing it needs.

    Wants vertices split by `split_vertices`; where a vertex still has several ways on, any is taken.
    """
    open_side = (edges.balance != 0)[edges.of_side]
    sides = directed_edges(faces)[open_side][:, ::-1]
    onward: dict[int, list[int]] = {}
    for a, b in sides.tolist():
        onward.setdefault(a, []).append(b)
    loops = []
    for start in sides[:, 0].tolist():
        if not onward.get(start):
            continue
        loop, place, here = [start], {start: 0}, start
        while onward.get(here):
            here = onward[here].pop()
            if here in place:  # a loop within the walk: cut it out, walk on with the rest
                cut = place[here]
                loops.append(np.array(loop[cut:]))
                for vertex in loop[cut + 1 :]:
                    del place[vertex]
                loop = loop[: cut + 1]
            else:
                place[here] = len(loop)
                loop.append(here)
    return [loop for loop in loops if len(loop) >= 2]
