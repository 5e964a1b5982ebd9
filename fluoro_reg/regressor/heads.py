"""Heads: three ways to turn the outputs of a network into a pose. Outputs of zero give the reference view.

A network with three outputs cannot cover SO(3) with a continuous map; one with six or ten can. `se3-log` is DiffPose's choice
and is suitable for rotations of less than 180 degrees from the reference; the others cover all rotations, from AP to PA.

Where the outputs include the position of the pivot, they are what an image shows: the direction to the pivot, as a fraction of
half the field of view, and the logarithm of its depth.

Sources: Y. Zhou et al., "On the continuity of rotation representations in neural networks", CVPR 2019 (6-D); A. J. Hanson, S.
M. Hanson, "Exploring the adjugate matrix approach to quaternion pose extraction", arXiv 2205.09116 (adjugate).
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fluoro_reg.geometry import RigidTransform, retract, so3
from fluoro_reg.networks.reference_view import ReferenceView

LOG_DEPTH_SCALE = 0.2  # change of the logarithm of depth per unit of the depth output


class AbstractHead(ABC):
    """A map from network outputs to poses; final subclasses are the entries of `HEADS`. `size` is the number of outputs."""

    size: int

    @abstractmethod
    def pose(self, outputs: Float[Tensor, "batch size"], reference: ReferenceView) -> RigidTransform:
        """Return `camera_from_patient`, differentiable with respect to the outputs."""


class SE3LogHead(AbstractHead):
    """A twist from the reference view about the pivot; translations in units of half the field of view, rotations in rad."""

    size = 6

    def pose(self, outputs: Float[Tensor, "batch size"], reference: ReferenceView) -> RigidTransform:
        reference_pose = reference.camera_from_patient.to(outputs)
        twist = torch.cat([outputs[:, :3] * reference.half_field_of_view_mm, outputs[:, 3:]], dim=-1)
        return retract(reference_pose, twist, reference.pivot.to(outputs))


class Rotation6DHead(AbstractHead):
    """The first two columns of a rotation matrix, made orthonormal by the Gram-Schmidt process, and the pivot's position."""

    size = 9

    def pose(self, outputs: Float[Tensor, "batch size"], reference: ReferenceView) -> RigidTransform:
        first = normalize(outputs[:, 0:3] + _unit_vector(0, 3, outputs), dim=-1)
        second = outputs[:, 3:6] + _unit_vector(1, 3, outputs)
        second = normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
        rotation = torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)
        return _pose_from(rotation, outputs[:, 6:], reference)


class QuaternionAdjugateHead(AbstractHead):
    """The symmetric 4 x 4 matrix q q^T of a quaternion q (w, x, y, z), and the pivot's position; the largest column gives q."""

    size = 13

    def pose(self, outputs: Float[Tensor, "batch size"], reference: ReferenceView) -> RigidTransform:
        row, column = torch.triu_indices(4, 4, device=outputs.device)
        upper = outputs.new_zeros(len(outputs), 4, 4)
        upper[:, row, column] = outputs[:, :10]
        matrix = upper + upper.triu(1).mT
        matrix = matrix + torch.diag(_unit_vector(0, 4, outputs))
        largest = matrix.square().sum(-2).argmax(-1)
        quaternion = matrix.gather(-1, largest[:, None, None].expand(-1, 4, 1)).squeeze(-1)
        return _pose_from(rotation_from_quaternion(normalize(quaternion, dim=-1)), outputs[:, 10:], reference)


HEADS: dict[str, type[AbstractHead]] = {
    "quaternion-adjugate": QuaternionAdjugateHead,
    "rotation-6d": Rotation6DHead,
    "se3-log": SE3LogHead,
}


def rotation_from_quaternion(wxyz: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the rotation matrix of a unit quaternion (w, x, y, z): `1 + 2 w [v] + 2 [v]^2`."""
    w, cross = wxyz[..., :1, None], so3.hat(wxyz[..., 1:])
    return torch.eye(3, dtype=wxyz.dtype, device=wxyz.device) + 2 * w * cross + 2 * cross @ cross


def _unit_vector(axis: int, size: int, like: Tensor) -> Float[Tensor, "size"]:
    """Return a unit vector along an axis, made on the device of `like`: a copy from the CPU would wait for the GPU."""
    vector = like.new_zeros(size)
    vector[axis].fill_(1.0)
    return vector


def _pose_from(
    rotation: Float[Tensor, "batch 3 3"], position: Float[Tensor, "batch 3"], reference: ReferenceView
) -> RigidTransform:
    """Rotate the reference view about the camera's axes and move the pivot to the `position` in network outputs."""
    camera_rotation = rotation @ reference.camera_from_patient.rotation.to(rotation)
    pivot = reference.pivot.to(rotation)
    reference_position = reference.camera_from_patient.to(rotation).apply(pivot[None])[0]
    depth = reference_position[2] * torch.exp(LOG_DEPTH_SCALE * position[:, 2])
    half_field = reference.half_field_of_view_mm / reference.depth_mm
    direction = reference_position[:2] / reference_position[2] + position[:, :2] * half_field
    pivot_in_camera = torch.cat([direction * depth[:, None], depth[:, None]], dim=-1)
    return RigidTransform(camera_rotation, pivot_in_camera - camera_rotation @ pivot)
