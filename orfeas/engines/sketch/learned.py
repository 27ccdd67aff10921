"""The shape that a small network sees in the picture: how deep its front and its back lie.

The network was trained on procedural objects only (`orfeas.engines.sketch.train`), and runs through OpenCV.

Frame of the network: the picture is a square of side 1 with the subject in its middle, `FILL` long along its longer
side; x right, y down, z towards the viewer, in the same unit. z is 0 in the plane of the outline, which is put so that
the front lies where inflation would have it: no picture tells how far away a thing is.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orfeas.engines.sketch.field import ShapeField
from orfeas.engines.sketch.inflate import Guess, inflate, relief
from orfeas.engines.sketch.subject import MARGIN, Subject
from orfeas.errors import BadWeights
from orfeas.silhouette import exact_distance

MODEL = Path(__file__).resolve().parents[3] / "assets" / "models" / "sketch-shape.onnx"

REMEDY = "Put the file of this version back, or set ORFEAS_SKETCH_SHAPE=inflation."
PICTURE = 128  # pixels along a side of the network's picture
GRID = 64  # cells along a side of its answer
FILL = 115 / 128  # the subject's longer side
CHANNELS = 20
TRUNCATION = 4.0  # cells: the field's values end here, which is farther than any surface edge reaches
LEAST_HALF = 1.0  # in cells: half the thickness that every part of the silhouette keeps, across and not along z
STEEPEST = 4.0  # slope of the middle up to which that is so: steeper are steps from one part to another
# Fixed on the families held out from training (`train/RUNS.md`):
ROUND = (0.93, 0.95, 0.97)  # likeness of the outline to an ellipse at which the network counts
TRUST = (1.0, 0.8, 0.0)  # wholly, mostly, for nothing
THICKNESS = 0.92  # of what the network answers: where it is not sure, it answers too thick
# What is added to inflation is smoothed within the outline, in pixels of the network's picture. Where parts are stout,
# bends are smoothed and slants are left as they are; where they are thin, all differences are, over their whole length:
# there a cell holds more ground than part and the network's answer is mostly noise, while what a handle or a leg is
# attached to says where it lies; it is as deep as it is wide.
BENDING = 5.0  # length of the former
SMOOTHING = 5.0  # and of the latter
STOUT = (1.5, 9.0)  # half widths between which the network's own answer comes to count
LEAST_WEIGHT = 0.004  # of where it sees thin parts
SOFTNESS = 1.6  # in the grid's cells: blur of the field, but not where the outline is thin
Stencil = dict[tuple[int, int], float]  # weight of the pixel at an offset (down, right), each at most 1
GRADIENT: tuple[Stencil, ...] = ({(0, 0): -1.0, (0, 1): 1.0}, {(0, 0): -1.0, (1, 0): 1.0})
HESSIAN: tuple[Stencil, ...] = (
    {(0, -1): 1.0, (0, 0): -2.0, (0, 1): 1.0},
    {(-1, 0): 1.0, (0, 0): -2.0, (1, 0): 1.0},
    {(0, 0): 2**0.5, (0, 1): -(2**0.5), (1, 0): -(2**0.5), (1, 1): 2**0.5},  # the mixed one counts twice
)


@dataclass(frozen=True)
class Prediction:
    """What the network sees in one picture, in its frame.

    middle, half: (PICTURE, PICTURE) float32, where the middle between front and back lies, towards the viewer, and how
    much more than inflation's half the thickness is; outside of the outline the nearest value inside. box: left, top,
    width, height of the crop in that picture, in pixels.
    """

    middle: np.ndarray
    half: np.ndarray
    box: tuple[int, int, int, int]


class LearnedShape:
    """The `orfeas.engines.sketch.field.ShapeSource` that runs the network. Threads may share it.

    Raises `BadWeights` where the model's file is missing.
    """

    version = "learned-6"
    smoothing_passes = 20  # what the network adds is rougher than what it is added to

    def __init__(self, model: Path = MODEL):
        if not model.is_file():
            raise BadWeights(f"The learned shape's file {model.name} is missing. {REMEDY}", "model_missing")
        self._model = model
        self._network = None
        self._running = threading.Lock()
        self._last: tuple[np.ndarray, Prediction] | None = None

    def field(self, subject: Subject, seed: int) -> ShapeField:
        """The solid between the front and the back that the network sees, with the relief of inflation.

        Raises `BadWeights` where the model's file is damaged.
        """
        # the engine asks again for the same crop on finer grids
        last = self._last
        if last is None or last[0] is not subject.rgba:
            last = self._last = subject.rgba, self.predict(subject.rgba)
        return build_field(last[1], subject, seed)

    def predict(self, crop: np.ndarray) -> Prediction:
        """Run the network on a crop and on its mirror image, and take the mean."""
        rgba, box = frame_picture(crop)
        distance = outline_distance(rgba[..., 3])
        prior = inflated_depth(distance)
        picture = rgba.astype(np.float32) / 255
        answers = []
        for step in (1, -1):
            inputs = network_input(picture[:, ::step], distance[:, ::step], prior[:, ::step])
            answers.append(self._run(inputs)[:2, :, ::step])
        front, back = np.mean(answers, axis=0)
        share = trust(rgba[..., 3])
        middle, half = share * (front + back) / 2, share * (THICKNESS * (front - back) / 2 - prior)
        return Prediction(*settle(middle, half, distance > 0, rgba[..., 3] > 127), box)

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        with self._running:
            if self._network is None:
                self._network = self._load()
            self._network.setInput(inputs[None], "picture")
            return self._network.forward("surface")[0].copy()

    def _load(self):
        import cv2

        try:  # from memory: OpenCV cannot open every path on Windows
            return cv2.dnn.readNetFromONNX(np.frombuffer(self._model.read_bytes(), np.uint8))
        except (cv2.error, OSError) as error:
            raise BadWeights(f"The learned shape's file {self._model.name} is damaged. {REMEDY}") from error


def build_field(prediction: Prediction, subject: Subject, seed: int) -> ShapeField:
    """The field on the subject's grid.

    Front and back are the inflated height on the fine grid plus what the network adds on its coarse one: the rim stays
    as sharp and as round as inflation makes it.
    """
    unit = FILL / max(subject.cells)  # of a cell, in frame units
    height = np.sqrt(inflate(subject.distance))
    middle, half = (at_nodes(added, prediction, subject) / unit for added in (prediction.middle, prediction.half))
    raised = relief(subject, height) / 2  # of the front alone: half to the middle, half to the thickness
    middle = middle + raised
    half = height + half + raised
    slope_middle = np.gradient(middle)
    slanted = np.sqrt(1 + np.minimum(sum(slope * slope for slope in slope_middle), STEEPEST**2))
    half = np.maximum(half, LEAST_HALF * slanted) * Guess.draw(seed).thickness
    square = half * half
    below, above = np.floor((middle - half).min()) - 2, np.ceil((middle + half).max()) + 2
    slope_square = np.gradient(square)
    layers = np.arange(int(below), int(above) + 1)
    values = np.empty((len(layers), *subject.shape), np.float32)
    for index, z in enumerate(layers):
        # square - offset^2 over the length of its gradient: near the surface the distance, smooth where half ends in 0
        offset = z - middle
        steep = 4 * offset * offset + 0.25
        for along_square, along_middle in zip(slope_square, slope_middle, strict=True):
            steep = steep + (along_square + 2 * offset * along_middle) ** 2
        layer = np.clip((square - offset * offset) / np.sqrt(steep), -TRUNCATION, TRUNCATION)
        values[index] = np.minimum(layer, subject.distance)
    soften(values, subject.distance)
    values[[0, -1]] = np.minimum(values[[0, -1]], -0.5)
    # An exact zero would put several vertices into one grid node, and needles between them.
    values[np.abs(values) < 1e-4] = -1e-4
    return ShapeField(values, float(layers[0]))


def soften(values: np.ndarray, distance: np.ndarray) -> None:
    """Blur the field in place by `SOFTNESS`, which rounds its edges, except in parts that the blur would eat away.

    values: (nz, ny, nx) float32. distance: (ny, nx), signed, to the outline; both in cells.
    """
    import cv2
    from scipy.ndimage import gaussian_filter

    least = 2.5 * SOFTNESS  # half the width of what can bear it
    core = (distance > least).astype(np.uint8)
    covered = cv2.dilate(core, _disc(round(least)))
    thin = _without_specks((distance > 0) & (covered == 0), least * least)
    stout = cv2.dilate(core, _disc(round(4 * SOFTNESS))).astype(np.float32)
    # what lies outside all parts is blurred as well, or the outline would show where they end
    share = np.minimum(cv2.GaussianBlur(stout, (0, 0), SOFTNESS), stout)
    share *= 1 - cv2.GaussianBlur(cv2.dilate(thin, _disc(1)).astype(np.float32), (0, 0), 0.7)
    values += share * (gaussian_filter(values, SOFTNESS, truncate=3.0) - values)


def _disc(radius: int) -> np.ndarray:
    import cv2

    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _without_specks(mask: np.ndarray, least: float) -> np.ndarray:
    """uint8: the connected parts of ``mask`` of more than ``least`` cells; corners of blocks are no thin parts."""
    import cv2

    _, labels, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    kept = facts[:, cv2.CC_STAT_AREA] > least
    kept[0] = False
    return kept[labels].astype(np.uint8)


def settle(middle: np.ndarray, half: np.ndarray, known: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(PICTURE, PICTURE) float32 each: the two of `Prediction`, (GRID, GRID), brought to the picture's pixels and
    smoothed.

    known: (GRID, GRID) bool, where they mean something. mask: (PICTURE, PICTURE) bool, the subject.
    """
    import cv2

    if not mask.any():  # nothing of it is left at the network's size, so that its answer means nothing
        return np.zeros(mask.shape, np.float32), np.zeros(mask.shape, np.float32)
    nearest = _nearest(known) if known.any() else np.indices(known.shape)
    middle, half = (
        cv2.resize(added[tuple(nearest)], mask.shape, interpolation=cv2.INTER_LINEAR) for added in (middle, half)
    )
    stout = np.clip((half_width(mask) - STOUT[0]) / (STOUT[1] - STOUT[0]), 0, 1)
    counted = np.repeat(np.repeat(known, 2, axis=0), 2, axis=1)
    weight = np.where(counted, np.maximum(stout**2, LEAST_WEIGHT), 0.01 * LEAST_WEIGHT)
    return _smooth_within(mask, stout, (middle, weight), (stout * half, np.ones(mask.shape)))


