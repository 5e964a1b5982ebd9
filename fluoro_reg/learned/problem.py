"""A learned similarity to given X-rays as a problem of poses: a value for descents, least squares for Levenberg-Marquardt.

The projection comes with its six derivatives to a twist in one pass; carried through encoder and metric forwards they are the
Jacobian of all residuals, whose squared length is the value. Backwards it would take one pass for each residual.

Nothing here needs a projection that can be differentiated twice: what weights are taught by (a gradient, the point that a few
steps lead to) is linear in the image's derivatives, and those do not depend on the encoders' weights. Where steps are unrolled
and differentiated, our projectors take each image's derivatives as constant, which for all but the first is an approximation.
Source: M. Chen and Y. Kong, WACV 2026, arXiv 2509.06890.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity, Projector
from fluoro_reg.optimisers import LeastSquaresProblem, NormalEquations
from fluoro_reg.optimisers.problem import ValueProblem


@runtime_checkable
class PoseProblem(LeastSquaresProblem[Any, Any], ValueProblem, Protocol):
    """What a registration asks of a learned similarity to an X-ray: least squares, and a value whose starts are poses."""

    def evaluate(self, poses: RigidTransform) -> Any:
        """The evaluation that Levenberg-Marquardt begins with; its `poses` are those."""


@dataclass(frozen=True, slots=True)
class LearnedEvaluation:
    """Poses, the residuals there and their derivatives to a twist [mm, rad]; on the CPU."""

    poses: RigidTransform
    residuals: Float[Tensor, "batch residuals"]
    jacobian: Float[Tensor, "batch residuals 6"]


@dataclass(frozen=True, slots=True)
class LearnedProblem:
    """One X-ray, or one a pose, by its numbers: the `PoseProblem` of an `AbstractLearnedSimilarity`.

    All is differentiable to the weights: who does not teach them had better say `torch.no_grad`.
    """

    network: AbstractLearnedSimilarity
    project: Projector
    fixed: Float[Tensor, "#batch numbers"]

    def evaluate(self, poses: RigidTransform) -> LearnedEvaluation:
        """Projects and encodes at each pose of a batch."""
        residuals, jacobian = self.network.compared(self.network.encoded(self.project(poses)), self.fixed)
        return LearnedEvaluation(poses, residuals.cpu(), jacobian.cpu())

    def retract(self, at: LearnedEvaluation, step: Float[Tensor, "batch 6"]) -> LearnedEvaluation:
        return self.evaluate(retract(at.poses, step.to(at.poses.translation), self._pivot))

    def linearise(self, at: LearnedEvaluation) -> NormalEquations:
        gradient = (at.jacobian.mT @ at.residuals[..., None]).squeeze(-1)
        return NormalEquations(at.residuals.square().sum(-1), gradient, at.jacobian.mT @ at.jacobian)

    def cost(self, trial: LearnedEvaluation, reference: NormalEquations) -> Float[Tensor, "batch"]:
        return trial.residuals.square().sum(-1)

    def at(self, poses: RigidTransform) -> Float[Tensor, "batch"]:
        """The value at each pose, by the network's scale; where poses come with a graph, differentiable to them."""
        image, _ = self.project(poses)
        residuals = self.network.metric.residuals(self.network.moving(image.to(self.fixed.device)), self.fixed)
        return residuals.square().sum(-1).double().cpu() / self.network.scale.cpu()

    def values(self, starts: RigidTransform, twists: Float[Tensor, "batch 6"]) -> Float[Tensor, "batch"]:
        """The same a twist [mm, rad] about the pivot away from each start, as `retract` takes it."""
        return self.at(retract(starts, twists, self._pivot))

    @property
    def _pivot(self) -> Float[Tensor, "3"]:
        return self.network.reference.pivot
