"""Wavefront OBJ: one file with normals and colours of the vertices, or a zip with material and texture beside it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from orfeas.export.frame import one_line, sized_name, split_at_seams, unit_normals, zip_entry
from orfeas.mesh import Mesh
from orfeas.mesh.transfer import vertex_colors
from orfeas.request import clean_name

MATERIAL = "newmtl model\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nd 1\nillum 1\nmap_Kd {picture}\n"


def write_obj(mesh: Mesh, path: Path, *, title: str = "model") -> None:
    """Y up, millimetres; ``v x y z r g b`` (colours 0 to 1, sRGB, as MeshLab and Blender read them) and normals."""
    Path(path).write_bytes(_plain(mesh, title))


def write_obj_zip(mesh: Mesh, path: Path, *, title: str = "model") -> None:
    """OBJ, MTL and PNG in a zip; without a texture only the OBJ, with colours of the vertices.

    They are called by title and size, so that several models can be unpacked into one folder.
    """
    # readers end a file's name at the first space
    name = sized_name(clean_name(title), float(mesh.extents.max()))
    with zipfile.ZipFile(path, "w") as archive:
        if mesh.texture is None:
            archive.writestr(zip_entry(f"{name}.obj"), _plain(mesh, title))
            return
        from PIL import Image

        _, uv, rows = split_at_seams(mesh)
        corners = np.stack([mesh.faces + 1, rows + 1, mesh.faces + 1], axis=2).reshape(-1, 9)
        parts = [
            _heading(title),
            f"mtllib {name}.mtl\nusemtl model\n",
            _vertex_lines(mesh, None),
            _lines("vt %.6f %.6f\n", np.stack([uv[:, 0], 1.0 - uv[:, 1]], axis=1)),  # OBJ counts from the bottom
            _lines("vn %.4f %.4f %.4f\n", unit_normals(mesh)),
            _lines("f %d/%d/%d %d/%d/%d %d/%d/%d\n", corners),
        ]
        archive.writestr(zip_entry(f"{name}.obj"), "".join(parts).encode())
        archive.writestr(zip_entry(f"{name}.mtl"), MATERIAL.format(picture=f"{name}.png"))
        picture = io.BytesIO()
        Image.fromarray(mesh.texture.image).save(picture, "PNG", compress_level=4)
        archive.writestr(zip_entry(f"{name}.png", compressed=False), picture.getvalue())


def _plain(mesh: Mesh, title: str) -> bytes:
    parts = [_heading(title), _vertex_lines(mesh, vertex_colors(mesh))]
    parts.append(_lines("vn %.4f %.4f %.4f\n", unit_normals(mesh)))
    parts.append(_lines("f %d//%d %d//%d %d//%d\n", np.repeat(mesh.faces + 1, 2, axis=1)))
    return "".join(parts).encode()


def _heading(title: str) -> str:
    return f"# ORFEAS, millimetres, Y up\no {one_line(title).replace(' ', '_') or 'model'}\n"


def _vertex_lines(mesh: Mesh, colors: np.ndarray | None) -> str:
    if colors is None:
        return _lines("v %.6f %.6f %.6f\n", mesh.vertices)
    return _lines("v %.6f %.6f %.6f %.4f %.4f %.4f\n", np.concatenate([mesh.vertices, colors / 255.0], axis=1))


def _lines(pattern: str, rows: np.ndarray) -> str:
    """Every row by the same pattern, in one go: formatting line by line is several times slower."""
    return (pattern * len(rows)) % tuple(rows.ravel().tolist())
