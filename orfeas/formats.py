"""Any format of a finished result, without a new job: made from the result's own ``model.glb`` when first asked for.

What comes out is what a job asking for that format would have written, but for what a GLB rounds: positions are
float32 metres (at 100 mm, to 0.00001 mm), vertices may be in another order, a texture has been through JPEG, and the
thumbnail in a 3MF through WebP. GLB itself is the same to the byte.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from orfeas.export import EXPORTERS, export, file_name

if TYPE_CHECKING:
    from orfeas.library import Library
    from orfeas.mesh import Mesh


@dataclass(frozen=True)
class Recorded:
    """What a recipe says of its result, as far as files need it."""

    name: str
    size_mm: float
    has_colours: bool


def writable_formats() -> tuple[str, ...]:
    """The keys of `EXPORTERS` that can be written here: USDZ needs usd-core, which is looked for and not imported."""
    return tuple(key for key in EXPORTERS if key != "usdz" or find_spec("pxr") is not None)


def find_file(library: Library, result_id: str, name: str) -> Path | None:
    """The file of a finished result, or None. Both parts are matched, never joined unseen; no hidden file."""
    folder = library.find(result_id)
    if folder is None or name.startswith("."):
        return None
    return next((file for file in folder.iterdir() if file.name == name and file.is_file()), None)


def make_file(library: Library, result_id: str, name: str) -> Path | None:
    """`find_file`, and if ``name`` is one that a format of this result would have, that file, made now and kept.

    None for any other name. Two callers at once are safe: each writes aside, and renaming puts the same bytes in place.
    Raises `OrfeasError` if the format cannot be written here.
    """
    there = find_file(library, result_id, name)
    folder = library.find(result_id)
    if there is not None or folder is None:
        return there
    recorded = read_recorded(folder)
    if recorded is None:
        return None
    format = next((key for key in EXPORTERS if file_name(recorded.name, recorded.size_mm, key) == name), None)
    if format is None:
        return None
    try:
        with library.add(result_id, name) as aside:
            if format == "glb":
                aside.write_bytes(retitle_glb((folder / "model.glb").read_bytes(), recorded.name))
            else:
                shape, thumbnail = _read_shape(folder, recorded), _read_thumbnail(folder)
                export(shape, aside, format, title=recorded.name, thumbnail=thumbnail)
    except FileNotFoundError:  # the result expired meanwhile
        return None
    return folder / name


def read_recorded(folder: Path) -> Recorded | None:
    """From the folder's recipe; None where there is none that can be read."""
    try:
        request = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))["request"]
        return Recorded(str(request["name"]), float(request["size_mm"]), request["texture"] != "none")
    except (OSError, ValueError, TypeError, KeyError):
        return None


def retitle_glb(data: bytes, title: str) -> bytes:
    """The GLB with another name for its mesh and node, all else to the byte (glTF 2.0, 4.4: JSON chunk, then rest)."""
    length = int.from_bytes(data[12:16], "little")
    document = json.loads(data[20 : 20 + length])
    for named in (document["nodes"][0], document["meshes"][0]):
        named["name"] = title
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    total = 20 + len(text) + len(rest)
    return data[:8] + total.to_bytes(4, "little") + len(text).to_bytes(4, "little") + data[16:20] + text + rest


def _read_shape(folder: Path, recorded: Recorded) -> Mesh:
    from orfeas.mesh import Mesh
    from orfeas.mesh.load import load_mesh

    shape = load_mesh(folder / "model.glb")
    # a GLB without colours names a grey, so that viewers do not show white; no other format has it
    return shape if recorded.has_colours else Mesh(shape.vertices, shape.faces)


def _read_thumbnail(folder: Path) -> bytes | None:
    from PIL import Image

    poster = folder / "poster.webp"
    if not poster.is_file():
        return None
    drawn = io.BytesIO()
    with Image.open(poster) as picture:
        picture.save(drawn, "PNG")
    return drawn.getvalue()
