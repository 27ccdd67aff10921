"""Wavefront OBJ: vertices with or without colours, polygons. Materials are not followed: they lie in other files."""

from __future__ import annotations

import numpy as np

from orfeas.errors import BadMesh
from orfeas.mesh import Mesh
from orfeas.mesh.load.common import check_count, check_indices, fan


def read_obj(data: bytes, max_faces: int) -> Mesh:
    """``v x y z [r g b]`` and ``f`` lines; indices count from 1, negative ones from the last vertex so far."""
    if b"\0" in data[:4096]:
        raise BadMesh("it is no text, so no OBJ file.", "damaged")
    rows, counts, corners = [], [], []
    for line in data.replace(b"\\\n", b" ").splitlines():
        if line.startswith(b"v "):
            rows.append(line.split()[1:7])
        elif line.startswith(b"f "):
            words = line.split()[1:]
            counts.append(len(words))
            if b"/" in line:
                words = [word.split(b"/", 1)[0] for word in words]
            if b"-" in line:
                words = [int(word) if int(word) > 0 else len(rows) + 1 + int(word) for word in words]
            corners.extend(words)
    triangles = sum(max(count - 2, 0) for count in counts)
    check_count(triangles, max_faces)
    if not rows or not triangles:
        raise BadMesh("it holds no faces.", "empty_mesh")
    if min(map(len, rows)) < 3:
        raise BadMesh("a vertex has fewer than three coordinates.", "damaged")
    width = 6 if min(map(len, rows)) == 6 else 3
    table = np.array([row[:width] for row in rows], dtype="S32").astype(np.float64)
    colors = None
    if width == 6:
        colors = np.clip(np.rint(np.nan_to_num(table[:, 3:]) * 255), 0, 255).astype(np.uint8)
    index = np.array(corners, dtype="S20").astype(np.int64) - 1
    faces, _ = fan(np.array(counts), index)
    return Mesh(np.ascontiguousarray(table[:, :3]), check_indices(faces, len(table)), colors)
