"""Corrections by hand: the thing that was tapped joins the subject or leaves it, and nothing far away changes.

Each tap starts a race over the picture: from the tapped spot, and from what surely is not meant (pixels of its own side
that are of another colour, or far away). A step costs its length and the colour change along it, so that each stops at
the first edge (geodesic segmentation: Bai and Sapiro, ICCV 2007; Criminisi and others, ECCV 2008).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from orfeas.cutout.edges import sharpen_edges
from orfeas.cutout.finder import shrink, to_lab
from orfeas.request import Tap

WORK_PX = 384
REACH = 0.3  # of the longest side: pixels farther from the tap never change
SPOT = 0.012  # of the longest side: the radius round the tap that always follows it
OTHER_COLOUR = 25.0  # CIE76 with lightness halved (shading is mostly lightness): a pixel this far is another thing
CRUMB = 0.25  # of the tapped region: smaller pieces that it surrounds go with it
STEP_COST = 0.05  # of one work pixel, in CIE76 units: crossing the whole frame costs as much as a clear edge


def apply_taps(rgb: np.ndarray, alpha: np.ndarray, taps: Sequence[Tap]) -> np.ndarray:
    """``alpha`` (h, w) uint8 of ``rgb`` (h, w, 3) uint8 after ``taps``, in order. The arguments are not changed."""
    small = cv2.GaussianBlur(shrink(rgb, WORK_PX), (3, 3), 0)
    lab = to_lab(small)
    shape = lab.shape[:2]
    changed = alpha.copy()
    for tap in taps:
        inside = shrink(changed, WORK_PX) >= 128
        spot = (
            min(int(tap.y * shape[0]), shape[0] - 1),
            min(int(tap.x * shape[1]), shape[1] - 1),
        )
        region = _find_tapped(lab, inside, spot, tap.include)
        if region.any():
            changed = _apply_region(changed, rgb, region, tap.include)
    return changed


def _find_tapped(lab: np.ndarray, inside: np.ndarray, spot: tuple[int, int], include: bool) -> np.ndarray:
    """(h, w) bool: what the tap at ``spot`` means, a part of the side that it is on."""
    from skimage.graph import MCP_Geometric

    height, width = inside.shape
    longest = max(height, width)
    y, x = np.ogrid[:height, :width]
    away = np.hypot(y - spot[0], x - spot[1])
    disc = away <= max(1.5, SPOT * longest)
    side = inside != include  # where the tap can change something
    if not (side & disc).any():
        return np.zeros_like(inside)

    reach = REACH * longest
    window = (
        slice(max(0, int(spot[0] - reach) - 1), int(spot[0] + reach) + 2),
        slice(max(0, int(spot[1] - reach) - 1), int(spot[1] + reach) + 2),
    )
    weighted = lab * np.array([0.5, 1, 1], np.float32)
    tapped = np.median(weighted[disc], axis=0)
    other = np.linalg.norm(weighted - tapped, axis=2) > OTHER_COLOUR
    rivals = (side & (other | (away > reach)) & ~disc)[window]
    gradient = np.sqrt(sum(cv2.Sobel(lab, cv2.CV_32F, *d, scale=0.25) ** 2 for d in ((1, 0), (0, 1))).sum(2))
    # The side that the tap is not on is no way round: a wall, not a road.
    cost = np.where(side, STEP_COST + gradient, -1.0)[window]

    def race(starts: np.ndarray) -> np.ndarray:
        points = np.argwhere(starts)
        if not len(points):
            return np.full(cost.shape, np.inf)
        return MCP_Geometric(cost).find_costs([tuple(point) for point in points])[0]

    mine = race((disc & side)[window])
    theirs = race(rivals)
    region = np.zeros_like(inside)
    region[window] = np.isfinite(mine) & (mine < theirs)
    region = (region | (disc & side)) & (away <= reach)
    return _gather_crumbs(region, side & ~region & (away <= reach)) if region.any() else region


def _gather_crumbs(region: np.ndarray, left: np.ndarray) -> np.ndarray:
    """``region`` with the slivers and crumbs of ``left`` that would stay along it: a rim's glint, a reflection."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    near = cv2.dilate(region.astype(np.uint8), kernel, iterations=2) > 0
    bulk = cv2.morphologyEx(left.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    region = region | (left & near & (bulk == 0))
    _, labels, stats, _ = cv2.connectedComponentsWithStats((left & ~region).astype(np.uint8), connectivity=8)
    rim = cv2.dilate(region.astype(np.uint8), kernel) > 0
    for label in range(1, len(stats)):
        if stats[label, cv2.CC_STAT_AREA] > CRUMB * region.sum():
            continue
        piece = labels == label
        around = (cv2.dilate(piece.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~piece
        if rim[around].mean() > 0.5:  # most of its surroundings were tapped
            region = region | piece
    return region


def _apply_region(alpha: np.ndarray, rgb: np.ndarray, region: np.ndarray, include: bool) -> np.ndarray:
    """``alpha`` with ``region`` (at work size) set or cleared; its edge follows the picture, the rest stays."""
    changed = alpha.copy()
    here, box = _crop(region, alpha.shape)
    old, part = alpha[box], region[here]
    share = sharpen_edges(part.astype(np.float32), rgb[box])
    if include:
        # between the old subject and the new part no seam may stay
        seam = max(1, round(1.5 * max(old.shape) / max(part.shape)))
        kernel = np.ones((2 * seam + 1, 2 * seam + 1), np.uint8)
        together = cv2.morphologyEx(np.maximum(old, share), cv2.MORPH_CLOSE, kernel)
        changed[box] = np.where(cv2.dilate(share, kernel) > 0, np.maximum(old, together), old)
    else:
        changed[box] = np.minimum(old, 255 - share)
    return changed


def _crop(region: np.ndarray, shape: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The surroundings of ``region``, in its own pixels and in those of ``shape``."""
    here, box = [], []
    for axis, (length, full) in enumerate(zip(region.shape, shape, strict=True)):
        places = np.flatnonzero(region.any(1 - axis))
        start, stop = max(0, places[0] - 12), min(length, places[-1] + 13)
        here.append(slice(start, stop))
        box.append(slice(round(start * full / length), round(stop * full / length)))
    return tuple(here), tuple(box)
