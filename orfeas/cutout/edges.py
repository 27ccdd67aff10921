"""Masks made fit for use: edges that follow the picture, no specks, no background colour at the rim."""

from __future__ import annotations

import cv2
import numpy as np

from orfeas.cutout.finder import shrink

GUIDE_PX = 1024  # the guided filter's coefficients are found at this size and applied at full size
GUIDE_EPSILON = 2e-4  # of colours in [0, 1]: edges weaker than its root are smoothed over
SPECK_SHARE = 0.05  # of the largest piece: smaller ones are dropped
PINHOLE_SHARE = 0.0005  # of the subject: smaller holes are filled


def sharpen_edges(mask: np.ndarray, rgb: np.ndarray, detail_px: int | None = None) -> np.ndarray:
    """``mask`` (float32 in [0, 1], any size) as alpha (h, w) uint8 of ``rgb``'s size, its edge on the picture's.

    detail_px: the longest side at which the mask was found, if it has been enlarged since.

    The fast guided filter: He, Sun, Tang, "Guided Image Filtering" (PAMI 2013), equations 14 to 16 for colour guides,
    with the subsampling of He and Sun, arXiv:1505.00996.
    """
    height, width = rgb.shape[:2]
    guide = shrink(rgb, GUIDE_PX).astype(np.float32) / 255
    size = guide.shape[1::-1]
    radius = max(2, round(1.6 * max(size) / (detail_px or max(mask.shape))))
    kernel = (2 * radius + 1, 2 * radius + 1)
    wanted = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)

    def mean(values):
        return cv2.blur(values, kernel, borderType=cv2.BORDER_REFLECT)

    guide_mean, wanted_mean = mean(guide), mean(wanted)
    covariance = mean(guide * wanted[..., None]) - guide_mean * wanted_mean[..., None]
    spread = np.empty((*wanted.shape, 3, 3), np.float32)
    for row in range(3):
        for column in range(row, 3):
            value = mean(guide[..., row] * guide[..., column]) - guide_mean[..., row] * guide_mean[..., column]
            spread[..., row, column] = spread[..., column, row] = value
        spread[..., row, row] += GUIDE_EPSILON
    slope = _solve_3x3(spread, covariance)
    offset = wanted_mean - (slope * guide_mean).sum(-1)

    slope = cv2.resize(mean(slope), (width, height), interpolation=cv2.INTER_LINEAR)
    offset = cv2.resize(mean(offset), (width, height), interpolation=cv2.INTER_LINEAR)
    filtered = np.einsum("hwc,hwc->hw", slope, rgb.astype(np.float32) / 255) + offset
    # The filter leaves a faint veil over the background and faint holes in the subject: both ends are cut off.
    near = cv2.resize(wanted, (width, height), interpolation=cv2.INTER_LINEAR)
    alpha = np.clip((filtered - 0.1) / 0.8, 0, 1)
    alpha = np.where(near < 0.02, 0, np.where(near > 0.98, np.maximum(alpha, near), alpha))
    return np.rint(alpha * 255).astype(np.uint8)


def _solve_3x3(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cramer's rule for symmetric (h, w, 3, 3) and (h, w, 3): several times faster than numpy.linalg.solve."""
    a, b, c = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2]
    d, e, f = matrix[..., 1, 1], matrix[..., 1, 2], matrix[..., 2, 2]
    cofactors = (d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b)
    determinant = a * cofactors[0] + b * cofactors[1] + c * cofactors[2]
    x, y, z = right[..., 0], right[..., 1], right[..., 2]
    solution = np.stack(
        [
            cofactors[0] * x + cofactors[1] * y + cofactors[2] * z,
            cofactors[1] * x + cofactors[3] * y + cofactors[4] * z,
            cofactors[2] * x + cofactors[4] * y + cofactors[5] * z,
        ],
        axis=-1,
    )
    return solution / determinant[..., None]


def drop_specks(alpha: np.ndarray) -> np.ndarray:
    """``alpha`` (h, w) uint8 without stray pieces and pinholes. Soft pixels stay with the piece that they touch."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((alpha >= 128).astype(np.uint8), connectivity=8)
    if count < 2:
        return alpha
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.concatenate([[False], areas >= SPECK_SHARE * areas.max()])
    subject = kept[labels]
    rim = max(2, round(max(alpha.shape) / 200))
    reach = cv2.dilate(subject.astype(np.uint8), np.ones((2 * rim + 1, 2 * rim + 1), np.uint8)) > 0
    cleaned = np.where(reach & ((labels == 0) | subject), alpha, 0).astype(np.uint8)

    count, labels, stats, _ = cv2.connectedComponentsWithStats((cleaned < 128).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < max(PINHOLE_SHARE * areas.max(), 4)
    for label in np.flatnonzero(small[1:]) + 1:
        left, top, width, height = stats[label, :4]
        inside = left > 0 and top > 0 and left + width < alpha.shape[1] and top + height < alpha.shape[0]
        if inside:
            box = (slice(top, top + height), slice(left, left + width))
            cleaned[box][labels[box] == label] = 255
    return cleaned


def clean_colours(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) uint8 for a found mask: its rim, which holds some background, takes the colours beside it."""
    rim = max(1, round(max(alpha.shape) / 400))
    solid = (alpha >= 243).astype(np.uint8)
    # the picture's edge is no edge of the subject: colours there are sure
    sure = cv2.erode(solid, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim + 1, 2 * rim + 1)))
    return grow_colours(rgb, sure > 0, sure == 0, (alpha > 0) & (sure == 0))


def grow_colours(
    rgb: np.ndarray, sure: np.ndarray, replaced: np.ndarray, subject: np.ndarray | None = None
) -> np.ndarray:
    """``rgb`` with the ``replaced`` pixels given the colour of the nearest ``sure`` one, or 0 where that is far.

    sure, replaced, subject: (h, w) bool. Pixels of ``subject`` that are far from every sure one (thin wires) keep their
    own colour.
    """
    if not sure.any():
        return rgb.copy()
    distance, labels = cv2.distanceTransformWithLabels(
        (~sure).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros((labels.max() + 1, 3), np.uint8)
    table[labels[sure]] = rgb[sure]
    reach = max(4, max(rgb.shape[:2]) / 100)
    grown = np.where((distance <= reach)[..., None], table[labels], 0)
    if subject is not None:
        wires = subject & (distance > reach)
        grown[wires] = rgb[wires]
    return np.where(replaced[..., None], grown, rgb).astype(np.uint8)
