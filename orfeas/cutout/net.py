"""U²-Netp, the built-in network for salient objects, run by OpenCV: no torch, no onnxruntime, no download.

Qin and others, "U²-Net: Going Deeper with Nested U-Structure for Salient Object Detection", Pattern Recognition 106
(2020). Input: 320 × 320 RGB divided by its own maximum, then normalised with ImageNet's mean and deviation. The file's
origin and licence are in ``assets/models/README.md``.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import cv2
import numpy as np

from orfeas.cutout.finder import Found, Missed
from orfeas.errors import BadWeights

WEIGHTS = Path(__file__).resolve().parents[2] / "assets" / "models" / "u2netp.onnx"
WEIGHTS_SHA256 = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"
INPUT_PX = 320
SURE = 0.5  # the map's highest value in a picture that shows something
CLOSE_UP = 0.6  # a subject shorter than this share of the frame is looked at a second time, closer
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


class SalientNet:
    """The network in one file, loaded at the first use. May be called from several threads: they take turns."""

    def __init__(self, weights: Path = WEIGHTS, sha256: str = WEIGHTS_SHA256):
        self._weights, self._sha256 = weights, sha256
        self._net = None
        self._lock = threading.Lock()

    def find(self, rgb: np.ndarray) -> Found | Missed:
        """The salient thing in (h, w, 3) uint8. Raises `BadWeights` where the file is damaged."""
        if not self._weights.is_file():
            return Missed(f"The built-in network's file {self._weights.name} is missing.")
        frame = self._infer(rgb)
        if frame.max() < SURE or (frame > SURE).mean() < 0.001:
            return Missed("The built-in network found no subject.")
        sentence = "The built-in network U²-Netp found the subject."
        closer = _box_around(frame, rgb.shape[:2])
        if closer is None:
            return Found(frame, sentence, believed=True)
        detail = self._infer(rgb[closer])
        # Only what the first look saw counts: alone in its crop, a shadow or a table edge may look salient too.
        if (detail > SURE).mean() < 0.05:
            return Found(frame, sentence, believed=True)
        return Found(_paste(detail, closer, frame, rgb.shape[:2]), sentence, believed=True)

    def _infer(self, rgb: np.ndarray) -> np.ndarray:
        """(320, 320) float32 in [0, 1] for the whole of ``rgb``, whatever its aspect."""
        pixels = cv2.resize(rgb, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
        pixels = (pixels / max(float(pixels.max()), 1.0) - MEAN) / DEVIATION
        with self._lock:
            if self._net is None:
                self._net = self._load()
            self._net.setInput(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
            answer = self._net.forward(self._net.getUnconnectedOutLayersNames()[0])
        return answer.reshape(INPUT_PX, INPUT_PX).copy()

    def _load(self) -> cv2.dnn.Net:
        data = self._weights.read_bytes()
        if hashlib.sha256(data).hexdigest() != self._sha256:
            raise BadWeights(
                f"The built-in model file {self._weights.name} is damaged: restore it from the app's repository, "
                "or delete it to do without."
            )
        return cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))


def _box_around(mask: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice] | None:
    """The subject with a wide margin, in pixels of ``shape``; None where that is most of the frame."""
    scale = np.array(shape) / mask.shape
    rows, columns = np.flatnonzero((mask > SURE).any(1)), np.flatnonzero((mask > SURE).any(0))
    low = np.array([rows[0], columns[0]]) * scale
    high = np.array([rows[-1] + 1, columns[-1] + 1]) * scale
    side = float((high - low).max())
    if side > CLOSE_UP * min(shape):
        return None
    half = np.maximum((high - low) / 2 + 0.25 * side, INPUT_PX / 4)
    centre = (low + high) / 2
    start = np.maximum(0, np.floor(centre - half)).astype(int)
    stop = np.minimum(shape, np.ceil(centre + half)).astype(int)
    return slice(start[0], stop[0]), slice(start[1], stop[1])


def _paste(detail: np.ndarray, box: tuple[slice, slice], frame: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """``detail`` in its place of a frame-sized mask, kept to where ``frame`` saw something; at most 1024 px long."""
    scale = min(1.0, 1024 / max(shape))
    height, width = (max(1, round(side * scale)) for side in shape)
    top, left = (round(part.start * scale) for part in box)
    bottom, right = max(top + 1, round(box[0].stop * scale)), max(left + 1, round(box[1].stop * scale))
    mask = np.zeros((height, width), np.float32)
    mask[top:bottom, left:right] = cv2.resize(detail, (right - left, bottom - top))
    reach = cv2.dilate((frame > 0.2).astype(np.uint8), np.ones((9, 9), np.uint8))
    return mask * cv2.resize(reach, (width, height), interpolation=cv2.INTER_NEAREST)


_shared = SalientNet()


def find_with_u2netp(rgb: np.ndarray) -> Found | Missed:
    """`SalientNet.find` with the built-in weights; one network for the whole process."""
    return _shared.find(rgb)
