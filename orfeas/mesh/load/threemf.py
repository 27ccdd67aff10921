"""3MF: objects, components and build items of the core specification, of several model parts as the production
extension has them; colours of colour groups and base materials.

The XML is read as it unpacks and no tree is made of it: a model of 100 MB would take 2 GB as one.
"""

from __future__ import annotations

import io
import zipfile
from array import array
from dataclasses import dataclass, field
from xml.etree import ElementTree

import numpy as np

from orfeas.errors import BadMesh
from orfeas.mesh import Mesh
from orfeas.mesh.load.common import check_count, check_indices, check_vertices, y_up

CORE = "{http://schemas.microsoft.com/3dmanufacturing/core/2015/02}"
MATERIALS = "{http://schemas.microsoft.com/3dmanufacturing/material/2015/02}"
PATH = "{http://schemas.microsoft.com/3dmanufacturing/production/2015/06}path"
UNDERSTOOD = (  # extensions that a file may require
    MATERIALS.strip("{}"),
    PATH[1:].partition("}")[0],
    "http://schemas.microsoft.com/3dmanufacturing/trianglesets/2021/07",
)
NOT_OF_THE_MODEL = ("support", "other")  # types of objects
RELATION = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
MILLIMETRES = {"micron": 1e-3, "millimeter": 1.0, "centimeter": 10.0, "inch": 25.4, "foot": 304.8, "meter": 1000.0}
MAX_XML_BYTES_PER_FACE = 375  # a face of ours takes about 130, with its share of the vertices and colours
MAX_XML_BYTES = 300_000_000
MAX_RELATIONS_BYTES = 1_000_000
MAX_RATIO = 200  # a model's XML packs about tenfold; what unpacks this much larger is made to
MAX_PARTS = 10_000
CHUNK = 1 << 20


def read_3mf(data: bytes, max_faces: int) -> Mesh:
    """All build items in one mesh, Z up turned to Y up, in millimetres."""
    model = _Model(max_faces)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {entry.filename.lower(): entry for entry in archive.infolist()}
        relations = _Relations()
        _parse(archive, entries["_rels/.rels"], relations, MAX_RELATIONS_BYTES)
        if relations.target is None:
            raise BadMesh("it names no model.", "damaged")
        left = min(MAX_XML_BYTES, max_faces * MAX_XML_BYTES_PER_FACE)
        model.wanted.append(_part(relations.target))
        read = set()
        while model.wanted:
            model.part = model.wanted.pop()
            if model.part not in read:
                read.add(model.part)
                left -= _parse(archive, entries[model.part], model, left)
    check_count(model.n_faces, max_faces)
    check_vertices(model.n_vertices, max_faces)
    placed = _place_items(model, max_faces)
    if not placed:
        raise BadMesh("nothing in it is to be built.", "empty_mesh")
    made = {key: _build(model.objects[key], model.palettes) for key in {key for key, _ in placed}}
    vertices, faces, colors, start = [], [], [], 0
    colored = any(made[key][2] is not None for key, _ in placed)
    for key, matrix in placed:
        points, corners, color = made[key]
        if np.linalg.det(matrix[:3]) < 0:
            corners = corners[:, ::-1]
        points = points * (MILLIMETRES[model.units[key[0]]] / MILLIMETRES[model.unit])
        vertices.append(points @ matrix[:3] + matrix[3])
        faces.append(corners + np.int32(start))
        if colored:
            colors.append(np.full((len(points), 3), 255, np.uint8) if color is None else color)
        start += len(points)
    placed_vertices = np.concatenate(vertices) * MILLIMETRES[model.unit]
    return Mesh(y_up(placed_vertices), np.concatenate(faces), np.concatenate(colors) if colored else None)


_Key = tuple[str, str | None]  # the part of the archive, and the id there


@dataclass
class _Object:
    """points: x, y, z of each vertex. corners: v1, v2, v3 of each triangle. paints: (triangle, group, p1, p2, p3)."""

    kind: str
    group: _Key | None
    index: str
    points: array = field(default_factory=lambda: array("d"))
    corners: array = field(default_factory=lambda: array("i"))
    paints: list = field(default_factory=list)
    components: list = field(default_factory=list)


class _Plain:
    """What both targets of the XML parser share. 3MF allows no document type (core, 2.3.5), so no entities either."""

    def doctype(self, name: str, public: str, system: str) -> None:
        raise BadMesh("its XML declares a document type, which 3MF does not allow: export it again.", "damaged")

    def close(self) -> None:
        return None


class _Relations(_Plain):
    """target: the name of the model's part."""

    def __init__(self) -> None:
        self.target: str | None = None

    def start(self, tag: str, values: dict[str, str]) -> None:
        if self.target is None and values.get("Type") == RELATION:
            self.target = values["Target"]


