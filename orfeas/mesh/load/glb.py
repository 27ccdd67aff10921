"""Binary glTF 2.0: every triangle of the scene, with texture or colours where they are base colours."""

from __future__ import annotations

import io
import json

import numpy as np

from orfeas.errors import BadMesh
from orfeas.mesh import Mesh, Texture
from orfeas.mesh.load.common import check_count, check_indices, check_vertices
from orfeas.mesh.transfer import vertex_colors

MM_PER_METRE = 1000.0
KINDS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
LIST, STRIP, FAN = 4, 5, 6  # modes of triangles
CLAMPED = 33071  # of a sampler: what lies outside has the colour of the picture's edge
UNDERSTOOD = ("KHR_texture_transform", "KHR_mesh_quantization", "KHR_lights_punctual", "EXT_texture_webp")
COMPRESSIONS = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")
MAX_TEXTURE_SIDE = 8192
MAX_PIXELS = 2 * MAX_TEXTURE_SIDE**2  # of all textures together
MAX_REPEATED_SIDE = 4096
MAX_JSON_BYTES = 32_000_000
MAX_PARTS = 100_000


def read_glb(data: bytes, max_faces: int) -> Mesh:
    """One textured part keeps its texture; several parts get colours of the vertices."""
    document, binary = _chunks(data)
    for name in document.get("extensionsRequired", []):
        if name not in UNDERSTOOD and not name.startswith("KHR_materials_"):  # those tell of gloss, not of the base
            remedy = "without compression" if name in COMPRESSIONS else "without it"
            raise BadMesh(f"it needs the glTF extension {name}: export it {remedy}.", "unsupported")
    nodes = document.get("nodes", [])
    if document.get("scenes"):
        roots = document["scenes"][document.get("scene", 0)].get("nodes", [])
    else:
        roots = sorted(set(range(len(nodes))) - {child for node in nodes for child in node.get("children", [])})
    parts: list[Mesh] = []
    images: dict[int | tuple, np.ndarray] = {}
    n_vertices = n_faces = 0
    seen: set[int] = set()
    waiting = [(number, np.eye(4)) for number in roots]
    while waiting:
        number, above = waiting.pop()
        if number in seen:  # the nodes are a forest (glTF 3.5.2)
            raise BadMesh("its nodes contain one another.", "damaged")
        seen.add(number)
        node = nodes[number]
        here = above @ _transform(node)
        if "mesh" in node:
            if "skin" in node:  # its bones say where it is, not its node
                raise BadMesh(
                    "it is posed by a skeleton: apply the pose in a 3D editor and export it again.", "unsupported"
                )
            for primitive in document["meshes"][node["mesh"]]["primitives"]:
                if primitive.get("mode", LIST) not in (LIST, STRIP, FAN):  # points or lines
                    continue
                more_vertices, more_faces = _counts(document, primitive)
                n_vertices, n_faces = n_vertices + more_vertices, n_faces + more_faces
                check_count(n_faces, max_faces)
                check_vertices(n_vertices, max_faces)
                if len(parts) == MAX_PARTS:
                    raise BadMesh(f"it has more than {MAX_PARTS:,} parts: join them first.", "too_large")
                parts.append(_read_primitive(document, binary, primitive, here, images))
        waiting += [(child, here) for child in node.get("children", [])]
    if not parts:
        raise BadMesh("no triangles are in its scene.", "empty_mesh")
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    faces = np.concatenate([part.faces + start for part, start in zip(parts, starts[:-1], strict=True)])
    colors = [vertex_colors(part) for part in parts]
    painted = None
    if any(color is not None for color in colors):
        white = [np.full((len(part.vertices), 3), 255, np.uint8) for part in parts]
        colors = [plain if color is None else color for plain, color in zip(white, colors, strict=True)]
        painted = np.concatenate(colors)
    return Mesh(np.concatenate([part.vertices for part in parts]), faces.astype(np.int32), painted)


def _chunks(data: bytes) -> tuple[dict, bytes]:
    if data[:4] != b"glTF" or int.from_bytes(data[4:8], "little") != 2:
        raise BadMesh("it does not begin as a GLB 2.0 file does.", "damaged")
    length = int.from_bytes(data[12:16], "little")
    if length > len(data) or data[16:20] != b"JSON":
        raise BadMesh("it ends too early: export it again.", "damaged")
    if length > MAX_JSON_BYTES:
        raise BadMesh(f"its description has {length / 1e6:,.0f} MB, more than is read.", "too_large")
    document = json.loads(data[20 : 20 + length])
    rest = data[20 + length :]
    if len(rest) < 8:
        return document, b""
    size = int.from_bytes(rest[:4], "little")
    if len(rest) < 8 + size:
        raise BadMesh("it ends too early: export it again.", "damaged")
    return document, rest[8 : 8 + size]


