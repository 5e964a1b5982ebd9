"""The normal equations of a batch of least-squares problems with six unknowns."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class NormalEquations:
    """Cost, and its gradient and Gauss-Newton Hessian with respect to the twist (mm, rad), one row per pose.

    Gradient and Hessian are halved: the model of the cost at a step d is `cost + 2 gradient.d + d.hessian d`.
    """

    cost: Float[Tensor, "batch"]
    gradient: Float[Tensor, "batch 6"]
    hessian: Float[Tensor, "batch 6 6"]
