"""Pictures of a mesh, drawn with numpy alone: no GL, no GPU, no display.

A `Subject` holds what all the pictures of one mesh share (normals, baked ambient light, the ground's shadow); a still
or a turn then costs one rasterization and one pass of shading a frame.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from orfeas.mesh import Mesh, face_cross, vertex_normals

from .camera import Camera, frame_points
from .ground import GroundShadow, bake_shadow, draw_shadow
from .light import bake_ambient, sample_surface, shade
from .raster import cover

MAX_SIZE = 2048
MAX_SUPERSAMPLE = 4
MAX_DRAWN = 4096  # size times supersample
MAX_FRAMES = 120
MAX_TURN_SIZE = 1024
CLAY = (205, 198, 188)  # sRGB of a mesh that has no colours
CREASE_COSINE = 0.64  # edges sharper than about 50 degrees are drawn sharp
POSTER_VIEW = (28.0, 16.0)  # azimuth, elevation in degrees
POSTER_SIZE = 512
VIEW_TEXTURE = 1024  # pixels; finer textures flicker at these sizes
# 24 frames are 15 degrees apart, and at 256 pixels cost about a second of two cores for 60,000 faces
TURN_FRAMES, TURN_SIZE, TURN_ELEVATION = 24, 256, 12.0
SURFACE_POINTS = 20_000  # for the ambient light and the shadow
SHADING = ("lit", "normals")


@dataclass(frozen=True)
class Subject:
    """A mesh ready to be drawn. vertices: (n, 3) float32 about the middle of the bounds; corner_values: (m, 3, c)
    float32, per corner of a face: normal (3), ambient light (1) and colour (linear RGB) or texture position (u, v);
    texture: (h, w, 3) float32 linear RGB or None. outline: (k, 3) float32, the corners of the convex hull, which are
    what a camera has to see of it.
    """

    vertices: np.ndarray
    faces: np.ndarray
    corner_values: np.ndarray
    shadow: GroundShadow
    texture: np.ndarray | None
    shading: str
    outline: np.ndarray


def prepare(mesh: Mesh, *, shading: str = "lit", texture_limit: int = 2048) -> Subject:
    """Work out what every picture of the mesh needs.

    shading: "lit", or "normals" for the surface's direction as colour. texture_limit: pixels; a larger texture is
    reduced, which also spares small pictures from flicker. Raises ValueError for a mesh without faces or with numbers
    that are not finite, and for an unknown shading.
    """
    if shading not in SHADING:
        raise ValueError(f"shading must be one of {', '.join(SHADING)}, not {shading!r}")
    if len(mesh.faces) == 0 or len(mesh.vertices) == 0:
        raise ValueError("an empty mesh cannot be drawn")
    if not np.isfinite(mesh.vertices).all():
        raise ValueError("vertices must be finite")
    used = mesh.vertices[mesh.faces]
    middle = (used.min(axis=(0, 1)) + used.max(axis=(0, 1))) / 2
    scale = np.abs(used - middle).max() or 1.0  # float32 from here on: work near 1 whatever the unit
    vertices = ((mesh.vertices - middle) / scale).astype(np.float32)
    faces = np.asarray(mesh.faces)

    normals = vertex_normals(vertices.astype(np.float64), faces).astype(np.float32)
    cross = face_cross(vertices.astype(np.float64), faces)
    flat = (cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-300)).astype(np.float32)
    corner_normals = normals[faces]
    sharp = np.einsum("mkc,mc->mk", corner_normals, flat) < CREASE_COSINE
    corner_normals = np.where(sharp[:, :, None], flat[:, None], corner_normals)

    points = sample_surface(vertices, faces, SURFACE_POINTS)
    if shading == "lit":
        ambient = bake_ambient(vertices, normals, faces, points)
    else:
        ambient = np.ones(len(vertices), np.float32)
    texture = None
    if shading == "normals":
        colors = np.zeros((len(faces), 3, 0), np.float32)
    elif mesh.texture is not None:
        colors = np.asarray(mesh.texture.corner_uv, np.float32)
        texture = _to_linear()[_reduce(mesh.texture.image, texture_limit)]
    elif mesh.colors is not None:
        colors = _to_linear()[mesh.colors][faces]
    else:
        colors = np.broadcast_to(_to_linear()[np.array(CLAY)], (len(faces), 3, 3))
    values = np.concatenate([corner_normals, ambient[faces][:, :, None], colors], axis=2)
    ground = bake_shadow(points, float(vertices[faces, 1].min()))
    return Subject(
        vertices, faces, np.ascontiguousarray(values, np.float32), ground, texture, shading, _outline(vertices, faces)
    )


def render_still(
    mesh: Mesh,
    *,
    azimuth_degrees: float = POSTER_VIEW[0],
    elevation_degrees: float = POSTER_VIEW[1],
    size: int = 512,
    supersample: int = 2,
    background: tuple[int, int, int] | None = None,
    shading: str = "lit",
    shadow: bool = False,
) -> np.ndarray:
    """Draw the mesh from one side: (size, size, 4) uint8, sRGB with straight alpha.

    Colours come from the texture (sampled bilinearly) if there is one, else from the vertices, else it is clay. Edges
    are antialiased over supersample² samples a pixel. background: sRGB, or None for a transparent one. shadow: lay a
    soft shadow on the ground beneath (seen only from above the ground). Back faces are not drawn.

    Raises ValueError for an empty mesh and for numbers out of range.
    """
    _check(size, MAX_SIZE, supersample)
    subject = prepare(mesh, shading=shading)
    camera = _frame(subject, [azimuth_degrees], elevation_degrees)[0]
    return draw(subject, camera, size, supersample=supersample, background=background, shadow=shadow)


def render_poster(mesh: Mesh, size: int = POSTER_SIZE) -> np.ndarray:
    """(size, size, 4) uint8: the picture that stands for the mesh, three-quarter view with a shadow, transparent."""
    return _draw_poster(prepare(mesh, texture_limit=VIEW_TEXTURE), size)


def render_poster_and_turn(
    mesh: Mesh, size: int = POSTER_SIZE, turn_size: int = TURN_SIZE
) -> tuple[np.ndarray, list[np.ndarray]]:
    """What a result is shown by without WebGL, `render_poster` and `render_turntable`, for little more than one."""
    subject = prepare(mesh, texture_limit=VIEW_TEXTURE)
    with _threads() as pool:
        poster = pool.submit(_draw_poster, subject, size)
        turn = draw_turn(subject, TURN_FRAMES, turn_size, TURN_ELEVATION, shadow=True, pool=pool)
        return poster.result(), turn


def _draw_poster(subject: Subject, size: int) -> np.ndarray:
    _check(size, MAX_SIZE, 2)
    azimuth, elevation = POSTER_VIEW
    return draw(subject, _frame(subject, [azimuth], elevation)[0], size, shadow=True)


def render_turntable(
    mesh: Mesh,
    *,
    frames: int = TURN_FRAMES,
    size: int = TURN_SIZE,
    elevation_degrees: float = TURN_ELEVATION,
    supersample: int = 2,
    background: tuple[int, int, int] | None = None,
    shading: str = "lit",
    shadow: bool = True,
) -> list[np.ndarray]:
    """Draw a full turn: `frames` pictures as of `render_still`, the first from the front, each from a little further
    to the object's +X side, all at one scale. Raises ValueError as `render_still` does.
    """
    _check(size, MAX_TURN_SIZE, supersample)
    if not 1 <= frames <= MAX_FRAMES:
        raise ValueError(f"frames must be 1 to {MAX_FRAMES}, not {frames}")
    subject = prepare(mesh, shading=shading, texture_limit=3 * size)
    return draw_turn(
        subject, frames, size, elevation_degrees, supersample=supersample, background=background, shadow=shadow
    )


def draw_turn(
    subject: Subject, frames: int, size: int, elevation_degrees: float, *, pool: Executor | None = None, **options
) -> list[np.ndarray]:
    """The turn of a subject that is ready; options as of `draw`. pool: what draws the frames, if there is one."""
    cameras = _frame(subject, [360.0 * k / frames for k in range(frames)], elevation_degrees)
    with contextlib.nullcontext(pool) if pool else _threads() as threads:
        return list(threads.map(lambda camera: draw(subject, camera, size, **options), cameras))


def _threads() -> ThreadPoolExecutor:
    """numpy lets go of the interpreter in its loops, so two threads draw nearly twice as fast."""
    return ThreadPoolExecutor(max_workers=2)


def draw(
    subject: Subject,
    camera: Camera,
    size: int,
    *,
    supersample: int = 2,
    background: tuple[int, int, int] | None = None,
    shadow: bool = False,
) -> np.ndarray:
    """One picture of a subject that is ready: (size, size, 4) uint8, sRGB with straight alpha."""
    wide = size * supersample
    samples, faces, shares = cover(camera.project(subject.vertices, wide), subject.faces, wide, cull=True)
    values = np.einsum("pk,pkc->pc", shares, np.take(subject.corner_values, faces, axis=0))
    if subject.texture is not None:
        values = np.concatenate([values[:, :4], sample_texture(subject.texture, values[:, 4:])], axis=1)

    # all values are linear, so samples are averaged first and shaded once a pixel
    edge = np.arange(wide) // supersample
    pixel = np.take((edge[:, None] * size + edge).ravel(), samples)
    count = np.bincount(pixel, minlength=size * size)
    alpha = (count / supersample**2).astype(np.float32)
    touched = np.flatnonzero(count)
    sums = [np.bincount(pixel, weights=column, minlength=size * size)[touched] for column in values.T]
    means = (np.stack(sums, axis=1) / count[touched, None]).astype(np.float32)
    normals = means[:, :3] @ camera.axes.T.astype(np.float32)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    encoded = np.zeros((size * size, 3), np.float32)
    if subject.shading == "normals":
        encoded[touched] = normals * 127.5 + 127.5
    else:
        encoded[touched] = _encode(_shoulder(shade(means[:, 4:], normals, means[:, 3])))

    if shadow:
        dark = np.zeros_like(alpha)
        open_pixels = np.flatnonzero(alpha < 1)
        dark[open_pixels] = draw_shadow(subject.shadow, camera, size, open_pixels) * (1 - alpha[open_pixels])
        encoded *= (alpha / np.maximum(alpha + dark, 1e-6))[:, None]
        alpha = alpha + dark
    if background is not None:
        paper = np.asarray(background, np.float32)
        encoded = encoded * alpha[:, None] + paper * (1 - alpha[:, None])
        alpha = np.ones_like(alpha)
    picture = np.concatenate([encoded, alpha[:, None] * 255], axis=1)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8).reshape(size, size, 4)


def sample_texture(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(k, 3) float32 colours of a (h, w, 3) float32 texture in linear light at uv (k, 2), blended between the four
    nearest texels; clamped at the border.
    """
    height, width = texture.shape[:2]
    x = np.clip(uv[:, 0] * width - 0.5, 0, width - 1)
    y = np.clip(uv[:, 1] * height - 0.5, 0, height - 1)
    left, top = x.astype(np.int64), y.astype(np.int64)
    fx, fy = (x - left)[:, None].astype(np.float32), (y - top)[:, None].astype(np.float32)
    texels = texture.reshape(-1, 3)
    above = top * width + left
    right = (left < width - 1).astype(np.int64)
    below = above + width * (top < height - 1)
    a, b, c, d = (np.take(texels, at, axis=0) for at in (above, above + right, below, below + right))
    upper, lower = a + (b - a) * fx, c + (d - c) * fx
    return upper + (lower - upper) * fy


