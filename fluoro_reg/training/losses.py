"""Losses of an estimated pose against the true one: DiffPose's four, finite with finite gradients where the error is zero.

The gradient of a norm is undefined at zero, and a late training is full of errors near zero: DiffPose's own crashed there. Here
every norm is `sqrt(x^2 + e^2) - e`, zero at zero, with e = `SMOOTH_MM`, far below any error that is worth a gradient.

Poses are `camera_from_patient`; translations are compared at a pivot in the patient, not at the patient's origin, which may lie
anywhere. Source: V. Gopalakrishnan, N. Dey, P. Golland, "Intraoperative 2D/3D image registration via differentiable X-ray
rendering", CVPR 2024, section 3 (their angular distance in mm takes half the source-to-detector distance for its radius).
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

SMOOTH_MM = 0.1
_NEAREST_MM = 10.0  # a point is projected as if it lay at least so far in front of the source


@dataclass(frozen=True, slots=True)
class LossOptions:
    """Weights of the losses; the geodesic ones and landmarks are in mm."""

    geodesic: float = option(0.01, "of the distance on SE(3), rotation and translation apart", unit="1/mm", minimum=0)
    log_geodesic: float = option(0.0, "of the length of the twist between the poses", unit="1/mm", minimum=0)
    landmarks: float = option(0.01, "of the distance of projected bone, at its depth", unit="1/mm", minimum=0)
    image: float = option(0.0, "of 1 - multiscale NCC of the images at both poses; DiffPose: 1, and the rest 0.01", minimum=0)
    uncertainty: float = option(0.1, "of the covariance's negative log likelihood; no other loss feels it", minimum=0)


def geodesic(
    estimated: RigidTransform, truth: RigidTransform, pivot: Float[Tensor, "3"], radius_mm: float
) -> Float[Tensor, "batch"]:
    """sqrt((radius * angle)^2 + |shift of the pivot|^2), mm; DiffPose's radius is half the source-to-detector distance."""
    turn = so3.log(estimated.rotation.mT @ truth.rotation)
    shift = (estimated.apply(pivot[None]) - truth.apply(pivot[None])).squeeze(-2)
    return smooth_norm(torch.cat([radius_mm * turn, shift], dim=-1))


def log_geodesic(
    estimated: RigidTransform, truth: RigidTransform, pivot: Float[Tensor, "3"], radius_mm: float
) -> Float[Tensor, "batch"]:
    """The length of the twist from one pose to the other, `log(estimated^-1 truth)` about the pivot, rotation times a radius.

    DiffPose adds mm and rad as they are: radius 1.
    """
    twist = camera_twist(estimated, truth, pivot)
    return smooth_norm(twist * twist.new_tensor([1.0] * 3 + [radius_mm] * 3))


def projected_landmarks(
    estimated: RigidTransform, truth: RigidTransform, points_patient: Float[Tensor, "n 3"], intrinsics: CameraIntrinsics
) -> Float[Tensor, "batch"]:
    """The mean distance between projections of points, in mm at the points' true depth, over those that the true view shows."""
    found, true = estimated.apply(points_patient), truth.apply(points_patient)
    found = torch.cat([found[..., :2], found[..., 2:].clamp_min(_NEAREST_MM)], dim=-1)
    pixels, true_pixels = intrinsics.project(found), intrinsics.project(true)
    focal = pixels.new_tensor([intrinsics.fx, intrinsics.fy])
    distance = smooth_norm((pixels - true_pixels) / focal * true[..., 2:])
    weight = shown(true_pixels, intrinsics).to(distance)
    return (weight * distance).sum(-1) / weight.sum(-1).clamp_min(1)


def image_loss(
    moving: Float[Tensor, "batch height width"], fixed: Float[Tensor, "batch height width"]
) -> Float[Tensor, "batch"]:
    """1 - multiscale NCC, 0 for equal images."""
    return 1 - MultiscaleNCC().score(moving, fixed, torch.ones_like(fixed))


def negative_log_likelihood(estimate: PoseEstimate, truth: RigidTransform, pivot: Float[Tensor, "3"]) -> Float[Tensor, "batch"]:
    """Of the error under the estimate's own Gaussian, `|L^T e|^2 / 2 - log det L + 3 log 2 pi`; the error counts as given."""
    error = camera_twist(estimate.camera_from_patient, truth, pivot).detach()
    whitened = (estimate.factor.mT @ error[..., None]).squeeze(-1)
    log_determinant = estimate.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * whitened.square().sum(-1) - log_determinant + 3 * math.log(2 * math.pi)


def shown(pixels: Float[Tensor, "*batch 2"], intrinsics: CameraIntrinsics) -> Tensor:
    """Whether pixels lie on the image."""
    size = pixels.new_tensor([intrinsics.width - 1, intrinsics.height - 1])
    return ((pixels >= 0) & (pixels <= size)).all(-1)


def smooth_norm(vectors: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Almost the length, and smooth at zero."""
    return (vectors.square().sum(-1) + SMOOTH_MM**2).sqrt() - SMOOTH_MM
