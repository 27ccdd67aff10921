"""How near the sketch engine's meshes come to the solid truth: inflation against the learned shape.

    python benchmarks/sketch_shape.py [--views N] [--objects FOLDER [--up y|z]] [--model FILE.onnx]

Without ``--objects``: procedural objects of the families that were held out from training. With it: every ``.obj``
below the folder (such as pybullet's random_urdfs), which must have been used for nothing else. The solid of a file is
what is seen from none of 35 directions, and a file of which that leaves next to nothing (a sheet) is left out; it
stands with its Y axis up or, with ``--up z``, its Z axis. Each object is seen from ``--views`` sides at 5 to 25 degrees
of elevation: first a three-quarter front view, then from anywhere. Final meshes at draft quality are scored, aligned
along the line of sight; see `orfeas.engines.sketch.train.scoring`. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orfeas.cutout import Cutout
from orfeas.engines.sketch.engine import SketchEngine
from orfeas.engines.sketch.field import ShapeSource
from orfeas.engines.sketch.inflate import Inflation
from orfeas.engines.sketch.learned import MODEL, LearnedShape
from orfeas.engines.sketch.train import families
from orfeas.engines.sketch.train.assembly import Assembly
from orfeas.engines.sketch.train.scoring import CELLS, View, look_at, score
from orfeas.mesh import Mesh
from orfeas.request import QUALITIES

Object = tuple[str, np.ndarray, np.ndarray]
LEAST = 0.002  # of the frame's cube that a solid fills


def held_out_objects(each: int) -> Iterator[Object]:
    """``each`` members of every family that was not trained on: name, vertices, faces."""
    for family in families.HELD_OUT:
        for number in range(each):
            assembly = Assembly(np.random.default_rng((77, number)))
            family(assembly)
            vertices, faces, _ = assembly.join()
            yield family.__name__, vertices, faces


def file_objects(folder: Path, up: str = "y") -> Iterator[Object]:
    """The meshes of a folder, turned so that the axis ``up`` of the files is up."""
    for path in sorted(folder.rglob("*.obj")):
        vertices, faces = [], []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            kind, *values = line.split() or [""]
            if kind == "v":
                vertices.append([float(value) for value in values[:3]])
            elif kind == "f":
                corners = [int(value.split("/")[0]) - 1 for value in values]
                faces += [(corners[0], *pair) for pair in itertools.pairwise(corners[1:])]
        points = np.array(vertices)
        yield path.stem, points[:, [0, 2, 1]] * (1, 1, -1) if up == "z" else points, np.array(faces, np.int32)


def views_of(objects: Iterator[Object], count: int, closed: bool = True) -> Iterator[View]:
    """Each object from ``count`` sides, the same ones each time, less those with next to no solid.

    closed: see `look_at`.
    """
    for number, (name, vertices, faces) in enumerate(objects):
        random = np.random.default_rng((2026, number))
        for side in range(count):
            yaw = random.uniform(-180, 180) if side else random.choice([-1, 1]) * random.uniform(15, 60)
            view = look_at(name, vertices, faces, yaw, random.uniform(5, 25), random, closed)
            if view.solid.sum() >= LEAST * CELLS**3:
                yield view


def make(view: View, source: ShapeSource) -> Mesh:
    """The engine's mesh of a view."""
    cutout = Cutout(view.rgba, "alpha", "", float(np.mean(view.rgba[..., 3] > 127)), False)
    *_, mesh = SketchEngine(source=source).shape(cutout, QUALITIES["sketch"]["draft"], 0)
    return mesh


def main() -> None:
    """Score every view with every source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=2, help="of each object")
    parser.add_argument("--each", type=int, default=6, help="members of each held-out family")
    parser.add_argument("--objects", type=Path, help="folder of .obj files instead of the held-out families")
    parser.add_argument("--up", choices=("y", "z"), default="y", help="axis of the files that is up")
    parser.add_argument("--model", type=Path, default=MODEL)
    arguments = parser.parse_args()
    objects = held_out_objects(arguments.each)
    if arguments.objects:
        objects = file_objects(arguments.objects, arguments.up)
    sources: dict[str, ShapeSource] = {"inflation": Inflation()}
    if arguments.model.is_file():
        sources["learned"] = LearnedShape(arguments.model)
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
    seconds = dict.fromkeys(sources, 0.0)
    names = []
    for view in views_of(objects, arguments.views, closed=arguments.objects is None):
        names.append(view.name)
        for name, source in sources.items():
            started = time.process_time()
            mesh = make(view, source)
            seconds[name] += time.process_time() - started
            scores[name].append(score(mesh, view))
        if len(names) % 20 == 0:
            print(json.dumps(summarize(names, scores, seconds)), file=sys.stderr, flush=True)
    print(json.dumps(summarize(names, scores, seconds)))


def summarize(names: list[str], scores: dict[str, list[dict[str, float]]], seconds: dict[str, float]) -> dict:
    """Mean scores of every source over the views so far, and how often the learned shape overlaps more."""
    result: dict = {"benchmark": "sketch_shape", "views": len(names)}
    for source, rows in scores.items():
        mean = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
        result[source] = {**mean, "cpu_seconds": round(seconds[source] / len(names), 2)}
        if set(names) == {family.__name__ for family in families.HELD_OUT}:
            for kind in dict.fromkeys(names):
                own = [row["iou"] for row, name in zip(rows, names, strict=True) if name == kind]
                result[source][f"iou of {kind}"] = round(float(np.mean(own)), 4)
    if "learned" in scores:
        wins = [new["iou"] > old["iou"] for new, old in zip(scores["learned"], scores["inflation"], strict=True)]
        result["learned_wins"] = round(float(np.mean(wins)), 3)
    return result


if __name__ == "__main__":
    main()
