"""Poses to start from and to test with: C-arm views, starts of an exact error, and the motion of a cine. All seeded.

The view at zero angles is the AP view as a radiologist hangs it: the focal spot in front of the patient (at -y of LPS), the
head up in the image, the patient's left on the image's right. Its axes are camera x = +x (left), camera y = -z (towards the
feet), camera z = +y (from front to back).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import se3, so3
from fluoro_reg.geometry.rigid_transform import RigidTransform

_AP_ROTATION = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
_DEGREES_PER_MM = 0.4  # a careless C-arm set-up: 15 mm of shift come with about 6 degrees


def ap_pose(centre_patient: Float[Tensor, "3"], source_to_object_mm: float) -> RigidTransform:
    """`camera_from_patient` of the AP view that looks at `centre_patient` from a distance."""
    return view_pose(centre_patient, 0.0, 0.0, 0.0, source_to_object_mm)


def view_pose(
    centre_patient: Float[Tensor, "3"], primary_deg: float, secondary_deg: float, roll_deg: float, source_to_object_mm: float
) -> RigidTransform:
    """`camera_from_patient` of a C-arm that orbits `centre_patient`, which stays on the optical axis.

    Positive `primary_deg` takes the focal spot to the patient's left about the long axis (90 is a lateral); then positive
    `secondary_deg` tilts it towards the head; positive `roll_deg` turns what the image shows clockwise. The angles are
    geometry, not DICOM's positioner angles, whose zero has the detector in front.
    """
    if not (math.isfinite(source_to_object_mm) and source_to_object_mm > 0):
        raise InputError(f"the distance from the source to the object must be positive, got {source_to_object_mm} mm")
    about_long_axis = _rotation((0.0, 0.0, 1.0), primary_deg)
    about_left_axis = _rotation((1.0, 0.0, 0.0), -secondary_deg)
    patient_from_orbit = about_long_axis @ about_left_axis
    rotation = _rotation((0.0, 0.0, 1.0), roll_deg) @ torch.tensor(_AP_ROTATION, dtype=torch.float64) @ patient_from_orbit.mT
    on_axis = torch.tensor([0.0, 0.0, source_to_object_mm], dtype=torch.float64)
    return RigidTransform(rotation, on_axis - rotation @ centre_patient.double())


def perturb_to_mtre(
    camera_from_patient: RigidTransform,
    points_patient: Float[Tensor, "n 3"],
    mtre_mm: float,
    pivot: Float[Tensor, "3"],
    generator: torch.Generator,
) -> RigidTransform:
    """A random pose whose mean 3-D distance from the true one over the points is `mtre_mm` (to 1e-9 mm).

    The twist about `pivot` has an isotropic direction, depth included, with 0.4 degrees of rotation to 1 mm of translation on
    average; its length is found by bisection.

    Raises:
        InputError: no turn below a half circle reaches the error that was asked for.
    """
    if not (math.isfinite(mtre_mm) and mtre_mm >= 0):
        raise InputError(f"the start's error must be zero or more, got {mtre_mm} mm")
    direction = torch.randn(6, generator=generator, dtype=torch.float64)
    direction[3:] *= math.radians(_DEGREES_PER_MM)
    target, pivot, points = camera_from_patient.apply(points_patient.double()), pivot.double(), points_patient.double()

    def moved(length: float) -> RigidTransform:
        return se3.retract(camera_from_patient, length * direction, pivot)

    def error(length: float) -> float:
        return torch.linalg.vector_norm(moved(length).apply(points) - target, dim=-1).mean().item()

    low, high = 0.0, max(mtre_mm, 1e-3)
    while error(high) < mtre_mm:
        low, high = high, 2 * high
        if high * torch.linalg.vector_norm(direction[3:]).item() > math.pi:
            raise InputError(f"a start {mtre_mm} mm away is more than a turn can give; ask for a smaller error")
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) < mtre_mm else (low, middle)
    return moved(high if mtre_mm > 0 else 0.0)


def smooth_motion(
    camera_from_patient: RigidTransform,
    frames: int,
    pivot: Float[Tensor, "3"],
    amplitude: tuple[float, float],
    generator: torch.Generator,
    periods: float = 2.0,
) -> RigidTransform:
    """A batch of `frames` poses that begins at the given one and wanders smoothly, as in a cine of a slowly moving C-arm.

    Every component of the twist about `pivot` is a sum of three sinusoids of up to `periods` cycles over the whole, scaled so
    that the greatest excursion of translation and of rotation is `amplitude` = (mm, rad).
    """
    time = torch.linspace(0, 1, frames, dtype=torch.float64)[:, None, None]
    cycles = periods * (torch.rand(6, 3, generator=generator, dtype=torch.float64) * 0.75 + 0.25)
    phase = 2 * math.pi * torch.rand(6, 3, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    twist = (weight * (torch.sin(2 * math.pi * cycles * time + phase) - torch.sin(phase))).sum(-1)
    for part, limit in ((slice(0, 3), amplitude[0]), (slice(3, 6), amplitude[1])):
        greatest = torch.linalg.vector_norm(twist[:, part], dim=-1).max().clamp_min(1e-12)
        twist[:, part] *= limit / greatest
    return se3.retract(camera_from_patient, twist, pivot.double())


def _rotation(axis: tuple[float, float, float], degrees: float) -> Float[Tensor, "3 3"]:
    return so3.exp(math.radians(degrees) * torch.tensor(axis, dtype=torch.float64))
