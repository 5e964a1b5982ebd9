"""Assessment of refined hypotheses: similarities at the finest scale, alternatives, covariance, and the outcome of the gates.

Depth is the scale of the projection. The body's outline against air determines it best: it has the longest lever and the
strongest edge. But a detector that saturates beside a thin part moves the outline smoothly inwards, and no residual shows it.
The inside of the body does not move. Where the inside alone would give another depth, the difference is added to the
covariance, and beyond a few mm the pose is rejected.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.optimisers.batch import take
from fluoro_reg.optimisers.levenberg_marquardt import solve_positive_definite
from fluoro_reg.registration.assessment.covariance import (
    BONE_TURN_INFLATION,
    covariance_of_information,
    ros_covariance,
    twist_information,
    with_uncertain_turns,
)
from fluoro_reg.registration.assessment.gates import Evidence, Support, check_gates
from fluoro_reg.registration.options import GateOptions
from fluoro_reg.registration.result import Hypothesis, Outcome
from fluoro_reg.registration.stages.masks import dilated
from fluoro_reg.registration.stages.objective import effective_number
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.refined import Refined
from fluoro_reg.similarity import GradientNCC, PatchNCC

OUTLINE = 0.3  # fraction of the largest line integral; below it is air, or the thin rim of the body
OUTLINE_PX = 7  # width of the outline; the inside begins half of it away from there


@dataclass(frozen=True, slots=True)
class Assessment:
    """The outcome for the best hypothesis, and its alternatives."""

    outcome: Outcome
    reason: str
    evidence: Evidence
    alternatives: tuple[Hypothesis, ...]
    covariance: Float[Tensor, "6 6"] | None

    def with_support(self, support: Support, gate: GateOptions) -> "Assessment":
        """The outcome if something else supported the pose."""
        return self._checked(replace(self.evidence, support=support), gate)

    def beside_decoys(self, similarity: float, gate: GateOptions) -> "Assessment":
        """The outcome beside the similarity that decoys have reached."""
        return self._checked(replace(self.evidence, decoy_similarity=similarity), gate)

    def _checked(self, evidence: Evidence, gate: GateOptions) -> "Assessment":
        outcome, reason = check_gates(evidence, gate)
        return replace(self, outcome=outcome, reason=reason, evidence=evidence)

    def beside_earlier_decoys(self, similarity: float | None, gate: GateOptions) -> "Assessment":
        """The same with decoys of an earlier frame, if any was registered. A pose that passes alone needs none."""
        if similarity is None:
            return self
        beside = self.beside_decoys(similarity, gate)
        return replace(self, evidence=beside.evidence) if self.outcome is Outcome.CONVERGED else beside


@dataclass(frozen=True, slots=True)
class PoseUncertainty:
    """Covariance of a pose in ROS's order, and standard deviations along the optical axis and of the least certain rotation.

    All are None if the image leaves a direction undetermined.
    """

    covariance: Float[Tensor, "6 6"] | None
    depth_sd_mm: float | None
    turn_sd_deg: float | None


def assess(
    refined: Refined,
    metric: PoseMetric,
    gate: GateOptions,
    uncertainty: PoseUncertainty | None = None,
    support: Support = Support.OTHER_IMAGES,
) -> Assessment:
    """Score every hypothesis with the same two similarities, whatever the method maximised, and apply the gates to the first.

    Args:
        refined: Distinct hypotheses, the best first.
        metric: Measures how far apart two poses are.
        gate: The thresholds.
        uncertainty: That of the first hypothesis, if it rests on more than this image.
        support: What supports the first hypothesis besides this image.
    """
    at, objective = refined.at, refined.objective
    fixed, weight = objective.scale.fixed, refined.linearised.weight
    similarity = similarities(refined)
    inner = weight if objective.model.roi != "full" else weight * inside_body(at.moving)
    patch = PatchNCC().score(at.moving, fixed, inner).double()
    apart = metric.distances(at.poses, at.poses[0])
    rivals = [k for k in range(1, len(similarity)) if float(apart[k]) > gate.distinct_mm]
    shift = _shift_without_outline(refined, gate.maximum_sd_mm) if uncertainty is None else None
    if uncertainty is None:
        covariance = covariance_of_information(information_of(refined))
        if covariance is not None and shift is not None:
            covariance = covariance + torch.outer(shift, shift) if bool(torch.isfinite(shift).all()) else None
        uncertainty = pose_uncertainty(covariance, at.poses[0], objective.model.pivot)
        if covariance is not None and objective.model.compared == "bone":  # the gate of turns knows the smaller one
            wider = with_uncertain_turns(covariance, BONE_TURN_INFLATION)
            uncertainty = replace(uncertainty, covariance=ros_covariance(wider, at.poses[0], objective.model.pivot))
    evidence = Evidence(
        similarity=float(similarity[0]),
        patch_similarity=float(patch[0]),
        rival_similarity=float(similarity[rivals].max()) if rivals else None,
        pixels=int(refined.linearised.pixels[0]),
        overlap=_overlap(refined),
        depth_mm=float(at.poses[0].apply(objective.model.pivot[None])[0, 2]),
        depth_sd_mm=uncertainty.depth_sd_mm,
        outline_mm=None if shift is None else abs(float(at.poses[0].rotation[2] @ shift[:3])),
        turn_sd_deg=uncertainty.turn_sd_deg,
        converged=bool(refined.converged[0]),
        compared=objective.model.compared,
        support=support,
    )
    outcome, reason = check_gates(evidence, gate)
    alternatives = tuple(Hypothesis(at.poses[k], float(similarity[k])) for k in rivals)
    return Assessment(outcome, reason, evidence, alternatives, uncertainty.covariance)


def similarities(refined: Refined) -> Float[Tensor, "batch"]:
    """The similarity of every hypothesis, as gates and users see it."""
    return GradientNCC().score(refined.at.moving, refined.objective.scale.fixed, refined.linearised.weight).double()


def inside_body(moving: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch height width"]:
    """1 well inside the projected body, 0 elsewhere.

    All patients have a similar outline against air, and it is the strongest edge. A pose is trusted only if the inside agrees.
    """
    air = moving < OUTLINE * moving.flatten(1).amax(-1)[:, None, None]
    return 1 - dilated(air, OUTLINE_PX // 2)


def _shift_without_outline(refined: Refined, maximum_sd_mm: float) -> Float[Tensor, "6"] | None:
    """The twist by which the first pose would move if the body's outline were ignored.

    None for an object compared near its projection, which is all outline, and where the inside alone determines depth less
    certainly than `maximum_sd_mm`: it then contradicts nothing.
    """
    objective, first = refined.objective, take(refined.at, torch.tensor([0]))
    if objective.model.roi != "full":
        return None
    within = objective.linearise_under(refined.linearised.weight[:1] * inside_body(first.moving), first)
    alone = Refined(objective, first, within, refined.converged[:1])
    uncertainty = pose_uncertainty(covariance_of_information(information_of(alone)), first.poses[0], objective.model.pivot)
    if uncertainty.depth_sd_mm is None or not uncertainty.depth_sd_mm <= maximum_sd_mm:
        return None
    here = refined.linearised
    return (
        solve_positive_definite(within.hessian, -within.gradient) - solve_positive_definite(here.hessian, -here.gradient)[:1]
    )[0]


def _overlap(refined: Refined) -> float:
    """The fraction that is compared of the CT's projection in the image or, for an object, of all pixels near it.

    Pixels near an object count even beyond the detector.
    """
    objective, weight = refined.objective, refined.linearised.weight[:1]
    if objective.model.roi == "full":
        wanted = (refined.at.moving[:1] > 0).float()
        weight = weight * wanted
    else:
        wanted = objective.widened(max(weight.shape[1:]) // 2).images(refined.poses[:1]).near
    return float(weight.sum() / wanted.sum().clamp_min(1.0))


def information_of(refined: Refined) -> Float[Tensor, "6 6"]:
    """The information of the image on the twist of the first hypothesis about the pivot."""
    here = refined.linearised
    pixels = float(effective_number(here.pixels[:1])[0])
    return twist_information(here.hessian[0], float(here.cost[0]), pixels, refined.poses[0].rotation)


def pose_uncertainty(
    twist_covariance: Float[Tensor, "6 6"] | None, camera_from_patient: RigidTransform, pivot: Float[Tensor, "3"]
) -> PoseUncertainty:
    """The uncertainty of a pose, from the covariance of its twist about the pivot (None: a direction is undetermined)."""
    if twist_covariance is None:
        return PoseUncertainty(None, None, None)
    covariance, depth_axis = twist_covariance.numpy(), camera_from_patient.rotation[2].numpy()
    return PoseUncertainty(
        covariance=ros_covariance(twist_covariance, camera_from_patient, pivot),
        depth_sd_mm=float(np.sqrt(depth_axis @ covariance[:3, :3] @ depth_axis)),
        turn_sd_deg=math.degrees(float(np.sqrt(np.linalg.eigvalsh(covariance[3:, 3:])[-1]))),
    )