def _transform(node: dict) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], float).reshape(4, 4).T
    made = np.eye(4)
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    made[:3, :3] = turn * np.array(node.get("scale", (1, 1, 1)), float)
    made[:3, 3] = node.get("translation", (0, 0, 0))
    return made


def _place_uv(uv: np.ndarray, placing: dict) -> np.ndarray:
    """(n, 2) float32 after `KHR_texture_transform`: scaled, turned counter-clockwise as seen (v runs down), moved."""
    angle = float(placing.get("rotation", 0.0))
    u, v = (uv * np.array(placing.get("scale", (1, 1)), float).reshape(2)).T
    turned = np.stack([np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u], axis=1)
    return (turned + np.array(placing.get("offset", (0, 0)), float).reshape(2)).astype(np.float32)


def _counts(document, primitive) -> tuple[int, int]:
    """How many vertices and faces a primitive says it has, before any of them is read."""
    vertices = document["accessors"][primitive["attributes"]["POSITION"]]["count"]
    corners = document["accessors"][primitive["indices"]]["count"] if "indices" in primitive else vertices
    if not (isinstance(vertices, int) and isinstance(corners, int)) or vertices < 1 or corners < 0:
        raise BadMesh("an accessor points outside of the file.", "damaged")
    return vertices, corners // 3 if primitive.get("mode", LIST) == LIST else max(corners - 2, 0)


