"""SSD: squared differences of the two images, each standardised to mean 0 and standard deviation 1 under the weights.

Grey values of a CT and of an X-ray differ in gain and offset, so they must be matched first. A least-squares fit of one image
to the other would treat a negative as a perfect match, which standardising does not. The plain sum is exactly 2 (1 - NCC). The
difference from NCC is the robust weight of each pixel: the cost of a tool is limited by its area. Source of the weights: Geman
and McClure, "Statistical methods for tomographic image reconstruction", Bulletin of the International Statistical Institute 52,
1987.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.optimisers import NormalEquations
from fluoro_reg.similarity.residual import (
    AbstractResidualSimilarity,
    Jacobian,
    gauss_newton_system,
    geman_mcclure,
    normalise_weights,
    standardise,
    standardise_jacobian,
)
from fluoro_reg.similarity.similarity import Image, Images


@dataclass(frozen=True, slots=True)
class SSD(AbstractResidualSimilarity):
    """Sum of squared differences. The score 1 - cost / 2 equals NCC for plain weights, and is higher with robust ones."""

    robust_scale: float = option(4.0, "Geman-McClure's c in squared z-scores; inf is plain least squares", minimum=1e-3)
    floor: float = option(1e-6, "variance that counts as flat", minimum=0.0)

    def normal_equations(self, moving: Images, jacobian: Jacobian, fixed: Image, weight: Images) -> NormalEquations:
        z, sd, zf, w = self._standardise(moving, fixed, weight)
        residual = z - zf
        rho, reweight = geman_mcclure(residual * residual, self.robust_scale)
        jz = standardise_jacobian(jacobian.flatten(1, 2), z, sd, w)
        gradient, hessian = gauss_newton_system(jz, residual, w * reweight)
        return NormalEquations((w * rho).sum(-1), gradient, hessian)

    def cost(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        z, _, zf, w = self._standardise(moving, fixed, weight)
        rho, _ = geman_mcclure((z - zf).square(), self.robust_scale)
        return (w * rho).sum(-1)

    def score(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        total_weight = normalise_weights(weight.flatten(1)).sum(-1)  # 1, or 0 if nothing is compared
        return total_weight - self.cost(moving, fixed, weight) / 2

    def _standardise(self, moving: Images, fixed: Image, weight: Images) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        w = normalise_weights(weight.flatten(1))
        z, sd = standardise(moving.flatten(1), w, self.floor)
        zf, _ = standardise(fixed.flatten(1), w, self.floor)
        return z, sd, zf, w
