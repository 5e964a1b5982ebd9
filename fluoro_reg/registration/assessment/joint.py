"""Assessment of a pose in several X-rays: every view must pass the gates at the common pose.

Another pose is an alternative unless at least one view distinguishes the two.
"""

from dataclasses import replace

import torch

from fluoro_reg.optimisers.batch import take
from fluoro_reg.registration.assessment.covariance import covariance_of_information
from fluoro_reg.registration.assessment.evidence import Assessment, assess, information_of, pose_uncertainty, similarities
from fluoro_reg.registration.options import GateOptions
from fluoro_reg.registration.result import Hypothesis, Outcome
from fluoro_reg.registration.stages.joint import JointRefined
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.refined import Refined


def assess_jointly(joint: JointRefined, metric: PoseMetric, gate: GateOptions) -> tuple[Assessment, int]:
    """Assess the first pose in every view.

    Every view assesses the first pose alone. Every other pose is distinct in at least one view, and counts as an alternative
    unless one view distinguishes it.

    Returns:
        The assessment, with covariance and alternatives of `reference_from_patient`, and the index of its view: the first view
        that rejects the pose, else the first view.
    """
    pivot = joint.views[0].objective.model.pivot
    twist = covariance_of_information(torch.stack([information_of(view) for view in joint.views]).sum(0))
    alone = [_first(view) for view in joint.views]
    assessments = [assess(view, metric, gate, pose_uncertainty(twist, view.poses[0], pivot)) for view in alone]
    scores = torch.stack([similarities(view) for view in joint.views])  # views, poses
    lead = (scores[:, :1] - scores[:, 1:]).amax(0)
    alternatives = tuple(Hypothesis(joint.poses[k + 1], float(scores[:, k + 1].min())) for k in range(lead.numel()))
    number = next((n for n, assessment in enumerate(assessments) if assessment.outcome is not Outcome.CONVERGED), 0)
    assessment = replace(
        assessments[number], covariance=pose_uncertainty(twist, joint.poses[0], pivot).covariance, alternatives=alternatives
    )
    if assessment.outcome is Outcome.CONVERGED and not bool((lead >= gate.minimum_margin).all()):
        reason = f"another pose explains every view as well: similarity {float(scores[number, 1:].max()):.3f}"
        assessment = replace(assessment, outcome=Outcome.AMBIGUOUS, reason=reason)
    return assessment, number


def _first(refined: Refined) -> Refined:
    first = torch.tensor([0])
    return Refined(refined.objective, take(refined.at, first), take(refined.linearised, first), refined.converged[:1])