def _triangles(corners: np.ndarray, mode: int) -> np.ndarray:
    """(m, 3) corners of a list, a strip or a fan of triangles, all turned the same way (glTF 3.7.2.1)."""
    if mode == LIST:
        return corners[: len(corners) // 3 * 3].reshape(-1, 3)
    first = np.arange(max(len(corners) - 2, 0))
    if mode == FAN:
        return corners[np.stack([first + 1, first + 2, 0 * first], axis=1)]
    odd = first % 2
    return corners[np.stack([first, first + 1 + odd, first + 2 - odd], axis=1)]


def _read_primitive(document, binary, primitive, matrix, images) -> Mesh:
    """images: the pictures decoded so far, by their number in the file, and what `_changed` made of them; those of this
    primitive are added."""
    attributes = primitive["attributes"]
    vertices = _accessor(document, binary, attributes["POSITION"]).astype(np.float64)
    if "indices" in primitive:
        corners = _accessor(document, binary, primitive["indices"]).ravel()
    else:
        corners = np.arange(len(vertices))
    faces = check_indices(_triangles(corners, primitive.get("mode", LIST)), len(vertices))
    if np.linalg.det(matrix[:3, :3]) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    vertices = (vertices @ matrix[:3, :3].T + matrix[:3, 3]) * MM_PER_METRE
    number = primitive.get("material")
    material = document["materials"][number] if number is not None else {}
    base = material.get("pbrMetallicRoughness", {})
    factor = np.array(base.get("baseColorFactor", (1, 1, 1, 1)), float)[:3]
    picture = base.get("baseColorTexture")
    placing = {} if picture is None else picture.get("extensions", {}).get("KHR_texture_transform", {})
    layer = None if picture is None else f"TEXCOORD_{placing.get('texCoord', picture.get('texCoord', 0))}"
    if layer in attributes:
        uv = np.nan_to_num(_accessor(document, binary, attributes[layer], len(vertices)).astype(np.float32))
        if placing:
            uv = _place_uv(uv, placing)
        texture = document["textures"][picture["index"]]
        image = _image(document, binary, texture, images)
        if image is not None:
            sampler = document["samplers"][texture["sampler"]] if "sampler" in texture else {}
            corners_uv, times = _wrap(uv[faces], image, sampler)
            return Mesh(vertices, faces, None, Texture(corners_uv, _changed(image, times, factor, images)))
    linear = None
    if "COLOR_0" in attributes:
        linear = _accessor(document, binary, attributes["COLOR_0"], len(vertices))[:, :3].astype(float) * factor
    elif "baseColorFactor" in base:
        linear = np.broadcast_to(factor, vertices.shape)
    return Mesh(vertices, faces, None if linear is None else _srgb(linear))


def _wrap(uv: np.ndarray, image: np.ndarray, sampler: dict) -> tuple[np.ndarray, tuple[int, int]]:
    """(m, 3, 2) coordinates within [0, 1], and how often the picture has to be repeated, across and down, for that.

    A face that lies outside is moved as a whole: its corners alone would be torn apart. Where the picture would become
    larger than is taken, each corner is moved by itself.
    """
    for axis, key in enumerate(("wrapS", "wrapT")):
        if sampler.get(key) == CLAMPED:
            uv[..., axis] = uv[..., axis].clip(0, 1)
    outside = ((uv < 0) | (uv > 1)).any(axis=(1, 2))
    if not outside.any():
        return uv, (1, 1)
    moved = uv.astype(np.float64)
    moved[outside] -= np.floor(moved[outside].min(axis=1, keepdims=True))
    times = np.ceil(moved.max(axis=(0, 1)) - 1e-4).clip(1)
    if (times * image.shape[1::-1]).max() > MAX_REPEATED_SIDE and times.max() > 1:
        return np.where((uv < 0) | (uv > 1), uv % 1.0, uv), (1, 1)
    return (moved / times).clip(0, 1).astype(np.float32), (int(times[0]), int(times[1]))


def _changed(image: np.ndarray, times: tuple[int, int], factor: np.ndarray, images: dict) -> np.ndarray:
    """The picture repeated (across, down) and tinted. Made once for all parts that have it so: see ``images``."""
    if times == (1, 1) and (factor == 1).all():
        return image
    key = id(image), times, tuple(factor)
    if key not in images:
        _check_pixels(image.shape[0] * image.shape[1] * times[0] * times[1], images)
        images[key] = np.tile(_tint(image, factor), (times[1], times[0], 1))  # its rows run down, as v does
    return images[key]


def _tint(image: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The picture times a colour in linear light (glTF 3.9.2)."""
    level = np.arange(256) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    table = _srgb(linear[:, None] * factor)
    return np.stack([table[image[..., channel], channel] for channel in range(3)], axis=-1)


def _accessor(document, binary, number, expected: int | None = None) -> np.ndarray:
    """(count, width) the values of an accessor, normalised integers as floats; sparse ones are not taken.

    expected: the count that it has to have, because another accessor has it.
    """
    accessor = document["accessors"][number]
    if "sparse" in accessor or "bufferView" not in accessor:
        raise BadMesh("it has sparse accessors: export it again without.", "unsupported")
    view = document["bufferViews"][accessor["bufferView"]]
    kind, width, count = np.dtype(KINDS[accessor["componentType"]]), WIDTHS[accessor["type"]], accessor["count"]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", kind.itemsize * width)
    if expected is not None and count != expected:
        raise BadMesh("its vertices do not all have the same attributes: export it again.", "damaged")
    # a stride within an element would make any number of vertices of one (glTF 3.6.2.4 forbids it)
    if min(start, count) < 0 or stride < kind.itemsize * width or view.get("buffer", 0) != 0:
        raise BadMesh("an accessor points outside of the file.", "damaged")
    if count == 0 or start + stride * (count - 1) + kind.itemsize * width > len(binary):
        raise BadMesh("an accessor points outside of the file.", "damaged")
    values = np.ndarray((count, width), kind, binary, start, (stride, kind.itemsize))
    if accessor.get("normalized") and kind.kind in "iu":
        return np.maximum(values / np.iinfo(kind).max, -1.0)
    return values


def _image(document, binary, texture, images) -> np.ndarray | None:
    """(h, w, 3) uint8, or None if the picture lies outside of the file. Decodes each picture once: see ``images``."""
    from PIL import Image, UnidentifiedImageError

    number = texture.get("extensions", {}).get("EXT_texture_webp", texture).get("source")
    if number is None:
        return None
    if number in images:
        return images[number]
    source = document["images"][number]
    if "bufferView" not in source:
        return None
    view = document["bufferViews"][source["bufferView"]]
    start = view.get("byteOffset", 0)
    content = io.BytesIO(binary[start : start + view["byteLength"]])
    try:
        with Image.open(content, formats=("PNG", "JPEG", "WEBP")) as picture:
            if max(picture.size) > MAX_TEXTURE_SIDE:
                raise BadMesh(f"its texture is larger than {MAX_TEXTURE_SIDE} pixels.", "too_large")
            _check_pixels(picture.width * picture.height, images)
            images[number] = np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise BadMesh("its texture is damaged: export it again.", "damaged") from error
    return images[number]


def _check_pixels(more: int, images: dict) -> None:
    """Raises `BadMesh` if all textures have too many pixels together with so many more."""
    if more + sum(image.shape[0] * image.shape[1] for image in images.values()) > MAX_PIXELS:
        most = f"at most {MAX_PIXELS / 1e6:,.0f} million pixels are taken"
        raise BadMesh(f"its textures are too large together: {most}.", "too_large")


def _srgb(linear: np.ndarray) -> np.ndarray:
    """uint8 sRGB from linear light in [0, 1] (IEC 61966-2-1)."""
    linear = np.clip(np.nan_to_num(linear), 0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    return np.rint(curve * 255).astype(np.uint8)
