"""Binary glTF 2.0 with one PBR material: what browsers, Blender and game engines open.

Source: Khronos, glTF 2.0 Specification, 3.6 (buffers and accessors), 3.9 (materials), 4.4 (GLB).
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from orfeas.export.frame import linear_light, split_at_seams, unit_normals
from orfeas.mesh import Mesh

METRES_PER_MM = 0.001  # glTF 3.4: the unit for all linear distances is metres
CLAY = (0.6, 0.6, 0.62, 1.0)  # base colour of a mesh without colours, linear
ROUGHNESS = 0.8
JPEG_FROM_PIXELS = 256 * 256  # smaller textures stay PNG: exact, and no larger

FLOAT, BYTE_INDEX, SHORT_INDEX, INT_INDEX = 5126, 5121, 5123, 5125
VERTEX_DATA, INDEX_DATA = 34962, 34963


def write_glb(mesh: Mesh, path: Path, *, title: str = "model", unit_scale: float = METRES_PER_MM) -> None:
    """Y up, in metres: 100 mm are written as 0.1.

    unit_scale: what one unit of the mesh is in the file. For a viewer that cannot come near to small things, pass
    ``1 / max(mesh.extents)`` and the longest side is 1. ``extras.size_mm`` of the node always holds the true extents.
    """
    normals = unit_normals(mesh)
    vertices, faces = mesh.vertices, mesh.faces
    builder = _Builder()
    attributes, material = {}, {"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": ROUGHNESS}}
    if mesh.texture is not None:
        of_row, uv, faces = split_at_seams(mesh)
        vertices, normals = vertices[of_row], normals[of_row]
        attributes["TEXCOORD_0"] = builder.accessor(uv, "VEC2", VERTEX_DATA)
        material["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
    elif mesh.colors is not None:  # sRGB to linear light, in 16 bits so that dark tones keep apart
        linear = np.full((len(vertices), 4), 65535, np.uint16)
        linear[:, :3] = np.rint(linear_light(mesh.colors) * 65535)
        attributes["COLOR_0"] = builder.accessor(linear, "VEC4", VERTEX_DATA, normalized=True)
    else:
        material["pbrMetallicRoughness"]["baseColorFactor"] = list(CLAY)
    position = np.ascontiguousarray(vertices * unit_scale, np.float32)
    attributes["POSITION"] = builder.accessor(position, "VEC3", VERTEX_DATA, bounds=True)
    attributes["NORMAL"] = builder.accessor(normals, "VEC3", VERTEX_DATA)
    index_type = np.uint16 if len(vertices) < 65535 else np.uint32
    indices = builder.accessor(faces.astype(index_type).reshape(-1), "SCALAR", INDEX_DATA)
    size_mm = [round(float(side), 4) for side in mesh.extents]
    document = {
        "asset": {"version": "2.0", "generator": "ORFEAS"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": title, "extras": {"size_mm": size_mm}}],
        "meshes": [{"name": title, "primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
        "materials": [{"name": "surface", **material}],
        "accessors": builder.accessors,
    }
    if mesh.texture is not None:
        view, media_type = builder.image(mesh.texture.image)
        document["images"] = [{"bufferView": view, "mimeType": media_type}]
        document["samplers"] = [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}]
        document["textures"] = [{"sampler": 0, "source": 0}]
    document["bufferViews"] = builder.views
    document["buffers"] = [{"byteLength": len(builder.data)}]
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data = bytes(builder.data) + b"\0" * (-len(builder.data) % 4)
    with open(path, "wb") as file:
        file.write(b"glTF" + np.array([2, 12 + 8 + len(text) + 8 + len(data)], "<u4").tobytes())
        file.write(np.array([len(text)], "<u4").tobytes() + b"JSON" + text)
        file.write(np.array([len(data)], "<u4").tobytes() + b"BIN\0" + data)


class _Builder:
    """Collects the arrays of the one buffer, with a view and an accessor for each."""

    def __init__(self):
        self.data = bytearray()
        self.views: list[dict] = []
        self.accessors: list[dict] = []

    def view(self, content: bytes, target: int | None = None) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content)}
        self.views.append(view if target is None else {**view, "target": target})
        self.data += content
        return len(self.views) - 1

    def accessor(
        self, values: np.ndarray, kind: str, target: int, *, normalized: bool = False, bounds: bool = False
    ) -> int:
        component = {"f4": FLOAT, "u2": SHORT_INDEX, "u4": INT_INDEX, "u1": BYTE_INDEX}[values.dtype.str[1:]]
        accessor = {
            "bufferView": self.view(values.tobytes(), target),
            "componentType": component,
            "count": len(values),
            "type": kind,
        }
        if normalized:
            accessor["normalized"] = True
        if bounds:
            accessor["min"], accessor["max"] = values.min(axis=0).tolist(), values.max(axis=0).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def image(self, picture: np.ndarray) -> tuple[int, str]:
        from PIL import Image

        encoded = io.BytesIO()
        if picture.shape[0] * picture.shape[1] < JPEG_FROM_PIXELS:
            Image.fromarray(picture).save(encoded, "PNG")
            return self.view(encoded.getvalue()), "image/png"
        Image.fromarray(picture).save(encoded, "JPEG", quality=92)
        return self.view(encoded.getvalue()), "image/jpeg"
