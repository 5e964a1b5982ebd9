"""Distorted images by the textbook formula and scipy, which shares nothing with OpenCV."""

import numpy as np
from scipy.ndimage import map_coordinates

from fluoro_reg.geometry import CameraIntrinsics


def distorted_point(x: np.ndarray, y: np.ndarray, d: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return where a point (x, y) at focal length 1 appears: Brown's model with the rational radial term."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*d, *(0.0,) * 8)[:8]
    r2 = x**2 + y**2
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
        y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
    )


def undistorted_point(x: np.ndarray, y: np.ndarray, d: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the point that appears at (x, y), by fixed-point iteration."""
    found_x, found_y = x.copy(), y.copy()
    for _ in range(60):
        shown_x, shown_y = distorted_point(found_x, found_y, d)
        found_x, found_y = found_x + 0.7 * (x - shown_x), found_y + 0.7 * (y - shown_y)
    return found_x, found_y


def distort(ideal: np.ndarray, camera: CameraIntrinsics, margin: int, d: tuple[float, ...]) -> np.ndarray:
    """Return what a distorted camera sees, from an ideal image that is larger than it by `margin` pixels on each side."""
    v, u = np.mgrid[: camera.height, : camera.width].astype(float)
    x, y = undistorted_point((u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, d)
    coordinates = [y * camera.fy + camera.cy + margin, x * camera.fx + camera.cx + margin]
    return map_coordinates(ideal, coordinates, order=3, mode="nearest")
