"""The views of a C-arm by its angles: axes, signs and the zero view.

The view at zero angles is the AP view as a radiologist displays it: the focal spot in front of the patient (at -y of LPS), the
head at the top of the image, the patient's left on the right of the image. Its axes are camera x = +x (left), camera y = -z
(towards the feet), camera z = +y (from front to back).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform, so3

_AP_ROTATION = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))


def ap_pose(centre_patient: Float[Tensor, "3"], source_to_object_mm: float) -> RigidTransform:
    """Return `camera_from_patient` of the AP view of `centre_patient` from the given distance.

    Example:
        >>> centre = torch.tensor([10.0, 20.0, 30.0], dtype=torch.float64)
        >>> ap_pose(centre, 700.0).apply(centre[None]).tolist()
        [[0.0, 0.0, 700.0]]
    """
    return view_pose(centre_patient, 0.0, 0.0, 0.0, source_to_object_mm)


def view_pose(
    centre_patient: Float[Tensor, "3"], primary_deg: float, secondary_deg: float, roll_deg: float, source_to_object_mm: float
) -> RigidTransform:
    """Return `camera_from_patient` of a C-arm that orbits `centre_patient`, which stays on the optical axis.

    The angles describe the focal spot. They are not DICOM's positioner angles, whose zero has the detector in front of the
    patient.

    Args:
        centre_patient: Isocentre in patient mm.
        primary_deg: Rotation about the patient's long axis, positive towards the patient's left; 90 is a lateral view.
        secondary_deg: Tilt after that, positive towards the head.
        roll_deg: Rotation of the image content about the optical axis, positive clockwise.
        source_to_object_mm: Distance from the focal spot to the isocentre.

    Raises:
        InputError: The distance is not positive.
    """
    if not (math.isfinite(source_to_object_mm) and source_to_object_mm > 0):
        raise InputError(f"the distance from the source to the object must be positive, got {source_to_object_mm} mm")
    about_long_axis = _rotation((0.0, 0.0, 1.0), primary_deg)
    about_left_axis = _rotation((1.0, 0.0, 0.0), -secondary_deg)
    patient_from_orbit = about_long_axis @ about_left_axis
    rotation = _rotation((0.0, 0.0, 1.0), roll_deg) @ torch.tensor(_AP_ROTATION, dtype=torch.float64) @ patient_from_orbit.mT
    on_axis = torch.tensor([0.0, 0.0, source_to_object_mm], dtype=torch.float64)
    return RigidTransform(rotation, on_axis - rotation @ centre_patient.double())


def view_angles_deg(camera_from_patient: RigidTransform) -> tuple[float, float, float]:
    """Return the primary, secondary and roll angle of a pose, the inverse of `view_pose`; primary and roll within 180 degrees.

    Example:
        >>> pose = view_pose(torch.zeros(3, dtype=torch.float64), 170.0, -12.0, 5.0, 700.0)
        >>> tuple(round(angle) for angle in view_angles_deg(pose))
        (170, -12, 5)
    """
    x, y, z = camera_from_patient.rotation[2].tolist()  # the direction of the beam in the patient
    primary, secondary = math.degrees(math.atan2(-x, y)), -math.degrees(math.asin(max(-1.0, min(1.0, z))))
    upright = view_pose(torch.zeros(3, dtype=torch.float64), primary, secondary, 0.0, 1.0).rotation
    turned = camera_from_patient.rotation @ upright.mT
    return primary, secondary, math.degrees(math.atan2(float(turned[1, 0]), float(turned[0, 0])))


def _rotation(axis: tuple[float, float, float], degrees: float) -> Float[Tensor, "3 3"]:
    return so3.exp(math.radians(degrees) * torch.tensor(axis, dtype=torch.float64))
