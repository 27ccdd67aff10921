"""STL, binary or text. Every face brings its own corners."""

from __future__ import annotations

import re

import numpy as np

from orfeas.errors import BadMesh
from orfeas.mesh import Mesh
from orfeas.mesh.load.common import BYTE_ORDER_MARK, check_count, y_up

FACE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
VERTEX = re.compile(rb"vertex\s+(\S+)\s+(\S+)\s+(\S+)", re.IGNORECASE)
END = b"endsolid"
MAX_LAST_LINE = 4096


def read_stl(data: bytes, max_faces: int) -> Mesh:
    """Text files begin with "solid", but so do some binary ones: the length decides."""
    data = data.removeprefix(BYTE_ORDER_MARK)
    count = int.from_bytes(data[80:84], "little") if len(data) >= 84 else -1
    if count >= 0 and len(data) >= 84 + FACE.itemsize * count and (count or data[:5].lower() != b"solid"):
        check_count(count, max_faces)
        corners = np.frombuffer(data, FACE, count, 84)["corners"].reshape(-1, 3).astype(np.float64)
    elif data[:256].lstrip()[:5].lower() == b"solid":
        check_count(data.lower().count(b"vertex") // 3, max_faces)
        words = (word for found in VERTEX.finditer(data) for word in found.groups())
        corners = np.fromiter(map(float, words), np.float64)
        last = data[-MAX_LAST_LINE:].lower()  # after the last face's end comes the solid's, whatever comes then
        if len(corners) % 9 or last.rfind(END) <= last.rfind(b"endfacet"):
            raise BadMesh("the file ends in the middle of a face: export it again.", "damaged")
        corners = corners.reshape(-1, 3)
    else:
        raise BadMesh("the file is shorter than its header says, or no STL file: export it again.", "damaged")
    return Mesh(y_up(corners), np.arange(len(corners), dtype=np.int32).reshape(-1, 3))
