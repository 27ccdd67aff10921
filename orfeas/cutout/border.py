"""A border of one colour, flooded: exact where a thing stands before plain ground, and honest where it does not."""

from __future__ import annotations

import cv2
import numpy as np

from orfeas.cutout.finder import Found, Missed, shrink, to_lab

FLOOD_PX = 1024
UNIFORM_DISTANCE = 5.0  # CIE76 units: border pixels this near to the border's median count as its colour
UNIFORM_SHARE = 0.8  # of the border; the rest may be a subject that runs out of the frame
CLEAR_DISTANCE = 12.0  # a subject's pixels just inside its edge differ from the ground by at least this,
CLEAR_SHARE = 0.93  # nearly everywhere
MAX_ENCLOSED = (
    0.005  # of the subject: more of the ground's colour inside it may be a hole (a mug's handle) or white paint
)
SHADOW_CHROMA = 5.0  # a shadow has its ground's hue,
SHADOW_DEPTH = 45.0  # is at most so much darker,
SHADOW_SHARE = 0.04  # and makes up no more than this of the edge


def flood_border(rgb: np.ndarray) -> Found | Missed:
    """`Found` where the border is nearly uniform and what it leaves has a clear edge all round.

    A soft shadow, or a white thing on white ground, has stretches of edge that hardly differ from the ground: then the
    flood cannot tell, and says so.
    """
    small = shrink(rgb, FLOOD_PX)
    lab = cv2.GaussianBlur(to_lab(small), (3, 3), 0)
    height, width = lab.shape[:2]
    edge = max(2, round(0.015 * max(height, width)))
    ring = np.ones((height, width), bool)
    ring[edge:-edge, edge:-edge] = False
    ground = np.median(lab[ring], axis=0)
    distance = np.linalg.norm(lab - ground, axis=2)
    near = distance[ring] < UNIFORM_DISTANCE
    if near.mean() < UNIFORM_SHARE:
        return Missed("The picture's border has more than one colour.")

    tolerance = max(3.0, 2.0 * float(np.percentile(distance[ring][near], 95)))
    _, labels = cv2.connectedComponents((distance < tolerance).astype(np.uint8), connectivity=4)
    reached = np.zeros(labels.max() + 1, bool)
    reached[labels[ring]] = True
    reached[0] = False
    subject = (~reached[labels]).astype(np.uint8)
    enclosed = int(((labels > 0) & ~reached[labels]).sum())
    # cracks of one pixel that noise leaves in the ground
    subject = cv2.morphologyEx(subject, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    if not 0.002 < subject.mean() < 0.95:
        return Missed("The colour of the picture's border reaches nearly everywhere, or nowhere.")

    if enclosed > MAX_ENCLOSED * subject.sum():
        return Missed("The subject encloses more of the ground's colour: a hole, or a part of it.")
    if not _has_clear_edge(subject, lab, distance, ground):
        return Missed("Before the picture's plain ground the subject's edge is not clear everywhere (a shadow?).")
    return Found(_soften(subject, distance), "The subject stands before a ground of one colour.")


def _soften(subject: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The flood stops where the ground's colour ends, the edge is where half of it is gone: mixed pixels get their
    share of the subject, by how far their colour is on its way to the subject's beside them."""
    kernel = np.ones((7, 7), np.uint8)
    full = cv2.dilate(distance * subject, kernel)
    share = np.clip(distance / np.maximum(full, 1e-3), 0, 1) * subject
    core = cv2.erode(subject, kernel, borderValue=1)
    return np.where(core > 0, 1, share).astype(np.float32)


def _has_clear_edge(subject: np.ndarray, lab: np.ndarray, distance: np.ndarray, ground: np.ndarray) -> bool:
    """Pixels two to four steps inside the subject's edge must differ from the ground, and not as a shadow does."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    step = max(2, round(max(subject.shape) / 400))
    outer = cv2.erode(subject, cross, iterations=step, borderValue=1)
    inner = cv2.erode(outer, cross, iterations=2, borderValue=1)
    band = (outer > 0) & (inner == 0)
    if not band.any():  # nothing but thin lines
        return False
    clear = distance[band] >= CLEAR_DISTANCE
    darker = ground[0] - lab[band][:, 0]
    hue = np.linalg.norm(lab[band][:, 1:] - ground[1:], axis=1)
    shadow = (hue < SHADOW_CHROMA) & (darker > 0) & (darker < SHADOW_DEPTH)
    return bool(clear.mean() >= CLEAR_SHARE and shadow.mean() <= SHADOW_SHARE)
