"""Random poses for simulations and tests: initial poses with an exact error, and the motion of a cine. All are seeded."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import se3
from fluoro_reg.geometry.rigid_transform import RigidTransform

_DEGREES_PER_MM = 0.4  # a rough C-arm set-up: a shift of 15 mm comes with about 6 degrees


def perturb_to_mtre(
    camera_from_patient: RigidTransform,
    points_patient: Float[Tensor, "n 3"],
    mtre_mm: float,
    pivot: Float[Tensor, "3"],
    generator: torch.Generator,
) -> RigidTransform:
    """Return a random pose whose mTRE against the given pose is exactly `mtre_mm` (to 1e-9 mm).

    The twist about `pivot` has a random direction, depth included, with 0.4 degrees of rotation to 1 mm of translation on
    average. Its length is found by bisection.

    Args:
        camera_from_patient: The true pose.
        points_patient: Points over which the error is averaged, in patient mm.
        mtre_mm: The mTRE to reach.
        pivot: Centre of the rotation, in patient mm.
        generator: Source of the random direction.

    Raises:
        InputError: `mtre_mm` is negative, or no rotation of less than 180 degrees reaches it.
    """
    if not (math.isfinite(mtre_mm) and mtre_mm >= 0):
        raise InputError(f"the error of an initial pose must be zero or more, got {mtre_mm} mm")
    direction = torch.randn(6, generator=generator, dtype=torch.float64)
    direction[3:] *= math.radians(_DEGREES_PER_MM)
    target, pivot, points = camera_from_patient.apply(points_patient.double()), pivot.double(), points_patient.double()

    def perturbed(length: float) -> RigidTransform:
        return se3.retract(camera_from_patient, length * direction, pivot)

    def error(length: float) -> float:
        return torch.linalg.vector_norm(perturbed(length).apply(points) - target, dim=-1).mean().item()

    low, high = 0.0, max(mtre_mm, 1e-3)
    while error(high) < mtre_mm:
        low, high = high, 2 * high
        if high * torch.linalg.vector_norm(direction[3:]).item() > math.pi:
            raise InputError(f"no initial pose has an error of {mtre_mm} mm in the chosen direction; ask for a smaller error")
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) < mtre_mm else (low, middle)
    return perturbed(high if mtre_mm > 0 else 0.0)


def smooth_motion(
    camera_from_patient: RigidTransform,
    frames: int,
    pivot: Float[Tensor, "3"],
    amplitude: tuple[float, float],
    generator: torch.Generator,
    periods: float = 2.0,
) -> RigidTransform:
    """Return a batch of `frames` poses that starts at the given pose and moves smoothly, as in a cine of a slow C-arm.

    Each component of the twist about `pivot` is a sum of three sinusoids of up to `periods` cycles over the cine. They are
    scaled so that the maximum translation and rotation from the first pose are `amplitude` = (mm, rad).
    """
    time = torch.linspace(0, 1, frames, dtype=torch.float64)[:, None, None]
    cycles = periods * (torch.rand(6, 3, generator=generator, dtype=torch.float64) * 0.75 + 0.25)
    phase = 2 * math.pi * torch.rand(6, 3, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    twist = (weight * (torch.sin(2 * math.pi * cycles * time + phase) - torch.sin(phase))).sum(-1)
    for part, limit in ((slice(0, 3), amplitude[0]), (slice(3, 6), amplitude[1])):
        maximum = torch.linalg.vector_norm(twist[:, part], dim=-1).max().clamp_min(1e-12)
        twist[:, part] *= limit / maximum
    return se3.retract(camera_from_patient, twist, pivot.double())
