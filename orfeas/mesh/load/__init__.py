"""Read meshes made by others: STL, 3MF, GLB, OBJ and PLY, into our frame (Y up) and unit (millimetres).

    .stl .3mf   taken as Z up, as printing has it; STL in millimetres, 3MF in the unit that it names
    .glb        Y up, metres, as glTF says
    .obj .ply   taken as Y up and millimetres: neither says

Files come from anywhere: sizes are checked before they are believed, and whatever is wrong ends in one `BadMesh`.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from orfeas.errors import BadMesh
from orfeas.mesh import Mesh
from orfeas.mesh.clean import join_same_places
from orfeas.mesh.load.glb import read_glb
from orfeas.mesh.load.obj import read_obj
from orfeas.mesh.load.ply import read_ply
from orfeas.mesh.load.stl import read_stl
from orfeas.mesh.load.threemf import read_3mf
from orfeas.mesh.topology import is_closed

MAX_BYTES = 500_000_000
MAX_FACES = 4_000_000
# What a damaged file makes of its own numbers is told by the first of these; a bug of ours would be, too, which is why
# the tests feed each reader every truncation and many mutations of good files and look at the sentence.
DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    NotImplementedError,
    SyntaxError,
    EOFError,
    OSError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)

LOADERS: Mapping[str, Callable[[bytes, int], Mesh]] = {
    "stl": read_stl,
    "3mf": read_3mf,
    "glb": read_glb,
    "obj": read_obj,
    "ply": read_ply,
}


def load_mesh(path: Path | str, *, max_bytes: int = MAX_BYTES, max_faces: int = MAX_FACES) -> Mesh:
    """The mesh in a file, Y up, in millimetres, equal places joined to one vertex. The name's ending says the format.

    Raises `BadMesh` if the file cannot be read, is too large, is damaged or holds no triangles.
    """
    path = Path(path)
    kind = check_file(path, max_bytes=max_bytes)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return parse_mesh(data, kind, max_faces=max_faces, name=path.name)


def check_file(path: Path, *, max_bytes: int = MAX_BYTES) -> str:
    """What kind of mesh the name says that there is, before it is read: a key of `LOADERS`.

    Raises `BadMesh` if there is no such kind or no such file, or it is too large.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in LOADERS:
        endings = ".stl, .3mf, .glb, .obj or .ply"
        raise BadMesh(f"{path.name} cannot be read: give a file that ends in {endings}.", "bad_kind")
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
    except FileNotFoundError:
        raise BadMesh(f"There is no mesh file {path}: check its name and its folder.", "unreadable") from None
    except OSError as error:
        raise _unreadable(path, error) from error
    if size > max_bytes:
        raise BadMesh(f"{path.name} has {size / 1e6:,.0f} MB: at most {max_bytes / 1e6:,.0f} MB are read.", "too_large")
    return kind


def _unreadable(path: Path, error: OSError) -> BadMesh:
    why = error.strerror or error
    return BadMesh(f"{path} cannot be read ({why}): give a file, and see that you may read it.", "unreadable")


def parse_mesh(data: bytes, kind: str, *, max_faces: int = MAX_FACES, name: str = "The file") -> Mesh:
    """`load_mesh` for bytes; kind: "stl", "3mf", "glb", "obj" or "ply"."""
    try:
        mesh = LOADERS[kind](data, max_faces)
    except BadMesh as error:
        raise BadMesh(f"{name} cannot be used: {error}", error.code) from error
    except MemoryError as error:
        raise BadMesh(f"{name} needs more memory than there is: give a smaller mesh.", "too_large") from error
    except DAMAGE as error:
        raise BadMesh(f"{name} is damaged or no {kind.upper()} file: export it again.", "damaged") from error
    if not len(mesh.faces):
        raise BadMesh(f"{name} holds no triangles.", "empty_mesh")
    if not np.isfinite(mesh.vertices[mesh.faces[0]]).all() and not np.isfinite(mesh.vertices).any():
        raise BadMesh(f"{name} holds no finite coordinates: export it again.", "damaged")
    mesh = replace(mesh, faces=np.ascontiguousarray(mesh.faces, np.int32))
    return mesh if is_closed(mesh.faces) else join_same_places(mesh)
