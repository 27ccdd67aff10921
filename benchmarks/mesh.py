"""What finishing, measuring and writing a mesh cost: ``python benchmarks/mesh.py``. Ends with one JSON line.

A bumpy solid of about 500,000 faces (marching cubes, as engines make them), coloured, is finished to 100,000 faces,
placed at 100 mm, measured and written in every format; each step beside the obvious alternative where its package is
installed (trimesh, and pymeshlab, which is GPL and no part of ORFEAS). Then programs of others read what was written,
where they are installed: gltf-validator and online-3d-viewer (npm, NODE_PATH), admesh and PrusaSlicer (Debian), lib3mf
and usd-core and bpy (PyPI).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orfeas.errors import EngineUnavailable
from orfeas.export import EXPORTERS, export, file_name
from orfeas.mesh import Mesh
from orfeas.mesh.finish import make_solid, place
from orfeas.mesh.report import inspect

BUDGET = 100_000


def bumpy_solid(grid: int) -> Mesh:
    """A closed, coloured surface by marching cubes; grid 290 gives about 500,000 faces."""
    from skimage.measure import marching_cubes

    place_ = np.linspace(-1.2, 1.2, grid, dtype=np.float32)
    x, y, z = np.meshgrid(place_, place_, place_, indexing="ij", sparse=True)
    field = 0.9 - np.sqrt(x * x + y * y + z * z) + 0.12 * np.sin(7 * x) * np.cos(6 * y) * np.sin(5 * z)
    field += 0.02 * np.sin(40 * x) * np.sin(40 * y) * np.sin(40 * z)
    vertices, faces, _, _ = marching_cubes(field, 0.0, gradient_direction="ascent")
    vertices = vertices.astype(np.float64) / (grid - 1) * 2.4 - 1.2
    colors = np.rint(np.clip(vertices * 0.5 + 0.5, 0, 1) * 255).astype(np.uint8)
    return Mesh(vertices, faces.astype(np.int32), colors)


def timed(work: Callable, seconds: dict[str, float], name: str):
    """The result of ``work()``; its wall time goes into ``seconds[name]``, and to the screen with the CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    seconds[name] = round(time.perf_counter() - wall, 3)
    print(f"{name:42s} {seconds[name]:7.2f} s   (CPU {time.process_time() - cpu:.2f} s)", flush=True)
    return result


def measure_ours(mesh: Mesh, folder: Path) -> tuple[Mesh, dict[str, float]]:
    seconds: dict[str, float] = {}
    solid, changes = timed(lambda: make_solid(mesh, max_faces=BUDGET), seconds, "make_solid")
    placed, more = timed(lambda: place(solid, size_mm=100.0), seconds, "place")
    report = timed(lambda: inspect(placed, changes=changes + more), seconds, "report")
    for format in EXPORTERS:
        path = folder / file_name("bumpy", 100.0, format)
        try:
            timed(lambda f=format, p=path: export(placed, p, f), seconds, f"export {format}")
        except EngineUnavailable as error:
            print(f"export {format}: {error}")
    print(f"{len(mesh.faces):,} -> {len(placed.faces):,} faces. {report.sentence}")
    return placed, seconds


def measure_alternatives(mesh: Mesh, placed: Mesh, folder: Path) -> dict[str, float]:
    """The obvious ways to the same ends. They do less: none of them promises a solid."""
    seconds: dict[str, float] = {}
    try:
        import trimesh
    except ImportError:
        print("trimesh is not installed: its rows are left out")
    else:
        made = timed(lambda: trimesh.Trimesh(mesh.vertices, mesh.faces, process=True), seconds, "trimesh: weld")
        try:
            small = timed(lambda: made.simplify_quadric_decimation(face_count=BUDGET), seconds, "trimesh: decimate")
            print(f"  watertight: {small.is_watertight}, faces: {len(small.faces):,}, colours: none")
        except (ImportError, ValueError) as error:
            print(f"  trimesh: decimate: {error}")
        plain = trimesh.Trimesh(placed.vertices, placed.faces, process=False)
        timed(
            lambda: (plain.is_watertight, plain.volume, plain.body_count, plain.center_mass), seconds, "trimesh: report"
        )
        for format in ("stl", "glb", "obj", "ply", "3mf"):
            path = folder / f"trimesh.{format}"
            try:
                timed(lambda f=format, p=path: plain.export(p, file_type=f), seconds, f"trimesh: export {format}")
            except ImportError as error:
                print(f"  trimesh: export {format}: {error}")
    try:
        import pymeshlab
    except ImportError:
        print("pymeshlab is not installed: its rows are left out")
    else:
        meshes = pymeshlab.MeshSet()
        meshes.add_mesh(pymeshlab.Mesh(mesh.vertices, mesh.faces))
        work = lambda: meshes.meshing_decimation_quadric_edge_collapse(targetfacenum=BUDGET, preservetopology=True)  # noqa: E731
        timed(work, seconds, "pymeshlab: decimate")
        measures = timed(meshes.get_topological_measures, seconds, "pymeshlab: topology")
        print(f"  two-manifold: {measures['is_mesh_two_manifold']}, open edges: {measures['boundary_edges']}")
        work = lambda: meshes.compute_selection_by_self_intersections_per_face()  # noqa: E731
        timed(work, seconds, "pymeshlab: self-intersections")
    return seconds


