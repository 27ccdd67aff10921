"""``orfeas inspect`` and ``orfeas repair``: the report and the solid for any mesh file.

Exit status: 0 printable, 1 not, or not readable, 2 wrong use: nothing was begun.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from orfeas.errors import BadMesh, BadRequest, OrfeasError
from orfeas.mesh.report import Report, say_mass

PRINTABLE, NOT_PRINTABLE = 0, 1
OPTIONS_OF_REPAIR = {  # by the names of `orfeas.mesh.repair.repair`
    "size_mm": "--size-mm",
    "max_faces": "--max-faces",
    "base_mm": "--base-mm",
    "wall_mm": "--hollow",
    "drain_mm": "--drain-mm",
}


def add_inspect_parser(commands) -> argparse.ArgumentParser:
    """Add ``inspect`` to the subparsers ``commands``; its arguments carry ``func``."""
    parser = commands.add_parser("inspect", help="say whether mesh files can be printed, and why not")
    parser.add_argument("meshes", nargs="+", type=Path, metavar="MESH", help="STL, 3MF, GLB, OBJ or PLY files")
    parser.add_argument("--size-mm", type=float, help="judge as if the longest side were this long (1 to 1000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a file")
    parser.set_defaults(func=run_inspect)
    return parser


def add_repair_parser(commands) -> argparse.ArgumentParser:
    """Add ``repair`` to the subparsers ``commands``; its arguments carry ``func``."""
    parser = commands.add_parser("repair", help="make a mesh file solid and say what was changed")
    parser.add_argument("mesh", type=Path, metavar="MESH", help="an STL, 3MF, GLB, OBJ or PLY file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="the same endings, or .usdz")
    parser.add_argument("--size-mm", type=float, help="longest side (1 to 1000); else the mesh keeps its size")
    parser.add_argument("--max-faces", type=int, help="at most so many triangles (100 to 2000000)")
    parser.add_argument(
        "--orientation", choices=("upright", "standing", "flattest"), default="upright",
        help="upright: as it is; standing: tilted, back by up to 45 degrees or forward by up to 10, to where it stands"
        " steadiest; flattest: turned to lie on its largest flat side (default: upright)",
    )  # fmt: skip
    parser.add_argument(
        "--flat-base", choices=("cut", "plinth"), help="cut it flat at the bottom, or put it on a plate"
    )
    parser.add_argument(
        "--base-mm",
        type=float,
        help="height of the cut, or thickness of the plate (default: 2 %% of the size; up to 6 %% are cut until it"
        " stands, and a plate has 1.2 at least)",
    )
    parser.add_argument("--hollow", type=float, metavar="MM", help="hollow to walls of so many millimetres")
    parser.add_argument("--drain-mm", type=float, default=5.0, help="width of the drain hole (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run_repair)
    return parser


def run_inspect(arguments: argparse.Namespace) -> int:
    """Print a report for each file, also behind a damaged one. The worst file gives the exit status."""
    from orfeas.mesh.load import check_file, load_mesh
    from orfeas.mesh.repair import inspect_as
    from orfeas.request import SIZE_MM

    size = arguments.size_mm
    if size is not None and not SIZE_MM[0] <= size <= SIZE_MM[1]:
        raise BadRequest(f"--size-mm cannot be {size:g}: use {SIZE_MM[0]:g} to {SIZE_MM[1]:g}.", "out_of_range")
    for path in arguments.meshes:
        check_file(path)
    status = PRINTABLE
    for path in arguments.meshes:
        try:
            mesh = load_mesh(path)
        except BadMesh as error:
            _say_error(error, path, arguments.json)
            status = NOT_PRINTABLE
            continue
        report = inspect_as(mesh, size)
        if arguments.json:
            print(json.dumps({"file": str(path), **report.to_dict()}))
        else:
            print(f"{path}\n{describe(report)}")
        status = max(status, PRINTABLE if report.printable else NOT_PRINTABLE)
    return status


def run_repair(arguments: argparse.Namespace) -> int:
    """Write the repaired mesh and print what was changed. Nothing is written if no solid can be made."""
    from orfeas.export import EXPORTERS, export
    from orfeas.mesh.load import check_file, load_mesh
    from orfeas.mesh.repair import repair

    output = arguments.output
    formats = {exporter.suffix: key for key, exporter in EXPORTERS.items()}
    suffix = next((s for s in sorted(formats, key=len, reverse=True) if output.name.lower().endswith("." + s)), None)
    if suffix is None:
        endings = ", ".join("." + suffix for suffix in formats)
        raise BadRequest(f"{output.name} cannot be written: let it end in one of {endings}.", "bad_choice")
    if not output.parent.is_dir():
        raise BadRequest(f"{output} cannot be written: the folder {output.parent} is not there.", "bad_output")
    check_file(arguments.mesh)
    try:
        solid, report, changes = repair(
            load_mesh(arguments.mesh),
            size_mm=arguments.size_mm,
            max_faces=arguments.max_faces,
            orientation=arguments.orientation,
            flat_base=arguments.flat_base,
            base_mm=arguments.base_mm,
            wall_mm=arguments.hollow,
            drain_mm=arguments.drain_mm,
        )
    except BadRequest as error:
        raise error.renamed(OPTIONS_OF_REPAIR) from None
    except BadMesh as error:
        _say_error(error, arguments.mesh, arguments.json)
        return NOT_PRINTABLE
    aside = output.with_name(output.name + ".part")
    try:
        export(solid, aside, formats[suffix], title=arguments.mesh.stem)
        aside.replace(output)
    except OSError as error:
        raise BadRequest(f"{output} cannot be written: {error.strerror}.", "bad_output") from error
    finally:
        aside.unlink(missing_ok=True)
    if arguments.json:
        done = [change.to_dict() for change in changes]
        print(json.dumps({"file": str(output), **report.to_dict(), "changes": done}))
    else:
        for change in changes:
            print(f"- {change.sentence}")
        print(f"{output}\n{describe(report)}")
    return PRINTABLE if report.printable else NOT_PRINTABLE


def describe(report: Report) -> str:
    """The report in lines for people."""
    known = lambda value, text: "unknown" if value is None else text.format(value)  # noqa: E731
    width, height, depth = report.extents_mm
    lines = [
        f"  {report.sentence}",
        *(f"  Note: {note}" for note in report.notes),
        f"  size      {width:,.2f} wide × {height:,.2f} high × {depth:,.2f} deep mm",
        f"  volume    {known(report.volume_cm3, '{:,.2f} cm³')}, PLA printed solid {say_mass(report.mass_g)}",
        f"  surface   {report.area_cm2:,.2f} cm², {report.faces:,} faces, {report.vertices:,} vertices",
        f"  walls     {known(report.thinnest_wall_mm, 'thinnest {:.2f} mm')}",
        f"  topology  {report.bodies} {'body' if report.bodies == 1 else 'bodies'}, "
        f"genus {known(report.genus, '{}')}, {report.boundary_edges} open edges, "
        f"{report.nonmanifold_edges} wrong edges, {report.self_intersections} self-intersections",
        f"  overhang  {100 * report.overhang_share:.0f} % of the surface",
    ]
    return "\n".join(lines)


def _say_error(error: OrfeasError, path: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"file": str(path), "error": str(error), "code": error.code}))
    else:
        print(error, file=sys.stderr)
