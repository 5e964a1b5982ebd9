"""Rotations of four-space, and rigid motions among them: a metric on poses that no change of frame alters.

SE(3) has no metric that is invariant on both sides; SO(4) has, and SE(3) is what SO(4) looks like from near a point of a sphere
whose radius is large beside all translations. A rotation of R^4, `x -> g x conj(h)` of quaternions, is a pair of unit
quaternions (w, x, y, z) but for a common sign: so products, logarithms and distances are those of two three-spheres. The last
two dimensions of a pair are (g or h, four numbers).

Sources: R. Etzel and J. M. McCarthy, "A metric for spatial displacements using biquaternions on SO(4)", ICRA 1996 (the
embedding); J. E. Mebius, "A matrix-based proof of the quaternion representation theorem for four-dimensional rotations", 2005.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import so3, sphere
from fluoro_reg.geometry.rigid_transform import RigidTransform


def multiply(a: Float[Tensor, "*#batch 4"], b: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "*batch 4"]:
    """The quaternion product."""
    aw, av, bw, bv = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    scalar = aw * bw - (av * bv).sum(-1, keepdim=True)
    return torch.cat([scalar, aw * bv + bw * av + torch.linalg.cross(*torch.broadcast_tensors(av, bv))], dim=-1)


def conjugate(a: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """The inverse of a unit quaternion."""
    return torch.cat([a[..., :1], -a[..., 1:]], dim=-1)


def exp(tangent: Float[Tensor, "*batch 2 3"]) -> Float[Tensor, "*batch 2 4"]:
    """The pair (exp a, exp b) of two vectors (rad, the quaternions' own angles: half of what a rotation of space turns by)."""
    squared = (tangent * tangent).sum(-1, keepdim=True)
    sine_ratio, versine_ratio, _ = so3.exp_coefficients(squared)
    return torch.cat([1 - versine_ratio * squared, sine_ratio * tangent], dim=-1)


def log(pair: Float[Tensor, "*batch 2 4"]) -> Float[Tensor, "*batch 2 3"]:
    """The shortest pair of vectors whose exponential is this rotation of R^4: of the two signs of the pair the nearer to one.

    Where a quaternion is -1 all directions are as good, and one is taken.
    """
    pair = torch.where(pair[..., :1].sum(-2, keepdim=True) < 0, -pair, pair)
    one = torch.eye(1, 4, dtype=pair.dtype, device=pair.device)[0]
    return sphere.log(one, pair)[..., 1:]


def matrix(pair: Float[Tensor, "*batch 2 4"]) -> Float[Tensor, "*batch 4 4"]:
    """The rotation of R^4 itself: its columns are `g e_i conj(h)`."""
    g, h = pair[..., :1, :], pair[..., 1:, :]
    basis = torch.eye(4, dtype=pair.dtype, device=pair.device)
    return multiply(multiply(g, basis), conjugate(h)).mT


def embed(target_from_source: RigidTransform, radius_mm: float) -> Float[Tensor, "*batch 2 4"]:
    """The rotation of R^4 that stands for a rigid motion: `(D Q, conj(D) Q)` of its rotation Q and of D, which turns the
    sphere's pole by `2 atan(|t| / (2 radius))` towards the translation t.

    Faithful where translations are small beside the radius: put the origins of both frames where the motions happen.
    """
    half = target_from_source.translation / (2 * radius_mm)
    quaternion = so3.quaternion_wxyz(target_from_source.rotation)
    shift = torch.cat([torch.ones_like(half[..., :1]), half], dim=-1)
    shift = shift / (1 + (half * half).sum(-1, keepdim=True)).sqrt()
    return torch.stack([multiply(shift, quaternion), multiply(conjugate(shift), quaternion)], dim=-2)


def squared_distance(first: Float[Tensor, "*#batch 2 4"], second: Float[Tensor, "*#batch 2 4"]) -> Float[Tensor, "*batch"]:
    """The squared bi-invariant distance, rad^2: the sum of squares of the two angles by which the one turns to the other.

    Smooth where both are one. Of embedded motions it is nearly `angle^2 + |t1 - t2|^2 / radius^2`.
    """
    return 2 * log(multiply(conjugate(first), second)).square().sum((-1, -2))
