"""Rotations in 3-D: exponential, logarithm and left Jacobian, exact and differentiable at zero.

The coefficients (sin t)/t, (1 - cos t)/t^2 and (t - sin t)/t^3 lose their accuracy for small t. Below t = 0.1 they are computed
as series to full double precision. The unused branch is given a harmless argument, so that no NaN enters a gradient.
Source: Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics", eqs. 132-147.
"""

import torch
from jaxtyping import Float
from torch import Tensor

SERIES_BELOW = 1e-2  # of t^2


def hat(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the matrix of the cross product: `hat(a) @ b = a x b`."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def exp(rotation_vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the rotation by |rotation_vector| rad about the direction of the vector (Rodrigues)."""
    a, b, _ = exp_coefficients((rotation_vector * rotation_vector).sum(-1))
    k = hat(rotation_vector)
    identity = torch.eye(3, dtype=k.dtype, device=k.device)
    return identity + a[..., None, None] * k + b[..., None, None] * (k @ k)


def log(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Return the rotation vector (rad), of length at most pi; via the quaternion, which is accurate near 0 and pi."""
    quaternion = quaternion_wxyz(rotation)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    w, v = quaternion[..., 0], quaternion[..., 1:]
    squared = (v * v).sum(-1)
    small = squared < 1e-8
    sine = torch.where(small, torch.ones_like(squared), squared).sqrt()
    series = 2 / w.clamp_min(0.5) * (1 - squared / (3 * w * w).clamp_min(0.25))
    factor = torch.where(small, series, 2 * torch.atan2(sine, w) / sine)
    return factor[..., None] * v


def left_jacobian(rotation_vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return V(w) in `se3.exp([v, w]) = (exp(w), V(w) v)`."""
    _, b, c = exp_coefficients((rotation_vector * rotation_vector).sum(-1))
    k = hat(rotation_vector)
    identity = torch.eye(3, dtype=k.dtype, device=k.device)
    return identity + b[..., None, None] * k + c[..., None, None] * (k @ k)


def angle(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Return the rotation angle, rad, in [0, pi]."""
    return torch.linalg.vector_norm(log(rotation), dim=-1)


def quaternion_wxyz(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Return a unit quaternion (w, x, y, z), with the formula of the four that has the largest divisor (Shepperd 1978)."""
    xx, yy, zz = rotation.diagonal(dim1=-2, dim2=-1).unbind(-1)
    r = rotation
    wx, wy, wz = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    xy, xz, yz = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]
    candidates = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, wx, wy, wz], dim=-1),
            torch.stack([wx, 1 + xx - yy - zz, xy, xz], dim=-1),
            torch.stack([wy, xy, 1 - xx + yy - zz, yz], dim=-1),
            torch.stack([wz, xz, yz, 1 - xx - yy + zz], dim=-1),
        ],
        dim=-2,
    )
    largest = candidates.diagonal(dim1=-2, dim2=-1).argmax(-1)
    chosen = candidates.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4)).squeeze(-2)
    return torch.nn.functional.normalize(chosen, dim=-1)


def exp_coefficients(squared_angle: Float[Tensor, "*batch"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return (sin t)/t, (1 - cos t)/t^2 and (t - sin t)/t^3 as functions of t^2."""
    small = squared_angle < SERIES_BELOW
    s = torch.where(small, squared_angle, torch.zeros_like(squared_angle))
    t2 = torch.where(small, torch.ones_like(squared_angle), squared_angle)
    t = t2.sqrt()
    a = torch.where(small, 1 - s / 6 * (1 - s / 20 * (1 - s / 42 * (1 - s / 72))), t.sin() / t)
    b = torch.where(small, 0.5 - s / 24 * (1 - s / 30 * (1 - s / 56 * (1 - s / 90))), (1 - t.cos()) / t2)
    c = torch.where(small, 1 / 6 - s / 120 * (1 - s / 42 * (1 - s / 72 * (1 - s / 110))), (t - t.sin()) / (t2 * t))
    return a, b, c
