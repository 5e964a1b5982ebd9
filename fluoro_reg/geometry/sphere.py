"""The logarithm map of the unit sphere in any dimension: the tangent vector from one point to another along a great circle.

It is smooth where both points coincide, where the textbook formula `theta / sin(theta)` is 0/0. At the antipode the direction
is arbitrary. One direction is chosen there and treated as constant, so that the length is right and no derivative is infinite.
Source: P.-A. Absil, R. Mahony, R. Sepulchre, "Optimization algorithms on matrix manifolds", 2008, section 5.4.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_SERIES_BELOW = 1e-4  # of sin^2
_ANTIPODE_BELOW = 1e3  # of the machine epsilon: closer to the antipode the direction is rounding noise


def log(base: Float[Tensor, "*#batch n"], point: Float[Tensor, "*#batch n"]) -> Float[Tensor, "*batch n"]:
    """Return the tangent vector at `base` towards `point`; its length is their angle in [0, pi]. Both have length 1."""
    cosine = (base * point).sum(-1, keepdim=True)
    perpendicular = point - cosine * base
    squared = (perpendicular * perpendicular).sum(-1, keepdim=True)
    near = (squared < _SERIES_BELOW) & (cosine > 0)
    antipodal = (squared.sqrt() < _ANTIPODE_BELOW * torch.finfo(squared.dtype).eps) & (cosine < 0)
    s = torch.where(near, squared, torch.zeros_like(squared))
    series = 1 + s * (1 / 6 + s * (3 / 40 + s * (5 / 112 + s * (35 / 1152))))
    sine = torch.where(near | antipodal, torch.ones_like(squared), squared).sqrt()
    tangent = torch.where(near, series, torch.atan2(sine, cosine) / sine) * perpendicular
    return torch.where(antipodal, torch.pi * _arbitrary_tangent(base.detach()), tangent)


def normalise(vectors: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Scale vectors to length 1. A vector shorter than 1e-6 becomes the first axis and gets no gradient."""
    squared = (vectors * vectors).sum(-1, keepdim=True)
    is_zero = squared < 1e-12
    length = torch.where(is_zero, torch.ones_like(squared), squared).sqrt()
    first_axis = torch.eye(1, vectors.shape[-1], dtype=vectors.dtype, device=vectors.device)[0]
    return torch.where(is_zero, first_axis, vectors / length)


def _arbitrary_tangent(base: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Return a unit vector perpendicular to `base`, made from whichever of the first two axes is further from it."""
    first, second = torch.eye(2, base.shape[-1], dtype=base.dtype, device=base.device)
    axis = torch.where(base[..., :1].abs() > base[..., 1:2].abs(), second, first)
    perpendicular = axis - (axis * base).sum(-1, keepdim=True) * base
    return perpendicular / (perpendicular * perpendicular).sum(-1, keepdim=True).sqrt()
