"""The opposite view: the C-arm rotated to look along the same rays from the other side of the patient.

Line integrals do not depend on the direction of a ray, so the opposite view is the mirror image, except for perspective. A
network that has learned the views from one side can therefore be used for those from the other: it is given the mirror image.
It does not have to distinguish front from back, which is the hardest thing to see in an X-ray. Instead, both candidates are
registered.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform

_ROTATION_DIAGONAL = (-1.0, 1.0, -1.0)  # half a turn about the camera's y axis reverses the optical axis
_MIRROR = (-1.0, 1.0, 1.0)


def opposite_view(camera_from_patient: RigidTransform, pivot: Float[Tensor, "3"]) -> RigidTransform:
    """Return the pose of the opposite view.

    Its image is nearly the mirror image, with the columns reversed about the principal point. The function is its own inverse.

    Args:
        camera_from_patient: one pose, or a batch.
        pivot: the point (mm, patient frame) that keeps its depth and whose position in the image is mirrored.
    """
    rotation, pivot = camera_from_patient.rotation, pivot.to(camera_from_patient.translation)
    pivot_in_camera = camera_from_patient.apply(pivot[None]).squeeze(-2) * rotation.new_tensor(_MIRROR)
    rotation = rotation.new_tensor(_ROTATION_DIAGONAL)[:, None] * rotation
    return RigidTransform(rotation, pivot_in_camera - rotation @ pivot)


def opposite_view_covariance(
    camera_from_patient: RigidTransform, covariance: Float[Tensor, "*batch 6 6"]
) -> Float[Tensor, "*batch 6 6"]:
    """Return the covariance of the opposite view's twist, given the covariance of the view's twist.

    Both twists are in patient axes about the pivot (mm, rad). Translations are mirrored in depth; rotations stay as they are.
    """
    rotation = camera_from_patient.rotation.to(covariance)
    mirrored = rotation.mT @ (rotation.new_tensor([1.0, 1.0, -1.0])[:, None] * rotation)
    change = torch.eye(6).to(covariance).repeat(*covariance.shape[:-2], 1, 1)
    change[..., :3, :3] = mirrored
    return change @ covariance @ change.mT


def is_opposite_view(camera_from_patient: RigidTransform, reference_from_patient: RigidTransform) -> Bool[Tensor, "*batch"]:
    """Return whether the optical axis of each pose points against that of the reference."""
    return (camera_from_patient.rotation[..., 2, :] * reference_from_patient.rotation[2].to(camera_from_patient.rotation)).sum(
        -1
    ) < 0


def opposite_view_where(opposite: Bool[Tensor, "batch"], poses: RigidTransform, pivot: Float[Tensor, "3"]) -> RigidTransform:
    """Replace the poses where `opposite` is true by their opposite views; leave the others unchanged."""
    replacements = opposite_view(poses, pivot)
    selected = opposite.to(poses.translation.device)
    return RigidTransform(
        torch.where(selected[:, None, None], replacements.rotation, poses.rotation),
        torch.where(selected[:, None], replacements.translation, poses.translation),
    )
