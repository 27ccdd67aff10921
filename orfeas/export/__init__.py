"""Write a finished mesh (millimetres, Y up, standing on y = 0) as a file: one module per format, joined by `EXPORTERS`.

    key      file      up  unit        colours                     read by
    stl      .stl      Z   millimetre  none                        every slicer
    3mf      .3mf      Z   millimetre  of the vertices             slicers, Windows, CAD
    glb      .glb      Y   metre       texture, or of the vertices browsers, game engines, Blender
    obj      .obj      Y   millimetre  of the vertices             nearly everything
    obj_zip  .obj.zip  Y   millimetre  texture (with .mtl, .png)   nearly everything, once unpacked
    ply      .ply      Y   millimetre  of the vertices             MeshLab, CloudCompare, Blender
    usdz     .usdz     Y   millimetre  texture, or of the vertices AR Quick Look, Omniverse (needs usd-core)

Z-up files are turned, never mirrored: the front looks along -Y there. The same mesh gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orfeas.errors import BadMesh, BadRequest
from orfeas.export.frame import sized_name
from orfeas.export.glb import write_glb
from orfeas.export.obj import write_obj, write_obj_zip
from orfeas.export.ply import write_ply
from orfeas.export.stl import write_stl
from orfeas.export.threemf import write_3mf
from orfeas.export.usdz import write_usdz
from orfeas.mesh import Mesh

__all__ = ["EXPORTERS", "MEDIA_TYPES", "Exporter", "export", "file_name", "write_glb"]


@dataclass(frozen=True)
class Exporter:
    """How one format is written. ``write(mesh, path, *, title)`` and ``thumbnail`` (PNG bytes) where it has one."""

    write: Callable[..., None]
    suffix: str
    media_type: str
    title: str
    takes_thumbnail: bool = False


EXPORTERS: Mapping[str, Exporter] = {
    "stl": Exporter(write_stl, "stl", "model/stl", "STL, for printing"),
    "3mf": Exporter(write_3mf, "3mf", "model/3mf", "3MF, for printing, with unit and colours", takes_thumbnail=True),
    "glb": Exporter(write_glb, "glb", "model/gltf-binary", "GLB, for the web and game engines"),
    "obj": Exporter(write_obj, "obj", "model/obj", "OBJ with colours of the vertices"),
    "obj_zip": Exporter(write_obj_zip, "obj.zip", "application/zip", "OBJ with material and texture, zipped"),
    "ply": Exporter(write_ply, "ply", "model/ply", "PLY with colours of the vertices"),
    "usdz": Exporter(write_usdz, "usdz", "model/vnd.usdz+zip", "USDZ, for augmented reality"),
}

MEDIA_TYPES: Mapping[str, str] = {exporter.suffix: exporter.media_type for exporter in EXPORTERS.values()}


def export(mesh: Mesh, path: Path, format: str, *, title: str = "model", thumbnail: bytes | None = None) -> None:
    """Write ``mesh`` to ``path`` in the format of that key.

    title: the model's name, kept in the file. thumbnail: a PNG picture of it, for formats that hold one (3MF).
    Raises `BadRequest` for an unknown format, `BadMesh` for a mesh without faces.
    """
    exporter = find_exporter(format)
    if not len(mesh.faces):
        raise BadMesh("The mesh has no faces, so there is nothing to write.", "empty_mesh")
    options = {"thumbnail": thumbnail} if exporter.takes_thumbnail else {}
    exporter.write(mesh, Path(path), title=title, **options)


def find_exporter(format: str) -> Exporter:
    """The exporter of that key. Raises `BadRequest` naming the keys."""
    if format not in EXPORTERS:
        keys = list(EXPORTERS)
        raise BadRequest(f"format cannot be {format!r}: use {', '.join(keys[:-1])} or {keys[-1]}.", "bad_choice")
    return EXPORTERS[format]


def file_name(name: str, size_mm: float, format: str) -> str:
    """A file name that says what it is: ``mug_100mm.stl``, ``mug_62.5mm.3mf``."""
    return f"{sized_name(name, size_mm)}.{find_exporter(format).suffix}"
