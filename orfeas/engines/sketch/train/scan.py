"""From triangles to pixels and columns of voxels, by expanding every triangle into the pixel centres that it covers.

One pass keeps all layers, not only the nearest: the winding number along each pixel's ray (the sum of the signs of the
surfaces crossed) says what is inside a union of closed solids, with no boolean operations on meshes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIDES = 35  # from which `unseen` looks


@dataclass(frozen=True)
class Fragments:
    """Where triangles cover pixel centres, one entry each.

    pixel: (k,) int64, row * size + column. face: (k,) int64. weights: (k, 2) float32 of the face's first two corners.
    z: (k,) float32, towards the viewer. facing: (k,) bool, whether the face looks at the viewer.
    """

    size: int
    pixel: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    z: np.ndarray
    facing: np.ndarray


def scan(points: np.ndarray, faces: np.ndarray, size: int, only_facing: bool = False) -> Fragments:
    """Cover a (size, size) image with triangles.

    points: (n, 3), x and y in frame units (-0.5 to 0.5, right and up), z towards the viewer. Faces are
    counter-clockwise seen from outside. only_facing: leave out those that look away.
    """
    # a shift of a fraction of a pixel, so that no pixel centre lies exactly on the edges of symmetrical objects
    pixels = np.stack([(points[:, 0] + 0.5) * size + 1.37e-3, (0.5 - points[:, 1]) * size + 2.11e-3, points[:, 2]])
    x, y, z = pixels[:, faces].astype(np.float32)  # (m, 3) each
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    left = np.maximum(np.ceil(x.min(1) - 0.5), 0).astype(np.int64)
    top = np.maximum(np.ceil(y.min(1) - 0.5), 0).astype(np.int64)
    width = np.minimum(np.floor(x.max(1) - 0.5), size - 1).astype(np.int64) - left + 1
    height = np.minimum(np.floor(y.max(1) - 0.5), size - 1).astype(np.int64) - top + 1
    # y runs down in pixels: a face that looks at the viewer has a negative area here
    kept = (width > 0) & (height > 0) & ((area < -1e-9) if only_facing else (np.abs(area) > 1e-9))
    number = np.flatnonzero(kept)
    left, top, width, height = left[kept], top[kept], width[kept], height[kept]
    count = width * height
    local = np.repeat(np.arange(len(number)), count)
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(step, width[local])
    row += top[local]
    column += left[local]
    face = number[local]
    px, py = column.astype(np.float32) + np.float32(0.5), row.astype(np.float32) + np.float32(0.5)
    # barycentric weights are linear in the pixel: their coefficients once a face, then one multiply-add a fragment
    x, y, z, area = x[number], y[number], z[number], area[number]
    u = _weight(x[:, 1], y[:, 1], x[:, 2], y[:, 2], area)
    v = _weight(x[:, 2], y[:, 2], x[:, 0], y[:, 0], area)
    first = u[0][local] + u[1][local] * px + u[2][local] * py
    second = v[0][local] + v[1][local] * px + v[2][local] * py
    covered = np.flatnonzero((first >= 0) & (second >= 0) & (first + second <= 1))
    first, second, local = first[covered], second[covered], local[covered]
    depth = first * z[local, 0] + second * z[local, 1] + (1 - first - second) * z[local, 2]
    pixel = row[covered] * size + column[covered]
    return Fragments(size, pixel, face[covered], np.stack([first, second], 1), depth, area[local] < 0)


def _weight(ax, ay, bx, by, area) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Constant, x and y coefficient of the barycentric weight of the corner opposite to the edge a-b."""
    ax, ay, bx, by, area = (value.astype(np.float64) for value in (ax, ay, bx, by, area))
    parts = (ax * by - bx * ay) / area, (ay - by) / area, (bx - ax) / area
    return tuple(part.astype(np.float32) for part in parts)


def nearest(fragments: Fragments) -> tuple[np.ndarray, np.ndarray]:
    """(pixels, fragments): the covered pixels, and for each the index of its fragment with the greatest z."""
    order = np.argsort(fragments.z, kind="stable")
    front = np.full(fragments.size**2, -1, np.int64)
    front[fragments.pixel[order]] = order  # the last one written, the greatest, stays
    pixels = np.flatnonzero(front >= 0)
    return pixels, front[pixels]


