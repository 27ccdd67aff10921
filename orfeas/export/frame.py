"""From the mesh's frame (Y up, front +Z) to the printing frame (Z up, front -Y), and colours as formats want them."""

from __future__ import annotations

import unicodedata
import zipfile

import numpy as np

from orfeas.mesh import Mesh, vertex_normals
from orfeas.mesh.clean import unique_rows


def z_up(vertices: np.ndarray) -> np.ndarray:
    """(n, 3) float64: turned a quarter about X, so that Y becomes Z; lowest point at z = 0."""
    turned = np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], axis=1)
    turned[:, 2] -= turned[:, 2].min()
    return turned


def split_at_seams(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices doubled only where the corners that meet there have different texture coordinates.

    Returns (k,) the mesh's vertex of each row, (k, 2) float32 its texture coordinates, (m, 3) int32 faces of rows.
    """
    uv = mesh.texture.corner_uv.reshape(-1, 2)
    rows = np.concatenate([mesh.faces.reshape(-1, 1).astype(np.float64), uv.astype(np.float64)], axis=1)
    first, row_of_corner = unique_rows(rows)
    return mesh.faces.ravel()[first], uv[first].astype(np.float32), row_of_corner.reshape(-1, 3).astype(np.int32)


def unit_normals(mesh: Mesh) -> np.ndarray:
    """(n, 3) float32 normals whose length is one within float32."""
    return vertex_normals(mesh.vertices, mesh.faces).astype(np.float32)


def linear_light(colors: np.ndarray) -> np.ndarray:
    """float64 in [0, 1]: sRGB bytes as linear light (IEC 61966-2-1)."""
    value = np.arange(256) / 255.0
    table = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return table[colors]


def one_line(title: str) -> str:
    """A title for a line of text or an XML attribute: printable characters only, single spaces."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in title).split())


def ascii_line(title: str) -> str:
    """`one_line` where only ASCII may stand: letters lose their accents, and those of other scripts are left out."""
    parted = unicodedata.normalize("NFKD", one_line(title)).encode("ascii", "ignore").decode()
    return one_line(parted.strip("-_ ")) or "model"


def sized_name(name: str, size_mm: float) -> str:
    """``mug_100mm``, ``mug_62.5mm``: what a model's files are called."""
    return f"{name}_{size_mm:.2f}".rstrip("0").rstrip(".") + "mm"


def zip_entry(name: str, *, compressed: bool = True) -> zipfile.ZipInfo:
    """A zip entry without a time of its own, so that the same mesh gives the same bytes."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    entry.external_attr = 0o644 << 16
    return entry
