"""Rigid motions: exponential and logarithm of twists `[translation mm, rotation rad]`, and the step of every optimiser.

Source: Sola et al., "A micro Lie theory for state estimation in robotics", eqs. 171-180.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import so3
from fluoro_reg.geometry.rigid_transform import RigidTransform


def exp(twist: Float[Tensor, "*batch 6"]) -> RigidTransform:
    """The motion of a constant twist for unit time."""
    v, w = twist[..., :3], twist[..., 3:]
    return RigidTransform(so3.exp(w), (so3.left_jacobian(w) @ v[..., None]).squeeze(-1))


def log(transform: RigidTransform) -> Float[Tensor, "*batch 6"]:
    """The twist whose exponential is `transform` (rotation at most pi)."""
    w = so3.log(transform.rotation)
    v = torch.linalg.solve(so3.left_jacobian(w), transform.translation[..., None]).squeeze(-1)
    return torch.cat([v, w], dim=-1)


def retract(target_from_source: RigidTransform, twist: Float[Tensor, "*batch 6"], pivot: Float[Tensor, "3"]) -> RigidTransform:
    """`target_from_source @ shift(pivot) @ exp(twist) @ shift(-pivot)`: a step in the source frame about `pivot`."""
    step = exp(twist)
    moved = step.translation + pivot - (step.rotation @ pivot[:, None]).squeeze(-1)
    return target_from_source @ RigidTransform(step.rotation, moved)


def local(start: RigidTransform, end: RigidTransform, pivot: Float[Tensor, "3"]) -> Float[Tensor, "*batch 6"]:
    """The inverse of `retract`: the twist about `pivot` that takes `start` to `end`."""
    between = start.inverse() @ end
    centred = between.translation - pivot + (between.rotation @ pivot[:, None]).squeeze(-1)
    return log(RigidTransform(between.rotation, centred))
