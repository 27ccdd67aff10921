"""Can this be printed? Everything that a slicer, a printer or a buyer of resin would ask of a mesh, and a verdict.

Lengths are in millimetres in the mesh's own frame: right-handed, Y up, the ground at its lowest point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from orfeas.mesh import Mesh, face_cross, stability
from orfeas.mesh.change import counted
from orfeas.mesh.grid import build_grid, cast_rays
from orfeas.mesh.intersect import crossing_pairs
from orfeas.mesh.stability import can_be_tilted_to_stand, mass_of, tips_at
from orfeas.mesh.topology import Edges, find_bodies, find_edges, winding_flips

RESIN_WALL_MM = 0.8
FDM_WALL_MM = 1.2
PLA_G_PER_CM3 = 1.24
OVERHANG_DEGREES = 45.0  # a face that leans further out than this from the vertical needs support
THIN_SHARE = 0.01  # the thinnest wall is the one that this share of the surface undercuts: one sharp rim is no wall
TOO_THIN_SHARE = 0.10  # with more of the surface thinner than resin allows, the model is not printable
WALL_SAMPLES = 1500
LIKELY_MM = (1.0, 1000.0)  # the longest side of what is printed; outside of that it is rather the unit that is wrong
LEAST_HELD = 1 / 20  # of its plate's area: a model that touches less of it may break off
MOST_CROSSINGS = 10_000  # are counted: with more, how many more changes nothing

TURN_ADVICE, PLATE_ADVICE = "turn it to stand", "put it on a plate"
READY, REPAIRED, NOT_PRINTABLE = "Ready", "Ready after repair", "Not printable"


@dataclass(frozen=True)
class Report:
    """What `inspect` found. Extents, centre of mass and overhang are in the Y-up mesh frame, in millimetres.

    verdict: "Ready", "Ready after repair" or "Not printable". reasons: sentences behind the verdict, with what to
    change. notes: sentences worth knowing that do not change the verdict.
    bodies: connected pieces. genus: handles (holes through the solid), all bodies together; None unless closed.
    boundary_edges: edges of one face. nonmanifold_edges: edges of more than two faces or of two that disagree.
    self_intersections: pairs of faces that cross; 10,001 stands for more than 10,000.
    inner_shells: pieces turned inwards (cavities) or inside another.
    volume_cm3, mass_g (of PLA, printed solid), centre_of_mass_mm, stands: None unless closed and wound the right way.
    stands: the centre of mass is over the hull of what touches the ground.
    thinnest_wall_mm: 1 % of the surface has less material behind it. thin_share_resin, thin_share_fdm: share of the
    surface with walls under 0.8 mm and under 1.2 mm. None unless closed.
    overhang_share: share of the surface that leans out by more than 45 degrees and does not lie on the ground.
    """

    verdict: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    watertight: bool
    winding_consistent: bool
    bodies: int
    genus: int | None
    boundary_edges: int
    nonmanifold_edges: int
    self_intersections: int
    inner_shells: int
    volume_cm3: float | None
    area_cm2: float
    extents_mm: tuple[float, float, float]
    centre_of_mass_mm: tuple[float, float, float] | None
    stands: bool | None
    thinnest_wall_mm: float | None
    thin_share_resin: float | None
    thin_share_fdm: float | None
    overhang_share: float
    mass_g: float | None
    faces: int
    vertices: int

    @property
    def printable(self) -> bool:
        """Whether the mesh can go to a printer as it is."""
        return self.verdict != NOT_PRINTABLE

    @property
    def sentence(self) -> str:
        """The verdict in words, with its reasons."""
        return f"{self.verdict}: {' '.join(self.reasons)}" if self.reasons else f"{self.verdict}."

    def to_dict(self) -> dict[str, Any]:
        """JSON values, ``sentence`` and ``printable`` among them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        return {**values, "sentence": self.sentence, "printable": self.printable}


def usable_faces(mesh: Mesh) -> np.ndarray:
    """(m,) bool: faces whose corners are there and finite."""
    if not len(mesh.vertices):
        return np.zeros(len(mesh.faces), bool)
    valid = ((mesh.faces >= 0) & (mesh.faces < len(mesh.vertices))).all(axis=1)
    finite = np.isfinite(mesh.vertices).all(axis=1)
    return valid & finite[np.where(valid[:, None], mesh.faces, 0)].all(axis=1)


def _are_lines(faces: np.ndarray) -> np.ndarray:
    """(m,) bool: two corners are one, as where an edge of a drawing is shorter than what its file can tell."""
    return (faces == np.roll(faces, 1, axis=1)).any(axis=1)


