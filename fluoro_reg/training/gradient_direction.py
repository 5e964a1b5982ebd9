"""The double-backward loss: which way the gradient of a learned similarity points, against the way to the true pose.

A similarity is followed and its value means little, so the direction of its gradient to the pose is taught, for turns and
shifts apart. The right direction is that of the squared geodesic distance on SE(3). The gradient keeps its graph, and the loss
of it is differentiated once more, to the weights.

Poses are a twist about a pivot away from each start, and the distance is |Log(R^T R_true)|^2 + |shift of the pivot / length|^2.
Source: C. Gao et al., IEEE TMI 43(1), 2024, and MICCAI 2020; there the derivative of the distance is a closed form, here
autograd takes it through the logarithm. What is new here: the numbers of a projection do not depend on the X-ray, so that they
and their derivatives to a twist, carried forwards, serve every X-ray of a batch (`Comparison.of_all`).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract, so3
from fluoro_reg.learned import AbstractLearnedSimilarity, Projector

LENGTH_MM = 100.0  # a shift of this much counts as a turn of a rad: for the distance; directions know no unit
_NO_LENGTH = 1e-10  # gradients shorter than this have no direction


@dataclass(frozen=True, slots=True)
class Comparison:
    """Squared distances of a similarity, unscaled, and their gradients to a twist [mm, rad] of each pose, for pairs of a pose
    and an X-ray: numbers `starts` and `images` say which.
    """

    values: Float[Tensor, "pairs"]
    gradients: Float[Tensor, "pairs 6"]
    starts: Int[Tensor, "pairs"]
    images: Int[Tensor, "pairs"]

    @classmethod
    def of_all(
        cls,
        network: AbstractLearnedSimilarity,
        projector: Projector,
        starts: RigidTransform,
        fixed: Float[Tensor, "batch numbers"],
    ) -> "Comparison":
        """Every start with every X-ray, of which the numbers are given."""
        rows, columns = torch.cartesian_prod(torch.arange(len(starts.translation)), torch.arange(len(fixed))).T
        return cls.of(network, projector, starts, fixed, rows, columns)

    @classmethod
    def of(
        cls,
        network: AbstractLearnedSimilarity,
        projector: Projector,
        starts: RigidTransform,
        fixed: Float[Tensor, "batch numbers"],
        rows: Int[Tensor, "pairs"],
        columns: Int[Tensor, "pairs"],
    ) -> "Comparison":
        """Some starts with some X-rays."""
        moving, by_twist = network.embed_projection(projector(starts))
        residuals, jacobian = network.residuals((moving[rows], by_twist[rows]), fixed[columns])
        gradients = 2 * torch.einsum("pr,prk->pk", residuals, jacobian)
        return cls(residuals.square().sum(-1), gradients, rows, columns)


@dataclass(frozen=True, slots=True)
class Directions:
    """Cosines between a similarity's gradients and those of the distance: 1 leads to the true pose, -1 away from it."""

    rotation: Float[Tensor, "batch"]
    translation: Float[Tensor, "batch"]

    def loss(self) -> Float[Tensor, ""]:
        """The mean of the squared differences of the unit gradients: 0 where they agree, 8 where both are opposite."""
        return (4 - 2 * self.rotation - 2 * self.translation).mean()


def directions(
    gradients: Float[Tensor, "batch 6"],
    starts: RigidTransform,
    truth: RigidTransform,
    pivot: Float[Tensor, "3"],
    depth_weight: float = 1.0,
) -> Directions:
    """Of a similarity's gradients to a twist about `pivot`; differentiable to them.

    Directions of shifts are compared in units of which that of depth, along the camera's axis, is `depth_weight` times as long.
    """
    right = geodesic_gradient(starts, truth, pivot).to(gradients)
    unit = gradients.new_tensor([1.0, 1.0, depth_weight])
    shifts = [unit * (starts.rotation.to(g) @ g[..., :3, None]).squeeze(-1) for g in (gradients, right)]
    return Directions(_cosine(gradients[..., 3:], right[..., 3:]), _cosine(*shifts))


def squared_geodesic(poses: RigidTransform, truth: RigidTransform, pivot: Float[Tensor, "3"]) -> Float[Tensor, "batch"]:
    """The squared distance on SE(3): rad^2, and the pivot's shift in units of `LENGTH_MM`."""
    turn = so3.log(poses.rotation.mT @ truth.rotation)
    shift = (poses.apply(pivot[None]) - truth.apply(pivot[None])).squeeze(-2) / LENGTH_MM
    return turn.square().sum(-1) + shift.square().sum(-1)


def geodesic_gradient(starts: RigidTransform, truth: RigidTransform, pivot: Float[Tensor, "3"]) -> Float[Tensor, "batch 6"]:
    """The derivative of the squared distance to a twist [mm, rad] about `pivot`, at each start."""
    pivot = pivot.to(starts.translation)
    with torch.enable_grad():
        twist = starts.translation.new_zeros(len(starts.translation), 6).requires_grad_()
        (gradient,) = torch.autograd.grad(squared_geodesic(retract(starts, twist, pivot), truth, pivot).sum(), twist)
    return gradient


def _cosine(one: Float[Tensor, "batch 3"], other: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch"]:
    lengths = [(x.square().sum(-1) + _NO_LENGTH**2).sqrt() for x in (one, other)]
    return (one * other).sum(-1) / (lengths[0] * lengths[1])
