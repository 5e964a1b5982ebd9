"""The last step of a registration: the best pose of one X-ray or of several, and whether it is accepted.

What one X-ray shows is believed if its similarity is certain, or far above that of decoys. A tracked pose is supported by the
frames before it, and that of several views by all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.assessment.evidence import Assessment, assess
from fluoro_reg.registration.assessment.gates import Support, decoys_decide, gain, is_above_decoys
from fluoro_reg.registration.assessment.joint import assess_jointly
from fluoro_reg.registration.candidates import CandidateMaker
from fluoro_reg.registration.decoys import DecoyRegistration
from fluoro_reg.registration.method import Method
from fluoro_reg.registration.options import GateOptions
from fluoro_reg.registration.result import Outcome
from fluoro_reg.registration.stages.joint import JointSolver
from fluoro_reg.registration.stages.refined import Refined
from fluoro_reg.registration.view_run import AssessedPose, Clock, Request, ViewRun

FAR_BELOW = 2.0  # evidence relative to that of a decoy at a coarse scale, at which no finer scale is looked at


@dataclass(frozen=True, slots=True)
class Assessor:
    """Assesses the hypotheses of registered views; `gate` are the thresholds, the rest is that of the registrar."""

    candidates: CandidateMaker
    method: Method
    gate: GateOptions

    def one_view(self, run: ViewRun, request: Request, clock: Clock) -> AssessedPose:
        """The best hypothesis of one view."""
        assert run.refined is not None  # or there is nothing to assess
        refined, certain = run.refined, self.gate.certain_similarity
        is_side_unknown = run.is_searched or request.initial_pose is None
        decoys = DecoyRegistration(self.candidates, self.method, run, refined.poses[0], certain, is_side_unknown)
        assessment = self._tracked(refined, request) if request.tracking else self._unsupported(run, refined, decoys, clock)
        return AssessedPose(assessment, 0, refined.poses[0], run.n_renders + decoys.n_renders)

    def several_views(
        self, runs: Sequence[ViewRun], cameras_from_reference: Sequence[RigidTransform], clock: Clock
    ) -> AssessedPose:
        """The best of the hypotheses of all views, refined jointly."""
        metric, refined = self.candidates.metric, [run.refined for run in runs if run.refined]
        found = [camera.inverse() @ one.poses for camera, one in zip(cameras_from_reference, refined, strict=True)]
        found += [RigidTransform.stack([run.initial_pose]) for run in runs[:1] if run.initial_pose is not None]
        solver = JointSolver(tuple(run.solver for run in runs if run.solver), tuple(cameras_from_reference))
        joint = solver.run(RigidTransform.cat(found), metric, self.gate.distinct_mm)
        clock.lap("refine jointly")
        assessment, number = assess_jointly(joint, metric, self.gate)
        n_renders = sum(run.n_renders for run in runs) + solver.n_renders
        return AssessedPose(assessment, number, joint.poses[0], n_renders)

    def _tracked(self, refined: Refined, request: Request) -> Assessment:
        assessment = assess(refined, self.candidates.metric, self.gate)
        return assessment.beside_earlier_decoys(request.decoy_similarity, self.gate)

    def _unsupported(self, run: ViewRun, refined: Refined, decoys: DecoyRegistration, clock: Clock) -> Assessment:
        """The assessment where nothing but one X-ray speaks for a pose."""
        gate, support = self.gate, Support.NOTHING if run.is_searched else Support.INITIAL_POSE
        assessment = assess(refined, self.candidates.metric, gate, support=support)
        evidence = assessment.evidence
        clock.lap("assess")
        if assessment.outcome is Outcome.CONVERGED:
            nearest = decoys.nearest(lambda decoy: gain(evidence.similarity) > FAR_BELOW * gain(decoy))
            assessment = assessment.beside_decoys(nearest, gate)
        elif decoys_decide(evidence, gate):
            highest = decoys.highest(lambda similarity: not is_above_decoys(evidence, similarity, gate))
            assessment = assessment.beside_decoys(highest, gate)
        elif (rejected := assessment.with_support(Support.OTHER_IMAGES, gate)).outcome is not Outcome.CONVERGED:
            assessment = rejected  # by another gate, whose reason says more
        clock.lap("decoys")
        return assessment
