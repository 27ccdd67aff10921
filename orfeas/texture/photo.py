"""Colour a mesh from the one photo that it was made of.

The atlas is two plane projections side by side: the front half is the photo, the back half a guess from the colours
along the outline. Where a surface turns edge-on a plane projection stretches each pixel into a streak; there both
halves fade into the same softened photo, so that neither streaks nor the seam between the halves show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orfeas.mesh import Mesh, Texture, face_cross, vertex_normals
from orfeas.silhouette import bounding_box, exact_distance, subject_level
from orfeas.texture.fill import blur_within, draw_inwards, spread_nearest

if TYPE_CHECKING:
    from orfeas.cutout import Cutout

LEAST_SIZE = 512  # pixels along the longer side of a half, enlarged if need be
PADDING = 8  # pixels around each half that repeat its outermost colours
UNTRUSTED = 0.004  # width of the band along the outline that may hold background, as a share of the longer side
SOFTENING = 0.02  # standard deviation of the softened photo, same share
SHEEN = 0.012  # depth below the outline from which the softened photo takes a pixel in full, same share
HIGHLIGHT = 12.0  # a pixel so much brighter and paler (of 255) than the patch around counts half in the softened photo
RING = 0.05  # width of the band along the outline that colours the back, same share
GRAZING = (0.12, 0.4)  # cosine between normal and view: softened below, the projection above
PATCHES = 0.09  # standard deviation of the front's large patches, same share
BACK_TINT = 0.45  # how much of the front's large patches shows through in the middle of the back
VIEW_SIZE = 512  # pixels along the longer side of the views that tell what the photo sees, and how obliquely
OCCLUDED = 0.03  # a front face so far (share of the mesh's size) behind the visible surface is not in the photo


def project_photo(mesh: Mesh, cutout: Cutout, *, texture_size: int = 1024, whole: np.ndarray | None = None) -> Mesh:
    """The same geometry with ``texture`` and ``colors``.

    The subject's bounding box in the cutout is laid over the mesh's as seen from +Z; the mesh may be in any unit.
    whole: `Mesh.bounds` before parts were taken away; the box is laid over these where their proportions are nearer to
    its own, for then what was taken away is in the picture.
    texture_size: pixels along the longer side of each half; less, down to 512, where the photo has less.
    Raises `orfeas.errors.BadPicture` for an empty cutout.
    """
    photo, coverage = _crop_photo(cutout.rgba, texture_size)
    height, width = coverage.shape
    pixels = _to_pixels(mesh.vertices, _choose_bounds(mesh.bounds, whole, width / height), width, height)
    facing = face_cross(mesh.vertices, mesh.faces)
    facing = facing[:, 2] / np.maximum(np.linalg.norm(facing, axis=1), 1e-300)

    front_view = _View(pixels, mesh.faces, width, height, front=True)
    back_view = _View(pixels, mesh.faces, width, height, front=False)
    slope = vertex_normals(mesh.vertices, mesh.faces)[:, 2]

    depth = _depth(coverage)
    photo, soft = _clean_photo(photo, depth)
    front = _blend(soft, photo, front_view.clear(slope))
    back = _blend(soft, _guess_back(photo, soft, depth), back_view.clear(-slope))
    on_front = _choose_half(mesh.faces, facing, pixels, front_view)

    image = _atlas(front, back)
    corner_uv = pixels[mesh.faces][..., :2] + PADDING
    corner_uv[~on_front, :, 0] += width + 2 * PADDING
    corner_uv = (corner_uv / (image.shape[1], image.shape[0])).astype(np.float32)
    texture = Texture(corner_uv, image)
    return Mesh(mesh.vertices, mesh.faces, vertex_colors(mesh.faces, texture, len(mesh.vertices)), texture)


def vertex_colors(faces: np.ndarray, texture: Texture, count: int) -> np.ndarray:
    """(count, 3) uint8: the mean of the texture's colours at each vertex's corners."""
    import cv2

    height, width = texture.image.shape[:2]
    place = (texture.corner_uv.reshape(-1, 2) * (width, height) - 0.5).astype(np.float32)
    # cv2.remap takes images below 32,768 pixels a side: the list of corners is folded into rows
    rows = -(-len(place) // 1024)
    folded = np.zeros((rows * 1024, 2), np.float32)
    folded[: len(place)] = place
    sampled = cv2.remap(
        texture.image, folded.reshape(rows, 1024, 2), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).reshape(-1, 3)[: len(place)]
    corner = faces.ravel()
    number = np.maximum(np.bincount(corner, minlength=count), 1)
    sums = [np.bincount(corner, sampled[:, channel], count) for channel in range(3)]
    return np.rint(np.stack(sums, axis=1) / number[:, None]).astype(np.uint8)


class _View:
    """What is seen of the mesh from the front, or from behind through it, at `VIEW_SIZE` at most."""

    def __init__(self, pixels: np.ndarray, faces: np.ndarray, width: int, height: int, front: bool):
        from orfeas.render.raster import rasterize

        self.scale = min(1.0, VIEW_SIZE / max(width, height))
        self.size = (width, height)
        self.faces = faces
        size = tuple(max(1, round(side * self.scale)) for side in (height, width))
        places = pixels * (size[1] / width, size[0] / height, -1.0 if front else 1.0)
        self.face, self.weights = rasterize(places, faces, size)

    def interpolate(self, values: np.ndarray, empty: float) -> np.ndarray:
        """float32 image of values given per vertex, at the view's own size; ``empty`` where nothing is seen."""
        seen = self.face >= 0
        image = np.full(self.face.shape, empty, np.float32)
        image[seen] = (values[self.faces[self.face[seen]]] * self.weights[seen]).sum(axis=1)
        return image

    def clear(self, slope: np.ndarray) -> np.ndarray:
        """(height, width) float32: 1 where the surface faces the view, 0 where it is edge-on or nothing is seen.

        slope: (n,) cosine between each vertex's normal and the view.
        """
        import cv2

        low, high = GRAZING
        share = np.clip((self.interpolate(slope, 0.0) - low) / (high - low), 0.0, 1.0)
        share = cv2.GaussianBlur(share * share * (3.0 - 2.0 * share), (0, 0), 0.003 * max(share.shape))
        return cv2.resize(share, self.size, interpolation=cv2.INTER_LINEAR)


