"""Levenberg-Marquardt on a fused pass, from a predicted pose until the step is small against the uncertainty.

There is no ladder of scales and no fixed number of rounds: a prediction within a millimetre takes two renders, one at which the
step is found and one that shows that the next is negligible. That last step is taken without a further render, because the
assessment evaluates the pose anyway.

The Gauss-Newton Hessian overestimates the curvature by a third, because an X-ray is blurred and the rendered image is not. Each
step is therefore too short by about the same factor, from round to round and from frame to frame. Two gradients and the step
between them show the factor (a secant), and the next steps are longer by it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract, se3
from fluoro_reg.registration.assessment.covariance import prior_in_image_units, twist_information
from fluoro_reg.registration.stages.objective import PosePrior
from fluoro_reg.registration.tracking.passes import AbstractFusedPass, FusedSystem
from fluoro_reg.similarity.kernels import TWIST

NEGLIGIBLE_SD = 0.2  # a step of fewer standard deviations of the pose is the last
MAXIMUM_PASSES = 6  # a prediction that needs more has failed: good ones need two to four
LARGEST_STEP = (12.0, 0.14)  # mm, rad
DAMPING, EASING, TIGHTENING = 1e-3, 10.0, 8.0
CURVATURE = (0.6, 1.0)  # of the Hessian, as far as a secant is believed


@dataclass(frozen=True, slots=True)
class RefinedFrame:
    """A refined pose, what the next frame may begin with, and whether the last step was negligible."""

    pose: RigidTransform
    memory: "FrameMemory"
    converged: bool


@dataclass(frozen=True, slots=True)
class FrameMemory:
    """Gain and offset, and the curvature of the cost as a fraction of the Hessian's."""

    fit: Float[np.ndarray, "unknowns"]
    curvature: float = 1.0


@dataclass(slots=True)
class FrameRefiner:
    """Minimises one pass, with a limited number of evaluations. `effective_pixels` is the number of independent residuals."""

    fused: AbstractFusedPass
    pivot: Float[Tensor, "3"]
    effective_pixels: float
    prior: PosePrior | None = None
    maximum_passes: int = MAXIMUM_PASSES

    def refine(self, pose: RigidTransform, memory: FrameMemory | None = None) -> RefinedFrame:
        """Refine a pose, beginning with what the last frame has learned."""
        memory = memory or FrameMemory(self.fused.fit)
        fit, curvature = memory.fit, memory.curvature
        if fit.size and not fit.any():
            fit = self._first_fit(pose)
        here, damping = self._with_prior(self.fused.system(pose, fit), pose), DAMPING
        for _ in range(self.maximum_passes):
            step = _solve(here, damping, curvature)
            trial = retract(pose, torch.from_numpy(step[:TWIST]), self.pivot)
            if self._is_negligible(here, step, pose):
                return RefinedFrame(trial, FrameMemory(fit + step[TWIST:], curvature), True)
            there = self._with_prior(self.fused.system(trial, fit + step[TWIST:]), trial)
            if there.cost < here.cost:
                curvature = _secant(here, there, step)
                pose, fit, here, damping = trial, fit + step[TWIST:], there, damping / EASING
            else:
                damping, curvature = max(damping, DAMPING) * TIGHTENING, 1.0
        return RefinedFrame(pose, FrameMemory(fit, curvature), False)

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


def _secant(here: FusedSystem, there: FusedSystem, step: Float[np.ndarray, "unknowns"]) -> float:
    """The curvature of the cost along a step, as a fraction of the Hessian's."""
    expected = float(step @ here.hessian @ step)
    seen = float(step @ (there.gradient - here.gradient))
    return float(np.clip(seen / expected, *CURVATURE)) if expected > 0 else 1.0


def _solve(system: FusedSystem, damping: float, curvature: float) -> Float[np.ndarray, "unknowns"]:
    """The damped step, limited to `LARGEST_STEP`; zero where the equations have no solution."""
    diagonal = np.diag(system.hessian)
    damped = curvature * system.hessian + np.diag(damping * diagonal + 1e-9 * diagonal.max() + 1e-20)
    try:
        step = np.linalg.solve(damped, -system.gradient)
    except np.linalg.LinAlgError:
        return np.zeros_like(system.gradient)
    if not np.isfinite(step).all():
        return np.zeros_like(step)
    excess = max(np.linalg.norm(step[:3]) / LARGEST_STEP[0], np.linalg.norm(step[3:TWIST]) / LARGEST_STEP[1], 1.0)
    return step / excess
