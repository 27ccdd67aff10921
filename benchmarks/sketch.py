"""What does one picture cost with the built-in engine: seconds and memory of each stage, from the file to the files?

    python benchmarks/sketch.py [--picture FILE] [--quality draft standard high] [--repeats 3]

Each run is a process of its own that imports what it needs when it needs it, as the first job after a start does; a
stage's seconds include its imports. CPU seconds add up all threads; where other programs run they tell more. Memory is
the process's highest resident set so far, so the last stage's figure is the job's. The table shows the median and, in
brackets, the least and the greatest of the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
START = time.perf_counter()

STAGES = ("picture", "cutout", "shape", "solid", "texture", "report", "stills", "glb", "stl")
TOTALS = ("total_seconds", "total_cpu_seconds", "longest_step_seconds")


def peak_mb() -> float:
    """Highest resident set of this process alone, in MB (ru_maxrss would begin with the parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def run_once(picture_path: Path, quality_name: str, folder: Path) -> dict:
    """One job, stage by stage."""
    seconds: dict[str, float] = {}
    cpu_seconds: dict[str, float] = {}
    memory: dict[str, float] = {}
    last, last_cpu = START, 0.0

    def done(stage: str) -> None:
        nonlocal last, last_cpu
        now, now_cpu = time.perf_counter(), time.process_time()
        seconds[stage], cpu_seconds[stage], memory[stage] = now - last, now_cpu - last_cpu, peak_mb()
        last, last_cpu = now, now_cpu

    from orfeas.picture import load_picture
    from orfeas.request import QUALITIES

    quality = QUALITIES["sketch"][quality_name]
    picture = load_picture(picture_path)
    done("picture")

    from orfeas.cutout import cut_out

    cutout = cut_out(picture)
    done("cutout")

    from orfeas.engines.choose import choose_engine
    from orfeas.settings import Settings

    engine = choose_engine(Settings(_env_file=None, engine="sketch"))
    engine.load()
    longest_step, step_start = 0.0, time.perf_counter()
    for event in engine.shape(cutout, quality, 1):
        longest_step = max(longest_step, time.perf_counter() - step_start)
        step_start = time.perf_counter()
        mesh = event  # steps, and the mesh last
    done("shape")

    from orfeas.mesh.finish import make_solid, place

    solid, _ = make_solid(mesh, max_faces=quality.faces)
    done("solid")

    from orfeas.texture.photo import project_photo

    solid = project_photo(solid, cutout)
    done("texture")

    from orfeas.mesh.report import inspect

    solid, changes = place(solid, size_mm=100.0)
    report = inspect(solid, changes=changes)
    done("report")

    from orfeas.render.encode import encode_png, encode_webp, turntable_strip
    from orfeas.render.still import render_poster_and_turn

    poster, turn = render_poster_and_turn(solid)
    (folder / "poster.webp").write_bytes(encode_webp(poster))
    (folder / "turntable.webp").write_bytes(encode_webp(turntable_strip(turn)))
    done("stills")

    from orfeas.export import export

    export(solid, folder / "model.glb", "glb", thumbnail=encode_png(poster))
    done("glb")
    export(solid, folder / "model.stl", "stl")
    done("stl")

    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mb": memory,
        "total_seconds": time.perf_counter() - START,
        "total_cpu_seconds": time.process_time(),
        "longest_step_seconds": longest_step,
        "surface_faces": len(mesh.faces),
        "faces": len(solid.faces),
        "watertight": report.watertight,
        "stl_mb": (folder / "model.stl").stat().st_size / 1e6,
        "glb_mb": (folder / "model.glb").stat().st_size / 1e6,
        "torch_imported": "torch" in sys.modules,
    }


def run_fresh(picture: Path, quality: str) -> dict:
    """`run_once` in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--once", folder, "--picture", str(picture), "--quality", quality]
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"a run with quality {quality} failed:\n{run.stderr}")
    return json.loads(run.stdout.splitlines()[-1])


def spread(values: list[float], digits: int) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), digits),
        "least": round(min(values), digits),
        "greatest": round(max(values), digits),
    }


def summarize(runs: list[dict]) -> dict:
    """Medians and spreads; what does not vary is taken from the last run."""
    summary = {key: runs[-1][key] for key in ("surface_faces", "faces", "watertight", "torch_imported")}
    summary |= {key: round(runs[-1][key], 2) for key in ("stl_mb", "glb_mb")}
    summary |= {key: spread([run[key] for run in runs], 2) for key in TOTALS}
    summary["peak_mb"] = spread([run["peak_mb"][STAGES[-1]] for run in runs], 0)
    summary["stages"] = {
        stage: {
            "seconds": spread([run["seconds"][stage] for run in runs], 3),
            "cpu_seconds": spread([run["cpu_seconds"][stage] for run in runs], 3),
            "peak_mb": spread([run["peak_mb"][stage] for run in runs], 0),
        }
        for stage in STAGES
    }
    return summary


def print_table(quality: str, summary: dict) -> None:
    print(f"\n{quality}: {summary['faces']:,} faces of {summary['surface_faces']:,}, STL {summary['stl_mb']} MB")
    print(f"{'stage':10} {'seconds':>24} {'CPU seconds':>24} {'peak MB so far':>24}")
    total = {key: summary[f"total_{key}"] for key in ("seconds", "cpu_seconds")} | {"peak_mb": summary["peak_mb"]}
    for stage, row in [*summary["stages"].items(), ("all", total)]:
        keys = ("seconds", "cpu_seconds", "peak_mb")
        cells = ["{median:g} ({least:g} to {greatest:g})".format(**row[key]) for key in keys]
        print(f"{stage:10}", *(f"{cell:>24}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, default=ROOT / "assets/examples/mug.jpg", help="the photo to use")
    parser.add_argument("--quality", nargs="+", default=["draft", "standard", "high"], help="one or more qualities")
    parser.add_argument("--repeats", type=int, default=3, help="runs for each quality")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(run_once(options.picture, options.quality[0], options.once)))
        return
    result = {"benchmark": "sketch", "picture": options.picture.name, "repeats": options.repeats, "qualities": {}}
    for quality in options.quality:
        result["qualities"][quality] = summarize([run_fresh(options.picture, quality) for _ in range(options.repeats)])
        print_table(quality, result["qualities"][quality])
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    result["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
