"""A learned similarity of X-rays as an optimisation problem over poses.

Descents use its value, Levenberg-Marquardt its residuals, whose squared length is the value. A projection comes with its six
derivatives with respect to a twist in one pass. Carried through encoder and metric in forward mode, they give the Jacobian of
all residuals; backward mode would take one pass for each residual.

The projection need not be twice differentiable. The quantities that the loss of a training depends on (a gradient, or the pose
after a few steps) are linear in the image's derivatives, and those do not depend on the encoders' weights. Where steps are
unrolled and differentiated, our projectors treat each image's derivatives as constant, which is an approximation for all but
the first step. Source: M. Chen and Y. Kong, WACV 2026, arXiv 2509.06890.
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
    """The interface of a learned similarity to a registration: a least-squares problem and a value problem of poses."""

    def evaluate(self, poses: RigidTransform) -> Any:
        """Return the evaluation at these poses, from which Levenberg-Marquardt starts."""


@dataclass(frozen=True, slots=True)
class LearnedEvaluation:
    """Poses, their residuals, and the Jacobian with respect to a twist [mm, rad]; on the CPU."""

    poses: RigidTransform
    residuals: Float[Tensor, "batch residuals"]
    jacobian: Float[Tensor, "batch residuals 6"]


@dataclass(frozen=True, slots=True)
class LearnedProblem:
    """The `PoseProblem` of an `AbstractLearnedSimilarity` and the embedding of one X-ray, or of one X-ray for each pose.

    All results are differentiable with respect to the weights; use `torch.no_grad` where that is not needed.
    """

    network: AbstractLearnedSimilarity
    projector: Projector
    fixed: Float[Tensor, "#batch embedding"]

    def evaluate(self, poses: RigidTransform) -> LearnedEvaluation:
        """Project and compare at each pose of a batch."""
        residuals, jacobian = self.network.residuals(self.network.embed_projection(self.projector(poses)), self.fixed)
        return LearnedEvaluation(poses, residuals.cpu(), jacobian.cpu())

    def retract(self, at: LearnedEvaluation, step: Float[Tensor, "batch 6"]) -> LearnedEvaluation:
        return self.evaluate(retract(at.poses, step.to(at.poses.translation), self._pivot))

    def linearise(self, at: LearnedEvaluation) -> NormalEquations:
        gradient = (at.jacobian.mT @ at.residuals[..., None]).squeeze(-1)
        return NormalEquations(at.residuals.square().sum(-1), gradient, at.jacobian.mT @ at.jacobian)

    def cost(self, trial: LearnedEvaluation, reference: NormalEquations) -> Float[Tensor, "batch"]:
        return trial.residuals.square().sum(-1)

    def values_at(self, poses: RigidTransform) -> Float[Tensor, "batch"]:
        """Return the value at each pose, divided by the network's scale; differentiable with respect to the poses."""
        image, _ = self.projector(poses)
        residuals = self.network.metric.residuals(self.network.embed_moving(image.to(self.fixed.device)), self.fixed)
        return residuals.square().sum(-1).double().cpu() / self.network.scale.cpu()

    def values(self, starts: RigidTransform, twists: Float[Tensor, "batch 6"]) -> Float[Tensor, "batch"]:
        """Return the values at poses that are a twist [mm, rad] about the pivot away from each start, as `retract` takes it."""
        return self.values_at(retract(starts, twists, self._pivot))

    @property
    def _pivot(self) -> Float[Tensor, "3"]:
        return self.network.reference.pivot