def ask_others(folder: Path) -> dict[str, str]:
    """What programs that are not ours say of the files; "not installed" where there is none."""
    said: dict[str, str] = {}
    stl, glb = folder / file_name("bumpy", 100.0, "stl"), folder / file_name("bumpy", 100.0, "glb")
    for name, check in {
        "admesh": lambda: _admesh(stl),
        "prusa-slicer": lambda: _prusa_slicer(stl, folder),
        "prusa-slicer 3mf": lambda: _prusa_slicer(folder / file_name("bumpy", 100.0, "3mf"), folder),
        "gltf-validator": lambda: _gltf_validator(glb),
        "online-3d-viewer": lambda: _online_viewer(folder),
        "lib3mf": lambda: _lib3mf(folder / file_name("bumpy", 100.0, "3mf")),
        "usd-core": lambda: _usd(folder / file_name("bumpy", 100.0, "usdz")),
        "bpy": lambda: _blender(folder),
    }.items():
        try:
            said[name] = check()
        except (ImportError, FileNotFoundError):
            said[name] = "not installed"
        print(f"{name:20s} {said[name]}", flush=True)
    return said


def _run(command: list, timeout: float = 600) -> subprocess.CompletedProcess:
    if not shutil.which(str(command[0])):
        raise FileNotFoundError(command[0])
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout)


def _admesh(path: Path) -> str:
    lines = _run(["admesh", path]).stdout.splitlines()
    wanted = ("Edges fixed", "Facets removed", "Facets added", "Facets reversed", "Backwards edges", "Normals fixed")
    numbers = [line.split(":")[1].split()[0] for line in lines if line.strip().startswith(wanted)]
    return "no repair needed" if numbers and set(numbers) == {"0"} else f"repairs: {numbers}"


def _prusa_slicer(path: Path, folder: Path) -> str:
    code = folder / (path.name + ".gcode")
    done = _run(["prusa-slicer", "--export-gcode", "--scale-to-fit", "60,60,60", "--output", code, path])
    words = (done.stdout + done.stderr).lower()
    if not code.exists():
        return f"no G-code: {words.strip().splitlines()[-1:]}"
    moves = code.read_text(errors="replace").count("\nG1")
    complaint = [word for word in ("repair", "not manifold", "open edges", "error") if word in words]
    return f"G-code with {moves:,} moves, " + (f"says {complaint}" if complaint else "no repair message")


def _node(script: str, *words) -> str:
    done = _run(["node", "-e", script, *words])
    if "Cannot find module" in done.stderr:
        raise ImportError(script)
    return (done.stdout or done.stderr).strip()


def _gltf_validator(path: Path) -> str:
    return _node(
        "const v=require('gltf-validator'),fs=require('fs');v.validateBytes(new Uint8Array(fs.readFileSync("
        "process.argv[1]))).then(r=>console.log(r.issues.numErrors+' errors, '+r.issues.numWarnings+' warnings, '"
        "+r.issues.numInfos+' infos'))",
        path,
    )


