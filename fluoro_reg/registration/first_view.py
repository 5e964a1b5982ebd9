"""Several X-rays without an initial pose: the first one is searched alone, and what is found there is refined in all of them.

A mirrored X-ray looks like one from behind, and several that are mirrored agree with each other. Only an initial pose or a
mirror image, which is registered for comparison, tells the two apart. So the first X-ray must accept its pose alone.
"""

from collections.abc import Callable
from dataclasses import replace

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.result import Outcome, RegistrationResult


def register_from_first(
    found: RegistrationResult,
    reference_from_camera: RigidTransform,
    register: Callable[[RigidTransform], RegistrationResult],
    distance_mm: Callable[[RigidTransform, RigidTransform], float],
    distinct_mm: float,
) -> RegistrationResult:
    """Register several X-rays from what was found in the first one.

    Args:
        found: The result of the first X-ray alone.
        reference_from_camera: From the camera of the first X-ray to the frame of the result.
        register: Registers all X-rays from an initial pose.
        distance_mm: How far apart two poses are.
        distinct_mm: Poses further apart are different.

    Returns:
        The result of all X-rays, ambiguous if they accept a pose that the first one alone does not.
    """
    if found.camera_from_patient is None:
        return replace(found, reason=f"view 1: {found.reason}")
    start = reference_from_camera @ found.camera_from_patient
    result = register(start)
    pose = result.camera_from_patient
    supported = found.accepted and pose is not None and distance_mm(pose, start) <= distinct_mm
    if result.accepted and not supported:
        reason = f"there is no initial pose, and the first view alone does not accept this one ({found.reason}); give one"
        result = replace(result, outcome=Outcome.AMBIGUOUS, reason=reason)
    return replace(
        result,
        start=found.start,
        start_detail=found.start_detail,
        stands_out=found.stands_out,
        elapsed_s=found.elapsed_s + result.elapsed_s,
        n_renders=found.n_renders + result.n_renders,
    )
