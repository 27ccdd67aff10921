"""What colour does the ground have behind the subject, and what does that say of a network's mask?

A network knows things, and sees them at 320 pixels: it fills the gaps between a chair's slats, and loses a pale sole on
a pale ground. The ground's colour is followed from all round into the subject (a membrane: Laplace's equation), its
error there measured by predicting ground that is known. Enclosed regions of just that colour with a clear edge are
opened; what differs clearly from it, is no shadow, and was half seen by the network, is taken in. A region that is
wrongly opened costs more than one that is missed: where there is doubt the mask stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from orfeas.cutout.finder import shrink, to_lab

WORK_PX = 768
CELL_PX = 8  # the ground's colour is found on a grid of cells of this size
SWEEPS = 40  # of relaxation, on every level of a pyramid: more change nothing that is seen
SEEN = 0.5  # of the network's belief: from here on it took it for the subject,
SURE = 0.95  # and from here on without a doubt
MARGIN = 0.012  # of the longest side: ground nearer to the subject than this may hold some of it
WITHHELD = 0.06  # of the longest side: the strip of ground that is predicted from beyond to measure the error
MAX_ERROR = 5.0  # CIE76: ground that is predicted worse than this says nothing

SAME = 2.0  # CIE76: pixels of a gap differ by at most this and twice the error,
SAME_MOST = 6.0  # but no more than this,
SAME_SURE = 1.3  # its mean by at most this where the network is sure that it is subject,
SAME_DOUBTED = 3.0  # and by this where it is in doubt,
FULL_DOUBT = 0.3  # which it is when its belief falls short by this
CLEAR = 10.0  # CIE76: a gap's rim, and what is taken in, differ from the ground by at least this,
CLEAR_SHARE = 0.9  # nearly everywhere
GAP_SHARE = 0.0003  # of the frame: smaller gaps stay closed
HINT = 0.03  # less is no hint that something belongs to the subject
LOST_REACH = 0.06  # of the longest side: parts farther from the subject than this were not lost by it
LOST_SHARE = 0.3  # of the subject: a larger part is another thing
CRACK_PX = 5  # cracks in what was taken in, no wider than this, are closed
RIM_PX = 5  # the width over which the subject's colour turns into the ground's
SHADOW_HUE = 7.0  # CIE76: a shadow has its ground's colour, darkened
SHADOW_LEAST = 0.15  # of the light: no soft shadow is darker


@dataclass(frozen=True)
class Ground:
    """colour: (h, w, 3) float32 CIE L*a*b*. error: (h, w) float32, CIE76 that a prediction is typically off."""

    colour: np.ndarray
    error: np.ndarray


def correct_by_ground(mask: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """``mask`` (float32 in [0, 1], any size) with gaps opened and lost parts taken in.

    rgb: (h, w, 3) uint8. The answer is ``mask`` itself where nothing is to be changed; else it is at least as large as
    ``rgb`` at `WORK_PX`.
    """
    small = shrink(rgb, WORK_PX)
    height, width = small.shape[:2]
    belief = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    lab = cv2.GaussianBlur(to_lab(small), (3, 3), 0)
    ground = model_ground(lab, belief)
    if ground is None:
        return mask
    off = np.linalg.norm(lab - ground.colour, axis=2)
    lost = _find_lost(lab, ground, off, belief)
    gaps = _find_gaps(lab, ground, off, np.where(lost, 1, belief))
    if not (lost | gaps).any():
        return mask
    size = (max(width, mask.shape[1]), max(height, mask.shape[0]))
    lost, gaps = (cv2.resize(part.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0 for part in (lost, gaps))
    return np.where(gaps, 0, np.where(lost, 1, cv2.resize(mask, size))).astype(np.float32)


def model_ground(lab: np.ndarray, belief: np.ndarray) -> Ground | None:
    """The ground of (h, w, 3) CIE L*a*b*, also where the subject hides it; None where next to no ground is sure."""
    height, width = belief.shape
    longest = max(height, width)
    size = (max(2, round(width / CELL_PX)), max(2, round(height / CELL_PX)))
    away = cv2.distanceTransform((belief < 0.1).astype(np.uint8), cv2.DIST_L2, 5)

    def cells(values):
        return cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_AREA)

    weight = cells(away > MARGIN * longest)
    beyond = cells(away > (MARGIN + WITHHELD) * longest)
    sure, far = weight > 0.5, beyond > 0.5
    if sure.mean() < 0.02 or far.mean() < 0.01:
        return None
    colour = cells(lab * (away > MARGIN * longest)[..., None]) / np.maximum(weight, 1e-3)[..., None]
    field = _stretch_membrane(colour, sure)
    again = _stretch_membrane(colour, far)
    large = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
    noise = cells(((lab - large) ** 2).sum(2) * (away > MARGIN * longest)) / np.maximum(weight, 1e-3)
    squared = noise + np.where(far, 0, ((again - field) ** 2).sum(2))
    error = np.sqrt(_stretch_membrane(squared[..., None], sure)[..., 0])
    return Ground(large, cv2.resize(error, (width, height), interpolation=cv2.INTER_LINEAR))


def _stretch_membrane(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(h, w, c) float32: ``values`` where ``known``, smoothly between elsewhere."""
    height, width = known.shape
    if min(height, width) > 8:  # a coarser membrane is a good start
        half = ((width + 1) // 2, (height + 1) // 2)
        share = cv2.resize(known.astype(np.float32), half, interpolation=cv2.INTER_AREA)
        sums = cv2.resize(values * known[..., None], half, interpolation=cv2.INTER_AREA).reshape(*half[::-1], -1)
        start = _stretch_membrane(sums / np.maximum(share, 1e-6)[..., None], share > 0.2)
        start = cv2.resize(start, (width, height), interpolation=cv2.INTER_LINEAR).reshape(values.shape)
    else:
        mean = values[known].mean(0) if known.any() else values.mean((0, 1))
        start = np.broadcast_to(mean, values.shape)
    field = np.where(known[..., None], values, start).astype(np.float32)
    around = np.float32([[0, 0.25, 0], [0.25, 0, 0.25], [0, 0.25, 0]])
    for _ in range(SWEEPS):
        moved = cv2.filter2D(field, -1, around, borderType=cv2.BORDER_REPLICATE).reshape(values.shape)
        field = np.where(known[..., None], values, moved)
    return field


def _find_lost(lab: np.ndarray, ground: Ground, off: np.ndarray, belief: np.ndarray) -> np.ndarray:
    """(h, w) bool: parts beside the subject that are clearly no ground, and that the network half saw."""
    seen = belief >= SEEN
    hint = cv2.dilate(belief, np.ones((5, 5), np.uint8)) >= HINT
    near = cv2.distanceTransform((~seen).astype(np.uint8), cv2.DIST_L2, 5) <= LOST_REACH * max(seen.shape)
    thing = (off > CLEAR + ground.error) & (ground.error <= MAX_ERROR)
    # At the edge a pixel is mixed of both, and the subject's from half of its colour on.
    kernel = np.ones((RIM_PX, RIM_PX), np.uint8)
    edge = cv2.dilate((off < SAME_MOST + ground.error).astype(np.uint8), kernel) > 0
    half = off > 0.5 * cv2.dilate(off, kernel)
    part = (belief < SURE) & hint & near & np.where(seen, off > SAME_MOST + ground.error, thing) & (half | ~edge)
    part &= ~_is_shadow(lab, ground.colour)
    part = cv2.morphologyEx(part.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
    touching = np.unique(labels[cv2.dilate(seen.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0])
    lost = np.zeros(len(stats), bool)
    lost[touching] = stats[touching, cv2.CC_STAT_AREA] <= LOST_SHARE * seen.sum()
    lost[0] = False
    # Between two of its parts a mixed colour may happen to be the ground's: cracks go with them.
    whole = (lost[labels] | (belief >= SURE)).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (CRACK_PX, CRACK_PX))
    return hint & (belief < SURE) & (cv2.morphologyEx(whole, cv2.MORPH_CLOSE, kernel) > 0)


def _is_shadow(lab: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """(h, w) bool: the colour is that of the ground with less light."""
    here = cv2.cvtColor(lab, cv2.COLOR_LAB2LRGB)
    there = np.maximum(cv2.cvtColor(ground, cv2.COLOR_LAB2LRGB), 1e-3)
    light = (here * there).sum(2) / (there**2).sum(2)
    darkened = cv2.cvtColor(np.ascontiguousarray(there * np.clip(light, 0, 1)[..., None]), cv2.COLOR_LRGB2LAB)
    return (light < 1) & (light > SHADOW_LEAST) & (np.linalg.norm(lab - darkened, axis=2) < SHADOW_HUE)


def _find_gaps(lab: np.ndarray, ground: Ground, off: np.ndarray, belief: np.ndarray) -> np.ndarray:
    """(h, w) bool: regions of the subject through which the ground is seen."""
    inside = belief >= HINT
    same = inside & (ground.error <= MAX_ERROR) & (off < np.minimum(SAME + 2 * ground.error, SAME_MOST))
    same = cv2.morphologyEx(same.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(same, connectivity=4)
    gaps = np.zeros(belief.shape, bool)
    for label in np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= GAP_SHARE * belief.size) + 1:
        left, top, wide, high = stats[label, :4]
        box = slice(max(0, top - 6), top + high + 6), slice(max(0, left - 6), left + wide + 6)
        region = labels[box] == label
        if _is_gap(region, lab[box], ground.colour[box], ground.error[box], off[box], belief[box]):
            gaps[box] |= region
    kernel = np.ones((RIM_PX, RIM_PX), np.uint8)
    return gaps | ((cv2.dilate(gaps.astype(np.uint8), kernel) > 0) & (off < 0.5 * cv2.dilate(off, kernel)))


def _is_gap(
    region: np.ndarray, lab: np.ndarray, colour: np.ndarray, error: np.ndarray, off: np.ndarray, belief: np.ndarray
) -> bool:
    """Whether ``region`` (h, w) bool is ground: just its colour, and round it a clear step to what is subject."""
    kernel = np.ones((3, 3), np.uint8)
    near = cv2.dilate(region.astype(np.uint8), kernel, iterations=2)  # the step itself
    rim = (cv2.dilate(near, kernel, iterations=3) > 0) & (near == 0) & (belief >= SEEN)
    if not rim.any():
        return False
    clear = (off > CLEAR + error)[rim].mean()
    shift = np.linalg.norm((lab - colour)[region].mean(0))
    doubt = min(1.0, (1 - float(belief[region].mean())) / FULL_DOUBT)
    return bool(clear >= CLEAR_SHARE and shift <= SAME_SURE + (SAME_DOUBTED - SAME_SURE) * doubt)
