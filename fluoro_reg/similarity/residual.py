"""Similarities that Levenberg-Marquardt can use: a cost with its Gauss-Newton normal equations, for every pose of a batch.

Each of them is a weighted sum of squared differences of standardised images:

    z(I) = (I - mean) / sd                             under weights w that sum to one
    sum w (z(I) - z(F))^2 = 2 (1 - NCC)
    dz = (J - mean(J) - z mean(z J)) / sd              with J = dI/dtwist

Robust weights (Geman-McClure) limit the influence of tools and clutter that the CT lacks: rho(r) = r^2 c / (r^2 + c),
reweighted by (c / (r^2 + c))^2.
"""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.optimisers import NormalEquations
from fluoro_reg.similarity.similarity import AbstractSimilarity, Image, Images

Jacobian = Float[Tensor, "batch height width parameters"]


class AbstractResidualSimilarity(AbstractSimilarity):
    """A similarity that is also a sum of squares: besides the score, it has a cost (0 is perfect) with normal equations."""

    @abstractmethod
    def normal_equations(self, moving: Images, jacobian: Jacobian, fixed: Image, weight: Images) -> NormalEquations:
        """Return the normal equations at the poses of `moving` and `jacobian` (d moving / d twist)."""

    @abstractmethod
    def cost(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        """Return the cost alone, with the same value as in `normal_equations`."""

    def prepare(self, fixed: Image, weight: Images) -> tuple[Tensor, ...]:
        """Return what follows from the fixed image and the weights, for several evaluations: a batch; here the weights."""
        return (weight,)

    def prepared_equations(
        self, moving: Images, jacobian: Jacobian, fixed: Image, prepared: tuple[Tensor, ...]
    ) -> NormalEquations:
        """Return `normal_equations` under the weights that were prepared."""
        return self.normal_equations(moving, jacobian, fixed, prepared[0])

    def prepared_cost(self, moving: Images, fixed: Image, prepared: tuple[Tensor, ...]) -> Float[Tensor, "batch"]:
        """Return `cost` under the weights that were prepared."""
        return self.cost(moving, fixed, prepared[0])


def normalise_weights(weight: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    """Return weights that sum to one; weights that are all zero stay zero."""
    return weight / weight.sum(-1, keepdim=True).clamp_min(1e-12)


def standardise(
    values: Float[Tensor, "#batch n"], weight: Float[Tensor, "batch n"], floor: float
) -> tuple[Float[Tensor, "batch n"], Float[Tensor, "batch 1"]]:
    """Return z-scores under normalised weights, and the standard deviation; `floor` (a variance) avoids division by zero."""
    mean = (weight * values).sum(-1, keepdim=True)
    centred = values - mean
    sd = ((weight * centred * centred).sum(-1, keepdim=True) + floor).sqrt()
    return centred / sd, sd


def standardise_jacobian(
    jacobian: Float[Tensor, "batch n parameters"],
    z: Float[Tensor, "batch n"],
    sd: Float[Tensor, "batch 1"],
    weight: Float[Tensor, "batch n"],
) -> Float[Tensor, "batch n parameters"]:
    """Return dz/dtwist from dI/dtwist."""
    means = torch.stack([weight, weight * z], dim=1) @ jacobian
    return (jacobian - means[:, :1] - z[..., None] * means[:, 1:]) / sd[..., None]


def geman_mcclure(squared: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return rho and the weight for reweighted least squares; an infinite scale gives plain least squares."""
    if scale == float("inf"):
        return squared, torch.ones_like(squared)
    ratio = scale / (squared + scale)
    return squared * ratio, ratio * ratio


def gauss_newton_system(
    jacobian: Float[Tensor, "batch n parameters"], residual: Float[Tensor, "batch n"], weight: Float[Tensor, "batch n"]
) -> tuple[Float[Tensor, "batch parameters"], Float[Tensor, "batch parameters parameters"]]:
    """Return the Gauss-Newton gradient and Hessian of `sum w r^2`, both halved."""
    weighted = (jacobian * weight[..., None]).mT
    return (weighted @ residual[..., None]).squeeze(-1), weighted @ jacobian