def _online_viewer(folder: Path) -> str:
    """Online3DViewer's engine imports each file and counts triangles and the bounding box."""
    script = """
    const fs = require('fs'), path = require('path'), found = require.resolve('online-3d-viewer');
    const names = process.argv.slice(1);
    (async () => { const OV = await import(found); for (const file of names) { await new Promise((resolve) => {
      const data = fs.readFileSync(file);
      const buffer = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
      const importer = {stl: new OV.ImporterStl(), obj: new OV.ImporterObj(), ply: new OV.ImporterPly(),
                        glb: new OV.ImporterGltf()}[file.split('.').pop()];
      importer.Import(file, file.split('.').pop(), buffer, {
        getDefaultLineMaterialColor() { return new OV.RGBColor(0, 0, 0); },
        getDefaultMaterialColor() { return new OV.RGBColor(0, 0, 0); },
        getFileBuffer() { return null; }, getFileUrl() { return null; },
        onSuccess() { const m = importer.GetModel(); const b = OV.GetBoundingBox(m);
          console.log(path.extname(file) + ' ' + m.TriangleCount() + ' triangles, '
            + [b.max.x-b.min.x, b.max.y-b.min.y, b.max.z-b.min.z].map(v => v.toFixed(2)).join(' x ')
            + ', two-manifold ' + OV.IsTwoManifold(m)); },
        onError() { console.log(path.extname(file) + ' error: ' + importer.GetErrorMessage()); },
        onComplete() { importer.Clear(); resolve(); } }); }); } })();
    """
    paths = [folder / file_name("bumpy", 100.0, key) for key in ("stl", "obj", "ply", "glb")]
    return "; ".join(_node(script, *paths).splitlines())


def _lib3mf(path: Path) -> str:
    import lib3mf

    model = lib3mf.get_wrapper().CreateModel()
    reader = model.QueryReader("3mf")
    reader.SetStrictModeActive(True)
    reader.ReadFromFile(str(path))
    meshes = model.GetMeshObjects()
    meshes.MoveNext()
    mesh = meshes.GetCurrentMeshObject()
    return f"strict, {reader.GetWarningCount()} warnings, manifold and oriented: {mesh.IsManifoldAndOriented()}"


def _usd(path: Path) -> str:
    from pxr import Usd, UsdValidation

    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    errors = UsdValidation.ValidationContext(validators).Validate(Usd.Stage.Open(str(path)))
    return f"{len(validators)} validators, {len(errors)} errors"


def _blender(folder: Path) -> str:
    """Blender's own importers: the size in its metres and the up axis (Z) as promised."""
    script = (
        "import bpy,sys\n"
        "calls=dict(stl=bpy.ops.wm.stl_import,glb=bpy.ops.import_scene.gltf,obj=bpy.ops.wm.obj_import,"
        "ply=bpy.ops.wm.ply_import)\n"
        "for kind,call in calls.items():\n"
        "    bpy.ops.wm.read_factory_settings(use_empty=True)\n"
        "    call(filepath=sys.argv[1]+'.'+kind)\n"
        "    bpy.context.view_layer.update()\n"
        "    objects=[o for o in bpy.context.scene.objects if o.type=='MESH']\n"
        "    points=[o.matrix_world@v.co for o in objects for v in o.data.vertices]\n"
        "    sides=[max(p[k] for p in points)-min(p[k] for p in points) for k in range(3)]\n"
        "    low=min(p[2] for p in points)\n"
        "    print('RESULT',kind,' x '.join(f'{s:.4f}' for s in sides),f'lowest z {low:.4f}')\n"
    )
    if subprocess.run([sys.executable, "-c", "import bpy"], capture_output=True).returncode:
        raise ImportError("bpy")
    stem = str(folder / file_name("bumpy", 100.0, "stl"))[:-4]
    done = subprocess.run([sys.executable, "-c", script, stem], capture_output=True, text=True, timeout=600)
    lines = [line[7:] for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return "; ".join(lines) or done.stderr.strip()[-200:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", type=int, default=290, help="290 gives about 500,000 faces")
    parser.add_argument("--skip-others", action="store_true", help="only our own steps")
    arguments = parser.parse_args()
    mesh = bumpy_solid(arguments.grid)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        placed, seconds = measure_ours(mesh, folder)
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        total = sum(seconds.values())
        print(f"total {total:.2f} s, peak {peak_gb:.2f} GB")
        alternatives, said = {}, {}
        if not arguments.skip_others:
            alternatives = measure_alternatives(mesh, placed, folder)
            said = ask_others(folder)
    print(
        json.dumps(
            {
                "benchmark": "mesh",
                "faces_in": len(mesh.faces),
                "faces_out": len(placed.faces),
                "seconds": seconds,
                "total_seconds": round(total, 2),
                "peak_gb": round(peak_gb, 2),
                "cores": os.cpu_count(),
                "load": round(os.getloadavg()[0], 1),
                "alternatives_seconds": alternatives,
                "others": said,
            }
        )
    )


if __name__ == "__main__":
    main()
