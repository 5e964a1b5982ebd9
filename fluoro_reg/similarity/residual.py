"""What Levenberg-Marquardt asks of a similarity: a cost and its Gauss-Newton system, per pose of a batch.

Every similarity here is a weighted sum of squared differences of standardised images. With z(I) = (I - mean) / sd under the
weights w (which sum to one), `sum w (z(I) - z(F))^2 = 2 (1 - NCC)`, and the Jacobian of z follows from J = dI/dtwist in closed
form: `dz = (J - mean(J) - z mean(z J)) / sd`. Robust weights (Geman-McClure) keep tools and clutter that the CT lacks from
pulling the pose: rho(r) = r^2 c / (r^2 + c), reweighted by (c / (r^2 + c))^2.
"""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.optimisers import NormalEquations
from fluoro_reg.similarity.similarity import AbstractSimilarity, Image, Images

Jacobian = Float[Tensor, "batch height width 6"]


class AbstractResidualSimilarity(AbstractSimilarity):
    """A similarity that is also a sum of squares: a cost (0 is perfect) with its normal equations, besides the score."""

    @abstractmethod
    def normal_equations(self, moving: Images, jacobian: Jacobian, fixed: Image, weight: Images) -> NormalEquations:
        """The Gauss-Newton system at the poses that gave `moving` and `jacobian` (d moving / d twist)."""

    @abstractmethod
    def cost(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        """The cost alone, the same number as in `normal_equations`."""


def normalised(weight: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    """Weights that sum to one (all zero stay zero)."""
    return weight / weight.sum(-1, keepdim=True).clamp_min(1e-12)


def standardised(
    values: Float[Tensor, "#batch n"], weight: Float[Tensor, "batch n"], floor: float
) -> tuple[Float[Tensor, "batch n"], Float[Tensor, "batch 1"]]:
    """z-scores under normalised weights, and the standard deviation; `floor` (a variance) keeps flat regions harmless."""
    mean = (weight * values).sum(-1, keepdim=True)
    centred = values - mean
    sd = ((weight * centred * centred).sum(-1, keepdim=True) + floor).sqrt()
    return centred / sd, sd


def standardised_jacobian(
    jacobian: Float[Tensor, "batch n 6"],
    z: Float[Tensor, "batch n"],
    sd: Float[Tensor, "batch 1"],
    weight: Float[Tensor, "batch n"],
) -> Float[Tensor, "batch n 6"]:
    """dz/dtwist from dI/dtwist."""
    means = torch.stack([weight, weight * z], dim=1) @ jacobian
    return (jacobian - means[:, :1] - z[..., None] * means[:, 1:]) / sd[..., None]


def robust(squared: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Geman-McClure: rho and the weight of its reweighted least squares; an infinite scale is plain least squares."""
    if scale == float("inf"):
        return squared, torch.ones_like(squared)
    ratio = scale / (squared + scale)
    return squared * ratio, ratio * ratio


def gauss_newton(
    jacobian: Float[Tensor, "batch n 6"], residual: Float[Tensor, "batch n"], weight: Float[Tensor, "batch n"]
) -> tuple[Float[Tensor, "batch 6"], Float[Tensor, "batch 6 6"]]:
    """Gradient and Hessian of `sum w r^2` in Gauss-Newton's approximation, halved (their ratio is the step)."""
    weighted = (jacobian * weight[..., None]).mT
    return (weighted @ residual[..., None]).squeeze(-1), weighted @ jacobian
