"""Assessment of a pose in several X-rays: every view must pass the gates at the common pose.

Another pose is an alternative unless at least one view tells the two apart.
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
from fluoro_reg.registration.stages.solver import Refined


def assess_jointly(joint: JointRefined, metric: PoseMetric, gate: GateOptions) -> tuple[Assessment, int]:
    """The verdict on the first pose, with covariance and alternatives of `reference_from_patient`; and whose it is: that of the
    first view that refuses, else of the first.

    Every view judges the first pose alone. Every other pose, distinct in some view as it is, is a rival unless one view tells
    it apart.
    """
    pivot = joint.views[0].objective.model.pivot
    twist = covariance_of_information(torch.stack([information_of(view) for view in joint.views]).sum(0))
    alone = [_first(view) for view in joint.views]
    verdicts = [assess(view, metric, gate, pose_uncertainty(twist, view.poses[0], pivot)) for view in alone]
    scores = torch.stack([similarities(view) for view in joint.views])  # views, poses
    lead = (scores[:, :1] - scores[:, 1:]).amax(0)
    alternatives = tuple(Hypothesis(joint.poses[k + 1], float(scores[:, k + 1].min())) for k in range(lead.numel()))
    number = next((n for n, verdict in enumerate(verdicts) if verdict.outcome is not Outcome.CONVERGED), 0)
    verdict = replace(
        verdicts[number], covariance=pose_uncertainty(twist, joint.poses[0], pivot).covariance, alternatives=alternatives
    )
    if verdict.outcome is Outcome.CONVERGED and not bool((lead >= gate.minimum_margin).all()):
        reason = f"another pose explains every view as well: similarity {float(scores[number, 1:].max()):.3f}"
        verdict = replace(verdict, outcome=Outcome.AMBIGUOUS, reason=reason)
    return verdict, number


def _first(refined: Refined) -> Refined:
    first = torch.tensor([0])
    return Refined(refined.objective, take(refined.at, first), take(refined.linearised, first), refined.converged[:1])
