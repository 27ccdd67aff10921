"""Families of procedural objects. Each function builds one random member into an `Assembly`.

Objects stand upright (Y up) and face +Z. `TRAINING` are learned from; `HELD_OUT` are kept for validation, so that a
score on them says something about objects of kinds the network has never seen.
"""

from __future__ import annotations

from collections.abc import Callable

from orfeas.engines.sketch.train import household, living, outdoors, shapes, workpieces
from orfeas.engines.sketch.train.assembly import Assembly

Family = Callable[[Assembly], None]
TRAINING: dict[Family, float] = {
    living.quadruped: 0.11,
    living.biped: 0.14,
    household.seat_or_table: 0.08,
    household.sofa_or_bed: 0.03,
    household.cabinet: 0.04,
    outdoors.car: 0.07,
    outdoors.boat: 0.02,
    household.vessel: 0.08,
    outdoors.building: 0.07,
    shapes.combination: 0.11,
    shapes.single: 0.05,
    household.carton: 0.06,
    shapes.flat_piece: 0.03,
    shapes.thin_piece: 0.03,
    shapes.round_piece: 0.12,
    living.plant: 0.02,
    living.rock: 0.02,
    household.tool: 0.04,
    workpieces.crossing: 0.22,
    workpieces.grown: 0.18,
    workpieces.stacked: 0.22,
    workpieces.profile_bar: 0.07,
    workpieces.extrusion: 0.09,
    workpieces.bored_plate: 0.05,
    workpieces.implement: 0.05,
}
HELD_OUT: tuple[Family, ...] = (
    outdoors.robot,
    household.lamp,
    outdoors.aeroplane,
    living.fruit,
    household.appliance,
    workpieces.fitting,
)
