"""Weighing the refined hypotheses: scores at the finest scale, rivals, covariance, and the verdict of the gates.

Depth is the scale of the projection, and the body's outline against air has the longest lever on it and the strongest edge.
A detector that saturates beside a thin part moves it inwards, smoothly, and no residual tells. The inside of the body is not
moved: where it alone would have the pose elsewhere, the covariance says so, and beyond a few mm the pose is refused.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.optimisers.batch import take
from fluoro_reg.optimisers.levenberg_marquardt import solve_positive_definite
from fluoro_reg.registration.assessment.covariance import covariance_of_information, ros_covariance, twist_information
from fluoro_reg.registration.assessment.gates import Evidence, check_gates
from fluoro_reg.registration.options import GateOptions
from fluoro_reg.registration.result import Hypothesis, Outcome
from fluoro_reg.registration.stages.objective import effective_pixels
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.solver import Refined
from fluoro_reg.similarity import GradientNCC, PatchNCC

OUTLINE = 0.3  # of the greatest line integral: less is air or the thin rim of the body
OUTLINE_PX = 7  # how far from there the inside begins, twice


@dataclass(frozen=True, slots=True)
class Assessment:
    """The judgement on the first hypothesis, and the others."""

    outcome: Outcome
    reason: str
    evidence: Evidence
    alternatives: tuple[Hypothesis, ...]
    covariance: Float[Tensor, "6 6"] | None


@dataclass(frozen=True, slots=True)
class PoseUncertainty:
    """Covariance of a pose as ROS has it, and its standard deviations along the optical axis and about the axis known worst.
    None where the image leaves a direction free."""

    covariance: Float[Tensor, "6 6"] | None
    depth_sd_mm: float | None
    turn_sd_deg: float | None


def assess(refined: Refined, metric: PoseMetric, gate: GateOptions, doubt: PoseUncertainty | None = None) -> Assessment:
    """Scores every hypothesis by the same two similarities, whatever the method maximised, and judges the first.

    `doubt` is given where more than this image speaks of it.
    """
    at, objective = refined.at, refined.objective
    fixed, weight = objective.scale.fixed, refined.linearised.weight
    similarity = similarities(refined)
    inner = weight if objective.model.roi != "full" else weight * inside_body(at.moving)
    patch = PatchNCC().score(at.moving, fixed, inner).double()
    apart = metric.distances(at.poses, at.poses[0])
    rivals = [k for k in range(1, len(similarity)) if float(apart[k]) > gate.distinct_mm]
    shift = _shift_without_outline(refined, gate.maximum_sd_mm) if doubt is None else None
    if doubt is None:
        covariance = covariance_of_information(information_of(refined))
        if covariance is not None and shift is not None:
            covariance = covariance + torch.outer(shift, shift) if bool(torch.isfinite(shift).all()) else None
        doubt = pose_uncertainty(covariance, at.poses[0], objective.model.pivot)
    evidence = Evidence(
        similarity=float(similarity[0]),
        patch_similarity=float(patch[0]),
        rival_similarity=float(similarity[rivals].max()) if rivals else None,
        pixels=int((weight[0] > 0).sum()),
        overlap=_overlap(refined),
        depth_mm=float(at.poses[0].apply(objective.model.pivot[None])[0, 2]),
        depth_sd_mm=doubt.depth_sd_mm,
        outline_mm=None if shift is None else abs(float(at.poses[0].rotation[2] @ shift[:3])),
        turn_sd_deg=doubt.turn_sd_deg,
        converged=bool(refined.converged[0]),
        near_object=objective.model.roi != "full",
    )
    outcome, reason = check_gates(evidence, gate)
    alternatives = tuple(Hypothesis(at.poses[k], float(similarity[k])) for k in rivals)
    return Assessment(outcome, reason, evidence, alternatives, doubt.covariance)


def similarities(refined: Refined) -> Float[Tensor, "batch"]:
    """The similarity of every hypothesis that gates and users see."""
    return GradientNCC().score(refined.at.moving, refined.objective.scale.fixed, refined.linearised.weight).double()


def inside_body(moving: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch height width"]:
    """1 well inside the projected body. Every patient has much the same outline against air, and it is the strongest edge of
    all: what must agree before a pose is believed is what lies inside.
    """
    air = (moving < OUTLINE * moving.flatten(1).amax(-1)[:, None, None]).float()
    return 1 - torch.nn.functional.max_pool2d(air[:, None], OUTLINE_PX, stride=1, padding=OUTLINE_PX // 2)[:, 0]


def _shift_without_outline(refined: Refined, largest_sd_mm: float) -> Float[Tensor, "6"] | None:
    """The twist that the first pose would take if the body's outline did not count. None near an object, which is all outline,
    and where the inside alone knows depth no better than `largest_sd_mm`: then it contradicts nothing.
    """
    objective, first = refined.objective, take(refined.at, torch.tensor([0]))
    if objective.model.roi != "full":
        return None
    within = objective.linearise(replace(first, near=first.near * inside_body(first.moving)))
    alone = Refined(objective, first, within, refined.converged[:1])
    doubt = pose_uncertainty(covariance_of_information(information_of(alone)), first.poses[0], objective.model.pivot)
    if doubt.depth_sd_mm is None or not doubt.depth_sd_mm <= largest_sd_mm:
        return None
    here = refined.linearised
    return (solve_positive_definite(within.hessian, -within.gradient) - solve_positive_definite(here.hessian, -here.gradient)[:1])[0]


def _overlap(refined: Refined) -> float:
    """How much is compared of what the first pose would like to compare: of the CT's projection in the image, or of all that is
    near an object, beyond the detector too.
    """
    objective, weight = refined.objective, refined.linearised.weight[:1]
    if objective.model.roi == "full":
        wanted = (refined.at.moving[:1] > 0).float()
        weight = weight * wanted
    else:
        wanted = objective.widened(max(weight.shape[1:]) // 2).evaluate(refined.poses[:1]).near
    return float(weight.sum() / wanted.sum().clamp_min(1.0))


def information_of(refined: Refined) -> Float[Tensor, "6 6"]:
    """What the first hypothesis' image says of the twist about the pivot."""
    here = refined.linearised
    pixels = float(effective_pixels(here.weight[:1])[0])
    return twist_information(here.hessian[0], float(here.cost[0]), pixels, refined.poses[0].rotation)


def pose_uncertainty(
    twist_covariance: Float[Tensor, "6 6"] | None, camera_from_patient: RigidTransform, pivot: Float[Tensor, "3"]
) -> PoseUncertainty:
    """The doubt in a pose, from the covariance of its twist about the pivot."""
    if twist_covariance is None:
        return PoseUncertainty(None, None, None)
    depth_axis = camera_from_patient.rotation[2]
    return PoseUncertainty(
        covariance=ros_covariance(twist_covariance, camera_from_patient, pivot),
        depth_sd_mm=float(torch.sqrt(depth_axis @ twist_covariance[:3, :3] @ depth_axis)),
        turn_sd_deg=math.degrees(float(torch.linalg.eigvalsh(twist_covariance[3:, 3:])[-1].sqrt())),
    )
