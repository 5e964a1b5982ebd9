"""Rigid motions: exponential and logarithm of twists `[translation mm, rotation rad]`, and the update step of optimisers.

Source: Sola et al., "A micro Lie theory for state estimation in robotics", eqs. 171-180.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.arrays import arrays_of
from fluoro_reg.geometry import numpy_se3, so3
from fluoro_reg.geometry.rigid_transform import RigidTransform


def exp(twist: Float[Tensor, "*batch 6"]) -> RigidTransform:
    """Return the rigid motion of a twist."""
    plain = arrays_of(twist)
    if plain is not None:
        return RigidTransform(*(torch.from_numpy(part) for part in numpy_se3.exp(*plain)))
    v, w = twist[..., :3], twist[..., 3:]
    return RigidTransform(so3.exp(w), (so3.left_jacobian(w) @ v[..., None]).squeeze(-1))


def log(transform: RigidTransform) -> Float[Tensor, "*batch 6"]:
    """Return the twist whose exponential is `transform` (rotation of at most pi)."""
    w = so3.log(transform.rotation)
    v = torch.linalg.solve(so3.left_jacobian(w), transform.translation[..., None]).squeeze(-1)
    return torch.cat([v, w], dim=-1)


def retract(target_from_source: RigidTransform, twist: Float[Tensor, "*batch 6"], pivot: Float[Tensor, "3"]) -> RigidTransform:
    """Apply a twist in the source frame about `pivot`: `target_from_source @ shift(pivot) @ exp(twist) @ shift(-pivot)`."""
    plain = arrays_of(target_from_source.rotation, target_from_source.translation, twist, pivot)
    if plain is not None:
        return RigidTransform(*(torch.from_numpy(part) for part in numpy_se3.retract(*plain)))
    step = exp(twist)
    translation = step.translation + pivot - (step.rotation @ pivot[:, None]).squeeze(-1)
    return target_from_source @ RigidTransform(step.rotation, translation)


def local(start: RigidTransform, end: RigidTransform, pivot: Float[Tensor, "3"]) -> Float[Tensor, "*batch 6"]:
    """Return the twist about `pivot` that maps `start` to `end`; the inverse of `retract`."""
    plain = arrays_of(start.rotation, start.translation, end.rotation, end.translation, pivot)
    if plain is not None:
        return torch.from_numpy(numpy_se3.local(*plain))
    between = start.inverse() @ end
    centred = between.translation - pivot + (between.rotation @ pivot[:, None]).squeeze(-1)
    return log(RigidTransform(between.rotation, centred))
