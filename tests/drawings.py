"""Drawn pictures of awkward subjects: what the whole way has to survive. Drawn at run time, so that none is kept."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Paint = Callable[[np.ndarray], None]
SIDE = 480


def _blob(mask):
    cv2.ellipse(mask, (240, 250), (150, 110), 20, 0, 360, 255, -1, cv2.LINE_AA)


def _mug(mask):
    cv2.rectangle(mask, (120, 110), (300, 380), 255, -1)
    cv2.ellipse(mask, (310, 240), (80, 90), 0, 0, 360, 255, -1, cv2.LINE_AA)
    cv2.ellipse(mask, (310, 240), (45, 55), 0, 0, 360, 0, -1, cv2.LINE_AA)
    cv2.rectangle(mask, (120, 110), (290, 380), 255, -1)


def _ring(mask):
    cv2.circle(mask, (240, 240), 180, 255, -1, cv2.LINE_AA)
    cv2.circle(mask, (240, 240), 110, 0, -1, cv2.LINE_AA)


def _wire_chair(mask):
    for x in (140, 200, 300, 340):
        cv2.line(mask, (x, 260), (x + 10, 440), 255, 5, cv2.LINE_AA)
    cv2.rectangle(mask, (130, 240), (360, 265), 255, -1)
    cv2.rectangle(mask, (130, 60), (150, 250), 255, -1)


def _three_parts(mask):
    cv2.circle(mask, (110, 130), 80, 255, -1, cv2.LINE_AA)
    cv2.circle(mask, (350, 150), 70, 255, -1, cv2.LINE_AA)
    cv2.rectangle(mask, (150, 300), (330, 420), 255, -1)


def _touching_the_frame(mask):
    cv2.rectangle(mask, (100, 0), (380, 479), 255, -1)
    cv2.rectangle(mask, (0, 200), (479, 260), 255, -1)


def _star(mask):
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2, 80, 210)
    points = np.stack([240 + radii * np.cos(angles), 240 + radii * np.sin(angles)], axis=1)
    cv2.fillPoly(mask, [points.astype(np.int32)], 255, cv2.LINE_AA)


def _comb(mask):
    cv2.rectangle(mask, (60, 80), (420, 140), 255, -1)
    for x in range(70, 420, 40):
        cv2.rectangle(mask, (x, 140), (x + 14, 400), 255, -1)


def _grid_of_holes(mask):
    cv2.rectangle(mask, (60, 60), (420, 420), 255, -1)
    for x in (140, 240, 340):
        for y in (140, 240, 340):
            cv2.circle(mask, (x, y), 32, 0, -1, cv2.LINE_AA)


def _letters(mask):
    cv2.putText(mask, "R8", (60, 330), cv2.FONT_HERSHEY_SIMPLEX, 7, 255, 40, cv2.LINE_AA)


def _tiny(mask):
    cv2.circle(mask, (380, 100), 22, 255, -1, cv2.LINE_AA)


def _two_that_touch_at_a_point(mask):
    cv2.fillPoly(mask, [np.array([(60, 60), (240, 240), (60, 420)], np.int32)], 255, cv2.LINE_AA)
    cv2.fillPoly(mask, [np.array([(420, 60), (240, 240), (420, 420)], np.int32)], 255, cv2.LINE_AA)


def _needle(mask):
    cv2.line(mask, (30, 450), (450, 30), 255, 4, cv2.LINE_AA)


DRAWINGS: dict[str, Paint] = {
    "blob": _blob,
    "mug": _mug,
    "ring": _ring,
    "wire chair": _wire_chair,
    "three parts": _three_parts,
    "touching the frame": _touching_the_frame,
    "star": _star,
    "comb": _comb,
    "grid of holes": _grid_of_holes,
    "letters": _letters,
    "tiny": _tiny,
    "two that touch at a point": _two_that_touch_at_a_point,
    "needle": _needle,
}


def draw(name: str, *, transparent: bool = True, size: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    """A PNG of the drawing: a colour gradient with stripes inside it, transparent or plain light grey around it."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    DRAWINGS[name](mask)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE
    color = np.stack([60 + 180 * x, 200 - 150 * y, 90 + 60 * np.sin(24 * (x + y))], axis=2)
    if transparent:
        picture = np.dstack([color, mask])
    else:
        alpha = mask[..., None].astype(np.float32) / 255
        picture = color * alpha + 236 * (1 - alpha)
    picture = cv2.resize(picture.astype(np.uint8), size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".png", picture)[1].tobytes()
