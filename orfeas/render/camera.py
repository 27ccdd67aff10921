"""Where the eye is: orthographic and perspective cameras, and how far off they must stand to see all of a mesh.

World frame: right-handed, Y up, front +Z. Azimuth 0 looks at the front; a growing azimuth walks to the object's +X
side; a growing elevation climbs. Pictures have x to the right and y down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

FIELD_OF_VIEW_DEGREES = 24.0  # of a perspective camera: a short telephoto, as for product photographs


def view_axes(azimuth_degrees: float, elevation_degrees: float) -> np.ndarray:
    """(3, 3) float64 rows: right, up and back (from the target to the eye) of a camera, in the world frame."""
    if not (math.isfinite(azimuth_degrees) and -90 <= elevation_degrees <= 90):
        raise ValueError("the azimuth must be finite and the elevation between -90 and 90 degrees")
    azimuth, elevation = math.radians(azimuth_degrees), math.radians(elevation_degrees)
    back = (
        math.cos(elevation) * math.sin(azimuth),
        math.sin(elevation),
        math.cos(elevation) * math.cos(azimuth),
    )
    right = (math.cos(azimuth), 0.0, -math.sin(azimuth))
    return np.array([right, np.cross(back, right), back])


@dataclass(frozen=True)
class Camera:
    """axes: rows right, up, back. target: (3,) point in the middle of the picture. half_height: what the picture
    shows above and below the target, at the target's distance, in world units. distance: from the eye to the target
    for perspective, None for an orthographic camera.
    """

    axes: np.ndarray
    target: np.ndarray
    half_height: float
    distance: float | None = None

    @property
    def eye_direction(self) -> np.ndarray:
        """(3,) unit vector from the target to the eye."""
        return self.axes[2]

    def project(self, points: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
        """(n, 3) points -> (n, 3) orthographic or (n, 4) perspective positions, as `rasterize` takes them."""
        height, width = (size, size) if isinstance(size, int | np.integer) else size
        axes = self.axes.astype(points.dtype)
        seen = (points - self.target.astype(points.dtype)) @ axes.T
        scale = height / 2 / self.half_height
        if self.distance is None:
            depth = -seen[:, 2]
            return np.stack([width / 2 + scale * seen[:, 0], height / 2 - scale * seen[:, 1], depth], axis=1)
        away = self.distance - seen[:, 2]
        # a point behind the eye has no place on screen; a w below 0 tells the rasterizer to leave it out
        safe = np.where(away > 1e-6 * self.distance, away, 1.0)
        zoom = scale * self.distance / safe
        x, y = width / 2 + zoom * seen[:, 0], height / 2 - zoom * seen[:, 1]
        return np.stack([x, y, -1.0 / safe, np.where(safe == away, away, -1.0)], axis=1).astype(points.dtype)

    def rays(self, x: np.ndarray, y: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Origins and directions (n, 3) of the rays through pixel positions x, y (n,) of a square picture."""
        scale = self.half_height * 2 / size
        flat = np.stack([(x - size / 2) * scale, (size / 2 - y) * scale, np.zeros_like(x)], axis=1)
        plane = self.target + flat @ self.axes
        if self.distance is None:
            return plane, np.broadcast_to(-self.axes[2], plane.shape)
        eye = self.target + self.distance * self.axes[2]
        return np.broadcast_to(eye, plane.shape), plane - eye


def frame_points(
    points: np.ndarray,
    azimuths_degrees: list[float],
    elevation_degrees: float,
    *,
    margin: float = 1.12,
    field_of_view_degrees: float | None = FIELD_OF_VIEW_DEGREES,
) -> list[Camera]:
    """One camera per azimuth, all at the same distance from the same target, that see all the points.

    margin: how much larger than needed the picture's field is. field_of_view_degrees: of a perspective camera, None
    for orthographic. With one azimuth the subject is centred in the picture; with more it turns about its own axis.
    Raises ValueError if there are no points or the margin or the field of view makes no sense.
    """
    if len(points) == 0 or not azimuths_degrees:
        raise ValueError("nothing to frame")
    if margin < 1 or not (field_of_view_degrees is None or 1 <= field_of_view_degrees <= 120):
        raise ValueError("the margin must be at least 1 and the field of view 1 to 120 degrees")
    points = np.asarray(points, dtype=np.float64)
    target = (points.min(axis=0) + points.max(axis=0)) / 2
    axes = [view_axes(azimuth, elevation_degrees) for azimuth in azimuths_degrees]
    radius = float(np.linalg.norm(points - target, axis=1).max()) or 1.0
    if field_of_view_degrees is None:
        cameras = [Camera(one, target, radius) for one in axes]
    else:
        slope = math.tan(math.radians(field_of_view_degrees) / 2)
        away = radius / math.sin(math.atan(slope))
        cameras = [Camera(one, target, away * slope, away) for one in axes]
    for _ in range(2):  # centring moves the fit a little, so do both again
        spans = [_span(camera, points) for camera in cameras]
        fill = max(max(high[0], -low[0], high[1], -low[1]) for low, high in spans)
        if len(cameras) == 1:
            (low, high) = spans[0]
            middle = (low + high) / 2 * cameras[0].half_height
            target = target + middle[0] * axes[0][0] + middle[1] * axes[0][1]
            fill = max((high - low) / 2)
        fill = fill or 1.0
        cameras = [replace(camera, target=target, half_height=camera.half_height * fill) for camera in cameras]
    return [replace(camera, half_height=camera.half_height * margin) for camera in cameras]


def _span(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest x and y (up) of the points in the picture, whose own edges are at -1 and 1."""
    placed = camera.project(points, 2)[:, :2] * (1, -1) + (-1, 1)
    return placed.min(axis=0), placed.max(axis=0)
