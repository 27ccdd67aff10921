"""Colour where there is none: spread known pixels over unknown ones. Images are (h, w, c) float32."""

from __future__ import annotations

import numpy as np


def spread_nearest(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Each unknown pixel takes the colour of the nearest known one. known: (h, w) bool, at least one True."""
    import cv2

    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    source = np.zeros(int(labels.max()) + 1, np.int64)
    source[labels[known]] = np.flatnonzero(known)
    return image.reshape(-1, image.shape[2])[source[labels]]


def blur_within(image: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur that only sees pixels with a weight; where it sees none, the nearest result is spread.

    sigma: standard deviation in pixels. Large ones are blurred at a lower resolution, which the eye cannot tell.
    """
    import cv2

    height, width = weight.shape
    step = max(1, int(sigma / 4))
    size = (max(1, -(-width // step)), max(1, -(-height // step)))
    shrink = lambda array: cv2.resize(array, size, interpolation=cv2.INTER_AREA) if step > 1 else array  # noqa: E731
    colour = shrink(image * weight[..., None])
    sure = shrink(weight)
    options = {"sigmaX": sigma / step, "borderType": cv2.BORDER_CONSTANT}
    colour = cv2.GaussianBlur(colour, (0, 0), **options)
    sure = cv2.GaussianBlur(sure, (0, 0), **options)
    blurred = colour.reshape(*sure.shape, -1) / np.maximum(sure, 1e-6)[..., None]  # cv2 drops a single channel's axis
    seen = sure > 1e-3
    if not seen.all():
        blurred = spread_nearest(blurred, seen if seen.any() else sure >= sure.max())
    if step > 1:
        blurred = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)
    return blurred.reshape(height, width, -1)


def draw_inwards(image: np.ndarray, weight: np.ndarray, depth: np.ndarray, longest: float) -> np.ndarray:
    """Carry the colours of a band along an outline inwards, softer the farther they are from it.

    weight: (h, w) float32, the band. depth: (h, w) float32, distance to the outline in pixels, 0 outside. Each pixel is
    the band's mean under a Gaussian about as wide as the pixel is deep, so that there is no edge anywhere.
    longest: pixels of the picture's longer side.
    """
    sigmas = longest * 0.02 * 2.0 ** np.arange(6)
    # (a Gaussian about as wide as the pixel is deep) -> position between two of the blurred pictures
    place = np.clip(np.log2(np.maximum(0.8 * depth, sigmas[0]) / sigmas[0]), 0.0, len(sigmas) - 1.0)
    result = np.zeros_like(image)
    for index, sigma in enumerate(sigmas):
        share = np.clip(1.0 - np.abs(place - index), 0.0, 1.0).astype(np.float32)
        if share.any():
            result += share[..., None] * blur_within(image, weight, sigma)
    return result