def _check(size: int, largest: int, supersample: int) -> None:
    if not 16 <= size <= largest:
        raise ValueError(f"size must be 16 to {largest} pixels, not {size}")
    if not 1 <= supersample <= MAX_SUPERSAMPLE or size * supersample > MAX_DRAWN:
        raise ValueError(
            f"supersample must be 1 to {MAX_SUPERSAMPLE}, and with the size make {MAX_DRAWN} at most, not {supersample}"
        )


def _frame(subject: Subject, azimuths: Sequence[float], elevation_degrees: float) -> list[Camera]:
    return frame_points(subject.outline, list(azimuths), elevation_degrees)


def _outline(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The points that can be outermost in a picture; a stray vertex without a face is not drawn and takes no room."""
    used = np.zeros(len(vertices), bool)
    used[faces.ravel()] = True
    drawn = vertices[used]
    try:
        return drawn[ConvexHull(drawn).vertices]
    except QhullError:  # flat, so it has no hull of three dimensions
        return drawn


def _reduce(image: np.ndarray, limit: int) -> np.ndarray:
    """The texture, halved until neither side is above the limit."""
    while max(image.shape[:2]) > limit and min(image.shape[:2]) > 1:
        h, w = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
        quarters = [image[y:h:2, x:w:2].astype(np.uint16) for y in (0, 1) for x in (0, 1)]
        image = ((quarters[0] + quarters[1] + quarters[2] + quarters[3] + 2) // 4).astype(np.uint8)
    return image


def _to_linear() -> np.ndarray:
    """(256,) float32: sRGB value -> linear light (IEC 61966-2-1)."""
    value = np.arange(256) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _encode(linear: np.ndarray) -> np.ndarray:
    """Linear light 0 to 1 -> sRGB 0 to 255, not rounded."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _shoulder(light: np.ndarray) -> np.ndarray:
    """Bend what is brighter than 0.75 so that it nears 1 and never clips to a flat patch."""
    over = np.maximum(light - np.float32(0.75), 0)
    return np.where(over > 0, 0.75 + 0.25 * over / (over + np.float32(0.25)), light)
