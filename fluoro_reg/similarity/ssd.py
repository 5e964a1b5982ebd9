"""SSD: squared differences of the two images, each brought to mean 0 and deviation 1 under the weights.

Grey values of a CT and of an X-ray share neither gain nor offset, so something must be matched first. A least-squares fit of
one to the other would take a negative for a perfect match; standardising does not. The plain sum is then 2 (1 - NCC) exactly,
so what makes this a similarity of its own are the robust weights on single pixels: a tool costs no more than its area.
Source of the weights: Geman and McClure, "Statistical methods for tomographic image reconstruction", Bulletin of the
International Statistical Institute 52, 1987.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.optimisers import NormalEquations
from fluoro_reg.similarity.residual import (
    AbstractResidualSimilarity,
    Jacobian,
    gauss_newton,
    normalised,
    robust,
    standardised,
    standardised_jacobian,
)
from fluoro_reg.similarity.similarity import Image, Images


@dataclass(frozen=True, slots=True)
class SSD(AbstractResidualSimilarity):
    """Its score is 1 - cost / 2: the NCC where the weights are plain, and never less than that."""

    robust_scale: float = option(4.0, "Geman-McClure's c in squared z-scores; inf is plain least squares", minimum=1e-3)
    floor: float = option(1e-6, "variance that counts as flat", minimum=0.0)

    def normal_equations(self, moving: Images, jacobian: Jacobian, fixed: Image, weight: Images) -> NormalEquations:
        z, sd, zf, w = self._standardise(moving, fixed, weight)
        residual = z - zf
        rho, reweight = robust(residual * residual, self.robust_scale)
        jz = standardised_jacobian(jacobian.flatten(1, 2), z, sd, w)
        gradient, hessian = gauss_newton(jz, residual, w * reweight)
        return NormalEquations((w * rho).sum(-1), gradient, hessian)

    def cost(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        z, _, zf, w = self._standardise(moving, fixed, weight)
        rho, _ = robust((z - zf).square(), self.robust_scale)
        return (w * rho).sum(-1)

    def score(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        whole = normalised(weight.flatten(1)).sum(-1)  # 1, or 0 where nothing is compared: no difference is then no merit
        return whole - self.cost(moving, fixed, weight) / 2

    def _standardise(self, moving: Images, fixed: Image, weight: Images) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        w = normalised(weight.flatten(1))
        z, sd = standardised(moving.flatten(1), w, self.floor)
        zf, _ = standardised(fixed.flatten(1), w, self.floor)
        return z, sd, zf, w
