"""Poses that add up: accepted poses of a patient who lies still, from several angles of the C-arm, fused in one frame.

One X-ray says little about depth. X-rays from other angles say what it did not, if it is known how the C-arm has moved in a
frame that stays still (robot_base, table). The twist of a pose is measured in the patient's axes, so that the information of
every frame adds up wherever the camera was.

Frames from one angle share the errors of the model: a hundred of them know depth no better than one. They therefore count as
one view, whose latest frame is used. A frame that contradicts the others by more than both uncertainties allow shows that the
patient has moved, and the fusion begins anew with it.
"""

import itertools
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract, se3
from fluoro_reg.registration.assessment.covariance import (
    covariance_of_information,
    information_of_ros_covariance,
    ros_covariance,
)
from fluoro_reg.registration.result import RegistrationResult

SAME_VIEW_DEG = 4.0  # frames whose viewing directions differ by less are one view
MAXIMUM_VIEWS = 64  # the oldest is dropped
CONTRADICTION = 16.8  # squared Mahalanobis distance; of 6 dimensions, 99 % are nearer
ROUNDS = 4  # of Gauss-Newton, for the mean of poses


@dataclass(frozen=True, slots=True)
class FusedPose:
    """The pose of the patient in the anchor.

    Attributes:
        anchor_from_patient: The pose, mm.
        covariance: In ROS's convention, in the axes of the anchor; 6 x 6.
        views: The views that it rests on.
        spread_deg: The largest angle between the directions of two views.
        began_anew: Whether this frame contradicted the frames before it, which are forgotten.
    """

    anchor_from_patient: RigidTransform
    covariance: Float[Tensor, "6 6"]
    views: int
    spread_deg: float
    began_anew: bool


@dataclass(frozen=True, slots=True)
class _View:
    anchor_from_patient: RigidTransform
    information: Float[Tensor, "6 6"]  # on the twist in the patient's axes about the pivot
    direction: Float[Tensor, "3"]  # of the optical axis, in the patient's axes


@dataclass(slots=True)
class PatientFusion:
    """Fuses accepted results.

    Attributes:
        pivot: The point of the patient (mm) about which twists are measured, best the CT's centre.
        anchor_sd: Standard deviations of where the anchor says that the camera is, mm and rad at the patient. They are added to
            the uncertainty of every view.
    """

    pivot: Float[Tensor, "3"]
    anchor_sd: tuple[float, float] = (0.0, 0.0)
    _views: tuple[_View, ...] = field(default=(), init=False)

    def reset(self) -> None:
        """Forget all frames."""
        self._views = ()

    def add(self, anchor_from_camera: RigidTransform, result: RegistrationResult) -> FusedPose:
        """Add an accepted result and return the fused pose.

        Args:
            anchor_from_camera: Where the camera was at the image's stamp, mm.
            result: An accepted result, whose covariance is known.

        Raises:
            ValueError: The result is not accepted, or has no covariance.
        """
        pose = result.camera_from_patient
        if not result.accepted or pose is None or result.covariance is None:
            raise ValueError("only an accepted pose with a covariance can be fused")
        covariance = torch.linalg.inv(information_of_ros_covariance(result.covariance, pose, self.pivot))
        covariance = covariance + torch.tensor(self.anchor_sd, dtype=torch.float64).square().repeat_interleave(3).diag()
        view = _View(anchor_from_camera @ pose, torch.linalg.inv(covariance), pose.rotation[2])
        began_anew = bool(self._views) and self._contradicts(view)
        if began_anew:
            self.reset()
        if self._views:
            is_other = (_angles_deg(self._views, view.direction) >= SAME_VIEW_DEG).tolist()
            self._views = tuple(itertools.compress(self._views, is_other))
        self._views = (*self._views, view)[-MAXIMUM_VIEWS:]
        return replace(self._fused(), began_anew=began_anew)

    def mean(self) -> tuple[RigidTransform, Float[Tensor, "6 6"]]:
        """The fused `anchor_from_patient`, and its information on the twist in the patient's axes about the pivot."""
        return _mean(self._views, self.pivot)

    def _contradicts(self, view: _View) -> bool:
        """Whether a view and the fused pose of all views are further apart than their uncertainties allow."""
        mean, information = self.mean()
        apart = se3.local(mean, view.anchor_from_patient, self.pivot)
        both = torch.linalg.inv(information) + torch.linalg.inv(view.information)
        return float(apart @ torch.linalg.solve(both, apart)) > CONTRADICTION

    def _fused(self) -> FusedPose:
        mean, information = self.mean()
        covariance = covariance_of_information(information)
        if covariance is None:
            raise ValueError("the information of the views does not determine the pose")
        spread = max(float(_angles_deg(self._views, view.direction).max()) for view in self._views)
        return FusedPose(mean, ros_covariance(covariance, mean, self.pivot), len(self._views), spread, began_anew=False)


def _mean(views: tuple[_View, ...], pivot: Float[Tensor, "3"]) -> tuple[RigidTransform, Float[Tensor, "6 6"]]:
    """The pose with the least squared Mahalanobis distance from all views, and its information."""
    poses, information = (
        RigidTransform.stack([v.anchor_from_patient for v in views]),
        torch.stack([v.information for v in views]),
    )
    mean = views[-1].anchor_from_patient
    for _ in range(ROUNDS if len(views) > 1 else 0):
        apart = se3.local(mean, poses, pivot)
        step = torch.linalg.solve(information.sum(0), (information @ apart[..., None]).sum(0)).squeeze(-1)
        mean = retract(mean, step, pivot)
    return mean, information.sum(0)


def _angles_deg(views: tuple[_View, ...], direction: Float[Tensor, "3"]) -> Float[Tensor, "views"]:
    """The angles between the directions of views and another direction."""
    return torch.rad2deg(torch.acos((torch.stack([view.direction for view in views]) @ direction).clamp(-1.0, 1.0)))
