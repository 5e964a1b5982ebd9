"""The normal equations of a batch of least-squares problems over one twist, or over the twists of several bodies."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class NormalEquations:
    """Cost, and its gradient and Gauss-Newton Hessian with respect to the twists (mm, rad), one row per start.

    There are six parameters for each body that moves on its own.

    Gradient and Hessian are halved: the model of the cost at a step d is `cost + 2 gradient.d + d.hessian d`.
    """

    cost: Float[Tensor, "batch"]
    gradient: Float[Tensor, "batch parameters"]
    hessian: Float[Tensor, "batch parameters parameters"]
