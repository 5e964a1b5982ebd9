"""The covariance of a pose, from the curvature of the cost at the optimum.

The residuals at the optimum measure the noise between the images; the inverse Gauss-Newton Hessian turns it into the covariance
of the twist. Neighbouring pixels are not independent and the model is never exact, so the standard deviations are inflated.
Depth is inflated further: its bias depends on the intensity model, while the in-plane directions do not.

NumPy computes it: these are a few matrices of 6 x 6 in every frame (`arrays`).
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.geometry.so3 import hat

INFLATION = 3.0  # of in-plane standard deviations
MINIMUM_COST = 0.1  # of standardised residuals; no model of an X-ray is better, however well one image happens to fit
DEPTH_INFLATION = 6.0  # of the standard deviation along the optical axis
BONE_TURN_INFLATION = 3.0  # of rotations, besides, where bone is compared alone: its edges move with the threshold
_INFLATION = np.array([[INFLATION, INFLATION, DEPTH_INFLATION], [INFLATION] * 3])


def twist_covariance(
    hessian: Float[Tensor, "6 6"], cost: float, n_effective: float, rotation: Float[Tensor, "3 3"]
) -> Float[Tensor, "6 6"] | None:
    """Covariance of the twist about the pivot (patient axes, mm and rad); None if the image leaves a direction undetermined."""
    return covariance_of_information(twist_information(hessian, cost, n_effective, rotation))


def twist_information(
    hessian: Float[Tensor, "6 6"], cost: float, n_effective: float, rotation: Float[Tensor, "3 3"]
) -> Float[Tensor, "6 6"]:
    """The inverse of `twist_covariance`, which always exists; that of several views of one patient is the sum."""
    return _deflated(n_effective / max(cost, MINIMUM_COST) * hessian, rotation)


def prior_in_image_units(
    information: Float[Tensor, "6 6"], cost: float, n_effective: float, rotation: Float[Tensor, "3 3"]
) -> Float[Tensor, "6 6"]:
    """What a prior adds to the Hessian of a cost, so that it weighs against the image as `twist_information` does."""
    inflate = _scaling(rotation, _INFLATION)
    return torch.from_numpy(max(cost, MINIMUM_COST) / n_effective * inflate @ information.numpy() @ inflate.T)


def covariance_of_information(information: Float[Tensor, "6 6"]) -> Float[Tensor, "6 6"] | None:
    """The inverse; None if a direction is undetermined."""
    scale = 1 / np.sqrt(np.maximum(np.diagonal(information.numpy()), 1e-30))
    correlation = scale[:, None] * information.numpy() * scale
    if not np.isfinite(correlation).all() or float(np.linalg.eigvalsh(correlation)[0]) < 1e-7:
        return None
    return torch.from_numpy(scale[:, None] * np.linalg.inv(correlation) * scale)


def with_uncertain_turns(twist_covariance: Float[Tensor, "6 6"], inflation: float) -> Float[Tensor, "6 6"]:
    """The covariance of a twist after the standard deviations of its rotation are inflated."""
    scale = torch.tensor([1.0] * 3 + [inflation] * 3, dtype=torch.float64)
    return scale[:, None] * twist_covariance * scale


def ros_covariance(
    twist_covariance: Float[Tensor, "6 6"], camera_from_patient: RigidTransform, pivot: Float[Tensor, "3"]
) -> Float[Tensor, "6 6"]:
    """The covariance in ROS's convention: of the patient's origin in camera axes, and of rotations about the fixed camera axes.

    A twist (v, w) about pivot p moves the patient's origin by `R (v + p x w)` and rotates it by `R w`.
    """
    jacobian = _ros_from_twist(camera_from_patient, pivot)
    return torch.from_numpy(jacobian @ twist_covariance.numpy() @ jacobian.T)


def information_of_ros_covariance(
    covariance: Float[Tensor, "6 6"], camera_from_patient: RigidTransform, pivot: Float[Tensor, "3"]
) -> Float[Tensor, "6 6"]:
    """The information on the twist about the pivot that a covariance in ROS's convention stands for."""
    twist_from_ros = np.linalg.inv(_ros_from_twist(camera_from_patient, pivot))
    return torch.from_numpy(np.linalg.inv(twist_from_ros @ covariance.numpy() @ twist_from_ros.T))


def _ros_from_twist(camera_from_patient: RigidTransform, pivot: Float[Tensor, "3"]) -> Float[np.ndarray, "6 6"]:
    rotation, (x, y, z) = camera_from_patient.rotation.numpy(), pivot.tolist()
    jacobian = np.zeros((6, 6))
    jacobian[:3, :3] = jacobian[3:, 3:] = rotation
    jacobian[:3, 3:] = rotation @ np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return jacobian


def position_covariance(
    covariance: Float[Tensor, "6 6"], camera_from_patient: RigidTransform, point_patient: Float[Tensor, "3"]
) -> Float[Tensor, "3 3"]:
    """Covariance (mm^2, camera axes) of a point of the patient, from a covariance in the convention of `ros_covariance`.

    The patient's origin may be half a metre from the anatomy; the uncertainty that matters is that at the anatomy.
    """
    lever = camera_from_patient.rotation @ point_patient
    jacobian = torch.cat([torch.eye(3, dtype=torch.float64), -hat(lever)], dim=-1)
    return jacobian @ covariance @ jacobian.T


def _deflated(information: Float[Tensor, "6 6"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "6 6"]:
    """The information after the standard deviations are inflated along the camera's axes."""
    deflate = _scaling(rotation, 1 / _INFLATION)
    return torch.from_numpy(deflate @ information.numpy() @ deflate.T)


def _scaling(rotation: Float[Tensor, "3 3"], of_axes: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "6 6"]:
    """The map of twists that scales their two parts along the camera's axes."""
    scaling, axes = np.zeros((6, 6)), rotation.numpy()
    scaling[:3, :3], scaling[3:, 3:] = (axes.T @ (one[:, None] * axes) for one in of_axes)
    return scaling