def depth_maps(fragments: Fragments) -> tuple[np.ndarray, np.ndarray]:
    """(front, back): (size, size) float32 greatest and least z, NaN where nothing is."""
    front = np.full(fragments.size**2, -np.inf, np.float32)
    back = np.full(fragments.size**2, np.inf, np.float32)
    np.maximum.at(front, fragments.pixel, fragments.z)
    np.minimum.at(back, fragments.pixel, fragments.z)
    shape = (fragments.size, fragments.size)
    front[np.isinf(front)] = np.nan
    back[np.isinf(back)] = np.nan
    return front.reshape(shape), back.reshape(shape)


def occupancy(fragments: Fragments, z_start: float, layers: int, front: np.ndarray, back: np.ndarray) -> np.ndarray:
    """(layers, size, size) bool: which voxels are solid; layer k covers z_start + (k .. k + 1) / size.

    A voxel is solid where the winding number at its centre is not 0. A column whose crossings do not cancel (a ray
    through an edge) is filled from back to front, and a column with matter thinner than a voxel gets the voxel of its
    front, so that the volume's silhouette is the mask of ``front``.
    """
    size = fragments.size
    layer = np.ceil((fragments.z - z_start) * size - 0.5).clip(0, layers).astype(np.int64)
    sign = np.where(fragments.facing, -1.0, 1.0)  # entered from behind, left through the front
    crossings = np.bincount(layer * size * size + fragments.pixel, sign, (layers + 1) * size * size)
    winding = crossings.astype(np.int16).reshape(layers + 1, size * size)
    np.cumsum(winding, axis=0, out=winding)
    solid = winding[:layers] != 0
    centre = z_start + (np.arange(layers) + 0.5)[:, None] / size
    torn = np.flatnonzero(winding[layers])
    if len(torn):
        solid[:, torn] = (centre <= front.ravel()[torn]) & (centre >= back.ravel()[torn])
    pixels = np.flatnonzero(np.isfinite(front.ravel()))
    surface = np.floor((front.ravel()[pixels] - z_start) * size - 1e-3).clip(0, layers - 1).astype(np.int64)
    empty = ~solid[:, pixels].any(axis=0)
    solid[surface[empty], pixels[empty]] = True
    return solid.reshape(layers, size, size)


def unseen(points: np.ndarray, faces: np.ndarray, size: int, z_start: float, layers: int) -> np.ndarray:
    """(layers, size, size) bool: the voxels whose centres are seen from none of `SIDES` directions; as `occupancy`.

    What is solid whatever way the faces look and however often shells lie in one another, for meshes of others: where
    some parts are inside out, winding numbers cancel and leave holes. Cavities are solid, but for those behind a gap.
    """
    front, back = depth_maps(scan(points, faces, size))
    z = (z_start + (np.arange(layers, dtype=np.float32) + 0.5) / size)[:, None, None]
    voxels = np.argwhere((z <= front) & (z >= back))
    layer, row, column = voxels.T + 0.5
    centres = np.stack([column / size - 0.5, 0.5 - row / size, layer / size + z_start], 1)
    middle = (points.min(0) + points.max(0)) / 2
    wide = 2.02 * np.linalg.norm(points - middle, axis=1).max()
    detail = 4 * size
    for towards in directions(SIDES):
        across = np.cross(towards, np.eye(3)[np.abs(towards).argmin()])
        across /= np.linalg.norm(across)
        turned = np.stack([across, np.cross(towards, across), towards]) / wide
        seen, _ = depth_maps(scan((points - middle) @ turned.T, faces, detail))
        x, y, z = ((centres - middle) @ turned.T).T
        row, column = ((0.5 - y) * detail).astype(np.int64), ((x + 0.5) * detail).astype(np.int64)
        hidden = z <= seen[row, column] + 0.5 / (size * wide)  # not where nothing is: NaN
        voxels, centres = voxels[hidden], centres[hidden]
    solid = np.zeros((layers, size, size), bool)
    solid[tuple(voxels.T)] = True
    return solid


def directions(count: int) -> np.ndarray:
    """(count, 3) unit vectors spread evenly over the sphere, on a spiral by the golden angle."""
    number = np.arange(count) + 0.5
    down, around = np.arccos(1 - 2 * number / count), np.pi * (1 + 5**0.5) * number
    return np.stack([np.cos(around) * np.sin(down), np.cos(down), np.sin(around) * np.sin(down)], 1)
