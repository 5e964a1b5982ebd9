"""How far an estimated pose is from the true one, as a surgeon feels it: at points of the anatomy, in the camera's axes.

One view sees little along its rays, so an error is told in parts: in the image plane, where a registration is good, and in
depth, where it is not. Definitions follow van de Kraats et al., "Standardized evaluation methodology for 2-D-3-D registration",
IEEE TMI 24(9), 2005: all distances are in 3-D at the targets, none are reprojected.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, so3


@dataclass(frozen=True, slots=True)
class TargetErrors:
    """Errors of one pose. With d = estimated(p) - true(p) in camera axes and means over the target points p:

    `mtre_mm` is the mean of |d|, `in_plane_mm` of |(dx, dy)|, `depth_mm` of |dz|. `rotation_deg` is the geodesic angle between
    the two rotations and `translation_mm` the length of d at the points' centroid (at the patient's origin, which may lie
    anywhere, it would mean nothing).
    """

    mtre_mm: float
    in_plane_mm: float
    depth_mm: float
    rotation_deg: float
    translation_mm: float


def target_registration_errors(
    estimated: RigidTransform, truth: RigidTransform, points_patient: Float[Tensor, "n 3"]
) -> TargetErrors:
    """The errors of `estimated` against `truth`, both `camera_from_patient`, at points in patient mm."""
    points = points_patient.double()
    difference = estimated.apply(points) - truth.apply(points)
    centroid = difference.mean(0)  # a rigid motion is affine: the centroid's error is the mean of the errors
    return TargetErrors(
        mtre_mm=torch.linalg.vector_norm(difference, dim=-1).mean().item(),
        in_plane_mm=torch.linalg.vector_norm(difference[:, :2], dim=-1).mean().item(),
        depth_mm=difference[:, 2].abs().mean().item(),
        rotation_deg=math.degrees(so3.angle(estimated.rotation @ truth.rotation.mT).item()),
        translation_mm=torch.linalg.vector_norm(centroid).item(),
    )
