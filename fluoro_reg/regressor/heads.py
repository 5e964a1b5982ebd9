"""From a network's numbers to a pose: three ways, by name. All numbers zero is the reference view.

Rotations in R^3 have no continuous map onto SO(3) that a network could learn everywhere; six or ten numbers have. `se3-log` is
DiffPose's own and good for less than a half turn about the reference; the others turn all the way round, from AP to PA.

Where the network says where the pivot is, it says what an image shows: the direction in which it lies, as a share of the half
field of view, and the logarithm of its depth. Sources: Y. Zhou et al., "On the continuity of rotation representations in neural
networks", CVPR 2019 (6-D); A. J. Hanson, S. M. Hanson, "Exploring the adjugate matrix approach to quaternion pose extraction",
arXiv 2205.09116 (adjugate).
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fluoro_reg.geometry import RigidTransform, retract, so3
from fluoro_reg.networks.reference_view import ReferenceView

DEPTH_FRACTION = 0.2  # what one unit of the depth's number is worth, in the logarithm


class AbstractHead(ABC):
    """Final subclasses are the entries of `HEADS`; `size` is how many numbers they read."""

    size: int

    @abstractmethod
    def pose(self, numbers: Float[Tensor, "batch size"], reference: ReferenceView) -> RigidTransform:
        """`camera_from_patient`, differentiable wherever the numbers are."""


class SE3LogHead(AbstractHead):
    """A twist about the pivot from the reference view: mm in half fields, rad."""

    size = 6

    def pose(self, numbers: Float[Tensor, "batch size"], reference: ReferenceView) -> RigidTransform:
        start = reference.camera_from_patient.to(numbers)
        twist = torch.cat([numbers[:, :3] * reference.half_field_mm, numbers[:, 3:]], dim=-1)
        return retract(start, twist, reference.pivot.to(numbers))


class Rotation6DHead(AbstractHead):
    """Two columns of a rotation, made orthonormal by Gram and Schmidt."""

    size = 9

    def pose(self, numbers: Float[Tensor, "batch size"], reference: ReferenceView) -> RigidTransform:
        first = normalize(numbers[:, 0:3] + numbers.new_tensor([1.0, 0.0, 0.0]), dim=-1)
        second = numbers[:, 3:6] + numbers.new_tensor([0.0, 1.0, 0.0])
        second = normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
        turn = torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)
        return _placed(turn, numbers[:, 6:], reference)


class QuaternionAdjugateHead(AbstractHead):
    """The symmetric 4 x 4 matrix q q^T of a quaternion (w, x, y, z); its largest column, normalised, is q."""

    size = 13

    def pose(self, numbers: Float[Tensor, "batch size"], reference: ReferenceView) -> RigidTransform:
        row, column = torch.triu_indices(4, 4)
        upper = numbers.new_zeros(len(numbers), 4, 4)
        upper[:, row, column] = numbers[:, :10]
        matrix = upper + upper.triu(1).mT
        matrix = matrix + torch.diag(numbers.new_tensor([1.0, 0.0, 0.0, 0.0]))
        largest = matrix.square().sum(-2).argmax(-1)
        quaternion = matrix.gather(-1, largest[:, None, None].expand(-1, 4, 1)).squeeze(-1)
        return _placed(rotation_of_quaternion(normalize(quaternion, dim=-1)), numbers[:, 10:], reference)


HEADS: dict[str, type[AbstractHead]] = {
    "quaternion-adjugate": QuaternionAdjugateHead,
    "rotation-6d": Rotation6DHead,
    "se3-log": SE3LogHead,
}


def rotation_of_quaternion(wxyz: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation of a unit quaternion (w, x, y, z): `1 + 2 w [v] + 2 [v]^2`."""
    w, cross = wxyz[..., :1, None], so3.hat(wxyz[..., 1:])
    return torch.eye(3, dtype=wxyz.dtype, device=wxyz.device) + 2 * w * cross + 2 * cross @ cross


def _placed(turn: Float[Tensor, "batch 3 3"], place: Float[Tensor, "batch 3"], reference: ReferenceView) -> RigidTransform:
    """The reference's rotation turned about the camera's axes, with the pivot where `place` says."""
    rotation = turn @ reference.camera_from_patient.rotation.to(turn)
    pivot = reference.pivot.to(turn)
    start = reference.camera_from_patient.to(turn).apply(pivot[None])[0]
    depth = start[2] * torch.exp(DEPTH_FRACTION * place[:, 2])
    direction = start[:2] / start[2] + place[:, :2] * (reference.half_field_mm / reference.depth_mm)
    at = torch.cat([direction * depth[:, None], depth[:, None]], dim=-1)
    return RigidTransform(rotation, at - rotation @ pivot)
