"""Global NCC: one correlation over the image, the classic similarity and the cheapest.

Its normal equations follow from the weighted sums of products of [1, F, I, dI/dtwist]: 44 values and the sum of the weights. A
renderer can accumulate these while it renders (`AbstractRenderer.gram`), so neither image nor Jacobian need be stored.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.optimisers import NormalEquations
from fluoro_reg.similarity.residual import (
    AbstractResidualSimilarity,
    Image,
    Images,
    Jacobian,
    gauss_newton_system,
    normalise_weights,
    standardise,
    standardise_jacobian,
)


@dataclass(frozen=True, slots=True)
class NCC(AbstractResidualSimilarity):
    """Global NCC; `floor` is a variance that avoids division by zero for flat images."""

    floor: float = 1e-6

    def normal_equations(self, moving: Images, jacobian: Jacobian, fixed: Image, weight: Images) -> NormalEquations:
        z, sd, zf, w = self._standardise(moving, fixed, weight)
        residual = z - zf
        jz = standardise_jacobian(jacobian.flatten(1, 2), z, sd, w)
        gradient, hessian = gauss_newton_system(jz, residual, w)
        return NormalEquations((w * residual.square()).sum(-1), gradient, hessian)

    def normal_equations_from_gram(self, gram: Float[Tensor, "batch 9 9"]) -> NormalEquations:
        """Return the same normal equations from the sums of `weight x x^T` over the image, with x = [1, F, I, dI/dtwist].

        With C the covariance of x, a = C_IJ / sd(I) and b = C_FJ / sd(F). All means over the image of the residual z(I) - z(F)
        and of dz = (J - mean(J) - z a) / sd(I) are products of these.
        """
        n = gram[:, :1, :1].clamp_min(1e-12)
        mean = gram[:, :1] / n
        covariance = gram / n - mean.mT * mean
        sd_f, sd_i = (covariance[:, 1:3, 1:3].diagonal(dim1=-2, dim2=-1) + self.floor).sqrt().unbind(-1)
        ff, ii = covariance[:, 1, 1] / sd_f**2, covariance[:, 2, 2] / sd_i**2
        fi = covariance[:, 1, 2] / (sd_f * sd_i)
        a, b = covariance[:, 2, 3:] / sd_i[:, None], covariance[:, 1, 3:] / sd_f[:, None]
        gradient = (a - b - a * (ii - fi)[:, None]) / sd_i[:, None]
        hessian = covariance[:, 3:, 3:] - (2 - ii)[:, None, None] * a[:, :, None] * a[:, None, :]
        return NormalEquations((ff + ii - 2 * fi).clamp_min(0), gradient, hessian / (sd_i**2)[:, None, None])

    def cost(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        z, _, zf, w = self._standardise(moving, fixed, weight)
        return (w * (z - zf).square()).sum(-1)

    def score(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        z, _, zf, w = self._standardise(moving, fixed, weight)
        return (w * z * zf).sum(-1)

    def _standardise(self, moving: Images, fixed: Image, weight: Images) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        w = normalise_weights(weight.flatten(1))
        z, sd = standardise(moving.flatten(1), w, self.floor)
        zf, _ = standardise(fixed.flatten(1).expand_as(w), w, self.floor)
        return z, sd, zf, w
