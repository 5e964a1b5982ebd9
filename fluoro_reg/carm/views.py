"""Views of a simulated C-arm: its camera, random views, and the landmarks that a view shows.

The views are those of an operation: near AP, some of them oblique, and aimed at the skeleton. They keep away from the ends of
the CT, where an X-ray would show a truncated patient. Landmarks lie in bone that the image shows, because an error far outside
the image is an extrapolation.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.dimensions import DETECTOR_MM, SOURCE_TO_DETECTOR_MM, SOURCE_TO_OBJECT_MM
from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform

BONE_SAMPLES = 4000  # bone points from which landmarks are chosen
TARGETS = 40  # maximum number of landmarks per view
_MINIMUM_TARGETS = 4


def carm_camera(size_px: int, detector_mm: float = DETECTOR_MM) -> CameraIntrinsics:
    """Return the camera of a square detector of `size_px` x `size_px` pixels."""
    focal, centre = SOURCE_TO_DETECTOR_MM * size_px / detector_mm, (size_px - 1) / 2
    return CameraIntrinsics(size_px, size_px, focal, focal, centre, centre, SOURCE_TO_DETECTOR_MM)


def random_view(aim_patient: Float[Tensor, "3"], oblique_fraction: float, generator: torch.Generator) -> RigidTransform:
    """Return `camera_from_patient` of a random view.

    A fraction `oblique_fraction` of the views is oblique, by 25 to 45 degrees to either side; the others lie within 15 degrees
    of AP. Tilt is up to 12 degrees, roll up to 8 degrees, the shift of the aim up to 12 mm along each axis.
    """

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand(1, generator=generator).item()

    primary = uniform(-15, 15)
    if uniform(0, 1) < oblique_fraction:
        primary = uniform(25, 45) * (1 if uniform(0, 1) < 0.5 else -1)
    centre = aim_patient + torch.tensor([uniform(-12, 12) for _ in range(3)], dtype=torch.float64)
    return view_pose(centre, primary, uniform(-12, 12), uniform(-8, 8), SOURCE_TO_OBJECT_MM * uniform(0.95, 1.05))


def targets_in_view(
    points_patient: Float[Tensor, "n 3"], camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics, maximum: int
) -> Float[Tensor, "m 3"]:
    """Return the first `maximum` points whose projections lie within the image.

    Raises:
        InputError: Fewer than four points do.
    """
    points = points_patient.double()
    pixels = intrinsics.project(camera_from_patient.apply(points))
    size = torch.tensor([intrinsics.width - 1, intrinsics.height - 1])
    visible = points[((pixels >= 0) & (pixels <= size)).all(-1)]
    if len(visible) < _MINIMUM_TARGETS:
        raise InputError("a view shows too little bone to measure its error; give a CT of the region of interest")
    return visible[:maximum]