def inspect(mesh: Mesh, *, changes: tuple | list = (), self_intersections: bool = True) -> Report:
    """Measure a mesh in millimetres. Takes any mesh, an empty or broken one too, and never raises for its shape.

    changes: what was done to it before (`orfeas.mesh.change.Change`); repairs among them make the verdict "Ready after
    repair". self_intersections: False leaves out the one measurement that takes longer than all others together.
    """
    usable = usable_faces(mesh)
    lines = usable & _are_lines(mesh.faces)
    if not (usable & ~lines).any():
        return _empty(mesh)
    broken, without_area = int((~usable).sum()), int(lines.sum())
    vertices, faces = mesh.vertices, mesh.faces[usable & ~lines]
    used = np.unique(faces)
    points = vertices[used]
    low, high = points.min(axis=0), points.max(axis=0)
    mesh = Mesh(np.where(np.isfinite(vertices), vertices, 0.0) - (low + high) / 2, faces)
    edges = find_edges(faces)
    boundary, wrong = int((edges.count == 1).sum()), int(((edges.balance != 0) & (edges.count > 1)).sum())
    shared = int(((edges.balance == 0) & (edges.count > 2)).sum())
    closed = edges.closed and not broken
    bodies, body = find_bodies(faces, len(vertices))
    cross = face_cross(mesh.vertices, faces)
    area = np.linalg.norm(cross, axis=1) / 2
    inner, twins, inside_out = _shells(mesh, body, bodies) if closed else (0, 0, False)
    pairs = crossing_pairs(mesh, enough=MOST_CROSSINGS) if self_intersections else ()
    crossings = min(len(pairs), MOST_CROSSINGS + 1)
    volume = centre = stands = genus = thinnest = thin_resin = thin_fdm = None
    if closed and not inside_out:
        volume, centre = mass_of(mesh, cross)
        points = mesh.vertices[used]
        stands = stability.stands(points, centre)
        genus = _genus(len(used), edges, len(faces), bodies)
        if volume > 0:
            thinnest, thin_resin, thin_fdm = _walls(mesh, cross, area)
        centre_there, centre = centre, centre + (low + high) / 2
    found = {
        "watertight": closed,
        "winding_consistent": wrong == 0,
        "bodies": bodies,
        "genus": genus,
        "boundary_edges": boundary,
        "nonmanifold_edges": wrong + shared,
        "self_intersections": crossings,
        "inner_shells": inner,
        "volume_cm3": None if volume is None else _rounded(volume / 1000, 4),
        "area_cm2": _rounded(area.sum() / 100, 4),
        "extents_mm": tuple(_rounded(side, 4) for side in high - low),
        "centre_of_mass_mm": None if centre is None else tuple(_rounded(value, 3) for value in centre),
        "stands": stands,
        "thinnest_wall_mm": thinnest,
        "thin_share_resin": thin_resin,
        "thin_share_fdm": thin_fdm,
        "overhang_share": _overhang(mesh, cross, area),
        "mass_g": None if volume is None else _rounded(volume / 1000 * PLA_G_PER_CM3, 2),
        "faces": len(mesh.faces) + broken + without_area,
        "vertices": len(mesh.vertices),
    }
    reasons, notes = _judge(found, broken, inside_out, twins, edges, faces)
    if without_area:
        notes.append(f"{counted(without_area, 'face is', 'faces are')} no triangle: slicers skip such.")
    if stands is not None:
        notes += _judge_stance(points, centre_there, stands, {change.step for change in changes})
        notes += [note for change in changes if change.step == "add_plinth" for note in _judge_hold(change.numbers)]
    repairs = tuple(change.sentence for change in changes if change.step in REPAIRS)
    if reasons:
        verdict = NOT_PRINTABLE
    else:
        verdict, reasons = (REPAIRED, repairs) if repairs else (READY, ())
    return Report(verdict=verdict, reasons=tuple(reasons), notes=tuple(notes), **found)


def say_mass(grams: float | None) -> str:
    """For people: "12.3 g", "5,194.80 kg" from 1000 g on, or "unknown"."""
    if grams is None:
        return "unknown"
    return f"{grams:.1f} g" if grams < 1000 else f"{grams / 1000:,.2f} kg"


# The steps of finishing that mended something wrong; the others only did what was asked for (size, base, fewer faces).
REPAIRS = frozenset(
    {
        "drop_bad_vertices",
        "drop_degenerate_faces",
        "drop_double_faces",
        "agree_winding",
        "close_holes",
        "face_outwards",
        "join_bodies",
        "drop_floaters",
        "remesh",
        "untangle",
        "split_shared_edges",
        "part_touching",
    }
)


