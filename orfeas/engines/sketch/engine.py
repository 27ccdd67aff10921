"""The built-in engine: a solid from a silhouette, on any CPU, in seconds, with nothing to download."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from orfeas.engines import Step
from orfeas.mesh import Mesh

if TYPE_CHECKING:
    from orfeas.cutout import Cutout
    from orfeas.engines.sketch.field import ShapeSource
    from orfeas.engines.sketch.subject import Subject
    from orfeas.request import Quality

SPARE_FACES = 1.5  # the surface has at least so many faces for each one asked, for decimation to choose from
FINEST = 4.0  # slender subjects, which have little surface, get a finer grid, up to this factor
CRUMB_VOLUME = 1e-5  # a part with less than this share of the volume is the grid's; the outline's were judged before
ATTEMPTS = 3  # grids tried until the surface has enough faces; the first is enough for most subjects
MOST_NODES = 40_000_000  # bounds the field's memory: 4 bytes each


class SketchEngine:
    """An `orfeas.engines.Engine`. ``quality.grid`` is the least number of cells along the subject's longer side;
    slender subjects get more, so that ``quality.faces`` are reached. ``quality.steps`` has no meaning here.

    The seed draws what one picture cannot tell: how thick, and how flat the back (`sketch.inflate.Guess`).
    """

    name = "sketch"
    title = "Built-in sketch"
    device = "cpu"
    slots = 1
    caveat = "This is a sketch: the outline and the colours are the picture's, the depth and the back are guessed."
    version = "sketch-2"

    def __init__(self, reason: str = "", source: ShapeSource | None = None):
        self.reason = reason or "The built-in engine needs no GPU and no downloads."
        self._source = source
        if source is not None:
            self.version = f"{self.version}+{source.version}"

    def load(self) -> None:
        """Import what a job needs, so that the first one does not wait for it."""
        import cv2  # noqa: F401
        import scipy.ndimage
        import scipy.sparse.csgraph  # noqa: F401
        from skimage.measure import marching_cubes  # noqa: F401

    def health(self) -> dict[str, Any]:
        """The engine holds no state that could fail."""
        return {"version": self.version, "ready": True}

    def close(self) -> None:
        """Nothing is held between jobs."""

    def shape(self, cutout: Cutout, quality: Quality, seed: int) -> Iterator[Step | Mesh]:
        """Yield steps, then the mesh; its front silhouette has the bounding box of the cutout's.

        Raises `orfeas.errors.BadPicture` for an empty cutout.
        """
        from orfeas.engines.sketch.field import extract_surface
        from orfeas.engines.sketch.inflate import Inflation
        from orfeas.engines.sketch.subject import crop_subject, grid_subject
        from orfeas.engines.sketch.surface import drop_crumbs, smooth

        source = self._source or Inflation()
        yield Step(0.0, "Reading the outline")
        crop = crop_subject(cutout.rgba)
        cells = quality.grid
        for attempt in range(ATTEMPTS):
            done = 0.7 * attempt / ATTEMPTS
            yield Step(0.1 + done, "Reading the outline")
            subject = grid_subject(crop, cells)
            yield Step(0.2 + done, "Guessing the depth")
            field = source.field(subject, seed)
            yield Step(0.3 + done, "Drawing the surface")
            vertices, faces = extract_surface(field)
            finer = finer_grid(cells, len(faces), field.values.size, quality)
            if finer <= cells:
                break
            cells = finer
        yield Step(0.8, "Smoothing the surface")
        vertices, faces = drop_crumbs(vertices, faces, CRUMB_VOLUME)
        for done in range(0, source.smoothing_passes, 2):
            vertices = smooth(vertices, faces, 2)
            yield Step(0.8 + 0.2 * (done + 2) / source.smoothing_passes, "Smoothing the surface")
        yield Mesh(align(vertices, subject), faces)


def finer_grid(cells: int, faces: int, nodes: int, quality: Quality) -> int:
    """Cells along the longer side for the surface to have `SPARE_FACES` times the quality's faces.

    cells, faces, nodes: of the surface and its field as they are. Faces grow with the square of the cells, nodes with
    the cube. Returns ``cells`` where it is enough or as fine as allowed.
    """
    if faces >= SPARE_FACES * quality.faces:
        return cells
    wanted = cells * 1.05 * np.sqrt(SPARE_FACES * quality.faces / max(faces, 1))
    most = min(FINEST * quality.grid, cells * np.cbrt(MOST_NODES / nodes))
    finer = int(min(wanted, most))
    return finer if finer > 1.05 * cells else cells


def align(vertices: np.ndarray, subject: Subject) -> np.ndarray:
    """Vertices in cells -> the picture's frame: the subject's box centred, its longer side 2 long, front at +Z.

    Grid and smoothing move the outermost vertices by parts of a cell; x and y are stretched by as much, so that the box
    seen from the front is the silhouette's exactly.
    """
    size = np.asarray(subject.cells)
    low, high = vertices[:, :2].min(axis=0), vertices[:, :2].max(axis=0)
    scale = 2.0 / size.max()
    aligned = vertices * scale
    aligned[:, :2] = ((vertices[:, :2] - low) / (high - low) - 0.5) * size * scale
    return aligned
