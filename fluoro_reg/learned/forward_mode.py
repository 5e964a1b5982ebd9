"""A function's value and its derivatives along a few directions, forwards: a pass a direction, whatever it makes."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def value_and_forward_derivatives(
    function: Callable[[Float[Tensor, "*shape"]], Float[Tensor, "*result"]],
    x: Float[Tensor, "*shape"],
    directions: Float[Tensor, "*shape n"],
) -> tuple[Float[Tensor, "*result"], Float[Tensor, "*result n"]]:
    """Both are differentiable to whatever the function depends on."""

    x = x.contiguous()

    def along(direction: Float[Tensor, "*shape"]) -> tuple[Tensor, Tensor]:
        value, derivative = torch.func.jvp(function, (x,), (direction,))
        return value, derivative

    first = directions.movedim(-1, 0).contiguous()  # or not every layer takes it
    value, derivatives = torch.func.vmap(along, out_dims=(0, -1))(first)
    return value[0], derivatives
