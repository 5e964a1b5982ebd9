"""From the cameras of computer vision's text books, as data sets store them, to ours; the image follows its camera.

A file has pixel ~ K X, X = E x, and K often with negative focal lengths: then z points from the detector to the source and
what is seen has z < 0. Ours has z along the rays. Turning z round alone would make the pose a reflection, which is no accident:
right-handed axes along columns, rows and towards the source mean that the image was stored as seen from behind the detector.
So its columns are mirrored, and the pose is a rotation again. Pixel (0, 0) is the centre of the first pixel, there and here.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform


@dataclass(frozen=True, slots=True)
class DatasetView:
    """An image with its camera and pose, in the project's frames; `pixels` as the file has them but for flips."""

    pixels: Float32[np.ndarray, "height width"]
    intrinsics: CameraIntrinsics
    camera_from_patient: RigidTransform

    def without_border(self, border_px: int) -> "DatasetView":
        """The view without so many pixels at each edge."""
        height, width = self.pixels.shape
        if 2 * border_px >= min(height, width):
            raise InputError(f"a border of {border_px} px leaves nothing of an image of {width} x {height}; give a smaller one")
        inner = slice(border_px, -border_px or None)
        camera = self.intrinsics.cropped(border_px, border_px, width - 2 * border_px, height - 2 * border_px)
        return DatasetView(self.pixels[inner, inner], camera, self.camera_from_patient)


def pixels_of(
    points: Float[np.ndarray, "n 3"], intrinsic: Float[np.ndarray, "3 3"], camera_from_points: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "n 2"]:
    """(column, row) at which the file's own camera sees points."""
    homogeneous = (points @ camera_from_points[:3, :3].T + camera_from_points[:3, 3]) @ intrinsic.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def optical_view(
    pixels: Float32[np.ndarray, "height width"],
    intrinsic: Float[np.ndarray, "3 3"],
    camera_from_patient: Float[np.ndarray, "4 4"],
    spacing_mm: tuple[float, float],
    where: str,
    upside_down: bool = False,
) -> DatasetView:
    """The file's image, K and 4 x 4 pose in the project's frames; `spacing_mm` is (column, row).

    `upside_down` turns the image by 180 degrees. `where` names the view in refusals.

    Raises:
        InputError: a K with skew or with focal lengths of two signs, or a pose that is no rigid motion.
    """
    height, width = pixels.shape
    fx, fy = float(intrinsic[0, 0]), float(intrinsic[1, 1])
    if fx * fy <= 0:
        raise InputError(f"the focal lengths of {where} must have one sign, got {fx:.1f} and {fy:.1f} px")
    along_rays = np.diag([1.0, 1.0, np.sign(fx), 1.0]) @ camera_from_patient
    mirrored = np.linalg.det(along_rays[:3, :3]) < 0
    turned = -1.0 if upside_down else 1.0
    flip_columns, flip_rows = mirrored != upside_down, upside_down
    pose = np.diag([-turned if mirrored else turned, turned, 1.0, 1.0]) @ along_rays
    k = np.array(intrinsic, dtype=np.float64)
    k[0, 0], k[1, 1] = abs(fx), abs(fy)
    if flip_columns:
        pixels, k[0, 2] = pixels[:, ::-1], width - 1 - k[0, 2]
    if flip_rows:
        pixels, k[1, 2] = pixels[::-1], height - 1 - k[1, 2]
    distance = (abs(fx) * spacing_mm[0] + abs(fy) * spacing_mm[1]) / 2
    camera = CameraIntrinsics.from_k(width, height, k.ravel().tolist(), distance)
    return DatasetView(pixels, camera, RigidTransform.from_matrix(pose, f"the pose of {where}"))
