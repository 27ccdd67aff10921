"""Where in the picture is the subject, and how do we know?

Tried in this order until one answers: a real alpha channel; a border of one colour, flooded; a model that the user
has installed with ``rembg``; the built-in U²-Netp; saliency with GrabCut. `Cutout.explanation` says which it
was and why the ones before it were not used. Taps of the user correct whatever was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from orfeas.cutout.border import flood_border
from orfeas.cutout.edges import clean_colours, drop_specks, grow_colours, sharpen_edges
from orfeas.cutout.finder import Finder, Found
from orfeas.cutout.ground import correct_by_ground
from orfeas.cutout.net import find_with_u2netp
from orfeas.cutout.rembg_models import find_rembg_model
from orfeas.cutout.saliency import find_by_saliency
from orfeas.cutout.taps import apply_taps
from orfeas.errors import BadPicture, BadRequest
from orfeas.picture import Picture
from orfeas.request import BACKGROUNDS, Tap
from orfeas.silhouette import full_coverage

__all__ = ["Cutout", "cut_out", "default_finders"]

MIN_COVERAGE = 0.002  # of the frame; a smaller subject has too few pixels to be modelled
MIN_SUBJECT_PX = 64
HALF = 128  # of 255: the alpha from which a pixel of a found subject is subject
FAINTEST = 16  # of 255: a user's cutout that is nowhere less transparent shows nothing
MAX_COVERAGE = 0.98  # a found subject that fills more than this is the whole picture
MAX_ALPHA_COVERAGE = 0.995  # a cutout cropped to its subject may be nearly full: a box, a phone with round corners
CUT_OFF_SHARE = 0.02  # of the frame's edge under the subject: from here on the user is told
BLANK_RANGE = 8  # of 255: a picture whose colours differ less shows nothing


@dataclass(frozen=True)
class Cutout:
    """The subject on transparent ground.

    rgba: (height, width, 4) uint8, straight alpha, the picture's size. Colours go on a little beyond the edge, so that
    a texture sampled there shows no background; farther out they are 0.
    method: "alpha", "border", "u2netp", "saliency" or "rembg:<model>". explanation: how it was found, for people.
    coverage: share of the frame that is subject. touches_frame: the subject reaches the picture's edge.
    notes: further sentences for the user.
    """

    rgba: np.ndarray = field(repr=False)
    method: str
    explanation: str
    coverage: float
    touches_frame: bool
    notes: tuple[str, ...] = ()


def cut_out(
    picture: Picture,
    background: str = "auto",
    taps: Sequence[Tap] = (),
    finders: Sequence[tuple[str, Finder]] | None = None,
) -> Cutout:
    """The subject of ``picture``.

    background: "auto", "keep" or "remove", as in `orfeas.request.GenerationRequest`. taps: corrections, in order.
    finders: (method, finder) pairs in the order they are tried; None for `default_finders`.

    The same arguments give the same cutout, in any thread. Raises `BadPicture` with code "empty_foreground" (nothing,
    or next to nothing, is left) or "full_frame" (nothing is background), `BadRequest` for an unknown ``background``,
    `BadWeights` where the built-in model file is damaged.
    """
    if background not in BACKGROUNDS:
        raise BadRequest(f"background cannot be {background!r}: use {', '.join(BACKGROUNDS)}.", "bad_choice")
    notes: list[str] = []
    least = _least_alpha(picture.rgba[..., 3])
    alpha_share = _share(picture.rgba[..., 3], least)
    keep = background == "keep"
    if keep or (background == "auto" and picture.has_alpha and alpha_share <= MAX_ALPHA_COVERAGE):
        method, explanation = "alpha", "The picture's own transparency marks the subject."
        rgb, alpha = picture.rgba[..., :3], picture.rgba[..., 3]
    else:
        if background == "auto" and picture.has_alpha:
            notes.append("Hardly any of the picture is transparent, so its transparency was not taken for a cutout.")
        rgb = _flatten(picture)
        method, explanation, alpha = _find(rgb, default_finders() if finders is None else finders)
        least = HALF
    if taps:
        found, alpha = alpha, apply_taps(rgb, alpha, taps)
        plural = "" if len(taps) == 1 else "s"
        what = "nothing" if np.array_equal(found, alpha) else "it"
        explanation += f" {len(taps)} correction{plural} by hand changed {what}."

    most = MAX_ALPHA_COVERAGE if method == "alpha" else MAX_COVERAGE
    _refuse_useless(alpha >= least, keep, picture.has_alpha, most)
    if method == "alpha":  # made by the user: every half transparent pixel is meant
        colours = grow_colours(rgb, alpha >= least, alpha == 0)
    else:
        colours = clean_colours(rgb, alpha)
    edge = np.concatenate([alpha[0], alpha[-1], alpha[1:-1, 0], alpha[1:-1, -1]]) >= least
    if method != "alpha" and edge.mean() >= CUT_OFF_SHARE:
        notes.append(
            "The subject is cut off by the picture's edge, and will be in the model: "
            "a picture with some background on every side gives a complete one."
        )
    return Cutout(
        rgba=np.dstack([colours, alpha]),
        method=method,
        explanation=explanation,
        coverage=_share(alpha, least),
        touches_frame=bool(edge.any()),
        notes=tuple(notes),
    )


def default_finders() -> list[tuple[str, Finder]]:
    """(method, finder) in the order they are tried. A rembg model on disk goes before the built-in network."""
    better = find_rembg_model()
    networks = [(f"rembg:{better.name}", better.find)] if better else []
    return [("border", flood_border), *networks, ("u2netp", find_with_u2netp), ("saliency", find_by_saliency)]


def _find(rgb: np.ndarray, finders: Sequence[tuple[str, Finder]]) -> tuple[str, str, np.ndarray]:
    """(method, explanation, alpha (h, w) uint8) of the first finder that finds something."""
    if _is_blank(rgb):
        raise BadPicture(
            "The picture is all of one colour and shows no subject: use a picture of one thing before a plain ground.",
            "empty_foreground",
        )
    missed = []
    for method, find in finders:
        answer = find(rgb)
        if isinstance(answer, Found):
            mask = correct_by_ground(answer.mask, rgb) if answer.believed else answer.mask
            alpha = drop_specks(sharpen_edges(mask, rgb, max(answer.mask.shape)))
            return method, " ".join([*missed, answer.sentence]), alpha
        missed.append(answer.sentence)
    return finders[-1][0], " ".join([*missed, "No subject was found."]), np.zeros(rgb.shape[:2], np.uint8)


def _flatten(picture: Picture) -> np.ndarray:
    """(h, w, 3) uint8: the picture's colours on a ground that no colour of the subject is like."""
    rgb, alpha = picture.rgba[..., :3], picture.rgba[..., 3:].astype(np.float32) / 255
    if not picture.has_alpha:
        return rgb
    mean = (rgb * alpha).sum((0, 1)) / max(float(alpha.sum()), 1e-6)
    ground = 255.0 if mean.mean() < 150 else 64.0
    return np.rint(rgb * alpha + ground * (1 - alpha)).astype(np.uint8)


