"""Binary PLY with normals and colours of the vertices (Turk, "The PLY Polygon File Format", 1994)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orfeas.export.frame import ascii_line, unit_normals
from orfeas.mesh import Mesh
from orfeas.mesh.transfer import vertex_colors


def write_ply(mesh: Mesh, path: Path, *, title: str = "model") -> None:
    """Y up, millimetres. A texture is written as colours of the vertices."""
    colors = vertex_colors(mesh)
    columns = [("position", "<f4", 3), ("normal", "<f4", 3)] + ([("color", "u1", 3)] if colors is not None else [])
    rows = np.zeros(len(mesh.vertices), columns)
    rows["position"], rows["normal"] = mesh.vertices, unit_normals(mesh)
    names = ["float x", "float y", "float z", "float nx", "float ny", "float nz"]
    if colors is not None:
        rows["color"] = colors
        names += ["uchar red", "uchar green", "uchar blue"]
    faces = np.zeros(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    comment = ascii_line(title).replace("end_header", "end header")  # readers look for that word
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment ORFEAS, millimetres, Y up: {comment}",
        f"element vertex {len(rows)}",
        *(f"property {name}" for name in names),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    with open(path, "wb") as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        rows.tofile(file)
        faces.tofile(file)
