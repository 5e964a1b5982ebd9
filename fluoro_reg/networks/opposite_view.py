"""The same shadow from the other side.

Rays know no direction: turned round to look along the same lines from behind, a C-arm sees the mirror image, but for the
perspective. So what a network has learned of the views from one side serves for those from the other, where it is shown the
mirror image: it need not tell front from back, the hardest thing to see in an X-ray, and both answers are tried.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform

_AXES = (-1.0, 1.0, -1.0)  # the camera turned about its y axis, which looks along the rays the other way
_MIRROR = (-1.0, 1.0, 1.0)


def opposite_view(camera_from_patient: RigidTransform, pivot: Float[Tensor, "3"]) -> RigidTransform:
    """The view along the same lines from the other side, with the pivot at the mirrored place and as deep (mm, patient).

    Its image is nearly the mirror image, columns reversed about the principal point. Twice, it is the view itself.
    """
    rotation, pivot = camera_from_patient.rotation, pivot.to(camera_from_patient.translation)
    at = camera_from_patient.apply(pivot[None]).squeeze(-2) * rotation.new_tensor(_MIRROR)
    rotation = rotation.new_tensor(_AXES)[:, None] * rotation
    return RigidTransform(rotation, at - rotation @ pivot)


def opposite_view_covariance(
    camera_from_patient: RigidTransform, covariance: Float[Tensor, "*batch 6 6"]
) -> Float[Tensor, "*batch 6 6"]:
    """The covariance of a twist in patient axes about the pivot (mm, rad) after `opposite_view` was applied to its pose.

    Translations are mirrored in depth, rotations stay as they are.
    """
    rotation = camera_from_patient.rotation.to(covariance)
    mirrored = rotation.mT @ (rotation.new_tensor([1.0, 1.0, -1.0])[:, None] * rotation)
    change = torch.eye(6).to(covariance).repeat(*covariance.shape[:-2], 1, 1)
    change[..., :3, :3] = mirrored
    return change @ covariance @ change.mT


def is_opposite_view(camera_from_patient: RigidTransform, reference_from_patient: RigidTransform) -> Bool[Tensor, "*batch"]:
    """Whether views look against the reference's direction rather than along it."""
    return (camera_from_patient.rotation[..., 2, :] * reference_from_patient.rotation[2].to(camera_from_patient.rotation)).sum(
        -1
    ) < 0


def opposite_view_where(behind: Bool[Tensor, "batch"], poses: RigidTransform, pivot: Float[Tensor, "3"]) -> RigidTransform:
    """`opposite_view` of the poses marked, the others as they are."""
    turned = opposite_view(poses, pivot)
    marked = behind.to(poses.translation.device)
    return RigidTransform(
        torch.where(marked[:, None, None], turned.rotation, poses.rotation),
        torch.where(marked[:, None], turned.translation, poses.translation),
    )
