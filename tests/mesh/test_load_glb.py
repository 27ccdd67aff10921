"""GLB files of others: kinds of triangles, nodes, extensions, and textures as other programs place them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from orfeas.errors import BadMesh
from orfeas.mesh import Mesh
from orfeas.mesh.load import glb as glb_module
from orfeas.mesh.load import parse_mesh
from orfeas.mesh.transfer import vertex_colors
from tests.mesh.test_load import POINT, glb_of


def flat_glb(mode: int, corners: list[int] | None = None, uv=None, picture: bytes = b"", **more) -> bytes:
    """Points of a zigzag in the plane z = 0, every second one above; in metres. uv: of each point."""
    points = np.array([(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (2, 0, 0)], np.float32)
    numbers = np.arange(5, dtype=np.uint32) if corners is None else np.array(corners, np.uint32)
    parts = [points, numbers] if uv is None else [points, numbers, np.array(uv, np.float32)]
    binary, views = b"", []
    for part in [*(part.tobytes() for part in parts), picture]:
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(part)})
        binary += part + bytes(-len(part) % 4)
    accessors = [
        {**POINT, "count": 5},
        {"bufferView": 1, "componentType": 5125, "type": "SCALAR", "count": len(numbers)},
        {"bufferView": 2, "componentType": 5126, "type": "VEC2", "count": 5},
    ]
    attributes = {"POSITION": 0} if uv is None else {"POSITION": 0, "TEXCOORD_0": 2}
    primitive = {"attributes": attributes, "indices": 1, "mode": mode, "material": 0}
    return glb_of([primitive], accessors, views, binary, **{"materials": [{}], **more})


def area_vector(mesh: Mesh) -> np.ndarray:
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a).sum(axis=0) / 2e6


def test_strips_and_fans_of_a_glb_are_triangles_of_one_side():
    assert area_vector(parse_mesh(flat_glb(5), "glb")) == pytest.approx([0, 0, -1.5])
    assert area_vector(parse_mesh(flat_glb(6, [0, 2, 3, 1]), "glb")) == pytest.approx([0, 0, 1])
    assert area_vector(parse_mesh(flat_glb(4, [0, 1, 2]), "glb")) == pytest.approx([0, 0, -0.5])
    for mode in (0, 1, 3):
        with pytest.raises(BadMesh, match="no triangles"):
            parse_mesh(flat_glb(mode), "glb")


def test_a_glb_without_scenes_has_the_nodes_that_are_nobodys_child():
    nodes = [{"mesh": 0, "scale": [2, 2, 2]}, {"children": [0], "scale": [3, 3, 3]}]
    made = parse_mesh(flat_glb(5, scenes=[], nodes=nodes), "glb")
    assert made.extents == pytest.approx([12_000, 6_000, 0])
    with pytest.raises(BadMesh, match="apply the pose"):
        parse_mesh(flat_glb(5, nodes=[{"mesh": 0, "skin": 0}]), "glb")


def test_what_a_glb_needs_is_told_by_its_name():
    for name in ("KHR_materials_clearcoat", "EXT_texture_webp"):
        assert len(parse_mesh(flat_glb(5, extensionsRequired=[name]), "glb").faces) == 3
    with pytest.raises(BadMesh, match="KHR_draco_mesh_compression: export it without compression"):
        parse_mesh(flat_glb(5, extensionsRequired=["KHR_draco_mesh_compression"]), "glb")
    with pytest.raises(BadMesh, match="EXT_mesh_gpu_instancing: export it without it"):
        parse_mesh(flat_glb(5, extensionsRequired=["EXT_mesh_gpu_instancing"]), "glb")


def textured_glb(uv, factor=(1, 1, 1), sampler: dict | None = None) -> bytes:
    """One square of two triangles with a picture whose left half is grey (200) and right half black."""
    picture = io.BytesIO()
    Image.fromarray(np.repeat(np.array([[[200] * 3] * 32 + [[0] * 3] * 32], np.uint8), 64, axis=0)).save(picture, "PNG")
    base = {"baseColorTexture": {"index": 0}, "baseColorFactor": [*factor, 1]}
    return flat_glb(
        5,
        [0, 1, 2, 3],
        [*uv, (0, 0)],
        picture.getvalue(),
        materials=[{"pbrMetallicRoughness": base}],
        textures=[{"source": 0, **({} if sampler is None else {"sampler": 0})}],
        samplers=[sampler or {}],
        images=[{"bufferView": 3, "mimeType": "image/png"}],
    )


def color_at(mesh: Mesh, x: float, y: float) -> int:
    """The texture's first channel at a place of the square, in metres, by the triangle that is there."""
    for corners, uv in zip(mesh.vertices[mesh.faces][..., :2] / 1000, mesh.texture.corner_uv, strict=True):
        share = np.linalg.solve(np.vstack([corners.T, [1, 1, 1]]), [x, y, 1])
        if share.min() >= -1e-9:
            height, width = mesh.texture.image.shape[:2]
            u, v = share @ uv
            return int(mesh.texture.image[min(int(v * height), height - 1), min(int(u * width), width - 1), 0])
    raise AssertionError("no triangle is there")


def test_textures_run_on_beyond_their_edge():
    def made(low: float, high: float, sampler=None) -> Mesh:
        return parse_mesh(textured_glb([(low, 0), (low, 1), (high, 0), (high, 1)], sampler=sampler), "glb")

    across = (0.1, 0.3, 0.7, 0.9)
    assert [color_at(made(0, 1), x, 0.4) for x in across] == [200, 200, 0, 0]
    assert [color_at(made(0.75, 1.25), x, 0.4) for x in across] == [0, 0, 200, 200], "over a seam"
    assert [color_at(made(-3, -2), x, 0.4) for x in across] == [200, 200, 0, 0]
    tiled = made(0, 4)
    assert [color_at(tiled, x, 0.4) for x in (0.05, 0.2, 0.3, 0.45, 0.8, 0.95)] == [200, 0, 200, 0, 200, 0]
    assert tiled.texture.corner_uv.max() <= 1
    assert [color_at(made(0.75, 1.75, {"wrapS": 33071}), x, 0.4) for x in across] == [0, 0, 0, 0]
    assert made(0, 1000).texture.image.shape == (64, 64, 3), "no picture of 64,000 pixels is made"


def test_textures_are_tinted_and_what_is_no_number_is_a_place():
    square = [(0, 0), (0, 1), (1, 0), (1, 1)]
    red = parse_mesh(textured_glb(square, factor=(1, 0, 0.5)), "glb").texture.image
    assert red[0, 0].tolist() == [200, 0, 146]  # half of the light of 200
    assert red[0, 63].tolist() == [0, 0, 0]
    odd = parse_mesh(textured_glb([(np.nan, 0), (0, np.inf), (1, 0), (1, 1)]), "glb")
    assert vertex_colors(odd).shape == (5, 3)


def test_repeated_textures_are_counted(monkeypatch):
    tiled = textured_glb([(0, 0), (0, 1), (4, 0), (4, 1)])
    monkeypatch.setattr(glb_module, "MAX_PIXELS", 64 * 64 * 5)
    assert parse_mesh(tiled, "glb").texture.image.shape == (64, 256, 3)
    monkeypatch.setattr(glb_module, "MAX_PIXELS", 64 * 64 * 5 - 1)
    with pytest.raises(BadMesh, match="textures are too large together"):
        parse_mesh(tiled, "glb")