def _smooth_within(
    mask: np.ndarray, stout: np.ndarray, *weighted: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, ...]:
    """(h, w) float32 for each pair of values and weight: the m with the least sum of weight (m - values)^2 +
    SMOOTHING^2 (1 - stout)^2 |grad m|^2 + BENDING^4 stout |hess m|^2 over the mask.

    No value leaves the mask: what lies side by side in the picture and is not connected does not mix. Outside, the
    nearest value.
    """
    import cv2
    from scipy.sparse import csr_array, diags_array
    from scipy.sparse.linalg import splu

    # pixels that touch at a corner are connected, as thin slanting parts are
    inside = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    number = np.full(mask.shape, -1)
    count = np.count_nonzero(inside)
    number[inside] = np.arange(count)
    roughness = csr_array((count, count))
    slack, stiff = SMOOTHING**2 * (1 - stout) ** 2, BENDING**4 * stout
    for strength, stencils in ((slack, GRADIENT), (stiff, HESSIAN)):
        for stencil in stencils:
            rows, at = _differences(number, stencil)
            roughness = roughness + rows.T @ (diags_array(strength[at]) @ rows)
    nearest, smoothed = _nearest(inside), []
    for values, weight in weighted:
        energy = (roughness + diags_array(weight[inside])).tocsc()
        settled = np.zeros(mask.shape, np.float32)
        settled[inside] = splu(energy).solve(weight[inside] * values[inside].astype(np.float64))
        smoothed.append(settled[nearest])
    return tuple(smoothed)