def _crop_photo(rgba: np.ndarray, texture_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The subject at the half's resolution: (h, w, 3) float32 colours in [0, 255] and (h, w) float32 coverage."""
    import cv2

    level = subject_level(rgba)
    left, top, right, bottom = bounding_box(level >= 0.5)
    crop = rgba[top:bottom, left:right].astype(np.float32)
    weight = level[top:bottom, left:right]
    longest = max(weight.shape)
    scale = min(texture_size, max(longest, LEAST_SIZE)) / longest
    size = tuple(max(1, round(side * scale)) for side in weight.shape[::-1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    premultiplied = cv2.resize(crop[..., :3] * weight[..., None], size, interpolation=method)
    weight = cv2.resize(weight, size, interpolation=method)
    return premultiplied / np.maximum(weight, 1e-3)[..., None], weight


def _choose_bounds(own: np.ndarray, whole: np.ndarray | None, aspect: float) -> np.ndarray:
    """Those of the two bounds whose width over height is nearer to ``aspect``; ``own`` if both are as near."""

    def misfit(bounds: np.ndarray) -> float:
        width, height = np.maximum(bounds[1] - bounds[0], 1e-12)[:2]
        return round(abs(float(np.log(width / height / aspect))), 3)

    return own if whole is None or misfit(own) <= misfit(whole) else whole


def _to_pixels(vertices: np.ndarray, bounds: np.ndarray, width: int, height: int) -> np.ndarray:
    """(n, 3) float64: x and y in the half's pixel edges, z in the same unit as x (up to the aspect's error)."""
    low, high = bounds
    size = np.maximum(high - low, 1e-12)
    pixels = np.empty_like(vertices)
    pixels[:, 0] = (vertices[:, 0] - low[0]) / size[0] * width
    pixels[:, 1] = (high[1] - vertices[:, 1]) / size[1] * height
    pixels[:, 2] = (vertices[:, 2] - low[2]) * max(width, height) / max(size[0], size[1])
    return pixels


def _depth(coverage: np.ndarray) -> np.ndarray:
    """(h, w) float32: how many pixels it is to the outline; 0 outside."""
    import cv2

    padded = cv2.copyMakeBorder((coverage >= 0.5).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return np.ascontiguousarray(exact_distance(padded)[1:-1, 1:-1])


def _clean_photo(photo: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The photo with its subject spread over its background, and the softened photo."""
    import cv2

    longest = max(depth.shape)
    # the outermost pixels are a mixture with the background; a wire that has no others keeps its middle
    band = max(1.5, UNTRUSTED * longest)
    window = 2 * int(np.ceil(band)) + 1
    widest = cv2.dilate(depth, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (window, window)))
    trusted = (depth > 0) & ((depth >= band) | (depth >= 0.7 * widest))
    photo = spread_nearest(photo, trusted)
    # Sides and back take the colours a little farther in, and less of what shines: along the outline of a smooth thing
    # there is more of the room's reflection than of its own colour. A reflection is brighter and paler than the patch.
    weight = trusted.astype(np.float32)
    tone = np.stack([photo.max(axis=2), photo.min(axis=2) - photo.max(axis=2)], axis=-1)  # brightness, paleness
    shine = np.prod(np.maximum(tone - blur_within(tone, weight, PATCHES * longest), 0.0) / HIGHLIGHT, axis=-1)
    weight *= np.clip(depth / (SHEEN * longest), 0.02, 1.0) ** 2 / (1.0 + shine)
    return photo, blur_within(photo, weight, SOFTENING * longest)


def _guess_back(photo: np.ndarray, soft: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The colours along the outline drawn inwards, with a breath of the front's large patches: no second face."""
    longest = max(depth.shape)
    inside = (depth > 0).astype(np.float32)
    ring = np.clip(1.0 - depth / (RING * longest), 0.0, 1.0) * inside
    inwards = draw_inwards(soft, ring, depth, longest)
    patches = blur_within(photo, inside, PATCHES * longest)
    tint = BACK_TINT * np.clip(depth / (0.25 * longest), 0.0, 1.0)[..., None]
    return _blend(inwards, patches, tint[..., 0])


def _blend(zero: np.ndarray, one: np.ndarray, share: np.ndarray) -> np.ndarray:
    return zero + (one - zero) * share[..., None]


def _choose_half(faces: np.ndarray, facing: np.ndarray, pixels: np.ndarray, view: _View) -> np.ndarray:
    """(m,) bool: faces that take the front half. Those that face backwards or are hidden in the photo do not."""
    height, width = view.face.shape
    centre = pixels[faces].mean(axis=1)
    column = np.clip(centre[:, 0] * (width / view.size[0]), 0, width - 1).astype(int)
    row = np.clip(centre[:, 1] * (height / view.size[1]), 0, height - 1).astype(int)
    nearest = view.interpolate(pixels[:, 2], empty=-np.inf)[row, column]
    hidden = centre[:, 2] < nearest - OCCLUDED * max(view.size)
    return (facing > 0) & ~hidden


def _atlas(front: np.ndarray, back: np.ndarray) -> np.ndarray:
    """(h, 2w, 3) uint8: both halves with their padding, front left."""
    import cv2

    pad = (PADDING,) * 4
    halves = [cv2.copyMakeBorder(half, *pad, cv2.BORDER_REPLICATE) for half in (front, back)]
    return np.rint(np.clip(np.concatenate(halves, axis=1), 0, 255)).astype(np.uint8)
