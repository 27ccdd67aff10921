"""USDZ: a binary USD layer (and the texture) stored in a zip whose entries begin at multiples of 64 bytes.

Source: OpenUSD, "Usdz File Format Specification"; the layer is written by usd-core.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from orfeas.errors import EngineUnavailable
from orfeas.export.frame import linear_light, unit_normals, zip_entry
from orfeas.mesh import Mesh

ALIGNMENT = 64
ROUGHNESS = 0.8


def write_usdz(mesh: Mesh, path: Path, *, title: str = "model") -> None:
    """Y up, one unit a millimetre. Raises `EngineUnavailable` if usd-core is not installed."""
    try:
        from pxr import Usd, UsdGeom
    except ImportError as error:
        raise EngineUnavailable(
            "USDZ needs the package usd-core: pip install usd-core, or choose glb.", "missing_package"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        layer = Path(folder) / "model.usdc"
        stage = Usd.Stage.CreateNew(str(layer))
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
        UsdGeom.SetStageMetersPerUnit(stage, 0.001)
        root = UsdGeom.Xform.Define(stage, "/model")
        root.GetPrim().SetDisplayName(title)
        stage.SetDefaultPrim(root.GetPrim())
        shape = _define_mesh(stage, mesh)
        _bind_material(stage, shape, mesh)
        stage.GetRootLayer().Save()
        del stage
        _pack(path, {"model.usdc": layer.read_bytes(), **_texture_file(mesh)})


def _define_mesh(stage, mesh: Mesh):
    from pxr import Gf, Sdf, UsdGeom, Vt

    shape = UsdGeom.Mesh.Define(stage, "/model/surface")
    points = mesh.vertices.astype(np.float32)
    shape.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points))
    shape.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    shape.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(mesh.faces.ravel().astype(np.int32)))
    shape.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(unit_normals(mesh)))
    shape.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    shape.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    shape.CreateExtentAttr([Gf.Vec3f(*low), Gf.Vec3f(*high)])
    variables = UsdGeom.PrimvarsAPI(shape)
    if mesh.texture is not None:
        uv = mesh.texture.corner_uv.reshape(-1, 2).astype(np.float32).copy()
        uv[:, 1] = 1 - uv[:, 1]  # USD counts from the bottom
        st = variables.CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying)
        st.Set(Vt.Vec2fArray.FromNumpy(uv))
    elif mesh.colors is not None:
        color = variables.CreatePrimvar("displayColor", Sdf.ValueTypeNames.Color3fArray, UsdGeom.Tokens.vertex)
        color.Set(Vt.Vec3fArray.FromNumpy(linear_light(mesh.colors).astype(np.float32)))
    return shape


def _bind_material(stage, shape, mesh: Mesh) -> None:
    from pxr import Gf, Sdf, UsdShade

    names = Sdf.ValueTypeNames
    material = UsdShade.Material.Define(stage, "/model/material")
    surface = UsdShade.Shader.Define(stage, "/model/material/surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    surface.CreateInput("roughness", names.Float).Set(ROUGHNESS)
    surface.CreateInput("metallic", names.Float).Set(0.0)
    diffuse = surface.CreateInput("diffuseColor", names.Color3f)
    diffuse.Set(Gf.Vec3f(0.6, 0.6, 0.62))
    reader_id, output, variable = None, None, None
    if mesh.texture is not None:
        reader_id, output, variable = "UsdPrimvarReader_float2", names.Float2, "st"
    elif mesh.colors is not None:
        reader_id, output, variable = "UsdPrimvarReader_float3", names.Float3, "displayColor"
    if reader_id is not None:
        reader = UsdShade.Shader.Define(stage, "/model/material/reader")
        reader.CreateIdAttr(reader_id)
        reader.CreateInput("varname", names.String).Set(variable)
        result = reader.CreateOutput("result", output)
        if mesh.texture is not None:
            picture = UsdShade.Shader.Define(stage, "/model/material/texture")
            picture.CreateIdAttr("UsdUVTexture")
            picture.CreateInput("file", names.Asset).Set("texture.png")
            picture.CreateInput("sourceColorSpace", names.Token).Set("sRGB")
            picture.CreateInput("wrapS", names.Token).Set("clamp")
            picture.CreateInput("wrapT", names.Token).Set("clamp")
            picture.CreateInput("st", names.Float2).ConnectToSource(result)
            result = picture.CreateOutput("rgb", names.Float3)
        diffuse.ConnectToSource(result)
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", names.Token))
    UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(material)


def _texture_file(mesh: Mesh) -> dict[str, bytes]:
    if mesh.texture is None:
        return {}
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(mesh.texture.image).save(encoded, "PNG", compress_level=4)
    return {"texture.png": encoded.getvalue()}


def _pack(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zip_entry(name, compressed=False)
            start = archive.fp.tell() + 30 + len(name.encode())
            padding = -start % ALIGNMENT
            if padding and padding < 4:  # an extra field has a head of four bytes
                padding += ALIGNMENT
            if padding:
                entry.extra = b"\x19\x86" + (padding - 4).to_bytes(2, "little") + b"\0" * (padding - 4)
            archive.writestr(entry, content)
