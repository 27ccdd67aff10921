"""Mend places where a surface runs through itself: cut out and close again where it is small, rebuild where not."""

from __future__ import annotations

import numpy as np

from orfeas.mesh import Mesh, signed_volume
from orfeas.mesh.change import Change, counted
from orfeas.mesh.decimate import decimate
from orfeas.mesh.field import remesh
from orfeas.mesh.holes import close_holes
from orfeas.mesh.intersect import crossing_pairs
from orfeas.mesh.solid import face_outwards, is_solid, join_bodies
from orfeas.mesh.topology import find_bodies, is_closed, select_faces

LOCAL_SHARE = 0.02  # of the faces: with more of them crossing, the surface is rebuilt at once
VOLUME_KEPT = 0.002  # a local repair that changes the volume by more has cut through something
ROUNDS = 5


def untangle(mesh: Mesh) -> tuple[Mesh, list[Change]]:
    """A closed mesh that nowhere runs through itself: mended in place, or rebuilt on a grid as the last resort."""
    pairs = crossing_pairs(mesh)
    if not len(pairs):
        return mesh, []
    tangled = len(np.unique(pairs))
    if tangled <= max(64, LOCAL_SHARE * len(mesh.faces)):
        mended = _cut_out(mesh, pairs)
        if mended is not None:
            sentence = f"Mended {counted(tangled, 'face')} that ran through others."
            return mended, [Change("untangle", sentence, {"faces": tangled})]
    rebuilt, changes = remesh(mesh)
    rebuilt, more = join_bodies(face_outwards(rebuilt)[0])
    return rebuilt, changes + more


def reduce_untangled(mesh: Mesh, max_faces: int) -> tuple[Mesh, list[Change]]:
    """At most ``max_faces`` faces that do not run through one another; tries again a little lower where they do.

    Where no try succeeds the one with the fewest crossings is taken: the report tells of them.
    """
    best, fewest = None, 0
    for share in (1.0, 0.98, 0.95, 0.9):
        reduced, changes = decimate(mesh, max(int(share * max_faces), 4))
        crossings = changes[0].numbers["self_intersections"] if changes else len(crossing_pairs(reduced))
        if crossings:
            mended = _cut_out(reduced, crossing_pairs(reduced))
            if mended is not None and len(mended.faces) <= max_faces:
                sentence = f"Mended {counted(crossings, 'place')} where the reduced surface ran through itself."
                return mended, [*changes, Change("untangle", sentence, {"places": crossings})]
        if best is None or crossings < fewest:
            best, fewest = (reduced, changes), crossings
        if not crossings:
            break
    return best


def _cut_out(mesh: Mesh, pairs: np.ndarray) -> Mesh | None:
    """Remove the crossing faces, a ring more each round, and close the holes; None if that does not do."""
    bodies = find_bodies(mesh.faces, len(mesh.vertices))[0]
    volume = signed_volume(mesh.vertices - mesh.vertices.mean(axis=0), mesh.faces)
    for rings in range(ROUNDS):
        crossing = np.zeros(len(mesh.faces), bool)
        crossing[pairs.ravel()] = True
        for _ in range(rings):
            touched = np.zeros(len(mesh.vertices), bool)
            touched[mesh.faces[crossing]] = True
            crossing = touched[mesh.faces].any(axis=1)
        if crossing.all():
            return None
        mended, _ = close_holes(select_faces(mesh, ~crossing))
        if not is_closed(mended.faces) or not is_solid(mended):
            continue
        if find_bodies(mended.faces, len(mended.vertices))[0] != bodies:
            continue
        kept = signed_volume(mended.vertices - mended.vertices.mean(axis=0), mended.faces)
        if abs(kept - volume) > VOLUME_KEPT * abs(volume):
            return None
        if not len(crossing_pairs(mended)):
            return mended
    return None
