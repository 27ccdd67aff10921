"""3MF: objects, components and build items of the core specification; colours of colour groups and base materials."""

from __future__ import annotations

import io
import zipfile
from xml.etree import ElementTree

import numpy as np

from orfeas.errors import BadMesh
from orfeas.mesh import Mesh
from orfeas.mesh.load.common import check_count, check_indices, y_up

CORE = "{http://schemas.microsoft.com/3dmanufacturing/core/2015/02}"
MATERIALS = "{http://schemas.microsoft.com/3dmanufacturing/material/2015/02}"
RELATION = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
MILLIMETRES = {"micron": 1e-3, "millimeter": 1.0, "centimeter": 10.0, "inch": 25.4, "foot": 304.8, "meter": 1000.0}
MAX_XML_BYTES_PER_FACE = 375  # a face of ours takes about 130, with its share of the vertices and colours
MAX_RATIO = 200  # a model's XML packs about tenfold; what unpacks this much larger is made to
MAX_PARTS = 10_000


def read_3mf(data: bytes, max_faces: int) -> Mesh:
    """All build items in one mesh, Z up turned to Y up, in millimetres."""
    root = ElementTree.fromstring(_model_part(data, max_faces * MAX_XML_BYTES_PER_FACE))
    scale = MILLIMETRES[root.get("unit", "millimeter")]
    palettes = _palettes(root)
    objects = {item.get("id"): item for item in root.iter(f"{CORE}object")}
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []
    for item in root.iter(f"{CORE}item"):
        _collect(item.get("objectid"), _matrix(item), objects, palettes, parts, max_faces)
    if not parts:
        raise BadMesh("nothing in it is to be built.", "empty_mesh")
    starts = np.cumsum([0] + [len(vertices) for vertices, _, _ in parts])
    vertices = np.concatenate([vertices for vertices, _, _ in parts]) * scale
    faces = np.concatenate([faces + start for (_, faces, _), start in zip(parts, starts[:-1], strict=True)])
    colors = None
    if any(color is not None for _, _, color in parts):
        white = [np.full((len(v), 3), 255, np.uint8) if color is None else color for v, _, color in parts]
        colors = np.concatenate(white)
    return Mesh(y_up(vertices), faces.astype(np.int32), colors)


def _model_part(data: bytes, max_bytes: int) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            relations = ElementTree.fromstring(_unpack(archive, "_rels/.rels", max_bytes))
            targets = [item.get("Target") for item in relations if item.get("Type") == RELATION]
            if not targets:
                raise BadMesh("it names no model.", "damaged")
            return _unpack(archive, targets[0].lstrip("/"), max_bytes)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ElementTree.ParseError, EOFError) as error:
        raise BadMesh("it is damaged or no 3MF file: export it again.", "damaged") from error
    except zipfile.zlib.error as error:
        raise BadMesh("it is damaged: export it again.", "damaged") from error


def _unpack(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    entry = archive.getinfo(name)
    if entry.file_size > min(max_bytes, MAX_RATIO * max(entry.compress_size, 4096)):
        raise BadMesh(f"it unpacks to {entry.file_size / 1e6:,.0f} MB, more than is read.", "too_large")
    with archive.open(entry) as file:
        return file.read(entry.file_size + 1)


def _matrix(element: ElementTree.Element) -> np.ndarray:
    """(4, 3) the transform attribute: rows are applied from the left (3MF core, 3.3)."""
    text = element.get("transform")
    if text is None:
        return np.concatenate([np.eye(3), np.zeros((1, 3))])
    return np.array([float(word) for word in text.split()]).reshape(4, 3)


def _palettes(root: ElementTree.Element) -> dict[str, np.ndarray]:
    """Colours of each colour group and base material group, by its id: (k, 3) uint8."""
    found = {}
    for group in root.iter(f"{MATERIALS}colorgroup"):
        found[group.get("id")] = [color.get("color") for color in group.iter(f"{MATERIALS}color")]
    for group in root.iter(f"{CORE}basematerials"):
        found[group.get("id")] = [base.get("displaycolor") for base in group.iter(f"{CORE}base")]
    return {
        key: np.array([[int(text[k : k + 2], 16) for k in (1, 3, 5)] for text in texts], np.uint8).reshape(-1, 3)
        for key, texts in found.items()
    }


def _collect(key, matrix, objects, palettes, parts, max_faces) -> None:
    """Append every mesh of an object and its components to ``parts``."""
    waiting, visits = [(key, matrix)], 0
    while waiting:
        key, matrix = waiting.pop()
        visits += 1
        if visits > MAX_PARTS or len(parts) > MAX_PARTS:
            raise BadMesh(f"it has more than {MAX_PARTS:,} parts, or parts that contain one another.", "too_large")
        item = objects[key]
        mesh = item.find(f"{CORE}mesh")
        if mesh is not None:
            vertices, faces, colors = _read_mesh(mesh, item, palettes)
            check_count(sum(len(f) for _, f, _ in parts) + len(faces), max_faces)
            if np.linalg.det(matrix[:3]) < 0:
                faces = faces[:, ::-1]
            parts.append((vertices @ matrix[:3] + matrix[3], faces, colors))
        for component in item.iter(f"{CORE}component"):
            own = _matrix(component)
            joined = np.concatenate([own[:3] @ matrix[:3], own[3:] @ matrix[:3] + matrix[3]])
            waiting.append((component.get("objectid"), joined))


def _read_mesh(mesh, item, palettes) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    points = mesh.find(f"{CORE}vertices")
    triangles = list(mesh.find(f"{CORE}triangles"))
    numbers = [(p.get("x"), p.get("y"), p.get("z")) for p in points]
    vertices = np.array(numbers, dtype="S32").astype(np.float64).reshape(-1, 3)
    corners = np.array([(t.get("v1"), t.get("v2"), t.get("v3")) for t in triangles], dtype="S20").astype(np.int64)
    faces = check_indices(corners, len(vertices))
    group, index = item.get("pid"), item.get("pindex", "0")
    if not palettes or not (group in palettes or any(t.get("pid") in palettes for t in triangles)):
        return vertices, faces, None
    colors = np.full((len(vertices), 3), 255, np.uint8)
    if group in palettes:
        colors[:] = palettes[group][int(index)]
    for triangle, face in zip(triangles, faces, strict=True):
        palette = palettes.get(triangle.get("pid") or group)
        first = triangle.get("p1")
        if palette is None or first is None:
            continue
        wanted = (first, triangle.get("p2") or first, triangle.get("p3") or first)
        colors[face] = palette[[int(word) for word in wanted]]
    return vertices, faces, colors
