"""Where a simulated C-arm stands: its camera, what it looks at, and the bone it sees.

Views are what a surgeon takes: about AP, with obliques, aimed at the skeleton and kept off the CT's cut ends, beyond which an
X-ray would show a patient who stops. Target points lie in the bone that the image shows, for an error far outside the image is
an extrapolation.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.dimensions import DETECTOR_MM, SOURCE_TO_DETECTOR_MM, SOURCE_TO_OBJECT_MM
from fluoro_reg.carm.pose_sampling import view_pose
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform

BONE_SAMPLES, TARGETS = 4000, 40  # points of bone to choose from, and how many of those in view are landmarks
_FEWEST_TARGETS = 4


def carm_camera(size_px: int) -> CameraIntrinsics:
    """A square detector of so many pixels."""
    focal, middle = SOURCE_TO_DETECTOR_MM * size_px / DETECTOR_MM, (size_px - 1) / 2
    return CameraIntrinsics(size_px, size_px, focal, focal, middle, middle, SOURCE_TO_DETECTOR_MM)


def random_view(aim_patient: Float[Tensor, "3"], oblique_fraction: float, generator: torch.Generator) -> RigidTransform:
    """A view within 15 degrees of AP or, for a share, an oblique of 25 to 45; up to 12 degrees of tilt and 8 of roll."""

    def even(low: float, high: float) -> float:
        return low + (high - low) * torch.rand(1, generator=generator).item()

    primary = even(-15, 15)
    if even(0, 1) < oblique_fraction:
        primary = even(25, 45) * (1 if even(0, 1) < 0.5 else -1)
    centre = aim_patient + torch.tensor([even(-12, 12) for _ in range(3)], dtype=torch.float64)
    return view_pose(centre, primary, even(-12, 12), even(-8, 8), SOURCE_TO_OBJECT_MM * even(0.95, 1.05))


def targets_in_view(
    points_patient: Float[Tensor, "n 3"], camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics, most: int
) -> Float[Tensor, "m 3"]:
    """The first `most` points that fall on the image.

    Raises:
        InputError: hardly any does.
    """
    points = points_patient.double()
    pixels = intrinsics.project(camera_from_patient.apply(points))
    size = torch.tensor([intrinsics.width - 1, intrinsics.height - 1])
    seen = points[((pixels >= 0) & (pixels <= size)).all(-1)]
    if len(seen) < _FEWEST_TARGETS:
        raise InputError("a view shows hardly any bone, so its error cannot be told; give a CT of the region of interest")
    return seen[:most]