def _judge(
    found: dict[str, Any], broken: int, inside_out: bool, twins: int, edges: Edges, faces: np.ndarray
) -> tuple[list[str], list[str]]:
    """Reasons why it cannot be printed, with what to change, and notes."""
    reasons, notes = [], []
    if broken:
        reasons.append(f"{counted(broken, 'face')} {_have(broken)} broken corners: repair removes them.")
    if found["boundary_edges"]:
        reasons.append(
            f"It is open along {counted(found['boundary_edges'], 'edge')}: repair closes holes; "
            "an open sheet needs a thickness."
        )
    if not found["winding_consistent"]:
        if winding_flips(faces, edges)[1].any():
            reasons.append("The surface has only one side, so nothing is inside: give it a thickness.")
        else:
            reasons.append("Its faces do not agree which side is out: repair turns them.")
    elif found["nonmanifold_edges"]:
        number = found["nonmanifold_edges"]
        verb = "is" if number == 1 else "are"
        reasons.append(f"{counted(number, 'edge')} {verb} shared by more than two faces: repair parts them.")
    if found["watertight"]:
        if inside_out:
            reasons.append("It is inside out: repair turns it.")
        elif not found["volume_cm3"] or found["volume_cm3"] <= 0:
            reasons.append("It encloses no volume: give it a thickness.")
        if twins:
            again = "One body is there twice" if twins == 1 else f"{twins:,} bodies are duplicates of others"
            reasons.append(f"{again}, in the same place: repair removes the duplicate{'s' if twins > 1 else ''}.")
        if found["inner_shells"]:
            reasons.append(
                f"There {'is' if found['inner_shells'] == 1 else 'are'} {counted(found['inner_shells'], 'shell')} "
                "inside the solid: repair fills them; to print it hollow, hollow it with a drain hole."
            )
    if found["self_intersections"]:
        number = found["self_intersections"]
        places = f"more than {counted(number - 1, 'place')}" if number > MOST_CROSSINGS else counted(number, "place")
        reasons.append(f"The surface runs through itself at {places}: repair unites the parts.")
    thin = found["thin_share_resin"]
    if thin is not None and thin > TOO_THIN_SHARE:
        longest = max(found["extents_mm"])
        larger = longest * RESIN_WALL_MM / max(found["thinnest_wall_mm"], 1e-6)
        advice = f"print it at {larger:,.0f} mm or thicken it" if larger <= 5 * longest else "thicken it"
        reasons.append(
            f"{100 * thin:.0f} % of its surface has walls under {RESIN_WALL_MM} mm "
            f"(thinnest {found['thinnest_wall_mm']:.2g} mm), too thin even for resin: {advice}."
        )
    elif found["thin_share_fdm"] is not None and found["thin_share_fdm"] > THIN_SHARE:
        resin = f", {100 * thin:.0f} % under {RESIN_WALL_MM} mm (resin)" if thin > THIN_SHARE else ""
        notes.append(
            f"{100 * found['thin_share_fdm']:.0f} % of the surface has walls under {FDM_WALL_MM} mm (FDM){resin}: "
            "such places may come out weak."
        )
    if found["bodies"] - found["inner_shells"] - twins > 1:
        notes.append(f"It is {counted(found['bodies'], 'separate body', 'separate bodies')}.")
    longest = max(found["extents_mm"])
    if not LIKELY_MM[0] <= round(longest, 3) <= LIKELY_MM[1]:
        shown = f"{longest:,.0f}" if longest > 1 else f"{longest:.3g}"
        notes.append(
            f"Its longest side is {shown} mm: if the file was not made in millimetres, say how long that side is to be "
            "(size_mm)."
        )
    if found["overhang_share"] > 0.15:
        notes.append(f"{100 * found['overhang_share']:.0f} % of the surface overhangs and needs support.")
    return reasons, notes


def _judge_stance(points: np.ndarray, centre: np.ndarray, stands: bool, done: set[str]) -> list[str]:
    """A note where it falls over, or nearly, with what is left to do; ``done``: the steps of finishing until now."""
    if not stands:
        if "add_plinth" in done:
            return ["It would fall over as it stands, even on its plate."]
        helps = not done & {"tilt_to_stand", "lay_flat"} and can_be_tilted_to_stand(points, centre)
        turn = f"{TURN_ADVICE}, " if helps else ""
        if "cut_base" in done:
            small = f"the flat side that was cut is too small: {turn}{'or ' if turn else ''}{PLATE_ADVICE}"
            return [f"It would fall over as it stands, {small}."]
        return [f"It would fall over as it stands: {turn}cut it flat at the bottom, or {PLATE_ADVICE}."]
    degrees = tips_at(points, centre)
    if degrees is None:
        return []
    found = f"It stands, but tips over when tilted by about {max(1, round(degrees))}°"
    shadow = points * (1, 0, 1) + (0, points[:, 1].min(), 0)  # a plate reaches as far
    if "add_plinth" not in done and tips_at(shadow, centre) is None:
        return [f"{found}: {PLATE_ADVICE}."]
    return [f"{found}, its foot is so small for its height: print it lying down, or with a brim."]


