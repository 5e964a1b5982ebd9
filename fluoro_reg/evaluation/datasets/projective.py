"""Conversion of the projective cameras of data sets, with their images, to the camera of this package.

The data sets define pixel ~ K X with X = E x. With negative focal lengths in K, z points from the detector to the source, and
visible points have z < 0. The camera of this package has z along the rays. Reversing z alone would make the pose a reflection:
right-handed axes along columns, rows and towards the source mean that the image is stored as seen from the other side of the
detector. The columns of the image are therefore mirrored, which makes the pose a rotation again. In both conventions, pixel
(0, 0) is the centre of the first pixel.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform


@dataclass(frozen=True, slots=True)
class DatasetView:
    """An image of a data set with camera and true pose in the frames of this package; pixel values are those of the file."""

    pixels: Float32[np.ndarray, "height width"]
    intrinsics: CameraIntrinsics
    camera_from_patient: RigidTransform

    def without_border(self, border_px: int) -> "DatasetView":
        """Return the view cropped by `border_px` pixels at each edge.

        Raises:
            InputError: No pixel would be left.
        """
        height, width = self.pixels.shape
        if 2 * border_px >= min(height, width):
            raise InputError(f"a border of {border_px} px leaves no pixels of a {width} x {height} image; give a smaller one")
        inner = slice(border_px, -border_px or None)
        camera = self.intrinsics.cropped(border_px, border_px, width - 2 * border_px, height - 2 * border_px)
        return DatasetView(self.pixels[inner, inner], camera, self.camera_from_patient)


def project_points(
    points: Float[np.ndarray, "n 3"], intrinsic: Float[np.ndarray, "3 3"], camera_from_points: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "n 2"]:
    """Return (column, row) of points projected by a camera of the file."""
    homogeneous = (points @ camera_from_points[:3, :3].T + camera_from_points[:3, 3]) @ intrinsic.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def convert_view(
    pixels: Float32[np.ndarray, "height width"],
    intrinsic: Float[np.ndarray, "3 3"],
    camera_from_patient: Float[np.ndarray, "4 4"],
    spacing_mm: tuple[float, float],
    where: str,
    upside_down: bool = False,
) -> DatasetView:
    """Convert an image with its camera and pose to the frames of this package.

    Args:
        pixels: The image of the file.
        intrinsic: K of the file.
        camera_from_patient: Pose of the file, as a 4 x 4 matrix.
        spacing_mm: Pixel spacing (column, row).
        where: Name of the view for error messages.
        upside_down: Rotate the image by 180 degrees.

    Raises:
        InputError: K has skew or focal lengths of different signs, or the pose is not rigid.
    """
    height, width = pixels.shape
    fx, fy = float(intrinsic[0, 0]), float(intrinsic[1, 1])
    if fx * fy <= 0:
        raise InputError(f"the focal lengths of {where} must have the same sign, got {fx:.1f} and {fy:.1f} px")
    along_rays = np.diag([1.0, 1.0, np.sign(fx), 1.0]) @ camera_from_patient
    mirrored = np.linalg.det(along_rays[:3, :3]) < 0
    sign = -1.0 if upside_down else 1.0
    flip_columns, flip_rows = mirrored != upside_down, upside_down
    pose = np.diag([-sign if mirrored else sign, sign, 1.0, 1.0]) @ along_rays
    k = np.array(intrinsic, dtype=np.float64)
    k[0, 0], k[1, 1] = abs(fx), abs(fy)
    if flip_columns:
        pixels, k[0, 2] = pixels[:, ::-1], width - 1 - k[0, 2]
    if flip_rows:
        pixels, k[1, 2] = pixels[::-1], height - 1 - k[1, 2]
    distance = (abs(fx) * spacing_mm[0] + abs(fy) * spacing_mm[1]) / 2
    camera = CameraIntrinsics.from_k(width, height, k.ravel().tolist(), distance)
    return DatasetView(pixels, camera, RigidTransform.from_matrix(pose, f"the pose of {where}"))
