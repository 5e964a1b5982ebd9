"""Rotations of R^4 and rigid motions embedded in them, with a bi-invariant metric. An oracle for tests.

SE(3) has no bi-invariant metric. SO(4) has one, and it approximates SE(3) on a sphere whose radius is large compared with all
translations. A rotation of R^4, `x -> g x conj(h)` of quaternions, is a pair of unit quaternions (w, x, y, z) up to a common
sign, so that products, logarithms and distances are those of two 3-spheres. The last two dimensions of a pair are (g or h, four
numbers).

Sources: R. Etzel and J. M. McCarthy, "A metric for spatial displacements using biquaternions on SO(4)", ICRA 1996 (the
embedding); J. E. Mebius, "A matrix-based proof of the quaternion representation theorem for four-dimensional rotations", 2005.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import so3, sphere
from fluoro_reg.geometry.rigid_transform import RigidTransform


def multiply(a: Float[Tensor, "*#batch 4"], b: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Return the quaternion product."""
    aw, av, bw, bv = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    scalar = aw * bw - (av * bv).sum(-1, keepdim=True)
    return torch.cat([scalar, aw * bv + bw * av + torch.linalg.cross(*torch.broadcast_tensors(av, bv))], dim=-1)


def conjugate(a: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Return the inverse of a unit quaternion."""
    return torch.cat([a[..., :1], -a[..., 1:]], dim=-1)


def exp(tangent: Float[Tensor, "*batch 2 3"]) -> Float[Tensor, "*batch 2 4"]:
    """Return the pair (exp a, exp b) of two vectors (rad, angles of the quaternions: half of those of 3-D rotations)."""
    squared = (tangent * tangent).sum(-1, keepdim=True)
    sine_ratio, versine_ratio, _ = so3.exp_coefficients(squared)
    return torch.cat([1 - versine_ratio * squared, sine_ratio * tangent], dim=-1)


def log(pair: Float[Tensor, "*batch 2 4"]) -> Float[Tensor, "*batch 2 3"]:
    """Return the shortest pair of vectors whose exponential is this rotation of R^4.

    Of the two signs of the pair, the one closer to the identity is used. Where a quaternion is -1, the direction is arbitrary.
    """
    pair = torch.where(pair[..., :1].sum(-2, keepdim=True) < 0, -pair, pair)
    one = torch.eye(1, 4, dtype=pair.dtype, device=pair.device)[0]
    return sphere.log(one, pair)[..., 1:]


def matrix(pair: Float[Tensor, "*batch 2 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Return the 4 x 4 rotation matrix, whose columns are `g e_i conj(h)`."""
    g, h = pair[..., :1, :], pair[..., 1:, :]
    basis = torch.eye(4, dtype=pair.dtype, device=pair.device)
    return multiply(multiply(g, basis), conjugate(h)).mT


def embed(target_from_source: RigidTransform, radius_mm: float) -> Float[Tensor, "*batch 2 4"]:
    """Return the rotation of R^4 that represents a rigid motion.

    It is `(D Q, conj(D) Q)` of its rotation Q and of D, which rotates the pole of the sphere by `2 atan(|t| / (2 radius))`
    towards the translation t. It is accurate where translations are small compared with the radius: choose the origins of both
    frames close to the motions.
    """
    half = target_from_source.translation / (2 * radius_mm)
    quaternion = so3.quaternion_wxyz(target_from_source.rotation)
    shift = torch.cat([torch.ones_like(half[..., :1]), half], dim=-1)
    shift = shift / (1 + (half * half).sum(-1, keepdim=True)).sqrt()
    return torch.stack([multiply(shift, quaternion), multiply(conjugate(shift), quaternion)], dim=-2)


def squared_distance(first: Float[Tensor, "*#batch 2 4"], second: Float[Tensor, "*#batch 2 4"]) -> Float[Tensor, "*batch"]:
    """Return the squared bi-invariant distance, rad^2: the sum of squares of the two angles between the rotations.

    It is smooth where both coincide. For embedded motions it is approximately `angle^2 + |t1 - t2|^2 / radius^2`.
    """
    return 2 * log(multiply(conjugate(first), second)).square().sum((-1, -2))
