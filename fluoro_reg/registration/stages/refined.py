"""The hypotheses after a stage, with and without residuals."""

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.stages.objective import Evaluation, PoseObjective, WeightedNormalEquations


@dataclass(frozen=True, slots=True)
class Refined:
    """Distinct hypotheses after a stage, best first, and whether each met the optimiser's tolerance."""

    objective: PoseObjective
    at: Evaluation
    linearised: WeightedNormalEquations
    converged: Bool[Tensor, "batch"]

    @property
    def poses(self) -> RigidTransform:
        return self.at.poses


@dataclass(frozen=True, slots=True)
class Found:
    """Distinct hypotheses after a stage without residuals, best first, and whether each met the optimiser's tolerance."""

    poses: RigidTransform
    converged: Bool[Tensor, "batch"]