def _differences(number: np.ndarray, stencil: Stencil) -> tuple:
    """(sparse (k, n), origins): the stencil wherever all of its pixels are inside, and where it stands there.

    number: (h, w) int, of the n pixels inside, -1 outside.
    """
    from scipy.sparse import csr_array

    height, width = number.shape
    around = np.pad(number, 1, constant_values=-1)
    parts = [around[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in stencil]
    at = np.nonzero(np.min(parts, axis=0) >= 0)
    columns = np.stack([part[at] for part in parts], axis=1)
    count = len(columns)
    starts = np.arange(count + 1) * len(stencil)
    values = np.tile(np.array(list(stencil.values())), count)
    return csr_array((values, columns.ravel(), starts), (count, number.max() + 1)), at


def half_width(mask: np.ndarray) -> np.ndarray:
    """(h, w) float32 in pixels: the radius of the largest disc within the mask that covers a pixel, up to `STOUT`."""
    radius = np.where(mask, 0.5, 0.0).astype(np.float32)
    depth = exact_distance(np.pad(mask, 1).astype(np.uint8))[1:-1, 1:-1]
    for size in np.arange(1.0, STOUT[1] + 0.5, 0.5):
        centres = depth >= size
        if not centres.any():
            break
        reached = exact_distance((~centres).astype(np.uint8)) < size
        radius[reached & mask] = size
    return radius


def _nearest(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices that give every cell the value of the nearest one inside."""
    from scipy.ndimage import distance_transform_edt

    row, column = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return row, column


def at_nodes(values: np.ndarray, prediction: Prediction, subject: Subject) -> np.ndarray:
    """(ny, nx) float32: values of the picture's pixels at the nodes of the subject's grid, cubic between them."""
    import cv2

    left, top, width, height = prediction.box
    rows = []
    for start, size, pixels in ((left, width, subject.rgba.shape[1]), (top, height, subject.rgba.shape[0])):
        step = subject.cell * size / pixels
        rows.append((step, start - MARGIN * step - 0.5))
    (step_x, start_x), (step_y, start_y) = rows
    to_cell = np.array([[step_x, 0.0, start_x], [0.0, step_y, start_y]])
    return cv2.warpAffine(
        np.ascontiguousarray(values, np.float32),
        to_cell,
        (subject.shape[1], subject.shape[0]),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def outline_distance(alpha: np.ndarray) -> np.ndarray:
    """(GRID, GRID) float32: signed distance to the outline in frame units, positive inside.

    alpha: (PICTURE, PICTURE) uint8.
    """
    import cv2

    inside = (alpha > 127).astype(np.uint8)
    distance = np.where(inside > 0, exact_distance(inside) - 0.5, 0.5 - exact_distance(1 - inside)).astype(np.float32)
    return cv2.resize(distance, (GRID, GRID), interpolation=cv2.INTER_AREA) / PICTURE


def inflated_depth(distance: np.ndarray) -> np.ndarray:
    """(GRID, GRID) float32: half thickness of the inflated silhouette in frame units, from `outline_distance`.

    The root of the solution of lap u = -4, u = 0 where the distance is 0 (ghost nodes, Gibou et al. 2002), by conjugate
    gradients. `orfeas.engines.sketch.inflate` solves the same problem finely; this one belongs to the network, whose
    weights are only good for the very input that it was trained on.
    """
    inside = distance > 0
    height = np.zeros_like(distance, np.float32)
    if not inside.any():
        return height
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    # one empty cell around: subjects end well before the frame does
    window = np.s_[max(rows[0] - 1, 0) : rows[-1] + 2, max(columns[0] - 1, 0) : columns[-1] + 2]
    cells = np.pad(distance[window] * np.float32(GRID), 1, constant_values=-1.0)
    inside = (cells > 0).astype(np.float32)
    diagonal = 4.0 * inside
    for axis in (0, 1):
        for step in (1, -1):
            neighbour = np.roll(cells, step, axis)
            crossing = (cells > 0) & (neighbour <= 0)
            part = cells[crossing] / (cells[crossing] - neighbour[crossing])
            diagonal[crossing] += 1.0 / np.maximum(part, 0.05) - 1.0
    solution, residual = np.zeros_like(cells), 4.0 * inside
    direction = residual.copy()
    energy = float(np.vdot(residual, residual))
    enough = 1e-7 * energy
    for _ in range(8 * GRID):
        product = diagonal * direction
        product[1:] -= direction[:-1]
        product[:-1] -= direction[1:]
        product[:, 1:] -= direction[:, :-1]
        product[:, :-1] -= direction[:, 1:]
        product *= inside
        length = energy / float(np.vdot(direction, product))
        solution += np.float32(length) * direction
        residual -= np.float32(length) * product
        before, energy = energy, float(np.vdot(residual, residual))
        if energy <= enough:
            break
        direction *= np.float32(energy / before)
        direction += residual
    height[window] = np.sqrt(np.maximum(solution[1:-1, 1:-1], 0)) / np.float32(GRID)
    return height


def network_input(rgba: np.ndarray, distance: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """(CHANNELS, GRID, GRID) float32 from a (PICTURE, PICTURE, 4) picture in [0, 1], its `outline_distance` and
    `inflated_depth`.

    Colours are -1 to 1 and 0 on the ground; each cell holds its 2 x 2 pixels in 16 channels, then distance, prior, x,
    y.
    """
    alpha = rgba[..., 3:]
    pixels = np.concatenate([(2 * rgba[..., :3] - 1) * alpha, alpha], axis=-1)
    blocks = pixels.reshape(GRID, 2, GRID, 2, 4).transpose(1, 3, 4, 0, 2).reshape(16, GRID, GRID)
    x = np.broadcast_to((np.arange(GRID) + 0.5) * (2 / GRID) - 1, (GRID, GRID))
    extra = np.stack([distance.clip(-0.2, 0.5) * 5, prior * 5, x, x.T])
    return np.concatenate([blocks, extra]).astype(np.float32)


def trust(alpha: np.ndarray) -> float:
    """How much the network counts against inflation, in [0, 1]: less the more the outline is an ellipse.

    What looks round mostly is, and inflation is as good as exact for it, where the network hedges. alpha: (PICTURE,
    PICTURE) uint8; stalks and handles, thinner than a twelfth of the picture, do not count.
    """
    import cv2

    inside = cv2.copyMakeBorder((alpha > 127).astype(np.uint8), *[PICTURE // 8] * 4, cv2.BORDER_CONSTANT)
    body = cv2.morphologyEx(inside, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11)))
    moments = cv2.moments(body, True)
    spread = np.array([[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]])
    if np.linalg.det(spread) <= 0:
        return 1.0
    centre = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
    offset = np.moveaxis(np.indices(body.shape)[::-1], 0, -1) - centre
    # the ellipse with the body's moments: x' C^-1 x <= 4
    ellipse = np.einsum("hwi,ij,hwj->hw", offset, np.linalg.inv(spread / moments["m00"]), offset) <= 4
    likeness = np.count_nonzero(ellipse & (body > 0)) / np.count_nonzero(ellipse | (body > 0))
    return float(np.interp(likeness, ROUND, TRUST))


def frame_picture(crop: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A crop of the subject in the network's frame.

    crop: (h, w, 4) uint8, the subject's bounding box. Returns (PICTURE, PICTURE, 4) uint8 and where in it the crop
    lies: left, top, width, height in pixels.
    """
    import cv2

    height, width = crop.shape[:2]
    scale = FILL * PICTURE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    alpha = crop[..., 3:].astype(np.float32) / 255
    premultiplied = np.concatenate([crop[..., :3] * alpha, alpha * 255], axis=-1)
    small = cv2.resize(premultiplied, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    small[..., :3] *= 255 / np.maximum(small[..., 3:], 1)
    left, top = (PICTURE - size[0]) // 2, (PICTURE - size[1]) // 2
    picture = np.zeros((PICTURE, PICTURE, 4), np.uint8)
    picture[top : top + size[1], left : left + size[0]] = np.clip(np.round(small), 0, 255)
    return picture, (left, top, *size)
