"""Motion of the patient relative to the camera: pose and velocity with their covariance, on SE(3), with constant velocity.

The error of the pose is a twist about the pivot, [mm, rad] in patient axes, and so is the velocity, per second. Accelerations
are white noise. A gap between frames stops the extrapolation: nobody knows what moved meanwhile, and the covariance says so.
Source: Sola et al., "A micro Lie theory for state estimation in robotics", sections on error-state filters.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract, se3
from fluoro_reg.registration.stages.objective import PosePrior

NOMINAL_PERIOD_S = 1 / 15  # between images without stamps
MEMORY_S = 0.3  # the velocity fades over this time without a frame
LONGEST_GAP_S = 2.0  # the covariance stops growing
_FIRST_SPEED = (60.0, 0.5)  # standard deviations of the velocity at the first frame, mm/s and rad/s


@dataclass(frozen=True, slots=True)
class MotionState:
    """Pose (`camera_from_patient`), velocity (twist per second) and their covariance, at a stamp."""

    stamp_ns: int | None
    pose: RigidTransform
    velocity: Float[Tensor, "6"]
    covariance: Float[Tensor, "12 12"]

    @staticmethod
    def first(stamp_ns: int | None, pose: RigidTransform, covariance: Float[Tensor, "6 6"]) -> "MotionState":
        """The state after the first accepted frame, at rest."""
        speed = torch.tensor([_FIRST_SPEED[0]] * 3 + [_FIRST_SPEED[1]] * 3, dtype=torch.float64)
        return MotionState(
            stamp_ns, pose, torch.zeros(6, dtype=torch.float64), torch.block_diag(covariance, torch.diag(speed.square()))
        )

    @property
    def prior(self) -> PosePrior:
        """The pose as a prior."""
        return PosePrior(self.pose, torch.linalg.inv(self.covariance[:6, :6]))


@dataclass(frozen=True, slots=True)
class MotionModel:
    """Predicts and corrects. `acceleration` is the standard deviation of accelerations, mm/s^2 and rad/s^2."""

    pivot: Float[Tensor, "3"]
    acceleration: tuple[float, float]

    def predict(self, state: MotionState, stamp_ns: int | None) -> MotionState:
        """Return the state at a stamp; None is one nominal period later."""
        dt = _seconds_between(state.stamp_ns, stamp_ns)
        moving = MEMORY_S * (1 - math.exp(-dt / MEMORY_S))  # seconds of motion at the velocity, which fades
        pose = retract(state.pose, moving * state.velocity, self.pivot)
        fade, unit = math.exp(-dt / MEMORY_S), torch.eye(6, dtype=torch.float64)
        dt = min(dt, LONGEST_GAP_S)
        transition = torch.cat([torch.cat([unit, moving * unit], 1), torch.cat([0 * unit, fade * unit], 1)])
        variance = torch.tensor([self.acceleration[0]] * 3 + [self.acceleration[1]] * 3, dtype=torch.float64).square()
        noise = torch.kron(torch.tensor([[dt**4 / 4, dt**3 / 2], [dt**3 / 2, dt**2]], dtype=torch.float64), variance.diag())
        covariance = transition @ state.covariance @ transition.T + noise
        return MotionState(stamp_ns, pose, fade * state.velocity, covariance)

    def correct(self, predicted: MotionState, pose: RigidTransform, information: Float[Tensor, "6 6"]) -> MotionState:
        """Return the state after an image, whose best pose alone is `pose` with an information on the twist."""
        fused = torch.linalg.inv(predicted.prior.information + information)
        innovation = se3.local(predicted.pose, pose, self.pivot)
        return self._conditioned(predicted, fused @ information @ innovation, fused)

    def correct_filtered(self, predicted: MotionState, pose: RigidTransform, information: Float[Tensor, "6 6"]) -> MotionState:
        """Return the state after an image, where `pose` is the best under image and prediction together."""
        fused = torch.linalg.inv(predicted.prior.information + information)
        return self._conditioned(predicted, se3.local(predicted.pose, pose, self.pivot), fused)

    def _conditioned(self, predicted: MotionState, change: Float[Tensor, "6"], covariance: Float[Tensor, "6 6"]) -> MotionState:
        """The joint distribution when its pose becomes one that is `change` away, with another covariance."""
        pose_pose, pose_velocity = predicted.covariance[:6, :6], predicted.covariance[:6, 6:]
        gain = torch.linalg.solve(pose_pose, pose_velocity).T  # of the velocity, on changes of the pose
        across = gain @ covariance
        velocities = predicted.covariance[6:, 6:] - gain @ (pose_pose - covariance) @ gain.T
        joint = torch.cat([torch.cat([covariance, across.T], 1), torch.cat([across, velocities], 1)])
        return MotionState(
            predicted.stamp_ns,
            retract(predicted.pose, change, self.pivot),
            predicted.velocity + gain @ change,
            (joint + joint.T) / 2,
        )


def _seconds_between(earlier_ns: int | None, later_ns: int | None) -> float:
    if earlier_ns is None or later_ns is None:
        return NOMINAL_PERIOD_S
    return max((later_ns - earlier_ns) * 1e-9, 0.0)
