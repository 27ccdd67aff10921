"""PLY, text or binary, with colours of the vertices."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from itertools import islice

import numpy as np

from orfeas.errors import BadMesh
from orfeas.mesh import Mesh
from orfeas.mesh.load.common import check_count, check_vertices, triangulate

TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
MAX_HEADER = 65536
TOO_SHORT = "the file ends before its last face: export it again."
WORD = re.compile(rb"\S+")


def read_ply(data: bytes, max_faces: int) -> Mesh:
    """Vertices, faces (polygons are cut into triangles) and, where they are there, red, green and blue."""
    order, elements, start = _read_header(data)
    columns, polygons = None, None
    # one word after the other: a list of all would take ten times the memory of the file
    words = (found.group() for found in WORD.finditer(data, start)) if order == "" else None
    at = start
    check_vertices(sum(count for name, count, _ in elements if name != "face"), max_faces)
    for name, count, properties in elements:
        if name == "face":
            check_count(count, max_faces)
        if words is None:
            table, at = _read_binary(data, at, count, properties, order)
        else:
            table = _read_text(words, count, properties)
        if name == "vertex":
            columns = table
        elif name == "face":
            lists = [table[key] for key in ("vertex_indices", "vertex_index") if key in table]
            if not lists:
                raise BadMesh("its faces have no vertex_indices.", "damaged")
            counts, corners = lists[0]
            check_count(int(np.maximum(np.asarray(counts, np.int64) - 2, 0).sum()), max_faces)
            polygons = counts, corners
    if columns is None or polygons is None:
        raise BadMesh("it holds points but no faces: make a mesh of it first.", "empty_mesh")
    vertices = np.stack([np.asarray(columns[axis], np.float64) for axis in "xyz"], axis=1)
    colors = None
    if all(key in columns for key in ("red", "green", "blue")):
        colors = np.stack([np.asarray(columns[key]) for key in ("red", "green", "blue")], axis=1)
        if colors.dtype.kind == "f":
            colors = np.clip(np.nan_to_num(colors), 0, 1) * 255
        elif colors.dtype.itemsize == 2:
            colors = colors / 257
        colors = np.clip(np.rint(colors), 0, 255).astype(np.uint8)
    return Mesh(vertices, triangulate(*polygons, vertices)[0], colors)


def _read_header(data: bytes) -> tuple[str, list, int]:
    end = data[:MAX_HEADER].find(b"end_header")
    if data[:3] != b"ply" or end < 0:
        raise BadMesh("it does not begin as a PLY file does.", "damaged")
    order, elements = None, []
    for line in data[:end].decode("ascii", "replace").splitlines():
        words = line.split()
        if words[:1] == ["format"]:
            order = ORDERS[words[1]]
        elif words[:1] == ["element"]:
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"]:
            properties = elements[-1][2]
            if words[1] == "list":
                properties.append((words[4], TYPES[words[2]], TYPES[words[3]]))
            else:
                properties.append((words[2], None, TYPES[words[1]]))
    if order is None or any(count < 0 for _, count, _ in elements):
        raise BadMesh("its header is damaged.", "damaged")
    return order, elements, data.index(b"\n", end) + 1


def _read_binary(data: bytes, at: int, count: int, properties: list, order: str) -> tuple[dict, int]:
    """The columns of one element; a list column becomes (counts, corners)."""
    lists = [name for name, length, _ in properties if length]
    if not lists:
        row = np.dtype([(name, order + kind) for name, _, kind in properties])
        table = np.frombuffer(data, row, count, at)
        return {name: table[name] for name, _, _ in properties}, at + row.itemsize * count
    # nearly every file has lists of one length: read them as a table, and row by row only if that is not so
    fixed = {}
    where = at
    for name, length, kind in properties:
        if length:
            fixed[name] = int(np.frombuffer(data, order + length, 1, where)[0]) if count else 3
            where += np.dtype(length).itemsize + fixed[name] * np.dtype(kind).itemsize
        else:
            where += np.dtype(kind).itemsize
    row = []
    for name, length, kind in properties:
        if length:
            row.append((name + " count", order + length))
            row.append((name, order + kind, (fixed[name],)))
        else:
            row.append((name, order + kind))
    row = np.dtype(row)
    if at + row.itemsize * count <= len(data):
        table = np.frombuffer(data, row, count, at)
        if all((table[name + " count"] == fixed[name]).all() for name in lists):
            found = {}
            for name, length, _ in properties:
                found[name] = (np.full(count, fixed[name]), table[name].reshape(-1)) if length else table[name]
            return found, at + row.itemsize * count
    return _read_rows(data, at, count, properties, order)


def _read_rows(data: bytes, at: int, count: int, properties: list, order: str) -> tuple[dict, int]:
    found = {name: ([], []) if length else [] for name, length, _ in properties}
    for _ in range(count):
        for name, length, kind in properties:
            if length:
                number = int(np.frombuffer(data, order + length, 1, at)[0])
                at += np.dtype(length).itemsize
                found[name][0].append(number)
                found[name][1].append(np.frombuffer(data, order + kind, number, at))
                at += number * np.dtype(kind).itemsize
            else:
                found[name].append(np.frombuffer(data, order + kind, 1, at)[0])
                at += np.dtype(kind).itemsize
    for name, length, _ in properties:
        if length:
            counts, parts = found[name]
            found[name] = (np.array(counts), np.concatenate(parts) if parts else np.zeros(0, np.int64))
        else:
            found[name] = np.array(found[name])
    return found, at


def _read_text(words: Iterator[bytes], count: int, properties: list) -> dict:
    """The columns of one element, as those of `_read_binary`; takes as many ``words`` as it has."""
    if not any(length for _, length, _ in properties):
        width = len(properties)
        values = np.fromiter(map(float, islice(words, width * count)), np.float64)
        if len(values) < width * count:
            raise BadMesh(TOO_SHORT, "damaged")
        columns = {name: values[k::width] for k, (name, _, _) in enumerate(properties)}
        whole = {name for name, _, kind in properties if kind[0] != "f"}
        return {name: v.astype(np.int64) if name in whole else v for name, v in columns.items()}
    found = {name: (array("q"), array("d")) if length else array("d") for name, length, _ in properties}
    for _ in range(count):
        for name, length, _ in properties:
            word = next(words, None)
            if word is None:
                raise BadMesh(TOO_SHORT, "damaged")
            if not length:
                found[name].append(float(word))
                continue
            number = int(word)
            counts, corners = found[name]
            before = len(corners)
            corners.extend(map(float, islice(words, max(number, 0))))
            if number < 0 or len(corners) - before < number:
                raise BadMesh(TOO_SHORT, "damaged")
            counts.append(number)
    return {
        name: (np.array(found[name][0], np.int64), np.array(found[name][1], np.float64).astype(np.int64))
        if length
        else np.array(found[name], np.float64)
        for name, length, _ in properties
    }
