"""Drawn cutouts for the sketch engine and the photo texture: antialiased outlines, filled with a known pattern."""

from __future__ import annotations

import cv2
import numpy as np

from orfeas.cutout import Cutout

OVERSAMPLING = 4


def as_cutout(rgba: np.ndarray) -> Cutout:
    return Cutout(rgba, "alpha", "drawn for a test", float((rgba[..., 3] > 127).mean()), False)


def pattern(height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: smooth colours that differ everywhere."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(x / 37), 128 + 90 * np.cos(y / 29), 128 + 60 * np.sin((x + y) / 51)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def fill(outline: np.ndarray) -> np.ndarray:
    """(h, w, 4) uint8 from an (4 h, 4 w) uint8 outline."""
    size = (outline.shape[1] // OVERSAMPLING, outline.shape[0] // OVERSAMPLING)
    alpha = cv2.resize(outline, size, interpolation=cv2.INTER_AREA)
    return np.dstack([pattern(*alpha.shape), alpha])


def sheet(height: int = 300, width: int = 300) -> np.ndarray:
    return np.zeros((height * OVERSAMPLING, width * OVERSAMPLING), np.uint8)


def disc(size: int = 300, radius: float = 0.43) -> np.ndarray:
    outline = sheet(size, size)
    middle = outline.shape[0] // 2
    cv2.circle(outline, (middle, middle), round(radius * outline.shape[0]), 255, -1)
    return fill(outline)


def mug() -> np.ndarray:
    outline = sheet()
    cv2.ellipse(outline, (500, 600), (340, 480), 0, 0, 360, 255, -1)
    cv2.ellipse(outline, (850, 600), (200, 240), 0, 0, 360, 255, 70)
    return fill(outline)


def star() -> np.ndarray:
    outline = sheet()
    turn = np.arange(10) * np.pi / 5
    reach = np.where(np.arange(10) % 2, 200, 540)
    points = np.stack([600 + reach * np.sin(turn), 600 - reach * np.cos(turn)], axis=1)
    cv2.fillPoly(outline, [points.astype(np.int32)], 255)
    return fill(outline)


def text() -> np.ndarray:
    outline = sheet(300, 450)
    cv2.putText(outline, "He8", (60, 900), cv2.FONT_HERSHEY_DUPLEX, 24, 255, 110)
    return fill(outline)


def whole_frame() -> np.ndarray:
    return fill(sheet(200, 260) + 255)


def across_frame() -> np.ndarray:
    outline = sheet(200, 300)
    outline[260:560] = 255
    return fill(outline)


def chair() -> np.ndarray:
    outline = sheet()
    cv2.rectangle(outline, (300, 520), (900, 600), 255, -1)
    cv2.rectangle(outline, (300, 80), (360, 600), 255, -1)
    for x in (315, 870):
        cv2.line(outline, (x, 560), (x, 1120), 255, 18)
    cv2.line(outline, (330, 560), (405, 1020), 255, 8)
    return fill(outline)


def wire() -> np.ndarray:
    """A disc on a slanted wire one pixel wide, which is far below a grid cell."""
    outline = sheet()
    cv2.line(outline, (80, 80), (1120, 1040), 255, 4)
    cv2.circle(outline, (600, 600), 150, 255, -1)
    return fill(outline)


def tiny() -> np.ndarray:
    outline = sheet(800, 800)
    cv2.circle(outline, (320, 2400), 40, 255, -1)
    return fill(outline)


def large() -> np.ndarray:
    outline = sheet(512, 512)
    cv2.ellipse(outline, (1024, 1024), (900, 500), 30, 0, 360, 255, -1)
    return cv2.resize(fill(outline), (2048, 2048), interpolation=cv2.INTER_CUBIC)


def parts() -> np.ndarray:
    outline = sheet()
    for x, y in ((300, 300), (900, 380), (520, 900)):
        cv2.circle(outline, (x, y), 220, 255, -1)
    return fill(outline)


def soft() -> np.ndarray:
    rgba = disc()
    rgba[..., 3] = cv2.GaussianBlur(rgba[..., 3], (0, 0), 20)
    return rgba


def glass() -> np.ndarray:
    rgba = disc()
    rgba[..., 3] //= 3
    return rgba


def stick() -> np.ndarray:
    outline = sheet(200, 600)
    cv2.line(outline, (40, 400), (2360, 420), 255, 48)
    return fill(outline)


def fence() -> np.ndarray:
    outline = sheet()
    for x in range(80, 1160, 150):
        cv2.line(outline, (x, 80), (x, 1120), 255, 8)
    cv2.line(outline, (80, 600), (1130, 600), 255, 8)
    return fill(outline)


# name -> (cutout, separate bodies, handles through all of them)
SILHOUETTES = {
    "disc": (disc, 1, 0),
    "mug": (mug, 1, 1),
    "star": (star, 1, 0),
    "text": (text, 3, 3),
    "whole_frame": (whole_frame, 1, 0),
    "across_frame": (across_frame, 1, 0),
    "chair": (chair, 1, 0),
    "wire": (wire, 1, 0),
    "tiny": (tiny, 1, 0),
    "large": (large, 1, 0),
    "parts": (parts, 3, 0),
    "soft": (soft, 1, 0),
    "glass": (glass, 1, 0),
    "stick": (stick, 1, 0),
    "fence": (fence, 1, 0),
}
