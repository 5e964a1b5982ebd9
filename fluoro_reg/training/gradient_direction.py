"""The double-backward loss: the direction of a learned similarity's gradient against the direction to the true pose.

An optimiser follows the gradient of a similarity, and the value itself matters little. So training compares the direction of
the gradient with respect to the pose, separately for rotation and translation, with that of the squared geodesic distance on
SE(3). The gradient keeps its graph, and the loss is differentiated once more, with respect to the weights.

Gradients are with respect to a twist about a pivot. The distance is |Log(R^T R_true)|^2 + |translation of the pivot /
length|^2. Source: C. Gao et al., IEEE TMI 43(1), 2024, and MICCAI 2020. There the derivative of the distance has a closed form;
here autograd differentiates the logarithm. One thing is new: the embedding of a projection does not depend on the X-ray, so it
and its forward-mode derivatives with respect to a twist are shared by all X-rays of a batch (`Comparison.of_pairs`).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract, so3
from fluoro_reg.learned import AbstractLearnedSimilarity, Projector

LENGTH_MM = 100.0  # in the distance, a translation of this length counts as a rotation of 1 rad
_MINIMUM_LENGTH = 1e-10  # shorter gradients have no direction


@dataclass(frozen=True, slots=True)
class Comparison:
    """Values of a similarity for pairs of a starting pose and an X-ray.

    Attributes:
        values: squared distances of the embeddings, not divided by the similarity's scale.
        gradients: their gradients with respect to a twist [mm, rad] of the starting pose.
    """

    values: Float[Tensor, "pairs"]
    gradients: Float[Tensor, "pairs 6"]

    @classmethod
    def of_pairs(
        cls,
        network: AbstractLearnedSimilarity,
        projector: Projector,
        starts: RigidTransform,
        fixed: Float[Tensor, "batch embedding"],
        rows: Int[Tensor, "pairs"],
        columns: Int[Tensor, "pairs"],
    ) -> "Comparison":
        """Compare the starting pose `rows[n]` with the X-ray `columns[n]` for each n."""
        moving, by_twist = network.embed_projection(projector(starts))
        residuals, jacobian = network.residuals((moving[rows], by_twist[rows]), fixed[columns])
        gradients = 2 * torch.einsum("pr,prk->pk", residuals, jacobian)
        return cls(residuals.square().sum(-1), gradients)


@dataclass(frozen=True, slots=True)
class DirectionCosines:
    """Cosines between the gradients of a similarity and of the distance: 1 leads to the true pose, -1 away from it."""

    rotation: Float[Tensor, "batch"]
    translation: Float[Tensor, "batch"]

    def loss(self) -> Float[Tensor, ""]:
        """Return the mean squared difference of the unit gradients: 0 where they agree, 8 where both are opposite."""
        return (4 - 2 * self.rotation - 2 * self.translation).mean()


def direction_cosines(
    gradients: Float[Tensor, "batch 6"],
    starts: RigidTransform,
    truth: RigidTransform,
    pivot: Float[Tensor, "3"],
    depth_weight: float = 1.0,
) -> DirectionCosines:
    """Compare gradients of a similarity with those of the squared distance to the true pose.

    Args:
        gradients: with respect to a twist [mm, rad] about `pivot` of each start; the result is differentiable in them.
        starts: the starting poses.
        truth: the true poses.
        pivot: the pivot (mm, patient frame).
        depth_weight: length of the unit of depth, along the camera's axis, relative to that of the other translations.
    """
    return cosines_between(gradients, geodesic_gradient(starts, truth, pivot), starts.rotation, depth_weight)


def cosines_between(
    gradients: Float[Tensor, "batch 6"],
    expected: Float[Tensor, "batch 6"],
    camera_from_patient: Float[Tensor, "batch 3 3"],
    depth_weight: float = 1.0,
) -> DirectionCosines:
    """Return what `direction_cosines` does, given the gradients of the distance and the rotations of the starts."""
    expected, rotation = expected.to(gradients), camera_from_patient.to(gradients)
    unit = torch.ones(3, dtype=gradients.dtype, device=gradients.device)
    unit[2].fill_(depth_weight)
    translations = [unit * (rotation @ g[..., :3, None]).squeeze(-1) for g in (gradients, expected)]
    return DirectionCosines(_cosine(gradients[..., 3:], expected[..., 3:]), _cosine(*translations))


def squared_geodesic(poses: RigidTransform, truth: RigidTransform, pivot: Float[Tensor, "3"]) -> Float[Tensor, "batch"]:
    """Return the squared distance on SE(3): rad^2, with the pivot's translation in units of `LENGTH_MM`."""
    rotation = so3.log(poses.rotation.mT @ truth.rotation)
    translation = (poses.apply(pivot[None]) - truth.apply(pivot[None])).squeeze(-2) / LENGTH_MM
    return rotation.square().sum(-1) + translation.square().sum(-1)


def geodesic_mm(poses: RigidTransform, truth: RigidTransform, pivot: Float[Tensor, "3"]) -> Float[Tensor, "batch"]:
    """Return the distance on SE(3) in mm."""
    return LENGTH_MM * squared_geodesic(poses, truth, pivot).sqrt()


def geodesic_gradient(starts: RigidTransform, truth: RigidTransform, pivot: Float[Tensor, "3"]) -> Float[Tensor, "batch 6"]:
    """Return the gradient of the squared distance with respect to a twist [mm, rad] about `pivot`, at each start."""
    pivot = pivot.to(starts.translation)
    with torch.enable_grad():
        twist = starts.translation.new_zeros(len(starts.translation), 6).requires_grad_()
        (gradient,) = torch.autograd.grad(squared_geodesic(retract(starts, twist, pivot), truth, pivot).sum(), twist)
    return gradient


def _cosine(one: Float[Tensor, "batch 3"], other: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch"]:
    lengths = [(x.square().sum(-1) + _MINIMUM_LENGTH**2).sqrt() for x in (one, other)]
    return (one * other).sum(-1) / (lengths[0] * lengths[1])
