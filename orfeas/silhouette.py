"""The subject's silhouette in a cutout: which pixels are the subject, and the box around them.

Engines that build on the silhouette and textures that are registered to it read it here, so that they agree.
"""

from __future__ import annotations

import numpy as np

from orfeas.errors import BadPicture

# A separate part that would hold less than this share of the volume is a speck of the picture or the cutout. A part's
# volume goes about with its area to the power of 1.5.
SPECK_VOLUME = 0.003


def subject_mask(rgba: np.ndarray) -> np.ndarray:
    """(h, w) bool: the subject's pixels in (h, w, 4) uint8 straight alpha. See `subject_level`."""
    return subject_level(rgba) >= 0.5


def subject_level(rgba: np.ndarray) -> np.ndarray:
    """(h, w) float32 in [0, 1]: the subject's coverage of each pixel of (h, w, 4) uint8 straight alpha.

    The outline is the level 0.5, half of the subject's full coverage. That is opaque in most pictures, but less for
    glass or smoke. Specks (see `SPECK_VOLUME`) are left out. Raises `BadPicture` where nothing is left.
    """
    import cv2

    alpha = rgba[..., 3]
    full = full_coverage(alpha)
    if full == 0:
        raise BadPicture(
            "The cutout is empty: nothing in the picture was taken as the subject. Mark the subject with a tap, or "
            "use a picture with a clearer background.",
            "empty_cutout",
        )
    level = np.minimum(np.arange(256, dtype=np.float32) / full, 1.0)[alpha]
    mask = level >= 0.5

    # A wire about a pixel wide is a row of specks at half coverage; the fainter pixels between hold it together.
    faint = (alpha >= max(1, full // 8)).astype(np.uint8)
    parts, labels = cv2.connectedComponents(faint, connectivity=8)
    if parts > 2:
        volume = np.bincount(labels[mask], minlength=parts).astype(np.float64) ** 1.5
        volume[0] = np.inf  # the ground, and the faintest pixels of every part
        level[(volume < min(SPECK_VOLUME * volume[1:].sum(), volume[1:].max()))[labels]] = 0.0
    return level


def full_coverage(alpha: np.ndarray) -> int:
    """The coverage, 0 to 255, that at least 1 % of the covered pixels reach; 0 where none is covered.

    alpha: (h, w) uint8. So a few opaque pixels do not make the rest vanish.
    """
    counts = np.bincount(alpha.ravel(), minlength=256)
    counts[0] = 0
    reached = np.cumsum(counts[::-1])[::-1] >= max(1.0, 0.01 * counts.sum())
    return int(np.flatnonzero(reached)[-1]) if reached.any() else 0


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixel edges: columns left to right - 1 and rows top to bottom - 1 are touched."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def exact_distance(inside: np.ndarray) -> np.ndarray:
    """(h, w) float32: Euclidean distance of each nonzero pixel of ``inside`` (uint8) to the nearest zero one.

    OpenCV's last bits depend on how many threads it uses. The square of a distance between pixels is a whole number,
    so rounding it makes the result the same on every machine. Without a zero pixel the distances are very large.
    """
    import cv2

    rough = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64)
    return np.sqrt(np.rint(rough * rough)).astype(np.float32)
