"""The shape as a signed field on an image-aligned grid, and its surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from orfeas.engines.sketch.subject import MARGIN, Subject


@dataclass(frozen=True)
class ShapeField:
    """A truncated signed distance field, positive inside; the surface is its zero level.

    values: (nz, ny, nx) float32, in cells. Rows run down the picture, columns right, z towards the viewer; the
    outermost layer must be negative, so that the surface is closed.
    z_start: z of the first layer, in cells; 0 is the plane of the outline.
    """

    values: np.ndarray
    z_start: float


class ShapeSource(Protocol):
    """Where a shape comes from: inflation of the silhouette, or what a network adds to it."""

    version: str  # changes whenever the same subject could give another field
    smoothing_passes: int  # over the surface, an even number

    def field(self, subject: Subject, seed: int) -> ShapeField:
        """The shape of one subject on its grid."""


def extract_surface(field: ShapeField) -> tuple[np.ndarray, np.ndarray]:
    """(vertices, faces) of the zero level: (n, 3) float64 in cells, x right, y up, z to the viewer; (m, 3) int32.

    Marching cubes in the form of Lewiner et al. 2003, whose surface is closed and two-manifold; counter-clockwise seen
    from outside. x and y are 0 at the crop's top left corner.
    """
    from skimage.measure import marching_cubes

    nodes, faces, _, _ = marching_cubes(field.values, 0.0, gradient_direction="ascent")
    z, row, column = nodes.astype(np.float64).T
    vertices = np.stack([column - MARGIN, MARGIN - row, z + field.z_start], axis=1)
    return vertices, faces.astype(np.int32)