def _is_blank(rgb: np.ndarray) -> bool:
    height, width = rgb.shape[:2]
    small = cv2.resize(rgb, (min(width, 128), min(height, 128)), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    return bool((small.max(0).astype(int) - small.min(0)).max() < BLANK_RANGE)


def _share(alpha: np.ndarray, least: int) -> float:
    return float((alpha >= least).mean())


def _least_alpha(alpha: np.ndarray) -> int:
    """From which alpha on a pixel of a cutout made by the user is subject: half of what its inside has, as in glass."""
    full = full_coverage(alpha)
    return -(-full // 2) if full >= FAINTEST else HALF


def _refuse_useless(subject: np.ndarray, keep: bool, has_alpha: bool, most: float) -> None:
    coverage, pixels = float(subject.mean()), int(subject.sum())
    if coverage < MIN_COVERAGE or pixels < MIN_SUBJECT_PX:
        raise BadPicture(
            f"Less than {MIN_COVERAGE:.1%} of the picture is subject, which is too little to model: "
            "move closer, use a plainer ground, or mark the subject by hand.",
            "empty_foreground",
        )
    if coverage <= most:
        return
    if keep and not has_alpha:
        message = "The picture has no transparency to keep: set background to auto or remove, or use a cutout PNG."
    else:
        message = (
            f"The subject fills more than {most:.1%} of the frame, so its outline cannot be seen: "
            "step back until some background shows on every side."
        )
    raise BadPicture(message, "full_frame")
