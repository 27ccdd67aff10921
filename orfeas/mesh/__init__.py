"""The mesh that passes between the stages: plain arrays, nothing attached, picklable.

Frame: right-handed, Y up, the front faces +Z, image right is +X. Before `orfeas.mesh.finish` the unit is free (about
[-1, 1]); from there on it is the millimetre. Triangles are counter-clockwise seen from outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Texture:
    """A colour image and where each triangle corner lies in it.

    corner_uv: (m, 3, 2) float32 in [0, 1], origin at the image's top left (as in glTF), one row per face of the mesh.
    image: (h, w, 3) uint8, sRGB.
    """

    corner_uv: np.ndarray
    image: np.ndarray


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh. Vertices are shared between faces, so that a closed mesh is closed by its indices.

    vertices: (n, 3) float64. faces: (m, 3) int32, indices of vertices.
    colors: (n, 3) uint8 sRGB, one a vertex, or None.
    texture: finer colours for the formats that can carry them, or None.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray | None = None
    texture: Texture | None = None

    @property
    def bounds(self) -> np.ndarray:
        """(2, 3) float64: the smallest and the largest coordinate along each axis."""
        return np.stack([self.vertices.min(axis=0), self.vertices.max(axis=0)])

    @property
    def extents(self) -> np.ndarray:
        """(3,) float64: size along each axis."""
        return np.ptp(self.vertices, axis=0)


def face_cross(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(m, 3) float64: cross product of two edges of each face, twice its area long, pointing outwards."""
    corners = vertices[faces]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(n, 3) float64 unit normals, the area-weighted mean of the faces around each vertex.

    A vertex whose faces cancel out (or that has none) gets +Y, so that no exporter ever writes a zero normal.
    """
    cross = face_cross(vertices, faces)
    normals = np.empty_like(vertices)
    for axis in range(3):
        normals[:, axis] = np.bincount(faces.ravel(), weights=np.repeat(cross[:, axis], 3), minlength=len(vertices))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-300, normals / np.maximum(length, 1e-300), (0.0, 1.0, 0.0))


def signed_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Volume enclosed by a closed mesh, in the vertices' unit cubed; negative if it is inside out."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0)
