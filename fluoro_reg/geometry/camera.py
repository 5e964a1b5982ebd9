"""`CameraIntrinsics`: the pinhole camera of a C-arm, with the pixel-centre convention of OpenCV and ROS's CameraInfo."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.errors import InputError


@dataclass(frozen=True, slots=True)
class CameraIntrinsics:
    """Image size, focal lengths and principal point in pixels, and the source-to-detector distance in mm (None: unknown).

    `fx = source_to_detector_mm / column spacing`. Pixels need not be square, and the principal point need not be central.

    Example:
        >>> import torch
        >>> camera = CameraIntrinsics(256, 256, fx=870.0, fy=870.0, cx=127.5, cy=127.5, source_to_detector_mm=1020.0)
        >>> camera.project(torch.tensor([[0.0, 100.0, 870.0]])).tolist()
        [[127.5, 227.5]]
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    source_to_detector_mm: float | None = None

    @staticmethod
    def from_k(width: int, height: int, k: Sequence[float], source_to_detector_mm: float | None = None) -> "CameraIntrinsics":
        """Create the camera from the row-major 3 x 3 matrix K of camera.json or CameraInfo.

        Raises:
            InputError: K is not finite, has skew, or has no positive focal lengths, or a size or distance is not positive.
        """
        if len(k) != 9 or not all(isinstance(x, (int, float)) and math.isfinite(x) for x in k):
            raise InputError("K must contain nine finite numbers (row-major fx 0 cx 0 fy cy 0 0 1); calibrate the camera")
        if k[0] <= 0 or k[4] <= 0:
            raise InputError(f"K must have positive focal lengths, got fx = {k[0]} and fy = {k[4]}; calibrate the camera")
        if max(abs(k[1]), abs(k[3]), abs(k[6]), abs(k[7]), abs(k[8] - 1)) > 1e-6:
            raise InputError("K must have the form fx 0 cx 0 fy cy 0 0 1 without skew; rectify the image first")
        if width <= 0 or height <= 0:
            raise InputError(f"the image size must be positive, got {width} x {height}")
        if source_to_detector_mm is not None and not (math.isfinite(source_to_detector_mm) and source_to_detector_mm > 0):
            raise InputError(f"source_to_detector_mm must be positive, got {source_to_detector_mm}")
        return CameraIntrinsics(width, height, k[0], k[4], k[2], k[5], source_to_detector_mm)

    @property
    def k(self) -> list[float]:
        """Row-major 3 x 3 matrix K, as in camera.json and CameraInfo."""
        return [self.fx, 0.0, self.cx, 0.0, self.fy, self.cy, 0.0, 0.0, 1.0]

    def matrix(self) -> Float[Tensor, "3 3"]:
        """Return K in float64, which maps camera coordinates to homogeneous pixels."""
        return torch.tensor(self.k, dtype=torch.float64).reshape(3, 3)

    def project(self, points_camera: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 2"]:
        """Project points in camera coordinates (mm, z > 0) to pixels (u, v)."""
        x, y, z = points_camera.unbind(-1)
        return torch.stack([self.fx * x / z + self.cx, self.fy * y / z + self.cy], dim=-1)

    def cropped(self, left: int, top: int, width: int, height: int) -> "CameraIntrinsics":
        """Return the camera of the window whose first pixel is (left, top)."""
        return dataclasses.replace(self, width=width, height=height, cx=self.cx - left, cy=self.cy - top)

    def resized(self, width: int, height: int) -> "CameraIntrinsics":
        """Return the camera of the same field of view with another number of pixels. The edges of the image stay in place."""
        sx, sy = width / self.width, height / self.height
        cx, cy = (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5
        return dataclasses.replace(self, width=width, height=height, fx=self.fx * sx, fy=self.fy * sy, cx=cx, cy=cy)

    def binned(self, factor: int) -> "CameraIntrinsics":
        """Return the camera of an image averaged over blocks of factor x factor pixels; incomplete blocks are dropped."""
        whole = self.cropped(0, 0, self.width // factor * factor, self.height // factor * factor)
        return whole.resized(self.width // factor, self.height // factor)
