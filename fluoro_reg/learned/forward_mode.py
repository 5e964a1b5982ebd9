"""A function's value together with its derivatives along a few directions, in forward mode.

Forward mode takes one pass for each direction, however large the result is.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def value_and_forward_derivatives(
    function: Callable[[Float[Tensor, "*shape"]], Float[Tensor, "*result"]],
    x: Float[Tensor, "*shape"],
    directions: Float[Tensor, "*shape n"],
) -> tuple[Float[Tensor, "*result"], Float[Tensor, "*result n"]]:
    """Return the value at `x` and its derivatives along each direction, both differentiable."""
    x = x.contiguous()

    def along(direction: Float[Tensor, "*shape"]) -> tuple[Tensor, Tensor]:
        value, derivative = torch.func.jvp(function, (x,), (direction,))
        return value, derivative

    first = directions.movedim(-1, 0).contiguous()  # some layers need contiguous tangents
    value, derivatives = torch.func.vmap(along, out_dims=(0, -1))(first)
    return value[0], derivatives
