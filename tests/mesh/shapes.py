"""Meshes with known answers, made from numbers."""

from __future__ import annotations

import numpy as np
from skimage.measure import marching_cubes

from orfeas.mesh import Mesh


def cube(size: float = 1.0, center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    """12 faces, outwards."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float) - 0.5
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
    faces += [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    return Mesh(corners * size + np.array(center), np.array(faces, np.int32))


def box(extents: tuple[float, float, float]) -> Mesh:
    made = cube()
    return Mesh(made.vertices * np.array(extents), made.faces)


def torus(radius: float, tube: float, n: int = 64, k: int = 32, shift=(0.0, 0.0, 0.0)) -> Mesh:
    """Around the Y axis, outwards."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    path = radius * np.stack([np.cos(angle), np.zeros(n), np.sin(angle)], axis=1)
    return Mesh(*_tube(path, tube, k)) if shift == (0.0, 0.0, 0.0) else moved(torus(radius, tube, n, k), shift)


def figure_of_eight(tube: float, n: int = 160, k: int = 20) -> Mesh:
    """One tube that runs through itself once."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return Mesh(*_tube(np.stack([np.sin(angle), np.zeros(n), 0.6 * np.sin(2 * angle)], axis=1), tube, k))


def _tube(path: np.ndarray, radius: float, k: int) -> tuple[np.ndarray, np.ndarray]:
    n = len(path)
    tangent = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.cross(tangent, [0.0, 1.0, 0.0])
    angle = np.linspace(0, 2 * np.pi, k, endpoint=False)[None, :, None]
    ring = np.cos(angle) * side[:, None] + np.sin(angle) * np.array([0.0, 1.0, 0.0])
    i, j = np.meshgrid(np.arange(n), np.arange(k), indexing="ij")
    a, b, c, d = i * k + j, i * k + (j + 1) % k, (i + 1) % n * k + j, (i + 1) % n * k + (j + 1) % k
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    made = Mesh((path[:, None] + radius * ring).reshape(-1, 3), faces.astype(np.int32))
    a, b, c = (made.vertices[made.faces[:, m]] for m in range(3))
    if np.einsum("ij,ij->", a, np.cross(b, c)) < 0:
        made = inverted(made)
    return made.vertices, made.faces


def ball(radius: float = 1.0, cells: int = 32, center=(0.0, 0.0, 0.0)) -> Mesh:
    """A sphere with its vertices on the radius, closed, about 12 cells^2 faces."""
    place = np.linspace(-1.2, 1.2, cells)
    x, y, z = np.meshgrid(place, place, place, indexing="ij")
    vertices, faces, _, _ = marching_cubes(1 - np.sqrt(x * x + y * y + z * z), 0.0)
    vertices = vertices.astype(float) / (cells - 1) * 2.4 - 1.2
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    made = Mesh(vertices * radius + np.array(center), np.ascontiguousarray(faces, np.int32))
    a, b, c = (vertices[made.faces[:, m]] for m in range(3))
    return inverted(made) if np.einsum("ij,ij->", a, np.cross(b, c)) < 0 else made


def moebius(n: int = 60, k: int = 5) -> Mesh:
    """A strip with one side and one rim."""
    u, w = np.meshgrid(np.linspace(0, 2 * np.pi, n, endpoint=False), np.linspace(-0.3, 0.3, k), indexing="ij")
    reach = 1 + w * np.cos(u / 2)
    vertices = np.stack([reach * np.cos(u), reach * np.sin(u), w * np.sin(u / 2)], -1).reshape(-1, 3)
    faces = []
    for i in range(n):
        for j in range(k - 1):
            a, b = i * k + j, i * k + j + 1
            c, d = ((i + 1) * k + j, (i + 1) * k + j + 1) if i < n - 1 else (k - 1 - j, k - 2 - j)
            faces += [[a, c, b], [b, c, d]]
    return Mesh(vertices, np.array(faces, np.int32))


def klein_bottle(n: int = 48, k: int = 24) -> Mesh:
    """Closed, but with one side: the figure-of-eight immersion, which runs through itself along a circle."""
    place = [np.linspace(0, 2 * np.pi, count, endpoint=False) for count in (n, k)]
    u, v = np.meshgrid(*place, indexing="ij")
    reach = 2 + np.cos(u / 2) * np.sin(v) - np.sin(u / 2) * np.sin(2 * v)
    height = np.sin(u / 2) * np.sin(v) + np.cos(u / 2) * np.sin(2 * v)
    vertices = np.stack([reach * np.cos(u), height, reach * np.sin(u)], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(n), np.arange(k), indexing="ij")
    a, b = i * k + j, i * k + (j + 1) % k
    last = i == n - 1
    c = np.where(last, -j % k, (i + 1) % n * k + j)
    d = np.where(last, (-j - 1) % k, (i + 1) % n * k + (j + 1) % k)
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    return Mesh(vertices, faces.astype(np.int32))


def tetrahedra_at_an_edge() -> Mesh:
    """Two tetrahedra with one edge in common, by index."""
    vertices = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]], float)
    faces = [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3], [0, 4, 1], [0, 1, 5], [0, 5, 4], [1, 4, 5]]
    return Mesh(vertices, np.array(faces, np.int32))


def inverted(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices, np.ascontiguousarray(mesh.faces[:, ::-1]), mesh.colors)


def moved(mesh: Mesh, shift) -> Mesh:
    return Mesh(mesh.vertices + np.array(shift), mesh.faces, mesh.colors)


def together(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)])
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), faces.astype(np.int32))


def soup(mesh: Mesh) -> Mesh:
    """Every face with three vertices of its own, as an STL file has it."""
    corners = mesh.vertices[mesh.faces].reshape(-1, 3)
    return Mesh(corners, np.arange(len(corners), dtype=np.int32).reshape(-1, 3))


def without_faces(mesh: Mesh, which) -> Mesh:
    keep = np.ones(len(mesh.faces), bool)
    keep[which] = False
    return Mesh(mesh.vertices, mesh.faces[keep], mesh.colors)


def painted(mesh: Mesh) -> Mesh:
    """Colours that say where the vertex is: each channel runs from 0 to 255 along one axis."""
    low, high = mesh.bounds
    colors = np.rint((mesh.vertices - low) / (high - low) * 255).astype(np.uint8)
    return Mesh(mesh.vertices, mesh.faces, colors)
