"""Binary STL: 80 bytes of header, the number of faces, 50 bytes a face. It knows neither units nor colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orfeas.export.frame import ascii_line, z_up
from orfeas.mesh import Mesh

FACE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def write_stl(mesh: Mesh, path: Path, *, title: str = "model") -> None:
    """Z up, on z = 0, in millimetres; the header says so (it must not begin with "solid": that means text)."""
    vertices = z_up(mesh.vertices).astype("<f4")
    faces = np.zeros(len(mesh.faces), FACE)
    faces["corners"] = vertices[mesh.faces]
    corners = faces["corners"].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    faces["normal"] = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    header = f"ORFEAS binary STL, millimetres, Z up: {ascii_line(title)}".encode("ascii")[:80].ljust(80, b" ")
    with open(path, "wb") as file:
        file.write(header)
        file.write(np.uint32(len(faces)).astype("<u4").tobytes())
        faces.tofile(file)
