"""Which of several models of one picture is the best: first those that can be printed, then by the outline.

The agreement is the intersection over the union of two outlines: the cutout's, and the model's as seen from the front
without perspective; each is scaled to its own longest side, since a picture has no size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from orfeas.mesh import Mesh
    from orfeas.result import Result

OUTLINE_PX = 256  # longest side at which outlines are compared
LEAST_TIE = 0.01  # agreements nearer than this are equal: a pixel's width all round makes as much


@dataclass(frozen=True)
class Ranked:
    """A result, and how well its outline agrees with the picture's, 0 to 1."""

    result: Result
    agreement: float


def rank(results: Sequence[Result]) -> list[Ranked]:
    """The best first; of equal ones, the one made first."""
    ranked = [Ranked(result, _agreement_of(result)) for result in results]
    return sorted(ranked, key=lambda one: (not one.result.report["printable"], -one.agreement))


def explain_ranking(ranked: Sequence[Ranked]) -> str:
    """What the order is worth, in a sentence."""
    agreements = [
        one.agreement for one in ranked if one.result.report["printable"] == ranked[0].result.report["printable"]
    ]
    if len(agreements) > 1 and max(agreements) - min(agreements) < LEAST_TIE:
        return "Their outlines agree with the picture about equally well: look at them and choose."
    return "Ranked by whether they can be printed, then by how well the outline agrees with the picture."


def measure_agreement(mesh: Mesh, rgba: np.ndarray) -> float:
    """Of a mesh as it is pictured, front at +Z, with the subject in (h, w, 4) uint8 straight alpha; 0 to 1.

    Raises `orfeas.errors.BadPicture` for an empty cutout.
    """
    from orfeas.silhouette import subject_mask

    return compare_outlines(draw_outline(mesh), subject_mask(rgba))


def _agreement_of(result: Result) -> float:
    """As it was measured when the result was made; older results are measured now, as they stand."""
    if "agreement" in result.facts:
        return result.facts["agreement"]
    from PIL import Image

    from orfeas.mesh.load import load_mesh

    with Image.open(result.files["cutout"]) as cutout:
        return measure_agreement(load_mesh(result.files["glb"]), np.asarray(cutout.convert("RGBA")))


def draw_outline(mesh: Mesh) -> np.ndarray:
    """(OUTLINE_PX, OUTLINE_PX) bool: where the mesh is, seen from the front without perspective."""
    from orfeas.render.camera import frame_points
    from orfeas.render.raster import rasterize

    points = mesh.vertices.astype(np.float64)
    points = (points - points[mesh.faces].min(axis=(0, 1))) / (np.ptp(points[mesh.faces], axis=(0, 1)).max() or 1.0)
    (camera,) = frame_points(points, [0.0], 0.0, margin=1.02, field_of_view_degrees=None)
    ids, _ = rasterize(camera.project(points.astype(np.float32), OUTLINE_PX), mesh.faces, OUTLINE_PX)
    return ids >= 0


def compare_outlines(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two (h, w) bool outlines, each cropped and scaled to its longest side; 0 if empty."""
    fitted = [_fit(outline) for outline in (one, other)]
    if any(outline is None for outline in fitted):
        return 0.0
    one, other = fitted
    return float((one & other).sum() / (one | other).sum())


def _fit(outline: np.ndarray) -> np.ndarray | None:
    """(OUTLINE_PX, OUTLINE_PX) bool: the outline alone, as large as fits, in the middle."""
    import cv2

    rows, columns = np.flatnonzero(outline.any(axis=1)), np.flatnonzero(outline.any(axis=0))
    if not len(rows):
        return None
    cropped = outline[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    scale = OUTLINE_PX / max(cropped.shape)
    height, width = (max(1, round(side * scale)) for side in cropped.shape)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(cropped, (width, height), interpolation=way) >= 0.5
    fitted = np.zeros((OUTLINE_PX, OUTLINE_PX), bool)
    top, left = (OUTLINE_PX - height) // 2, (OUTLINE_PX - width) // 2
    fitted[top : top + height, left : left + width] = scaled
    return fitted
