"""The logarithm of a unit sphere, of any dimension: the vector at one point that leads along the great circle to another.

Smooth where both points are one, where the textbook's `theta / sin(theta)` is 0/0. At the antipode every direction leads there;
one is chosen and held constant, so that lengths stay true and no derivative is infinite.
Source: P.-A. Absil, R. Mahony, R. Sepulchre, "Optimization algorithms on matrix manifolds", 2008, section 5.4.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_SERIES_BELOW = 1e-4  # of sin^2
_LOST_BELOW = 1e3  # roundings: nearer to the antipode the direction is noise


def log(base: Float[Tensor, "*#batch n"], point: Float[Tensor, "*#batch n"]) -> Float[Tensor, "*batch n"]:
    """The vector tangent at `base` whose length is the angle between them, in [0, pi]. Both have length 1."""
    cosine = (base * point).sum(-1, keepdim=True)
    across = point - cosine * base
    squared = (across * across).sum(-1, keepdim=True)
    near = (squared < _SERIES_BELOW) & (cosine > 0)
    lost = (squared.sqrt() < _LOST_BELOW * torch.finfo(squared.dtype).eps) & (cosine < 0)
    s = torch.where(near, squared, torch.zeros_like(squared))
    series = 1 + s * (1 / 6 + s * (3 / 40 + s * (5 / 112 + s * (35 / 1152))))
    sine = torch.where(near | lost, torch.ones_like(squared), squared).sqrt()
    tangent = torch.where(near, series, torch.atan2(sine, cosine) / sine) * across
    return torch.where(lost, torch.pi * _some_tangent(base.detach()), tangent)


def normalised(vectors: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Vectors of length 1; one that is next to nothing (1e-6) becomes the first axis, and no derivative reaches it."""
    squared = (vectors * vectors).sum(-1, keepdim=True)
    nothing = squared < 1e-12
    length = torch.where(nothing, torch.ones_like(squared), squared).sqrt()
    first_axis = torch.eye(1, vectors.shape[-1], dtype=vectors.dtype, device=vectors.device)[0]
    return torch.where(nothing, first_axis, vectors / length)


def _some_tangent(base: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """A unit vector at right angles to `base`: of the first two axes the one that is further from it, made tangent."""
    first, second = torch.eye(2, base.shape[-1], dtype=base.dtype, device=base.device)
    axis = torch.where(base[..., :1].abs() > base[..., 1:2].abs(), second, first)
    across = axis - (axis * base).sum(-1, keepdim=True) * base
    return across / (across * across).sum(-1, keepdim=True).sqrt()
