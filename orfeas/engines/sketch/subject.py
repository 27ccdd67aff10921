"""The cutout as the sketch engine sees it: cropped to the subject, its outline as a signed distance on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orfeas.silhouette import bounding_box, exact_distance, subject_level

MARGIN = 3  # empty cells around the subject: closes a subject that touches the picture's edge
PIXELS_PER_CELL = 3.0  # least resolution of the outline; smaller pictures are enlarged to it
SMOOTHING = 0.7  # standard deviation, in cells, of the blur that takes the pixel steps off the outline
# Half the width that a wire or leg keeps, so that the grid can see it and a printer can make it: in cells, and as a
# share of the longer side (found: 1.5 mm wide at 100 mm). The larger one holds.
LEAST_RADIUS = (0.9, 0.0055)


@dataclass(frozen=True)
class Subject:
    """A crop of the cutout and the grid over it.

    Grid node (row, column) lies at ((column - MARGIN) * cell, (row - MARGIN) * cell) in the crop's pixel edges.

    rgba: (h, w, 4) uint8, the crop of `crop_subject`.
    cell: side of a grid cell in pixels of the crop. shape: (ny, nx), nodes.
    distance: (ny, nx) float32, signed distance to the outline in cells, positive inside.
    """

    rgba: np.ndarray
    cell: float
    shape: tuple[int, int]
    distance: np.ndarray

    @property
    def cells(self) -> tuple[float, float]:
        """(along x, along y): the subject's size in cells."""
        return self.rgba.shape[1] / self.cell, self.rgba.shape[0] / self.cell

    def sample(self, image: np.ndarray) -> np.ndarray:
        """(ny, nx[, c]) float32: an image over the crop, of any resolution, at the grid's nodes (edge repeated)."""
        import cv2

        return _sample(image, self.cell * image.shape[1] / self.rgba.shape[1], self.shape, cv2.BORDER_REPLICATE)


def crop_subject(rgba: np.ndarray) -> np.ndarray:
    """(h, w, 4) uint8: the silhouette's bounding box, alpha replaced by the subject's coverage."""
    level = subject_level(rgba)
    left, top, right, bottom = bounding_box(level >= 0.5)
    crop = rgba[top:bottom, left:right].copy()
    crop[..., 3] = np.rint(255.0 * level[top:bottom, left:right])
    return crop


def grid_subject(crop: np.ndarray, cells: int) -> Subject:
    """Lay a grid of ``cells`` cells along the longer side over the crop of `crop_subject`."""
    height, width = crop.shape[:2]
    cell = max(height, width) / cells
    shape = tuple(int(np.ceil(side / cell - 1e-6)) + 2 * MARGIN + 1 for side in (height, width))
    return Subject(crop, cell, shape, _signed_distance(crop[..., 3], cell, shape))


def _signed_distance(alpha: np.ndarray, cell: float, shape: tuple[int, int]) -> np.ndarray:
    """Signed distance at the nodes, from the outline at the picture's resolution, not at the grid's."""
    import cv2

    height, width = alpha.shape
    level = alpha.astype(np.float32) / 255.0
    scale = max(1.0, PIXELS_PER_CELL / cell)
    if scale > 1.0:
        # A blur of about one source pixel first: what is enlarged is then a curve and not a staircase.
        around = 4
        level = cv2.copyMakeBorder(level, around, around, around, around, cv2.BORDER_CONSTANT, value=0.0)
        level = cv2.GaussianBlur(level, (0, 0), 0.8)
        level /= np.maximum(cv2.dilate(level, np.ones((5, 5))), 0.05)  # what is one pixel wide keeps its level
        size = (round((width + 2 * around) * scale), round((height + 2 * around) * scale))
        level = np.clip(cv2.resize(level, size, interpolation=cv2.INTER_CUBIC), 0.0, 1.0)
        cut = round(around * scale)
        level = level[cut : size[1] - cut, cut : size[0] - cut]
    pixels = cell * max(level.shape) / max(height, width)  # a cell's side in pixels of ``level``
    border = int(np.ceil(MARGIN * pixels)) + 2
    level = cv2.copyMakeBorder(level, border, border, border, border, cv2.BORDER_CONSTANT, value=0.0)
    inside = (level >= 0.5).astype(np.uint8)
    distance = _pixel_distance(inside)
    distance = _thicken(distance, inside, max(LEAST_RADIUS[0] * pixels, LEAST_RADIUS[1] * max(alpha.shape) * scale))
    # Where the outline runs within a pixel is known from its coverage: what that is more or less than the whole pixels,
    # summed across the outline by the blur, is how far the outline lies farther out or in.
    sigma = SMOOTHING * pixels
    distance += np.sqrt(2.0 * np.pi) * sigma * (level - inside)
    distance = cv2.GaussianBlur(distance, (0, 0), sigma)
    return _sample(distance, pixels, shape, cv2.BORDER_REPLICATE, border) / np.float32(pixels)


def _pixel_distance(inside: np.ndarray) -> np.ndarray:
    """Exact signed Euclidean distance of pixel centres to the outline between pixels, positive inside."""
    return np.where(inside > 0, exact_distance(inside) - 0.5, 0.5 - exact_distance(1 - inside)).astype(np.float32)


def _thicken(distance: np.ndarray, inside: np.ndarray, radius: float) -> np.ndarray:
    """Give parts thinner than ``radius`` (pixels, half their width) that radius around their middle line.

    They are what a morphological opening would remove, except the little that it takes off every blunt corner.
    """
    import cv2

    core = (distance > radius).astype(np.uint8)
    if core.any():
        to_core = exact_distance(1 - core)
        # beyond the opened shape by 0.8 radii: a right angle's corner ends 0.41 radii beyond it
        thin = (inside > 0) & (to_core > 1.8 * radius)
    else:
        thin = inside > 0
    if not thin.any():
        return distance
    window = 2 * int(np.ceil(radius)) + 1
    widest = cv2.dilate(distance, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (window, window)))
    middle = thin & (distance >= 0.7 * widest)
    to_middle = exact_distance((~middle).astype(np.uint8))
    return np.maximum(distance, radius - to_middle)


def _sample(image: np.ndarray, pixels: float, shape: tuple[int, int], border: int, offset: int = 0) -> np.ndarray:
    """Bilinear values at the grid's nodes; ``pixels`` to a cell, the crop starting at ``offset``."""
    import cv2

    image = np.ascontiguousarray(image, np.float32)
    start = offset - 0.5 - MARGIN * pixels  # edges to centres
    to_pixel = np.array([[pixels, 0.0, start], [0.0, pixels, start]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, to_pixel, (shape[1], shape[0]), flags=flags, borderMode=border)