class _Model(_Plain):
    """The objects, palettes and build items of a model; counts all vertices and faces, keeps no more than allowed."""

    def __init__(self, max_faces: int) -> None:
        self.max_faces = max_faces
        self.part = ""  # that is read
        self.wanted: list[str] = []  # parts that others name
        self.units: dict[str, str] = {}  # of the parts; the first one's is that of all places
        self.namespaces: dict[str, str] = {}
        self.objects: dict[_Key, _Object] = {}
        self.palettes: dict[_Key, list[tuple[int, ...]]] = {}
        self.items: list[tuple[_Key, np.ndarray]] = []
        self.n_vertices = self.n_faces = 0
        self.open: _Object | None = None
        self.palette: list[tuple[int, ...]] = []

    @property
    def unit(self) -> str:
        return next(iter(self.units.values()))

    def start_ns(self, prefix: str, uri: str) -> None:
        self.namespaces[prefix] = uri

    def _named(self, values: dict[str, str]) -> _Key:
        """The object that a component or an item names, in this part or in another."""
        part = _part(values[PATH]) if PATH in values else self.part
        self.wanted.append(part)
        return part, values.get("objectid")

    def start(self, tag: str, values: dict[str, str]) -> None:
        if tag == _VERTEX:
            self.n_vertices += 1
            if self.n_vertices <= 3 * self.max_faces:
                self.open.points.extend((float(values["x"]), float(values["y"]), float(values["z"])))
        elif tag == _TRIANGLE:
            self.n_faces += 1
            if self.n_faces <= self.max_faces:
                self.open.corners.extend((int(values["v1"]), int(values["v2"]), int(values["v3"])))
                if "p1" in values:
                    first = int(values["p1"])
                    paint = (first, int(values.get("p2", first)), int(values.get("p3", first)))
                    group = (self.part, values["pid"]) if "pid" in values else None
                    self.open.paints.append((len(self.open.corners) // 3 - 1, group, *paint))
        elif tag == f"{CORE}object":
            group = (self.part, values["pid"]) if "pid" in values else None
            self.open = _Object(values.get("type", "model"), group, values.get("pindex", "0"))
            self.objects[self.part, values.get("id")] = self.open
        elif tag == f"{CORE}component":
            self.open.components.append((self._named(values), _matrix(values)))
        elif tag == f"{CORE}item":
            if len(self.units) == 1:  # those of other parts do not count
                self.items.append((self._named(values), _matrix(values)))
        elif tag in (f"{MATERIALS}colorgroup", f"{CORE}basematerials"):
            self.palette = self.palettes[self.part, values.get("id")] = []
        elif tag == f"{MATERIALS}color":
            self.palette.append(_color(values["color"]))
        elif tag == f"{CORE}base":
            self.palette.append(_color(values["displaycolor"]))
        elif tag == f"{CORE}model":
            self.units[self.part] = values.get("unit", "millimeter")
            for prefix in values.get("requiredextensions", "").split():
                name = self.namespaces.get(prefix, prefix)
                if name not in UNDERSTOOD:
                    raise BadMesh(f"it needs the 3MF extension {name}: export it without.", "unsupported")


_VERTEX, _TRIANGLE = f"{CORE}vertex", f"{CORE}triangle"


def _part(name: str) -> str:
    """The name of a part as names are compared: without regard to case, from the archive's root."""
    return name.lstrip("/").lower()


def _parse(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: _Plain, max_bytes: int) -> int:
    """Feed one part of the archive to ``target``, in chunks. Returns its size in bytes."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
        raise BadMesh("it is packed in a way that 3MF does not allow: export it again.", "unsupported")
    if entry.file_size > min(max_bytes, MAX_RATIO * max(entry.compress_size, 4096)):
        raise BadMesh(f"it unpacks to {entry.file_size / 1e6:,.0f} MB, more than is read.", "too_large")
    parser = ElementTree.XMLParser(target=target)
    with archive.open(entry) as file:
        while chunk := file.read(CHUNK):
            parser.feed(chunk)
    parser.close()
    return entry.file_size


def _matrix(values: dict[str, str]) -> np.ndarray:
    """(4, 3) the transform attribute: rows are applied from the left (3MF core, 3.3)."""
    text = values.get("transform")
    if text is None:
        return np.concatenate([np.eye(3), np.zeros((1, 3))])
    return np.array([float(word) for word in text.split()]).reshape(4, 3)


def _color(text: str) -> tuple[int, ...]:
    return tuple(int(text[k : k + 2], 16) for k in (1, 3, 5))


def _place_items(model: _Model, max_faces: int) -> list[tuple[_Key, np.ndarray]]:
    """Each object with triangles that is to be built, as often as it is, and where. Counts before anything is made."""
    placed: list[tuple[_Key, np.ndarray]] = []
    waiting, visits, faces, vertices = list(reversed(model.items)), 0, 0, 0
    while waiting:
        key, matrix = waiting.pop()
        visits += 1
        if visits > MAX_PARTS:
            raise BadMesh(f"it has more than {MAX_PARTS:,} parts, or parts that contain one another.", "too_large")
        item = model.objects[key]
        if item.kind in NOT_OF_THE_MODEL:
            continue
        if item.corners:
            faces += len(item.corners) // 3
            vertices += len(item.points) // 3
            check_count(faces, max_faces)
            check_vertices(vertices, max_faces)
            placed.append((key, matrix))
        if len(waiting) + len(item.components) > MAX_PARTS:
            raise BadMesh(f"it has more than {MAX_PARTS:,} parts, or parts that contain one another.", "too_large")
        for name, own in item.components:
            waiting.append((name, np.concatenate([own[:3] @ matrix[:3], own[3:] @ matrix[:3] + matrix[3]])))
    return placed


def _build(item: _Object, palettes: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(n, 3) vertices, (m, 3) int32 faces and (n, 3) uint8 colours of an object."""
    vertices = np.array(item.points, np.float64).reshape(-1, 3)
    faces = check_indices(np.array(item.corners, np.int32), len(vertices))
    if item.group not in palettes and not any(group in palettes for _, group, *_ in item.paints):
        return vertices, faces, None
    colors = np.full((len(vertices), 3), 255, np.uint8)
    if item.group in palettes:
        colors[:] = palettes[item.group][int(item.index)]
    arrays = {key: np.array(palette, np.uint8).reshape(-1, 3) for key, palette in palettes.items()}
    for triangle, group, *wanted in item.paints:
        palette = arrays.get(group or item.group)
        if palette is not None:
            colors[faces[triangle]] = palette[wanted]
    return vertices, faces, colors
