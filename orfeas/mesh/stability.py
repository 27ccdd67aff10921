"""How a body stands on the ground: its contact points, its stability, and how it would have to be tilted to stand.

Y is up; points are those of a closed body, in any unit.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from orfeas.mesh import Mesh, face_cross

TIP_DEGREES = 10  # what tips over sooner is unsteady: IEC 62368-1 tilts by as much whatever stands on a table
TILT_STEP = 0.25  # degrees
CONTACT = 0.005  # of the longest side: points up to this high count as contact, feet are never quite flat
TILTS = np.arange(-10.0, 45.5, 0.5)  # degrees that the top goes back: cameras look down rather than up
ROUGH_CONTACT = 0.01  # of the longest side, where tilts are compared: at 0.5 % it is often three points
LOOKED_AT = 6  # tilts whose stability is measured, the most promising ones
WORTH_DEGREES = 3.0  # what stands is tilted only where it then tips over so much later: round things differ by less


def mass_of(mesh: Mesh, cross: np.ndarray) -> tuple[float, np.ndarray]:
    """Volume and (3,) centre of mass of a closed mesh, by tetrahedra from the origin; cross: `face_cross` of it."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    part = np.einsum("ij,ij->i", a, cross) / 6
    volume = float(part.sum())
    centre = (part[:, None] * (a + b + c)).sum(axis=0) / 4
    return volume, centre / volume if abs(volume) > 1e-300 else mesh.vertices.mean(axis=0)


def centre_of_mass(mesh: Mesh) -> np.ndarray:
    """(3,) of a closed mesh, wound the right way."""
    return mass_of(mesh, face_cross(mesh.vertices, mesh.faces))[1]


def stands(points: np.ndarray, centre: np.ndarray) -> bool:
    """Whether the centre of mass, (3,), is over the support polygon of the points, (n, 3)."""
    return stability_margin(points - centre, CONTACT * _longest(points)) >= -1e-9


def stability_margin(points: np.ndarray, height: float) -> float:
    """How far the centre of mass, the origin, is inside of the support polygon, negative outside.

    height: up to which above the lowest point the points, (n, 3), count as contact. -inf where those have no area.
    """
    feet = points[_near_ground(points, height)][:, [0, 2]]
    if len(feet) < 3:
        return -np.inf
    try:
        return -float(ConvexHull(feet).equations[:, 2].max())
    except QhullError:
        return -np.inf


def tips_at(points: np.ndarray, centre: np.ndarray) -> float | None:
    """By how many degrees what stands may be tilted before it tips over, to its least steady side; None for
    `TIP_DEGREES` or more.

    It comes back until tilting lifts its centre of mass no more, whose height is its distance from the plane that
    touches the body from below: so a rounded foot, on which a thing rocks, is not taken for a narrow one.
    """
    at, grounded = points - centre, _near_ground(points, CONTACT * _longest(points))
    feet = at[grounded]
    feet = feet[ConvexHull(feet[:, [0, 2]]).vertices]
    feet[:, 1] = feet[:, 1].max()
    # what is too high above a foot, for its distance from there, touches no plane that is tilted by so little
    at = at[~grounded]
    away = np.linalg.norm(at[:, [0, 2]] - feet[0, [0, 2]], axis=1)
    at = np.concatenate([feet, at[at[:, 1] - feet[0, 1] <= away * np.tan(np.radians(TIP_DEGREES))]])
    tilt = np.radians(np.arange(0, TIP_DEGREES + TILT_STEP, TILT_STEP))
    soonest = len(tilt) - 1
    for side in np.radians(np.arange(0, 360, 10)):
        reach = at[:, 0] * np.cos(side) + at[:, 2] * np.sin(side)
        height = (np.outer(reach, np.sin(tilt)) - np.outer(at[:, 1], np.cos(tilt))).max(axis=0)
        soonest = min(soonest, int(height.argmax()))
    return soonest * TILT_STEP if soonest < len(tilt) - 1 else None


def tilted(points: np.ndarray, degrees: float) -> np.ndarray:
    """(n, 3) points turned about x, the top back, towards -Z."""
    angle = np.radians(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]])
    return points @ turn.T


def best_tilt(points: np.ndarray, centre: np.ndarray) -> tuple[float, bool]:
    """By which of `TILTS` the body stands steadiest, and whether it then stands at all.

    What stands is tilted only where that makes it steadier by `WORTH_DEGREES`. Where no tilt lets it stand, the one is
    taken at which least is missing, and never forward.
    """
    points = points - centre
    middle = np.zeros(3)
    here = _steadiness(points) if stands(points, middle) else None
    if here == TIP_DEGREES:
        return 0.0, True
    margins = np.array([_margins(points, degrees) for degrees in TILTS])
    standing = np.flatnonzero(margins[:, 0] >= -1e-9)
    if not len(standing):
        backward = np.flatnonzero(TILTS >= 0)
        return float(TILTS[backward[margins[backward, 1].argmax()]]), False
    promising = standing[np.argsort(-margins[standing, 1], kind="stable")[:LOOKED_AT]]
    steady = np.array([_steadiness(tilted(points, TILTS[at])) for at in promising])
    best = promising[int(steady.argmax())]  # of equals the one that is farthest from its limits
    if here is not None and steady.max() < here + WORTH_DEGREES:
        return 0.0, True
    return float(TILTS[best]), True


def can_be_tilted_to_stand(points: np.ndarray, centre: np.ndarray) -> bool:
    """The second answer of `best_tilt`, sooner: the search ends at the first tilt at which the body stands."""
    points = points - centre
    return any(_margins(points, degrees)[0] >= -1e-9 for degrees in sorted(TILTS, key=abs))


def _margins(points: np.ndarray, degrees: float) -> tuple[float, float]:
    """`stability_margin` of the tilted points at both contacts, fine and rough."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    height, depth = points[:, 1] * cosine + points[:, 2] * sine, points[:, 2] * cosine - points[:, 1] * sine
    longest = max(float(np.ptp(side)) for side in (points[:, 0], height, depth))
    lowest = np.flatnonzero(height <= height.min() + ROUGH_CONTACT * longest)
    near = np.stack([points[lowest, 0], height[lowest], depth[lowest]], axis=1)
    return stability_margin(near, CONTACT * longest), stability_margin(near, ROUGH_CONTACT * longest)


def _steadiness(points: np.ndarray) -> float:
    """`tips_at` as a number, `TIP_DEGREES` at most."""
    degrees = tips_at(points, np.zeros(3))
    return TIP_DEGREES if degrees is None else degrees


def _near_ground(points: np.ndarray, height: float) -> np.ndarray:
    """(n,) which of the points are at most so high above the lowest."""
    return points[:, 1] <= points[:, 1].min() + height


def _longest(points: np.ndarray) -> float:
    return float(np.ptp(points, axis=0).max())
