"""Several X-rays without an initial pose: the first one is searched alone, and what may explain it is refined in all of them.

One X-ray may be explained by several poses, such as a symmetric implant. The others decide between them.
"""

from collections.abc import Callable
from dataclasses import replace

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.result import Outcome, RegistrationResult

TRIED = 4  # poses of the first X-ray, the likeliest first


def register_from_first(
    found: RegistrationResult,
    reference_from_camera: RigidTransform,
    register: Callable[[RigidTransform], RegistrationResult],
    distance_mm: Callable[[RigidTransform, RigidTransform], float],
    distinct_mm: float,
) -> RegistrationResult:
    """Register several X-rays from what was found in the first one.

    Args:
        found: The result of the first X-ray alone. Its pose need not be accepted.
        reference_from_camera: From the camera of the first X-ray to the frame of the result.
        register: Registers all X-rays from an initial pose.
        distance_mm: How far apart two poses are.
        distinct_mm: Poses further apart are different.

    Returns:
        The accepted result; else the first one. If different poses are accepted, they are ambiguous.
    """
    if found.camera_from_patient is None:
        return replace(found, reason=f"view 1: {found.reason}")
    starts = [found.camera_from_patient, *(other.camera_from_patient for other in found.alternatives)][:TRIED]
    results = [register(reference_from_camera @ start) for start in starts]
    best = next((result for result in results if result.accepted), results[0])
    pose = best.camera_from_patient
    rivals = [one.camera_from_patient for one in results if one.accepted and one.camera_from_patient is not None]
    if pose is not None and any(distance_mm(pose, rival) > distinct_mm for rival in rivals):
        reason = "different poses that explain the first view are accepted in all views"
        best = replace(best, outcome=Outcome.AMBIGUOUS, reason=reason)
    return replace(
        best,
        start=found.start,
        start_detail=found.start_detail,
        elapsed_s=found.elapsed_s + sum(one.elapsed_s for one in results),
        n_renders=found.n_renders + sum(one.n_renders for one in results),
    )
