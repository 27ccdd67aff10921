"""The cutout as the networks were trained to see it: centred on white, a border around it, square.

Reproduces the public pipeline's preparation bit for bit, with its habits: every pixel that is not fully transparent
counts as the subject, the last row and column of the subject are dropped, and the canvas takes the size of the whole
picture, not of the subject.

OpenCV's cubic resize gives other bits on other processors (on AVX-512 about one value in 150,000 is off by one level,
off Intel one in 25), so it is done here, in the order of operations of its SSE4.2 code: a picture means the same
everywhere.
"""

from __future__ import annotations

import cv2
import numpy as np

from orfeas.engines.hunyuan3d.config import ModelConfig
from orfeas.errors import BadPicture


def prepare_image(rgba: np.ndarray, config: ModelConfig) -> np.ndarray:
    """The (h, w, 4) uint8 cutout (straight alpha) as (1, 3, size, size) float32 in [-1, 1], size = ``image_size``.

    Raises `BadPicture` if no subject is left or it is too thin to be drawn.
    """
    if rgba.dtype != np.uint8 or rgba.ndim != 3 or rgba.shape[2] != 4:
        raise ValueError(f"prepare_image takes (h, w, 4) uint8, not {rgba.shape} {rgba.dtype}")
    picture = composite_on_white(recenter(rgba, config.border_ratio))
    picture = resize_cubic(picture, config.image_size)
    values = picture.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)
    return np.ascontiguousarray(values.transpose(2, 0, 1))[None]


def recenter(rgba: np.ndarray, border_ratio: float) -> np.ndarray:
    """The subject, scaled to fill all but ``border_ratio`` of a square as large as the picture's longer side."""
    counted = rgba[:, :, 3] > 0
    rows, columns = np.flatnonzero(counted.any(axis=1)), np.flatnonzero(counted.any(axis=0))
    if rows.size == 0:
        raise BadPicture("Nothing is left of the picture after the background was removed; choose another.", "empty")
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    height, width = int(bottom - top), int(right - left)
    side = max(rgba.shape[:2])
    if height > 0 and width > 0:
        scale = int(side * (1 - border_ratio)) / max(height, width)
        new_height, new_width = int(height * scale), int(width * scale)
    else:
        new_height = new_width = 0
    if new_height < 1 or new_width < 1:
        raise BadPicture(
            f"The subject is only {width + 1} x {height + 1} pixels, too thin to model; choose a closer picture.",
            "thin",
        )
    # Not premultiplied: colour under transparent pixels bleeds into the edge, as the networks saw it in training.
    subject = cv2.resize(rgba[top:bottom, left:right], (new_width, new_height), interpolation=cv2.INTER_AREA)
    canvas = np.zeros((side, side, 4), dtype=np.uint8)
    y, x = (side - new_height) // 2, (side - new_width) // 2
    canvas[y : y + new_height, x : x + new_width] = subject
    return canvas


def composite_on_white(rgba: np.ndarray) -> np.ndarray:
    """(h, w, 4) uint8 over white as (h, w, 3) uint8, truncated, not rounded."""
    alpha = rgba[:, :, 3:].astype(np.float32) / np.float32(255)
    blended = rgba[:, :, :3] * alpha + np.float32(255) * (np.float32(1) - alpha)
    return blended.clip(0, 255).astype(np.uint8)


def resize_cubic(picture: np.ndarray, size: int) -> np.ndarray:
    """(h, w, c) uint8 to (size, size, c) by cubic convolution with a = -0.75 (Keys, 1981), not antialiased.

    The order of the additions and the single precision are what makes the bits those of the public pipeline.
    """
    (rows, down), (columns, across) = _cubic_taps(picture.shape[0], size), _cubic_taps(picture.shape[1], size)
    needed, rows = np.unique(rows.ravel(), return_inverse=True)  # a large picture has rows that no tap reads
    a, b, c, d = (picture[needed][:, column] * weight[:, None] for column, weight in zip(columns, across, strict=True))
    wide = (a + d) + (b + c)
    a, b, c, d = (wide[row] * weight[:, None, None] for row, weight in zip(rows.reshape(4, size), down, strict=True))
    return np.rint((a + b) + (c + d)).clip(0, 255).astype(np.uint8)


def _cubic_taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Source indices (4, target), held at the borders, and their weights (4, target) float32."""
    position = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.floor(position)
    x, a = position - first, -0.75
    before = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
    left = ((a + 2) * x - (a + 3)) * x * x + 1
    right = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1
    weights = np.stack([before, left, right, 1 - before - left - right]).astype(np.float32)
    indices = first.astype(np.int64) + np.arange(-1, 3)[:, None]
    return indices.clip(0, source - 1), weights
