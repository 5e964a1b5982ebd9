"""From the curvature at the optimum to a covariance that a ROS consumer can use.

Residuals after convergence say how noisy the images are to each other; the inverse Gauss-Newton Hessian turns that into the
covariance of the twist. Neighbouring pixels are not independent and the model is never quite right, so the standard deviations
are inflated, and depth once more: its bias follows the intensity model while everything in the plane stays put.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.geometry.so3 import hat

INFLATION = 3.0  # of standard deviations, in the plane
MINIMUM_COST = 0.1  # of standardised residuals: no model of an X-ray is better, however well one image happens to fit
DEPTH_INFLATION = 6.0  # of the standard deviation along the optical axis


def twist_covariance(
    hessian: Float[Tensor, "6 6"], cost: float, n_effective: float, rotation: Float[Tensor, "3 3"]
) -> Float[Tensor, "6 6"] | None:
    """Covariance of the twist about the pivot (patient axes, mm and rad); None where the image leaves a direction free."""
    return covariance_of_information(twist_information(hessian, cost, n_effective, rotation))


def twist_information(
    hessian: Float[Tensor, "6 6"], cost: float, n_effective: float, rotation: Float[Tensor, "3 3"]
) -> Float[Tensor, "6 6"]:
    """The inverse of `twist_covariance`, which exists in any case; those of several views of one patient add up."""
    return _deflated(n_effective / max(cost, MINIMUM_COST) * hessian, rotation)


def covariance_of_information(information: Float[Tensor, "6 6"]) -> Float[Tensor, "6 6"] | None:
    """The inverse; None where a direction is free."""
    scale = information.diagonal().clamp_min(1e-30).rsqrt()
    correlation = scale[:, None] * information * scale
    if not torch.isfinite(correlation).all() or float(torch.linalg.eigvalsh(correlation)[0]) < 1e-7:
        return None
    return scale[:, None] * torch.linalg.inv(correlation) * scale


def ros_covariance(
    twist_covariance: Float[Tensor, "6 6"], camera_from_patient: RigidTransform, pivot: Float[Tensor, "3"]
) -> Float[Tensor, "6 6"]:
    """The covariance as ROS has it: of the patient's origin in camera axes, and of rotations about the fixed camera axes.

    A twist (v, w) about pivot p moves the patient's origin by `R (v + p x w)` and turns it by `R w`.
    """
    rotation = camera_from_patient.rotation
    jacobian = torch.zeros(6, 6, dtype=torch.float64)
    jacobian[:3, :3] = rotation
    jacobian[:3, 3:] = rotation @ hat(pivot)
    jacobian[3:, 3:] = rotation
    return jacobian @ twist_covariance @ jacobian.T


def position_covariance(
    covariance: Float[Tensor, "6 6"], camera_from_patient: RigidTransform, point_patient: Float[Tensor, "3"]
) -> Float[Tensor, "3 3"]:
    """Covariance (mm^2, camera axes) of where a point of the patient lies, from a covariance as `ros_covariance` gives it.

    The patient's origin may lie half a metre from the anatomy; what a user asks for is the doubt where the anatomy is.
    """
    lever = camera_from_patient.rotation @ point_patient
    jacobian = torch.cat([torch.eye(3, dtype=torch.float64), -hat(lever)], dim=-1)
    return jacobian @ covariance @ jacobian.T


def _deflated(information: Float[Tensor, "6 6"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "6 6"]:
    """What is left of information once standard deviations are inflated, along the camera's axes."""
    to_camera = torch.block_diag(rotation, rotation)
    widen = torch.tensor([INFLATION, INFLATION, DEPTH_INFLATION, INFLATION, INFLATION, INFLATION], dtype=torch.float64)
    transform = to_camera.T @ torch.diag(1 / widen) @ to_camera
    return transform @ information @ transform.T
