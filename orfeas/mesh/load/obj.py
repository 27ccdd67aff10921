"""Wavefront OBJ: vertices with or without colours, polygons. Materials are not followed: they lie in other files."""

from __future__ import annotations

import io
from array import array

import numpy as np

from orfeas.errors import BadMesh
from orfeas.mesh import Mesh
from orfeas.mesh.load.common import BYTE_ORDER_MARK, check_count, check_vertices, triangulate

MAX_LINE_BYTES = 10_000_000


def read_obj(data: bytes, max_faces: int) -> Mesh:
    """``v x y z [r g b]`` and ``f`` lines; indices count from 1, negative ones from the last vertex so far."""
    if b"\0" in data[:4096]:
        raise BadMesh("it is no text, so no OBJ file.", "damaged")
    data = data.removeprefix(BYTE_ORDER_MARK)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\\" in data:
        data = data.replace(b"\\\n", b" ")
    places, paints, counts, corners = array("d"), array("d"), array("q"), array("q")
    n_vertices = triangles = 0  # all are counted, no more are kept than are taken
    for line in io.BytesIO(data):
        if line[:1] in b" \t":
            line = line.lstrip()
        if b"#" in line:
            line = line[: line.index(b"#")]
        if line[:2] in (b"v ", b"v\t"):
            n_vertices += 1
            if n_vertices > 3 * max_faces:
                continue
            words = line.split()
            if len(words) < 4:
                raise BadMesh("a vertex has fewer than three coordinates.", "damaged")
            places.extend(map(float, words[1:4]))
            if len(words) >= 7:
                paints.extend(map(float, words[4:7]))
        elif line[:2] in (b"f ", b"f\t"):
            if len(line) > MAX_LINE_BYTES:
                raise BadMesh(f"a face has a line of more than {MAX_LINE_BYTES / 1e6:g} MB.", "too_large")
            words = line.split()[1:]
            triangles += max(len(words) - 2, 0)
            if triangles > max_faces:
                continue
            counts.append(len(words))
            if b"/" in line:
                words = [word.split(b"/", 1)[0] for word in words]
            if b"-" in line:
                words = [int(word) if int(word) > 0 else n_vertices + 1 + int(word) for word in words]
            corners.extend(map(int, words))
    check_count(triangles, max_faces)
    check_vertices(n_vertices, max_faces)
    if not n_vertices or not triangles:
        raise BadMesh("it holds no faces.", "empty_mesh")
    vertices = np.array(places, np.float64).reshape(-1, 3)
    colors = None
    if len(paints) == len(places):
        shares = np.nan_to_num(np.array(paints, np.float64).reshape(-1, 3))
        most = 255 if shares.max() > 2 else 1  # some programs write 0 to 255
        colors = np.clip(np.rint(shares * (255 / most)), 0, 255).astype(np.uint8)
    faces, _ = triangulate(np.array(counts, np.int64), np.array(corners, np.int64) - 1, vertices)
    return Mesh(vertices, faces, colors)