def _judge_hold(plinth: Mapping[str, Any]) -> list[str]:
    """A note where a plate holds little of what stands on it; plinth: the numbers of that step of finishing."""
    if plinth["held_mm2"] >= LEAST_HELD * plinth["plate_mm2"]:
        return []
    held = f"{plinth['held_mm2'] / 100:.2g} cm²" if plinth["held_mm2"] >= 10 else f"{plinth['held_mm2']:.2g} mm²"
    return [f"The model touches its plate on {held} only and may break off: print it larger, or without the plate."]


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _genus(n_vertices: int, edges: Edges, n_faces: int, bodies: int) -> int | None:
    """Handles by Euler's formula, V - E + F = 2 (bodies - genus); None where bodies share edges or corners."""
    twice = 2 * bodies - (n_vertices - len(edges.pairs) + n_faces)
    return twice // 2 if twice >= 0 and twice % 2 == 0 and (edges.count == 2).all() else None


def _shells(mesh: Mesh, body: np.ndarray, bodies: int) -> tuple[int, int, bool]:
    """How many pieces are cavities or lie inside another, how many are duplicates of another in its place, and whether
    a piece that is neither is inside out.
    """
    from orfeas.mesh.solid import nested_bodies, volume_by_body

    volume = volume_by_body(mesh, body, bodies)
    inside, twins, _ = nested_bodies(mesh, body, bodies)
    return int((inside & ~twins).sum()), int(twins.sum()), bool((volume[~inside] < 0).any())


def _walls(mesh: Mesh, cross: np.ndarray, area: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Thinnest wall and the shares under the two limits: material behind evenly spread points, along the normal."""
    total = np.cumsum(area)
    picked = np.searchsorted(total, (np.arange(WALL_SAMPLES) + 0.5) / WALL_SAMPLES * total[-1])
    step = np.arange(WALL_SAMPLES)
    a, b = (0.5 + step * 0.7548776662466927) % 1, (0.5 + step * 0.5698402909980532) % 1
    fold = a + b > 1
    a, b = np.where(fold, 1 - a, a)[:, None], np.where(fold, 1 - b, b)[:, None]
    corners = mesh.vertices[mesh.faces]
    at = corners[picked]
    points = at[:, 0] + a * (at[:, 1] - at[:, 0]) + b * (at[:, 2] - at[:, 0])
    inward = -cross[picked] / np.maximum(np.linalg.norm(cross[picked], axis=1, keepdims=True), 1e-300)
    start = 1e-6 * float(np.ptp(mesh.vertices, axis=0).max())
    distance, _ = cast_rays(corners, build_grid(corners), points + start * inward, inward)
    wall = np.sort(distance[np.isfinite(distance)] + start)
    if not len(wall):
        return None, None, None
    share = lambda limit: round(float((wall < limit - 1e-6).mean()), 4)  # noqa: E731
    return _rounded(wall[int(THIN_SHARE * len(wall))], 3), share(RESIN_WALL_MM), share(FDM_WALL_MM)


def _overhang(mesh: Mesh, cross: np.ndarray, area: np.ndarray) -> float:
    length = np.maximum(np.linalg.norm(cross, axis=1), 1e-300)
    hangs = -cross[:, 1] / length > np.sin(np.radians(OVERHANG_DEGREES)) + 1e-6
    size = float(np.ptp(mesh.vertices, axis=0).max())
    lies = mesh.vertices[mesh.faces, 1].max(axis=1) < mesh.vertices[mesh.faces, 1].min() + 1e-3 * size
    return round(float(area[hangs & ~lies].sum() / max(area.sum(), 1e-300)), 4)


def _rounded(value: float, digits: int) -> float:
    return round(float(value), digits)


def _empty(mesh: Mesh) -> Report:
    return Report(
        verdict=NOT_PRINTABLE,
        reasons=("It has no usable faces: export it again from the program that made it.",),
        notes=(),
        watertight=False,
        winding_consistent=True,
        bodies=0,
        genus=None,
        boundary_edges=0,
        nonmanifold_edges=0,
        self_intersections=0,
        inner_shells=0,
        volume_cm3=None,
        area_cm2=0.0,
        extents_mm=(0.0, 0.0, 0.0),
        centre_of_mass_mm=None,
        stands=None,
        thinnest_wall_mm=None,
        thin_share_resin=None,
        thin_share_fdm=None,
        overhang_share=0.0,
        mass_g=None,
        faces=len(mesh.faces),
        vertices=len(mesh.vertices),
    )
