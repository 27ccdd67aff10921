"""How long pictures of a mesh take: one still, a turntable, and the two that each result has, at several mesh sizes.

    python benchmarks/render.py [--repeats 3]

Wall and processor seconds, the least of the repeats; numpy only, on this machine's processor. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from orfeas.mesh import Mesh
from orfeas.render.encode import encode_webp, turntable_strip
from orfeas.render.still import render_poster_and_turn, render_still, render_turntable

FACES = (5_000, 20_000, 60_000, 200_000)


def lumpy_ball(faces: int) -> Mesh:
    """A closed, folded surface of about `faces` triangles with colours on its vertices."""
    rings = round((faces / 4) ** 0.5)
    around = 2 * rings
    polar = np.pi * (np.arange(rings + 1) + 0.02) / (rings + 0.04)
    turn = 2 * np.pi * np.arange(around) / around
    polar, turn = np.meshgrid(polar, turn, indexing="ij")
    direction = np.stack([np.sin(polar) * np.sin(turn), np.cos(polar), np.sin(polar) * np.cos(turn)], axis=-1)
    radius = 1 + 0.18 * np.sin(5 * direction[..., 0]) * np.sin(4 * direction[..., 1] + 1) + 0.04 * np.sin(9 * turn)
    vertices = (direction * radius[..., None]).reshape(-1, 3)
    corner = np.arange(rings * around).reshape(rings, around)
    right = np.roll(corner, -1, axis=1)
    below, across = corner + around, right + around
    faces_of = np.concatenate(
        [np.stack([corner, below, right], axis=-1), np.stack([right, below, across], axis=-1)]
    ).reshape(-1, 3)
    colors = np.clip(150 + 90 * np.sin(vertices * 6), 0, 255).astype(np.uint8)
    return Mesh(vertices, faces_of.astype(np.int32), colors)


def measure(work: Callable[[], object], repeats: int) -> dict[str, float]:
    wall, processor = [], []
    for _ in range(repeats):
        begun, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
    return {"seconds": round(min(wall), 3), "cpu_seconds": round(min(processor), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    rows = []
    for wanted in FACES:
        mesh = lumpy_ball(wanted)
        row: dict[str, object] = {"faces": len(mesh.faces)}
        for size in (256, 512, 1024):
            row[f"still_{size}"] = measure(lambda mesh=mesh, size=size: render_still(mesh, size=size), repeats)
        row["turntable"] = measure(lambda mesh=mesh: render_turntable(mesh), repeats)
        row["poster_and_turntable"] = measure(lambda mesh=mesh: render_poster_and_turn(mesh), repeats)
        strip = turntable_strip(render_turntable(mesh))
        row["encode_webp"] = measure(lambda strip=strip: encode_webp(strip), repeats)
        row["strip_bytes"] = len(encode_webp(strip))
        rows.append(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    machine = {"python": platform.python_version(), "numpy": np.__version__, "cores": os.cpu_count()}
    print(json.dumps({"benchmark": "render", **machine, "rows": rows}))


if __name__ == "__main__":
    main()
