"""The subject by contrast alone, for when there is no network: what differs from the border, then GrabCut.

Saliency is the sum of two things, each weighed towards the middle of the frame: how far a pixel's colour is from the
border's colours (clusters, Mahalanobis distance), and how high a barrier lies between it and the border. The barrier is
a lower bound of the minimum barrier distance (Zhang and others, ICCV 2015) from two morphological reconstructions.
GrabCut: Rother, Kolmogorov, Blake, SIGGRAPH 2004.
"""

from __future__ import annotations

import cv2
import numpy as np

from orfeas.cutout.finder import Found, Missed, shrink, to_lab

WORK_PX = 320
CLUSTERS = 4
SEED = 1


def find_by_saliency(rgb: np.ndarray) -> Found | Missed:
    """The most salient thing in (h, w, 3) uint8; `Missed` where GrabCut leaves nothing."""
    small = shrink(rgb, WORK_PX)
    # OpenCV's random numbers belong to the calling thread: kmeans and GrabCut give the same here in any thread.
    cv2.setRNGSeed(SEED)
    salience = measure_saliency(small)
    threshold = cv2.threshold((salience * 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)[0] / 255
    trimap = np.where(salience > threshold, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    trimap[salience > min(0.9, 1.8 * threshold)] = cv2.GC_FGD
    trimap[salience < 0.25 * threshold] = cv2.GC_BGD
    edge = max(2, round(0.02 * max(small.shape)))
    trimap[:edge] = trimap[-edge:] = cv2.GC_BGD
    trimap[:, :edge] = trimap[:, -edge:] = cv2.GC_BGD
    if not (trimap & 1).any():
        return Missed("Nothing stands out from the picture's border.")
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(small[..., ::-1]), trimap, None, *models, 5, cv2.GC_INIT_WITH_MASK)
    subject = (trimap & 1).astype(np.float32)  # GC_FGD is 1, GC_PR_FGD is 3
    if subject.mean() < 0.002:
        return Missed("Nothing stands out from the picture's border.")
    return Found(subject, "The subject was found by its contrast to the border alone, which is a guess.")


def measure_saliency(rgb: np.ndarray) -> np.ndarray:
    """(h, w) float32 in [0, 1] for (h, w, 3) uint8."""
    from skimage.morphology import reconstruction

    lab = to_lab(cv2.bilateralFilter(rgb, 7, 20, 5))
    lab[..., 0] *= 0.8  # shadows differ in lightness first
    height, width = lab.shape[:2]
    edge = max(2, round(0.04 * max(height, width)))
    ring = np.ones((height, width), bool)
    ring[edge:-edge, edge:-edge] = False

    samples = lab[ring]
    criteria = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, 20, 0.5)
    _, labels, centres = cv2.kmeans(samples, CLUSTERS, None, criteria, 2, cv2.KMEANS_PP_CENTERS)
    far = np.full((height, width), np.inf)
    for index, centre in enumerate(centres):
        members = samples[labels[:, 0] == index]
        if len(members) < 0.03 * len(samples):  # a corner of the subject
            continue
        inverse = np.linalg.inv(np.cov(members.T) + 12 * np.eye(3))
        offset = lab - centre
        far = np.minimum(far, np.sqrt(np.einsum("hwi,ij,hwj->hw", offset, inverse, offset)))

    barrier = np.zeros((height, width))
    rim = np.zeros((height, width), bool)
    rim[[0, -1]] = rim[:, [0, -1]] = True
    for channel in np.moveaxis(lab, 2, 0):
        above = reconstruction(np.where(rim, channel, channel.max()), channel, method="erosion")
        below = reconstruction(np.where(rim, channel, channel.min()), channel, method="dilation")
        barrier += above - below

    y, x = np.mgrid[:height, :width]
    middle = np.exp(-(((x / width - 0.5) / 0.42) ** 2) - ((y / height - 0.5) / 0.42) ** 2)
    salience = np.clip(far / max(np.percentile(far, 98), 3), 0, 1)
    salience += np.clip(barrier / max(np.percentile(barrier, 98), 1), 0, 1)
    salience *= 0.5 + 0.5 * middle
    return (salience / max(salience.max(), 1e-6)).astype(np.float32)
