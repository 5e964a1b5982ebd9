"""Levenberg-Marquardt on a fused pass, from a predicted pose until the step is small against the uncertainty.

There is no ladder of scales and no fixed number of rounds: a prediction within a millimetre takes two renders, one at which the
step is found and one that shows that the next is negligible. That last step is taken without a further render, because the
assessment evaluates the pose anyway.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract, se3
from fluoro_reg.registration.assessment.covariance import prior_in_image_units, twist_information
from fluoro_reg.registration.stages.objective import PosePrior
from fluoro_reg.registration.tracking.kernels import TWIST
from fluoro_reg.registration.tracking.passes import AbstractFusedPass, FusedSystem

NEGLIGIBLE_SD = 0.1  # a step of fewer standard deviations of the pose is the last
MAXIMUM_PASSES = 12
LARGEST_STEP = (12.0, 0.14)  # mm, rad
DAMPING, EASING, TIGHTENING = 1e-3, 10.0, 8.0


@dataclass(frozen=True, slots=True)
class RefinedFrame:
    """A refined pose, the gain and offset there, and whether the last step was negligible."""

    pose: RigidTransform
    fit: Float[np.ndarray, "unknowns"]
    converged: bool


@dataclass(slots=True)
class FrameRefiner:
    """Minimises one pass. `effective_pixels` is the number of independent residuals."""

    fused: AbstractFusedPass
    pivot: Float[Tensor, "3"]
    effective_pixels: float
    prior: PosePrior | None = None

    def refine(
        self, pose: RigidTransform, fit: Float[np.ndarray, "unknowns"], maximum_passes: int = MAXIMUM_PASSES
    ) -> RefinedFrame:
        """Refine a pose, beginning with a gain and an offset such as those of the last frame."""
        if fit.size and not fit.any():
            fit = self._first_fit(pose)
        here, damping = self._with_prior(self.fused.system(pose, fit), pose), DAMPING
        for _ in range(maximum_passes):
            step = _solve(here, damping)
            trial = retract(pose, torch.from_numpy(step[:TWIST]), self.pivot)
            if self._is_negligible(here, step, pose):
                return RefinedFrame(trial, fit + step[TWIST:], True)
            there = self._with_prior(self.fused.system(trial, fit + step[TWIST:]), trial)
            if there.cost < here.cost:
                pose, fit, here, damping = trial, fit + step[TWIST:], there, damping / EASING
            else:
                damping = max(damping, DAMPING) * TIGHTENING
        return RefinedFrame(pose, fit, False)

    def _first_fit(self, pose: RigidTransform) -> Float[np.ndarray, "unknowns"]:
        """Gain and offset of a pose about which nothing is known but that it is near."""
        here = self.fused.system(pose, np.zeros(2))
        return np.linalg.solve(here.hessian[TWIST:, TWIST:], -here.gradient[TWIST:])

    def _with_prior(self, system: FusedSystem, pose: RigidTransform) -> FusedSystem:
        """The system with the prior, in units of the image's noise."""
        if self.prior is None:
            return system
        information = prior_in_image_units(self.prior.information, system.cost, self.effective_pixels, pose.rotation).numpy()
        twist = se3.local(self.prior.camera_from_patient, pose, self.pivot).numpy()
        gradient, hessian = system.gradient.copy(), system.hessian.copy()
        gradient[:TWIST] += information @ twist
        hessian[:TWIST, :TWIST] += information
        return FusedSystem(system.cost + float(twist @ information @ twist), gradient, hessian)

    def _is_negligible(self, here: FusedSystem, step: Float[np.ndarray, "unknowns"], pose: RigidTransform) -> bool:
        """Whether the step of the twist is small against the pose's uncertainty, whatever gain and offset do."""
        hessian = torch.from_numpy(without_fit(here.hessian))
        information = twist_information(hessian, here.cost, self.effective_pixels, pose.rotation).numpy()
        return bool(step[:TWIST] @ information @ step[:TWIST] <= NEGLIGIBLE_SD**2)


def without_fit(hessian: Float[np.ndarray, "unknowns unknowns"]) -> Float[np.ndarray, "6 6"]:
    """The Hessian of the twist when gain and offset follow: the Schur complement."""
    if hessian.shape[0] == TWIST:
        return hessian
    across = hessian[:TWIST, TWIST:]
    return hessian[:TWIST, :TWIST] - across @ np.linalg.solve(hessian[TWIST:, TWIST:], across.T)


def _solve(system: FusedSystem, damping: float) -> Float[np.ndarray, "unknowns"]:
    """The damped step, limited to `LARGEST_STEP`; zero where the equations have no solution."""
    diagonal = np.diag(system.hessian)
    damped = system.hessian + np.diag(damping * diagonal + 1e-9 * diagonal.max() + 1e-20)
    try:
        step = np.linalg.solve(damped, -system.gradient)
    except np.linalg.LinAlgError:
        return np.zeros_like(system.gradient)
    if not np.isfinite(step).all():
        return np.zeros_like(step)
    excess = max(np.linalg.norm(step[:3]) / LARGEST_STEP[0], np.linalg.norm(step[3:TWIST]) / LARGEST_STEP[1], 1.0)
    return step / excess
