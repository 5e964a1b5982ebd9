"""The spherical similarity as a problem of poses: least squares for Levenberg-Marquardt, a value for descents.

The renderer gives the image and its six derivatives to a twist in one pass; carried through encoder and logarithm forwards,
side by side, they are the Jacobian of all residuals. Backwards it would take one pass for each of the residuals. A cell's angle
is robustly weighted (Huber), on the scale of the median angle: cells that show what the CT lacks must not steer.

Nothing here needs a renderer that can be differentiated twice: what weights of the encoder are taught by (a gradient, the point
that a few steps lead to) is linear in the image's derivatives, and those do not depend on the weights.
Sources: M. Chen and Y. Kong, WACV 2026, arXiv 2509.06890; P. J. Huber, "Robust statistics", 1981, section 7.8.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract, se3
from fluoro_reg.learned.similarity import shown
from fluoro_reg.learned.spherical import AbstractMetric, squared_distance
from fluoro_reg.regressor.image_input import network_input
from fluoro_reg.rendering import AbstractRenderer, project_with_jacobian

HUBER = 1.345  # in standard deviations: efficient to 95 % where errors are Gaussian
_SD_IN_MEDIANS = 1.4826

Projection = Callable[[RigidTransform], tuple[Float[Tensor, "batch height width"], Float[Tensor, "batch height width 6"]]]


@dataclass(frozen=True, slots=True)
class Drr:
    """A `Projection`: line integrals, and their derivatives to a twist about `pivot` (patient mm).

    Where poses come with a graph, so do the integrals, but as if they were linear: their derivatives are constants.
    """

    renderer: AbstractRenderer
    intrinsics: CameraIntrinsics
    pivot: Float[Tensor, "3"]

    def __call__(
        self, camera_from_patient: RigidTransform
    ) -> tuple[Float[Tensor, "batch height width"], Float[Tensor, "batch height width 6"]]:
        here = RigidTransform(camera_from_patient.rotation.detach(), camera_from_patient.translation.detach())
        rendered = project_with_jacobian(self.renderer, here, self.intrinsics, self.pivot)
        integrals, jacobian = (tensor.cpu() for tensor in rendered)
        if camera_from_patient.rotation.requires_grad or camera_from_patient.translation.requires_grad:
            away = se3.local(here, camera_from_patient, self.pivot)  # zero, but for its derivatives
            integrals = integrals + torch.einsum("bhwk,bk->bhw", jacobian, away.to(jacobian))
        return integrals, jacobian


@dataclass(frozen=True, slots=True)
class SphericalEvaluation:
    """Poses, the residuals of every cell (rad) and their derivatives to a twist."""

    poses: RigidTransform
    residuals: Float[Tensor, "batch cells residuals"]
    jacobian: Float[Tensor, "batch cells residuals 6"]


@dataclass(frozen=True, slots=True)
class SphericalSystem:
    """Cost, its gradient and Gauss-Newton Hessian (halved), and the weights of the cells (sum 1) that they hold under."""

    cost: Float[Tensor, "batch"]
    gradient: Float[Tensor, "batch 6"]
    hessian: Float[Tensor, "batch 6 6"]
    weight: Float[Tensor, "batch cells"]


@dataclass(frozen=True, slots=True)
class SphericalProblem:
    """One X-ray, or one a pose: a `LeastSquaresProblem`, and a `LearnedProblem`.

    `fixed` are the X-ray's points, `shown` how much of each cell it shows, `mask` which of its pixels may be used, `scale` the
    squared distance (rad^2) that counts as a value of 1. All is differentiable to the encoder's weights: who does not teach
    them had better say `torch.no_grad`.
    """

    project: Projection
    pivot: Float[Tensor, "3"]
    encoder: nn.Module
    metric: AbstractMetric
    mask: Bool[Tensor, "#batch height width"]
    fixed: Float[Tensor, "#batch cells points numbers"]
    shown: Float[Tensor, "#batch cells"]
    scale: float = 1.0

    @classmethod
    def of(
        cls,
        project: Projection,
        pivot: Float[Tensor, "3"],
        encoder: nn.Module,
        metric: AbstractMetric,
        images: Float[Tensor, "batch 1 height width"],
        mask: Bool[Tensor, "batch height width"],
    ) -> "SphericalProblem":
        """The problem of X-rays as `network_input` makes them."""
        grid = encoder(images)
        return cls(project, pivot, encoder, metric, mask, metric.points(grid), shown(mask, grid).flatten(1).cpu())

    def evaluate(self, poses: RigidTransform) -> SphericalEvaluation:
        """Renders and encodes at each pose of a batch."""
        integrals, by_twist = self.project(poses)

        def ahead(direction: Float[Tensor, "batch height width"]) -> Any:
            return torch.func.jvp(self.residuals, (integrals,), (direction,))

        residuals, by_column = torch.func.vmap(ahead, in_dims=-1)(by_twist)
        return SphericalEvaluation(poses, residuals[0], by_column.movedim(0, -1))

    def residuals(self, integrals: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch cells residuals"]:
        """Of images, against the X-ray."""
        images = network_input(integrals.to(self.fixed), self.mask.expand(integrals.shape))
        return self.metric.residuals(self.metric.points(self.encoder(images)), self.fixed).cpu()

    def retract(self, at: SphericalEvaluation, step: Float[Tensor, "batch 6"]) -> SphericalEvaluation:
        return self.evaluate(retract(at.poses, step.to(at.poses.translation), self.pivot))

    def linearise(self, at: SphericalEvaluation) -> SphericalSystem:
        weight = self._weight(at.residuals)
        root = weight.sqrt()[..., None]
        residuals, jacobian = (root * at.residuals).flatten(1), (root[..., None] * at.jacobian).flatten(1, 2)
        gradient = (jacobian.mT @ residuals[..., None]).squeeze(-1)
        return SphericalSystem(residuals.square().sum(-1), gradient, jacobian.mT @ jacobian, weight)

    def cost(self, trial: SphericalEvaluation, reference: SphericalSystem) -> Float[Tensor, "batch"]:
        return (reference.weight * trial.residuals.square().sum(-1)).sum(-1)

    def at(self, poses: RigidTransform) -> Float[Tensor, "batch"]:
        """The squared distance, without robust weights; differentiable to the poses where the projection is."""
        integrals, _ = self.project(poses)
        return squared_distance(self.residuals(integrals), self.shown).double() / self.scale

    def values(self, starts: RigidTransform, twists: Float[Tensor, "batch 6"]) -> Float[Tensor, "batch"]:
        return self.at(retract(starts, twists, self.pivot))

    def table(self, poses: RigidTransform) -> Float[Tensor, "poses images"]:
        """Each pose is seen through the mask of the X-ray whose turn it is."""
        integrals, _ = self.project(poses)
        times, images = len(integrals) // len(self.mask), len(self.fixed)
        seen = network_input(integrals.to(self.fixed), self.mask.repeat(times, 1, 1))
        moving = self.metric.points(self.encoder(seen)).repeat_interleave(images, 0)
        residuals = self.metric.residuals(moving, self.fixed.repeat(len(integrals), 1, 1, 1)).cpu()
        return squared_distance(residuals, self.shown.repeat(len(integrals), 1)).unflatten(0, (-1, images))

    def _weight(self, residuals: Float[Tensor, "batch cells residuals"]) -> Float[Tensor, "batch cells"]:
        """How much each cell is shown, less where its angle is far beyond the usual."""
        angle = residuals.norm(dim=-1)
        counted = torch.where(self.shown > 0, angle, torch.nan)
        sd = _SD_IN_MEDIANS * counted.nanmedian(-1, keepdim=True).values
        weight = self.shown * (HUBER * sd / angle.clamp_min(1e-12)).clamp_max(1.0)
        return weight / weight.sum(-1, keepdim=True).clamp_min(1e-12)
