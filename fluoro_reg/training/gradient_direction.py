"""The double-backward loss: which way the gradient of a learned similarity points, against the way to the true pose.

A similarity is followed and its value means nothing, so only the direction of its gradient to the pose is taught, for turns
and shifts apart. The right direction is that of the squared geodesic distance on SE(3). The gradient keeps its graph, and
the loss of it is differentiated once more, to the weights.

Poses are a twist about a pivot away from each start, shifts in units of a length, so that no number is large or small: the
distance is |Log(R^T R_true)|^2 + |shift of the pivot / length|^2. Source: C. Gao et al., IEEE TMI 43(1), 2024, and MICCAI 2020;
there the derivative of the distance is a closed form, here autograd takes it through the logarithm.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract, so3

_NO_LENGTH = 1e-10  # gradients shorter than this have no direction

Values = Callable[[RigidTransform], Float[Tensor, "batch"]]


@dataclass(frozen=True, slots=True)
class Directions:
    """Cosines between a similarity's gradients and those of the distance: 1 leads to the true pose, -1 away from it."""

    rotation: Float[Tensor, "batch"]
    translation: Float[Tensor, "batch"]

    def loss(self) -> Float[Tensor, ""]:
        """The mean of the squared differences of the unit gradients: 0 where they agree, 8 where both are opposite."""
        return (4 - 2 * self.rotation - 2 * self.translation).mean()


def directions(
    values: Values, starts: RigidTransform, truth: RigidTransform, pivot: Float[Tensor, "3"], length_mm: float
) -> Directions:
    """Of the similarity `values` at the starts; differentiable to all that the values depend on."""
    pivot = pivot.to(starts.translation)
    found = _gradient(values, starts, pivot, length_mm)
    right = _gradient(lambda poses: squared_geodesic(poses, truth, pivot, length_mm), starts, pivot, length_mm).detach()
    return Directions(_cosine(found[..., 3:], right[..., 3:]), _cosine(found[..., :3], right[..., :3]))


def squared_geodesic(
    poses: RigidTransform, truth: RigidTransform, pivot: Float[Tensor, "3"], length_mm: float
) -> Float[Tensor, "batch"]:
    """The squared distance on SE(3): rad^2, and the pivot's shift in units of `length_mm`."""
    turn = so3.log(poses.rotation.mT @ truth.rotation)
    shift = (poses.apply(pivot[None]) - truth.apply(pivot[None])).squeeze(-2) / length_mm
    return turn.square().sum(-1) + shift.square().sum(-1)


def _gradient(values: Values, starts: RigidTransform, pivot: Float[Tensor, "3"], length_mm: float) -> Float[Tensor, "batch 6"]:
    twist = starts.translation.new_zeros(len(starts.translation), 6).requires_grad_()
    unit = twist.new_tensor([length_mm] * 3 + [1.0] * 3)
    (gradient,) = torch.autograd.grad(values(retract(starts, twist * unit, pivot)).sum(), twist, create_graph=True)
    return gradient


def _cosine(one: Float[Tensor, "batch 3"], other: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch"]:
    lengths = [(x.square().sum(-1) + _NO_LENGTH**2).sqrt() for x in (one, other)]
    return (one * other).sum(-1) / (lengths[0] * lengths[1])
