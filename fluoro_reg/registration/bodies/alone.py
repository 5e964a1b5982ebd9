"""One body, with all others where they are taken to be, is registered by the stages of any object, in one view or several."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.bodies.body import Body
from fluoro_reg.registration.bodies.scene import Poses, SeenView, without_others
from fluoro_reg.registration.method import SearchOptions, load_method
from fluoro_reg.registration.stages.joint import JointRefined, JointSolver
from fluoro_reg.registration.stages.ncc_refiner import NCCRefiners
from fluoro_reg.registration.stages.objective import PosePrior
from fluoro_reg.registration.stages.refined import Refined
from fluoro_reg.registration.stages.solver import ASSESSED_PX, Solver

METHOD = "lm-gradient-ncc"  # of every body but the reference


@dataclass(frozen=True, slots=True)
class FoundAlone:
    """The hypotheses of a body (`reference_from_patient`), the best first."""

    poses: RigidTransform
    n_renders: int


@dataclass(frozen=True, slots=True)
class AloneSolver:
    """Registers and evaluates one body of a scene."""

    bodies: Sequence[Body]
    views: Sequence[SeenView]
    distinct_mm: float
    seed: int

    def find(self, body: Body, poses: Poses) -> FoundAlone:
        """Search within the prior and refine, with the other bodies at `poses`."""
        stages, solvers, found = load_method(METHOD).stages, [], []
        for view in self.views:
            solver = self._solver(view, body, poses)
            initial = solver.initial_poses(view.camera_from_reference @ poses[body.name], body.search)
            refined = solver.run_last(solver.run_coarse(initial, stages), stages)
            solvers.append(solver)
            found.append(view.camera_from_reference.inverse() @ refined.poses)
        hypotheses, n_renders = RigidTransform.cat(found), sum(solver.n_renders for solver in solvers)
        if len(self.views) == 1:
            return FoundAlone(hypotheses, n_renders)
        joint = JointSolver(tuple(solvers), tuple(view.camera_from_reference for view in self.views))
        hypotheses = RigidTransform.cat([hypotheses, RigidTransform.stack([poses[body.name]])])
        return FoundAlone(joint.run(hypotheses, body.metric, self.distinct_mm).poses, n_renders + joint.n_renders)

    def find_elsewhere(
        self, body: Body, poses: Poses, view: SeenView, starts: Sequence[RigidTransform], search: SearchOptions
    ) -> RigidTransform:
        """Search one view around each of `starts` (`camera_from_patient`) and refine, without regard of a prior."""
        stages, solver = load_method(METHOD).stages, self._solver(view, replace(body, joint=None), poses)
        initial = RigidTransform.cat([solver.initial_poses(start, search) for start in starts])
        refined = solver.run_last(solver.run_coarse(initial, stages), stages)
        return view.camera_from_reference.inverse() @ refined.poses

    def evaluate(self, body: Body, poses: Poses, hypotheses: RigidTransform) -> JointRefined:
        """Every view's residuals at some hypotheses, the first of which is the result, at the scale of the assessment."""
        flags = torch.ones(len(hypotheses.translation), dtype=torch.bool)
        seen = []
        for view in self.views:
            in_view = view.camera_from_reference @ hypotheses
            objective = self._solver(view, body, poses).objective(max(ASSESSED_PX, body.reading.model.finest_px), in_view)
            at = objective.evaluate(in_view)
            seen.append(Refined(objective, at, objective.linearise(at), flags))
        return JointRefined(hypotheses, tuple(seen))

    def _solver(self, view: SeenView, body: Body, poses: Poses) -> Solver:
        prepared = without_others(view, self.bodies, poses, body)
        scales = body.reading.scales(prepared, view.camera_from_reference @ poses[body.name])
        prior = None
        if body.joint is not None:
            mean = view.camera_from_reference @ poses[body.joint.parent] @ body.joint.parent_from_body
            prior = PosePrior(mean, body.joint.information)
        refiners = NCCRefiners(body.pivot)
        return Solver(scales, body.reading.model, body.metric, refiners, prior, self.distinct_mm, self.seed)


def marked(found: JointRefined, converged: bool) -> JointRefined:
    """The same, with whether the result has converged."""
    return replace(found, views=tuple(replace(view, converged=view.converged & converged) for view in found.views))


def cost_at(found: JointRefined) -> float:
    """What the residuals near a body, at its pose, say of the noise there: the mean over the views."""
    return sum(float(view.linearised.cost[0]) for view in found.views) / len(found.views)
