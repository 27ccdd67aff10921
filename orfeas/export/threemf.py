"""3MF: a zip of XML that knows its unit, colours and title (3MF Core 1.3 and Materials and Properties 1.2).

Written by hand because the common Python writers drop the colours.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from orfeas.export.frame import one_line, z_up, zip_entry
from orfeas.mesh import Mesh
from orfeas.mesh.transfer import vertex_colors

CONTENT_TYPES = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/>'
    '<Default Extension="png" ContentType="image/png"/></Types>\n'
)
RELATIONSHIPS = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="model" Target="/3D/3dmodel.model" '
    'Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/>%s</Relationships>\n'
)
THUMBNAIL = (
    '<Relationship Id="thumbnail" Target="/Metadata/thumbnail.png" '
    'Type="http://schemas.openxmlformats.org/package/2006/relationships/metadata/thumbnail"/>'
)


def write_3mf(mesh: Mesh, path: Path, *, title: str = "model", thumbnail: bytes | None = None) -> None:
    """Z up, on z = 0, millimetres; a texture is written as colours of the vertices. thumbnail: PNG bytes."""
    colors = vertex_colors(mesh)
    vertices = z_up(mesh.vertices)
    resources, attribute = "", ""
    if colors is not None:
        packed = colors.astype(np.int64) @ np.array([65536, 256, 1])
        palette, index = np.unique(packed, return_inverse=True)
        listed = ('<m:color color="#%06X"/>' * len(palette)) % tuple(palette.tolist())
        resources = f'<m:colorgroup id="1">{listed}</m:colorgroup>'
        attribute = ' pid="1" pindex="0"'
        corners = np.concatenate([mesh.faces, index[mesh.faces]], axis=1)
        row = '<triangle v1="%d" v2="%d" v3="%d" pid="1" p1="%d" p2="%d" p3="%d"/>\n'
    else:
        corners, row = mesh.faces, '<triangle v1="%d" v2="%d" v3="%d"/>\n'
    name = escape(one_line(title), {'"': "&quot;"})
    # The plate's corner is the origin and models lie beyond it (3MF core, 3.3): what lies around it, as our vertices
    # do, some slicers leave hanging over the corner.
    left, front = -vertices[:, :2].min(axis=0) if len(vertices) else (0.0, 0.0)
    placing = f"1 0 0 0 1 0 0 0 1 {left:.6f} {front:.6f} 0"
    model = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<model unit="millimeter" xml:lang="en-US" xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02" '
        'xmlns:m="http://schemas.microsoft.com/3dmanufacturing/material/2015/02">\n'
        f'<metadata name="Title">{name}</metadata>\n<metadata name="Application">ORFEAS</metadata>\n'
        f'<resources>{resources}\n<object id="2" type="model" name="{name}"{attribute}><mesh>\n<vertices>\n',
        ('<vertex x="%.6f" y="%.6f" z="%.6f"/>\n' * len(vertices)) % tuple(vertices.ravel().tolist()),
        "</vertices>\n<triangles>\n",
        (row * len(corners)) % tuple(corners.ravel().tolist()),
        "</triangles>\n</mesh></object>\n</resources>\n"
        f'<build><item objectid="2" transform="{placing}"/></build>\n</model>\n',
    )
    with zipfile.ZipFile(path, "w", compresslevel=4) as archive:
        archive.writestr(zip_entry("[Content_Types].xml"), CONTENT_TYPES)
        archive.writestr(zip_entry("_rels/.rels"), RELATIONSHIPS % (THUMBNAIL if thumbnail else ""))
        archive.writestr(zip_entry("3D/3dmodel.model"), "".join(model).encode(), compresslevel=4)
        if thumbnail:
            archive.writestr(zip_entry("Metadata/thumbnail.png", compressed=False), thumbnail)
