"""Losses of an estimated pose against the true pose: DiffPose's four, with finite gradients where the error is zero.

The gradient of a norm is undefined at zero, and errors become small late in training; DiffPose's implementation fails there.
Here every norm is `sqrt(x^2 + e^2) - e`, which is zero at zero, with e = `SMOOTHING_MM`, far below any error of interest.

Poses are `camera_from_patient`. Translations are compared at a pivot in the patient, not at the patient's origin, which may be
anywhere. Source: V. Gopalakrishnan, N. Dey, P. Golland, "Intraoperative 2D/3D image registration via differentiable X-ray
rendering", CVPR 2024, section 3 (the radius of its angular distance in mm is half the source-to-detector distance).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, so3
from fluoro_reg.regressor.network import PoseEstimate, camera_twist
from fluoro_reg.similarity import MultiscaleNCC

SMOOTHING_MM = 0.1
_MINIMUM_DEPTH_MM = 10.0  # a point is projected as if it were at least this far in front of the source


@dataclass(frozen=True, slots=True)
class LossOptions:
    """Weights of the losses; the geodesic and the landmark losses are in mm."""

    geodesic: float = option(0.01, "weight of the distance on SE(3), rotation and translation separate", unit="1/mm", minimum=0)
    log_geodesic: float = option(0.0, "weight of the length of the twist between the poses", unit="1/mm", minimum=0)
    landmarks: float = option(0.01, "weight of the distance of projected bone, at its depth", unit="1/mm", minimum=0)
    image: float = option(
        0.0, "weight of 1 - multiscale NCC of the images at both poses; DiffPose uses 1, and 0.01 for the others", minimum=0
    )
    uncertainty: float = option(
        0.1, "weight of the covariance's negative log likelihood, which does not affect the pose", minimum=0
    )


def geodesic(
    estimated: RigidTransform, truth: RigidTransform, pivot: Float[Tensor, "3"], radius_mm: float
) -> Float[Tensor, "batch"]:
    """Return sqrt((radius * angle)^2 + |translation of the pivot|^2), in mm.

    DiffPose's radius is half the source-to-detector distance.
    """
    rotation = so3.log(estimated.rotation.mT @ truth.rotation)
    translation = (estimated.apply(pivot[None]) - truth.apply(pivot[None])).squeeze(-2)
    return smooth_norm(torch.cat([radius_mm * rotation, translation], dim=-1))


def log_geodesic(
    estimated: RigidTransform, truth: RigidTransform, pivot: Float[Tensor, "3"], radius_mm: float
) -> Float[Tensor, "batch"]:
    """Return the length of the twist `log(estimated^-1 truth)` about the pivot, with rotations times a radius, in mm.

    DiffPose adds mm and rad without a factor, which is a radius of 1.
    """
    twist = camera_twist(estimated, truth, pivot)
    return smooth_norm(torch.cat([twist[..., :3], radius_mm * twist[..., 3:]], dim=-1))


def projected_landmarks(
    estimated: RigidTransform, truth: RigidTransform, points_patient: Float[Tensor, "n 3"], intrinsics: CameraIntrinsics
) -> Float[Tensor, "batch"]:
    """Return the mean distance of projected points, in mm at their true depth, over the points in the true view's image."""
    points, true_points = estimated.apply(points_patient), truth.apply(points_patient)
    points = torch.cat([points[..., :2], points[..., 2:].clamp_min(_MINIMUM_DEPTH_MM)], dim=-1)
    pixels, true_pixels = intrinsics.project(points), intrinsics.project(true_points)
    u, v = (pixels - true_pixels).unbind(-1)
    distance = smooth_norm(torch.stack([u / intrinsics.fx, v / intrinsics.fy], dim=-1) * true_points[..., 2:])
    weight = is_on_image(true_pixels, intrinsics).to(distance)
    return (weight * distance).sum(-1) / weight.sum(-1).clamp_min(1)


def image_loss(
    moving: Float[Tensor, "batch height width"], fixed: Float[Tensor, "batch height width"]
) -> Float[Tensor, "batch"]:
    """Return 1 - multiscale NCC; 0 for equal images."""
    return 1 - MultiscaleNCC().score(moving, fixed, torch.ones_like(fixed))


def negative_log_likelihood(estimate: PoseEstimate, truth: RigidTransform, pivot: Float[Tensor, "3"]) -> Float[Tensor, "batch"]:
    """Return the negative log likelihood of the error e under the estimate's Gaussian.

    It is `|L^T e|^2 / 2 - log det L + 3 log 2 pi`, and it has no gradient with respect to the pose.
    """
    error = camera_twist(estimate.camera_from_patient, truth, pivot).detach()
    whitened = (estimate.factor.mT @ error[..., None]).squeeze(-1)
    log_determinant = estimate.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * whitened.square().sum(-1) - log_determinant + 3 * math.log(2 * math.pi)


def is_on_image(pixels: Float[Tensor, "*batch 2"], intrinsics: CameraIntrinsics) -> Tensor:
    """Return whether pixels (u, v) lie on the image."""
    u, v = pixels.unbind(-1)
    return (u >= 0) & (v >= 0) & (u <= intrinsics.width - 1) & (v <= intrinsics.height - 1)


def smooth_norm(vectors: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Return nearly the length of the last dimension, smooth at zero."""
    return (vectors.square().sum(-1) + SMOOTHING_MM**2).sqrt() - SMOOTHING_MM
