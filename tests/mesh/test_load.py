"""Files of others: what we write comes back, and what is broken ends in a sentence."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest
import trimesh
from PIL import Image

from orfeas.errors import BadMesh
from orfeas.export import export
from orfeas.mesh import Mesh, Texture, signed_volume
from orfeas.mesh.finish import place
from orfeas.mesh.load import DAMAGE, LOADERS, load_mesh, parse_mesh
from orfeas.mesh.load import glb as glb_module
from orfeas.mesh.topology import find_edges
from orfeas.mesh.transfer import vertex_colors
from tests.mesh import shapes

KINDS = ("stl", "3mf", "glb", "obj", "ply")


@pytest.fixture(scope="module")
def model() -> Mesh:
    """A painted torus beside a ball: no symmetry that could hide a mirror or a turned axis."""
    mesh = shapes.together(shapes.torus(1, 0.3, 32, 16), shapes.moved(shapes.ball(0.4, 12), (1.5, 0.6, 0.8)))
    return place(shapes.painted(mesh), size_mm=80)[0]


def sorted_rows(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(np.round(points, 3).T)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_we_write_comes_back(kind, model, tmp_path):
    path = tmp_path / f"model.{kind}"
    export(model, path, kind)
    loaded = load_mesh(path)
    assert loaded.extents == pytest.approx(model.extents, abs=0.01)
    assert len(loaded.vertices) == len(model.vertices)
    if kind == "3mf":  # which lies beyond the plate's corner
        loaded = Mesh(loaded.vertices + (model.bounds[0] - loaded.bounds[0]), loaded.faces, loaded.colors)
    assert np.abs(sorted_rows(loaded.vertices) - sorted_rows(model.vertices)).max() < 0.001
    assert find_edges(loaded.faces).manifold
    assert signed_volume(loaded.vertices, loaded.faces) == pytest.approx(
        signed_volume(model.vertices, model.faces), rel=1e-4
    )
    if kind != "stl":
        order, expected = np.lexsort(np.round(loaded.vertices, 3).T), np.lexsort(np.round(model.vertices, 3).T)
        difference = loaded.colors[order].astype(int) - model.colors[expected]
        assert np.abs(difference).max() <= 1


def test_texture_of_a_glb_comes_back(tmp_path):
    mesh = shapes.ball(cells=16)
    uv = (mesh.vertices[:, :2] / 2 + 0.5)[mesh.faces].astype(np.float32)
    image = np.random.default_rng(0).integers(0, 255, (64, 32, 3), dtype=np.uint8)
    textured = Mesh(mesh.vertices, mesh.faces, None, Texture(uv, image))
    path = tmp_path / "model.glb"
    export(textured, path, "glb")
    loaded = load_mesh(path)
    assert np.array_equal(loaded.texture.image, image)  # small textures are PNG
    assert np.allclose(loaded.texture.corner_uv, uv)
    difference = vertex_colors(loaded)[loaded.faces].astype(int) - vertex_colors(textured)[mesh.faces]
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("kind", ["stl_ascii", "ply_ascii", "glb", "obj", "3mf"])
def test_files_written_by_trimesh(kind, tmp_path):
    made = trimesh.creation.box(extents=(10, 20, 40))
    made.apply_translation((5, 6, 7))
    suffix = kind.split("_")[0]
    options = {"ply_ascii": {"encoding": "ascii"}}.get(kind, {})
    data = made.export(file_type="stl_ascii" if kind == "stl_ascii" else suffix, **options)
    loaded = parse_mesh(data.encode() if isinstance(data, str) else data, suffix)
    scale = 1000 if kind == "glb" else 1
    z_up = suffix in ("stl", "3mf")
    assert loaded.extents == pytest.approx(np.array([10, 40, 20] if z_up else [10, 20, 40]) * scale, rel=1e-5)
    assert signed_volume(loaded.vertices, loaded.faces) == pytest.approx(8000 * scale**3, rel=1e-5)
    assert find_edges(loaded.faces).manifold


def test_units_of_3mf(tmp_path):
    path = tmp_path / "model.3mf"
    export(shapes.cube(1.0), path, "3mf")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for unit, size in {"inch": 25.4, "centimeter": 10.0, "micron": 0.001}.items():
        changed = io.BytesIO()
        with zipfile.ZipFile(changed, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content.replace(b'unit="millimeter"', f'unit="{unit}"'.encode()))
        assert parse_mesh(changed.getvalue(), "3mf").extents == pytest.approx([size] * 3)


def test_nodes_of_a_glb_are_placed():
    scene = trimesh.Scene()
    turn = trimesh.transformations.rotation_matrix(np.pi / 2, (0, 0, 1))
    turn[:3, 3] = (1, 2, 3)
    scene.add_geometry(trimesh.creation.box(extents=(0.1, 0.2, 0.3)), transform=turn)
    mirror = np.diag([-1.0, 1, 1, 1])
    scene.add_geometry(trimesh.creation.box(extents=(0.1, 0.1, 0.1)), transform=mirror)
    loaded = parse_mesh(scene.export(file_type="glb"), "glb")
    assert loaded.bounds[1] == pytest.approx([1100, 2050, 3150], rel=1e-4)
    assert signed_volume(loaded.vertices, loaded.faces) == pytest.approx(7e6, rel=1e-4)


def test_polygons_and_negative_indices_of_obj():
    text = b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf -4 -3 -2 -1\nf 1//1 2//2 3//3\n"
    assert len(parse_mesh(text, "obj").faces) == 3


LONG = "1.2345678901234567890123456789012e+02"  # 37 characters: what a fixed width would cut is the exponent
SQUARE = ((0, 0, 0), (LONG, 0, 0), (LONG, 1, 0), (0, 1, 0))


@pytest.mark.parametrize("kind", ["obj", "ply", "ply with a list", "stl", "3mf"])
def test_long_decimals_are_read_in_full(kind):
    rows = [" ".join(map(str, row)) for row in SQUARE]
    if kind == "obj":
        text = "".join(f"v {row}\n" for row in rows) + "f 1 2 3 4\n"
    elif kind.startswith("ply"):
        more = "property list uchar int spare\n" if "list" in kind else ""
        header = f"ply\nformat ascii 1.0\nelement vertex 4\n{more}" + "".join(f"property double {a}\n" for a in "xyz")
        lines = [f"1 7 {row}" if more else row for row in rows]
        text = header + "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
        text += "\n".join([*lines, "4 0 1 2 3\n"])
    elif kind == "stl":
        text = "solid a\nfacet normal 0 0 1\nouter loop\n" + "".join(f"vertex {row}\n" for row in rows[:3])
        text += "endloop\nendfacet\nendsolid a\n"
    else:
        text = packed(tetrahedron_3mf().replace('x="1"', f'x="{LONG}"'))
    data = text if isinstance(text, bytes) else text.encode()
    assert parse_mesh(data, kind[:3]).extents.max() == pytest.approx(123.45678901234568, rel=1e-15)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_obj_with_tabs_spaces_and_continued_lines(end):
    lines = [b"v\t0 0 0", b"v 1\t0 0", b"  v 1 1 0", b"v 0 1 \\", b"0", b"f\t1 2 \\", b"3 4", b""]
    mesh = parse_mesh(end.join(lines), "obj")
    assert len(mesh.faces) == 2
    assert mesh.extents == pytest.approx((1, 1, 0))


def test_polygons_and_vertices_are_counted_before_they_are_made():
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 3\n" + "".join(
        f"property float {a}\n" for a in "xyz"
    )
    header += "element face 1\nproperty list uint uchar vertex_indices\nend_header\n"
    polygon = header.encode() + bytes(36) + (2_000_000).to_bytes(4, "little") + bytes(2_000_000)

    def refused() -> None:
        with pytest.raises(BadMesh, match="1,999,998 faces, at most 1,000 are taken"):
            parse_mesh(polygon, "ply", max_faces=1000)

    assert peak_megabytes(refused) < 70  # as triangles: 150
    crowd = b"v 1 2 3\n" * 200_000 + b"f 1 2 3\n"

    def crowded() -> None:
        with pytest.raises(BadMesh, match="200,000 vertices, too many for the 1,000 faces"):
            parse_mesh(crowd, "obj", max_faces=1000)

    assert peak_megabytes(crowded) < 10
    elements = "element vertex 2000\nproperty float x\nelement edge 2000\nproperty float y\n"
    with pytest.raises(BadMesh, match="4,000 vertices, too many"):
        parse_mesh(f"ply\nformat ascii 1.0\n{elements}end_header\n".encode(), "ply", max_faces=1000)


def mesh_or_sentence(data: bytes, kind: str) -> Mesh | str:
    """What a reader makes of any bytes; every other exception is a failure of the test."""
    try:
        with np.errstate(all="ignore"):
            return parse_mesh(data, kind)
    except BadMesh as error:
        return str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_ends_in_a_sentence(kind, tmp_path):
    path = tmp_path / f"model.{kind}"
    export(shapes.painted(shapes.cube(10.0)), path, kind)
    data = path.read_bytes()
    for end in range(0, len(data), max(1, len(data) // 150)):
        mesh = mesh_or_sentence(data[:end], kind)
        assert isinstance(mesh, str) or kind == "obj"  # text without an end: what is there is read


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_never_crash(kind, tmp_path):
    path = tmp_path / f"model.{kind}"
    export(shapes.painted(shapes.cube(10.0)), path, kind)
    data = bytearray(path.read_bytes())
    random = np.random.default_rng(1)
    for _ in range(250):
        broken = bytearray(data)
        for spot in random.integers(0, len(data), random.integers(1, 6)):
            broken[spot] = random.integers(0, 256)
        mesh = mesh_or_sentence(bytes(broken), kind)
        assert isinstance(mesh, str) or mesh.faces.max() < len(mesh.vertices)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "stl"),
        (b"solid x\nendsolid x\n", "stl"),
        (b"solid x\nfacet normal 0 0 0\nouter loop\nvertex 0 0 0\n", "stl"),
        (b"\0" * 80 + (10**9).to_bytes(4, "little"), "stl"),
        (b"ply\nformat ascii 1.0\nelement vertex 99999999999\nproperty float x\nend_header\n", "ply"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n0", "ply"),
        (b"v 0 0 0\nf 1 2 3\n", "obj"),
        (b"v 1 2\nf 1 1 1\n", "obj"),
        (b"PK\x03\x04rubbish", "3mf"),
        (b"glTF\x02\0\0\0", "glb"),
    ],
)
def test_hostile_files(data, kind):
    with pytest.raises(BadMesh):
        parse_mesh(data, kind)


CORE_NAMESPACE = 'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"'


def packed(model: bytes | str, method: int = zipfile.ZIP_DEFLATED, **parts: str) -> bytes:
    """A 3MF file around a model part, and more parts in a folder of it."""
    made = io.BytesIO()
    relation = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="a" '
        'Target="/m" Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/></Relationships>'
    )
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr("_rels/.rels", relation)
        archive.writestr("m", model)
        for name, content in parts.items():
            archive.writestr(f"3D/Objects/{name}.model", content)
    return made.getvalue()


def tetrahedron_3mf(head: str = "", more_vertices: str = "", objects: str = "", build: str = "") -> str:
    points = "".join(f'<vertex x="{x}" y="{y}" z="{z}"/>' for x, y, z in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
    corners = [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)]
    triangles = "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in corners)
    mesh = f"<mesh><vertices>{points}{more_vertices}</vertices><triangles>{triangles}</triangles></mesh>"
    item = build or '<item objectid="1"/>'
    return (
        f'{head}<model {CORE_NAMESPACE}><resources><object id="1">{mesh}</object>{objects}</resources>'
        f"<build>{item}</build></model>"
    )


def test_a_3mf_of_several_parts_is_read_as_slicers_write_it():
    production = 'xmlns:p="http://schemas.microsoft.com/3dmanufacturing/production/2015/06" requiredextensions="p"'
    place = 'p:path="/3D/objects/BODY.model" objectid="1" transform="2 0 0 0 2 0 0 0 2 5 0 0"'
    root = tetrahedron_3mf(
        objects=f'<object id="2"><components><component {place}/></components></object>',
        build='<item objectid="2"/>',
    ).replace("<model", f"<model {production}")
    body = tetrahedron_3mf().replace("<model", '<model unit="centimeter"')  # another object of the same number
    made = parse_mesh(packed(root, body=body), "3mf")
    assert made.bounds == pytest.approx(np.array([[5, 0, -20], [25, 20, 0]]))
    assert len(made.faces) == 4
    assert (
        parse_mesh(packed(root.replace("<build>", '<build><item objectid="1"/>'), body=body), "3mf").faces.shape[0] == 8
    )
    with pytest.raises(BadMesh, match=r"needs the 3MF extension .*beamlattice"):
        beams = 'xmlns:b="http://schemas.microsoft.com/3dmanufacturing/beamlattice/2017/02" requiredextensions="b"'
        parse_mesh(packed(tetrahedron_3mf().replace("<model", f"<model {beams}")), "3mf")
    endless = body.replace('id="1">', 'id="1"><components><component p:path="/3D/Objects/body.model" objectid="1"/>')
    endless = endless.replace("<mesh>", "</components><mesh>").replace("<model", f"<model {production}")
    with pytest.raises(BadMesh, match="contain one another"):
        parse_mesh(packed(root, body=endless), "3mf")


def test_supports_in_a_3mf_are_not_of_the_model():
    other = (
        tetrahedron_3mf().split("<resources>")[1].split("</resources>")[0].replace('id="1"', 'id="7" type="support"')
    )
    place = '<item objectid="1"/><item objectid="7" transform="1 0 0 0 1 0 0 0 1 40 0 0"/>'
    assert parse_mesh(packed(tetrahedron_3mf(objects=other, build=place)), "3mf").extents == pytest.approx([1, 1, 1])


FACET = "facet normal 0 0 0\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\n"


@pytest.mark.parametrize(
    "text",
    [
        f"solid a\n{FACET}endsolid a\n",
        f"solid a\n{FACET}endsolid a\n".replace("\n", "\r"),
        f"solid a\n{FACET}endsolid a".replace("\n", " "),
        f"solid a\n{FACET}endsolid a\n\x1a",
        f"\ufeffsolid a\n{FACET}endsolid a\nsolid b\n{FACET}endsolid b\n; written by a program\n",
    ],
    ids=["plain", "carriage returns", "one line", "end of file", "two solids and more"],
)
def test_text_stl_is_read_however_its_lines_end(text):
    made = parse_mesh(text.encode(), "stl")
    assert len(made.faces) == text.count("endfacet")
    assert made.extents == pytest.approx([1, 0, 1])
    with pytest.raises(BadMesh, match="in the middle of a face"):
        parse_mesh(text.encode()[: text.encode().rindex(b"endsolid")], "stl")


def test_obj_with_comments_and_colours_in_bytes():
    text = (
        "\ufeffv 0 0 0 255 0 0 # a corner\nv 1 0 0 0 255 0\n v 0 1 0 0 0 128#last\n# f 1 1 1\nf 1 2 3 # the only one\n"
    )
    made = parse_mesh(text.encode(), "obj")
    assert made.faces.tolist() == [[0, 1, 2]]
    assert made.colors.tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 128]]


@pytest.mark.parametrize("turned", [0.0, 0.7])
def test_polygons_with_a_notch_are_not_folded_over_it(turned):
    outline = [(0, 0), (30, 0), (30, 30), (20, 30), (20, 10), (10, 10), (10, 30), (0, 30)]  # a U
    number = np.arange(8)
    points = np.array([(x, y, z) for z in (0, 10) for x, y in outline], float)
    points = points @ trimesh.transformations.rotation_matrix(turned, (1, 2, 3))[:3, :3].T
    polygons = [number[::-1], number + 8, *([a, (a + 1) % 8, (a + 1) % 8 + 8, a + 8] for a in number)]
    lines = [f"v {x:.9f} {y:.9f} {z:.9f}" for x, y, z in points]
    for first in range(8):  # wherever a polygon begins
        ends = [np.roll(polygon, first) if len(polygon) == 8 else polygon for polygon in polygons]
        text = "\n".join(lines + ["f " + " ".join(str(corner + 1) for corner in polygon) for polygon in ends])
        made = parse_mesh((text + "\nf 1 2" * 18).encode(), "obj")  # lines: as many polygons as triangles
        corners = made.vertices[made.faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
        assert area.sum() == pytest.approx(2 * 700 + 10 * 160)
        assert find_edges(made.faces).manifold
        assert signed_volume(made.vertices, made.faces) == pytest.approx(7000)


def test_zip_bomb_and_endless_components():
    with pytest.raises(BadMesh, match="unpacks to"):
        parse_mesh(packed(b" " * 50_000_000), "3mf")
    objects = '<object id="0"><components>' + '<component objectid="0"/>' * 2 + "</components></object>"
    model = f'<model {CORE_NAMESPACE}><resources>{objects}</resources><build><item objectid="0"/></build></model>'
    with pytest.raises(BadMesh, match="contain one another"):
        parse_mesh(packed(model), "3mf")
    entities = '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + k)} "{("&" + chr(97 + k) + ";") * 10}">' for k in range(9)
    )
    with pytest.raises(BadMesh, match="document type"):
        parse_mesh(packed(f"{entities}]><model {CORE_NAMESPACE}>&j;</model>"), "3mf")


def peak_megabytes(call) -> float:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_vertices_of_3mf_are_counted_as_often_as_they_are_used():
    spare = '<vertex x="1" y="2" z="3"/>' * 10_000
    used = '<object id="2"><components>' + '<component objectid="1"/>' * 3000 + "</components></object>"
    data = packed(tetrahedron_3mf(more_vertices=spare, objects=used, build='<item objectid="2"/>'), zipfile.ZIP_STORED)

    def refused() -> None:
        with pytest.raises(BadMesh, match="vertices, too many"):
            parse_mesh(data, "3mf")

    assert peak_megabytes(refused) < 30
    hollow = tetrahedron_3mf().replace("<triangles>", "<triangles><!--").replace("</triangles>", "--></triangles>")
    none = hollow.replace("<vertices>", f"<vertices>{spare}")
    none = none.replace("</resources>", f"{used}</resources>").replace('item objectid="1"', 'item objectid="2"')

    def empty() -> None:
        with pytest.raises(BadMesh, match="nothing in it"):
            parse_mesh(packed(none, zipfile.ZIP_STORED), "3mf")

    assert peak_megabytes(empty) < 30


def test_3mf_takes_no_tree_of_its_xml(tmp_path):
    spare = '<vertex x="1" y="2" z="3"/>' * 300_000  # 8 MB: as a tree 100 MB and more
    data = packed(tetrahedron_3mf(more_vertices=spare), zipfile.ZIP_STORED)
    assert peak_megabytes(lambda: parse_mesh(data, "3mf")) < 60


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2], ids=["lzma", "bzip2"])
def test_3mf_packed_in_other_ways_is_refused_whole_or_damaged(method):
    data = packed(tetrahedron_3mf(more_vertices='<vertex x="1" y="2" z="3"/>' * 500), method)
    with pytest.raises(BadMesh, match="packed in a way"):
        parse_mesh(data, "3mf")
    for spot in range(30, 400, 7):
        broken = bytearray(data)
        broken[spot] ^= 0xFF
        assert isinstance(mesh_or_sentence(bytes(broken), "3mf"), str)


def test_xml_in_an_unknown_encoding_is_a_sentence():
    for encoding in ("foo", "utf-16", "idna"):
        data = packed(tetrahedron_3mf(head=f'<?xml version="1.0" encoding="{encoding}"?>'))
        with pytest.raises(BadMesh, match="damaged"):
            parse_mesh(data, "3mf")
    assert len(parse_mesh(packed(tetrahedron_3mf(head='<?xml version="1.0" encoding="UTF-8"?>')), "3mf").faces) == 4


def test_every_exception_of_the_one_list_is_a_sentence(monkeypatch):
    for kind in DAMAGE:

        def raise_it(data, max_faces, kind=kind):
            raise kind

        monkeypatch.setitem(LOADERS, "stl", raise_it)
        with pytest.raises(BadMesh, match="damaged or no STL"):
            parse_mesh(b"", "stl")


def glb(document: dict, binary: bytes) -> bytes:
    text = json.dumps({"asset": {"version": "2.0"}, **document}).encode()
    chunks = len(text).to_bytes(4, "little") + b"JSON" + text + len(binary).to_bytes(4, "little") + b"BIN\0" + binary
    return b"glTF" + (2).to_bytes(4, "little") + (12 + len(chunks)).to_bytes(4, "little") + chunks


def glb_of(primitives: list, accessors: list, views: list, binary: bytes, **more) -> bytes:
    document = {"scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}], "meshes": [{"primitives": primitives}]}
    return glb({**document, "accessors": accessors, "bufferViews": views, "buffers": [{}], **more}, binary)


POINT = {"bufferView": 0, "componentType": 5126, "type": "VEC3"}


@pytest.mark.parametrize("stride", [0, 4])
def test_vertices_of_a_glb_are_not_made_of_nothing(stride):
    binary = np.zeros(3000, np.float32).tobytes()
    view = {"buffer": 0, "byteStride": stride, "byteLength": len(binary)}
    for count in (900, 10**12):
        data = glb_of([{"attributes": {"POSITION": 0}}], [{**POINT, "count": count}], [view], binary)
        with pytest.raises(BadMesh):
            parse_mesh(data, "glb")


def test_vertices_of_a_glb_are_counted_as_often_as_they_are_used():
    binary = np.random.default_rng(0).normal(size=(10_000, 3)).astype(np.float32).tobytes()
    indices = np.arange(3, dtype=np.uint32).tobytes()
    views = [{"buffer": 0, "byteLength": len(binary)}, {"buffer": 0, "byteOffset": len(binary), "byteLength": 12}]
    accessors = [{**POINT, "count": 10_000}, {"bufferView": 1, "componentType": 5125, "type": "SCALAR", "count": 3}]
    primitive = {"attributes": {"POSITION": 0}, "indices": 1}

    def refused() -> None:
        with pytest.raises(BadMesh, match="vertices, too many"):
            parse_mesh(glb_of([primitive] * 1500, accessors, views, binary + indices), "glb", max_faces=100_000)

    assert peak_megabytes(refused) < 30  # the limit is 300,000 vertices


def test_a_picture_is_decoded_once_and_its_pixels_are_counted(monkeypatch):
    picture = io.BytesIO()
    Image.fromarray(np.full((512, 512, 3), (200, 100, 50), np.uint8)).save(picture, "PNG")
    points = np.eye(3, dtype=np.float32).tobytes()
    binary = points + np.zeros((3, 2), np.float32).tobytes() + picture.getvalue()
    views = [
        {"buffer": 0, "byteLength": 36},
        {"buffer": 0, "byteOffset": 36, "byteLength": 24},
        {"buffer": 0, "byteOffset": 60, "byteLength": len(picture.getvalue())},
    ]
    accessors = [{**POINT, "count": 3}, {"bufferView": 1, "componentType": 5126, "type": "VEC2", "count": 3}]
    more = {
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": k}}} for k in range(2)],
        "textures": [{"source": 0}, {"source": 1}],
        "images": [{"bufferView": 2, "mimeType": "image/png"}] * 2,
    }
    primitives = [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "material": 0} for _ in range(40)]
    data = glb_of(primitives, accessors, views, binary, **more)
    assert peak_megabytes(lambda: parse_mesh(data, "glb")) < 10  # 40 pictures would be 31 MB
    assert (parse_mesh(data, "glb").colors == (200, 100, 50)).all()
    monkeypatch.setattr(glb_module, "MAX_PIXELS", 512 * 512 + 1)
    assert len(parse_mesh(data, "glb").faces) == 40
    primitives[3]["material"] = 1
    with pytest.raises(BadMesh, match="textures are too large together"):
        parse_mesh(glb_of(primitives, accessors, views, binary, **more), "glb")


@pytest.mark.parametrize(
    ("placing", "expected"),
    [
        ({}, [(0, 0), (1, 0), (0, 1)]),
        ({"offset": [0.25, 0.5], "scale": [0.5, 0.25]}, [(0.25, 0.5), (0.75, 0.5), (0.25, 0.75)]),
        ({"offset": [0, 1], "scale": [1, -1]}, [(0, 1), (1, 1), (0, 0)]),
        # the example of the extension: the lower left quadrant, turned by 90 degrees
        ({"offset": [0, 1], "rotation": np.pi / 2, "scale": [0.5, 0.5]}, [(0, 1), (0, 0.5), (0.5, 1)]),
        ({"texCoord": 1}, [(0.5, 0.5)] * 3),
    ],
    ids=["none", "moved and scaled", "upside down", "turned", "other layer"],
)
def test_texture_transform_is_applied(placing, expected):
    picture = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture, "PNG")
    uv = np.array([(0, 0), (1, 0), (0, 1)] + [(0.5, 0.5)] * 3, np.float32)
    binary = np.eye(3, dtype=np.float32).tobytes() + uv.tobytes() + picture.getvalue()
    views = [
        {"buffer": 0, "byteLength": 36},
        {"buffer": 0, "byteOffset": 36, "byteLength": 48},
        {"buffer": 0, "byteOffset": 84, "byteLength": len(picture.getvalue())},
    ]
    layer = {"bufferView": 1, "componentType": 5126, "type": "VEC2", "count": 3}
    accessors = [{**POINT, "count": 3}, layer, {**layer, "byteOffset": 24}]
    place_it = {"extensions": {"KHR_texture_transform": placing}}
    data = glb_of(
        [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1, "TEXCOORD_1": 2}, "material": 0}],
        accessors,
        views,
        binary,
        materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0, **place_it}}}],
        textures=[{"source": 0}],
        images=[{"bufferView": 2, "mimeType": "image/png"}],
        extensionsRequired=["KHR_texture_transform"],
    )
    assert parse_mesh(data, "glb").texture.corner_uv[0] == pytest.approx(np.array(expected, float), abs=1e-6)


def test_nodes_in_a_circle():
    document = {"asset": {"version": "2.0"}, "scenes": [{"nodes": [0]}], "nodes": [{"children": [0]}]}
    text = json.dumps(document).encode()
    data = b"glTF" + (2).to_bytes(4, "little") + b"\0" * 4 + len(text).to_bytes(4, "little") + b"JSON" + text
    with pytest.raises(BadMesh, match="contain one another"):
        parse_mesh(data, "glb")


def test_limits_and_kinds_are_named(tmp_path):
    path = tmp_path / "model.stl"
    export(shapes.ball(10), path, "stl")
    with pytest.raises(BadMesh, match=r"at most 100 are taken"):
        load_mesh(path, max_faces=100)
    with pytest.raises(BadMesh, match=r"at most 0 MB"):
        load_mesh(path, max_bytes=1000)
    with pytest.raises(BadMesh, match=r"\.stl, \.3mf, \.glb, \.obj or \.ply"):
        load_mesh(tmp_path / "model.blend")
    with pytest.raises(BadMesh, match="There is no mesh file"):
        load_mesh(tmp_path / "missing.stl")
