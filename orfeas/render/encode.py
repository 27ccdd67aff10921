"""Pictures and turns as bytes for the browser: one image that holds a whole turn, WebP and PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

WEBP_QUALITY = 86
WEBP_EDGE_LIMIT = 16383  # pixels, of the format


def turntable_strip(frames: Sequence[np.ndarray], *, columns: int | None = None) -> np.ndarray:
    """Lay the frames out in one image, for a page that shows one at a time by moving the background.

    frames: (h, w, c) each, all alike. columns: frames a row; all of them if None. A last row that is not full is left
    transparent (or black). Returns (rows * h, columns * w, c) uint8. Raises ValueError if there is no frame, they
    differ, or the image would be too large for a WebP file.
    """
    if not len(frames) or any(frame.shape != frames[0].shape for frame in frames):
        raise ValueError("a strip needs one frame or more, all of one shape")
    columns = len(frames) if columns is None else columns
    if not 1 <= columns <= len(frames):
        raise ValueError(f"columns must be 1 to {len(frames)}, not {columns}")
    rows = -(-len(frames) // columns)
    height, width, channels = frames[0].shape
    if max(rows * height, columns * width) > WEBP_EDGE_LIMIT:
        raise ValueError(f"the strip would be longer than {WEBP_EDGE_LIMIT} pixels; use more rows")
    strip = np.zeros((rows * height, columns * width, channels), np.uint8)
    for k, frame in enumerate(frames):
        top, left = k // columns * height, k % columns * width
        strip[top : top + height, left : left + width] = frame
    return strip


def encode_webp(image: np.ndarray) -> bytes:
    """(h, w, 3 or 4) uint8 -> WebP, lossy with exact-looking colours and lossless alpha."""
    return _save(image, "WEBP", quality=WEBP_QUALITY, method=2, alpha_quality=100)


def encode_png(image: np.ndarray) -> bytes:
    """(h, w, 3 or 4) uint8 -> PNG."""
    return _save(image, "PNG", compress_level=6)


def _save(image: np.ndarray, kind: str, **settings) -> bytes:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise ValueError("a picture must be (h, w, 3) or (h, w, 4) uint8")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind, **settings)
    return buffer.getvalue()
