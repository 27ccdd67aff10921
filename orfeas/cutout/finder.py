"""What every way of finding the subject answers: a mask, or why it has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np


@dataclass(frozen=True)
class Found:
    """mask: (h, w) float32 in [0, 1], at any resolution. sentence: how it was found. believed: the mask is a network's
    belief, which knows things but not this ground's colour, and may be corrected by it."""

    mask: np.ndarray = field(repr=False)
    sentence: str
    believed: bool = False


@dataclass(frozen=True)
class Missed:
    """sentence: why this way does not answer."""

    sentence: str


# (h, w, 3) uint8 sRGB -> an answer
Finder = Callable[[np.ndarray], Found | Missed]


def shrink(rgb: np.ndarray, longest: int) -> np.ndarray:
    """``rgb`` with its longest side at most ``longest`` pixels."""
    height, width = rgb.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* as float32, L in [0, 100]: distances in it are about as people see them."""
    return cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
