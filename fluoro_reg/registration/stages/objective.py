"""`PoseObjective`: renderer, similarity and image as a least-squares problem over poses.

The moving image is the line integral L or, for an object that saturates the X-ray (metal is uniformly grey after a few mm),
`1 - exp(-S L)`. Masks are computed at each accepted pose and fixed within a step.

Where the CT's bone is compared alone, the X-ray's strongest gradients are those of soft tissue, which is smooth. From far away,
where no edge lies on its like, they decide. Both images are then compared relative to their local means.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract, se3
from fluoro_reg.optimisers import NormalEquations
from fluoro_reg.registration.memory import in_parts
from fluoro_reg.registration.stages.local_mean import local_mean
from fluoro_reg.registration.stages.masks import Extent, complete_rays, near_object, with_neighbours
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.rendering.projection import project, project_channels
from fluoro_reg.rendering.renderer import AbstractRenderer
from fluoro_reg.similarity import AbstractResidualSimilarity, GradientNCC

MINIMUM_PIXELS = 30
CORRELATION_AREA_PX = 9.0  # neighbouring residuals are not independent: one per this area counts


@dataclass(frozen=True, slots=True)
class Scale:
    """One scale of one image: the camera, the X-ray's attenuation and usable pixels, and the CT to render.

    With `local_px`, `fixed` is relative to its mean within so many pixels, and so is what is rendered.
    """

    renderer: AbstractRenderer
    intrinsics: CameraIntrinsics
    fixed: Float[Tensor, "1 height width"]
    usable: Float[Tensor, "1 height width"]
    extent: Extent
    margin_px: float
    local_px: int = 0

    def locally(self, reach_px: int) -> "Scale":
        """The same scale with values relative to their mean over the usable pixels within `reach_px`; 0: as they are."""
        if reach_px == 0:
            return self
        mean = local_mean(self.fixed * self.usable, reach_px) / local_mean(self.usable, reach_px).clamp_min(1e-3)
        return replace(self, fixed=self.fixed - mean, local_px=reach_px)

    def weight(self, poses: RigidTransform, near: Float[Tensor, "#batch height width"]) -> Float[Tensor, "batch height width"]:
        """The pixels that count at each pose, limited to those that are `near` the object.

        The neighbours of a pixel, which its gradient reads, must be complete as well: at the end of a cut CT, the rendered
        image has an edge that the X-ray does not have.
        """
        complete = complete_rays(self.renderer.volume, self.extent, poses, self.intrinsics)
        return self.usable * near * (with_neighbours(complete) if self.extent.is_cut else complete)


@dataclass(frozen=True, slots=True)
class PosePrior:
    """A Gaussian belief about the pose before the image is seen.

    Attributes:
        camera_from_patient: The mean.
        information: Inverse covariance of the twist (mm, rad, patient axes, about the pivot) from the mean.
    """

    camera_from_patient: RigidTransform
    information: Float[Tensor, "6 6"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Poses and their rendered images."""

    poses: RigidTransform
    moving: Float[Tensor, "batch height width"]
    jacobian: Float[Tensor, "batch height width parameters"]
    near: Float[Tensor, "batch height width"]


@dataclass(frozen=True, slots=True)
class WeightedNormalEquations(NormalEquations):
    """Normal equations, and the weights of pixels and prior under which they hold.

    `pixels` have a weight, and `prepared` is what the similarity has made of them.
    """

    weight: Float[Tensor, "batch height width"]
    prior_weight: Float[Tensor, "batch"]
    pixels: Int[Tensor, "batch"]
    prepared: tuple[Tensor, ...]


@dataclass(slots=True)
class PoseObjective:
    """A `LeastSquaresProblem` of `fluoro_reg.optimisers`; `n_renders` counts views."""

    scale: Scale
    model: ObjectModel
    similarity: AbstractResidualSimilarity
    prior: PosePrior | None = None
    n_renders: int = 0

    def evaluate(self, poses: RigidTransform) -> Evaluation:
        """Renders the CT at each pose of a batch."""
        scale, pivot = self.scale, self.model.pivot
        [channels] = in_parts(lambda part: [project_channels(scale.renderer, part, scale.intrinsics, pivot)], poses)
        return self._evaluation(poses, channels[..., 0], channels[..., 1:])

    def images(self, poses: RigidTransform) -> Evaluation:
        """The same with a Jacobian of no columns, in less time."""
        [integrals] = in_parts(lambda part: [project(self.scale.renderer, part, self.scale.intrinsics)], poses)
        return self._evaluation(poses, integrals, integrals.new_empty(*integrals.shape, 0))

    def _evaluation(self, poses: RigidTransform, integrals: Tensor, jacobian: Tensor) -> Evaluation:
        self.n_renders += poses.translation.shape[0]
        near = near_object(integrals, self.model.roi, self.scale.margin_px)
        if self.model.saturation > 0:
            passed = torch.exp(-self.model.saturation * integrals)
            integrals, jacobian = 1 - passed, self.model.saturation * passed[..., None] * jacobian
        if (reach := self.scale.local_px) > 0:
            integrals = integrals - local_mean(integrals, reach)
            jacobian = jacobian - local_mean(jacobian, reach)
        return Evaluation(poses, integrals, jacobian, near)

    def retract(self, at: Evaluation, step: Float[Tensor, "batch 6"]) -> Evaluation:
        return self.evaluate(retract(at.poses, step, self.model.pivot))

    def linearise(self, at: Evaluation) -> WeightedNormalEquations:
        return self.linearise_under(self.weight(at), at)

    def linearise_under(self, weight: Float[Tensor, "batch height width"], at: Evaluation) -> WeightedNormalEquations:
        """The normal equations under given weights of the pixels."""
        prepared, pixels = self.similarity.prepare(self.scale.fixed, weight), _pixels(weight)
        system = self.similarity.prepared_equations(at.moving, at.jacobian, self.scale.fixed, prepared)
        cost, gradient, hessian = system.cost.double(), system.gradient.double(), system.hessian.double()
        prior_weight = cost / effective_number(pixels)
        if self.prior is not None:
            twist = se3.local(self.prior.camera_from_patient, at.poses, self.model.pivot)
            pull = twist @ self.prior.information
            cost = cost + prior_weight * (twist * pull).sum(-1)
            gradient = gradient + prior_weight[:, None] * pull
            hessian = hessian + prior_weight[:, None, None] * self.prior.information
        cost = unless_empty(cost, pixels)
        return WeightedNormalEquations(cost, gradient, hessian, weight, prior_weight, pixels, prepared)

    def cost(self, trial: Evaluation, reference: WeightedNormalEquations) -> Float[Tensor, "batch"]:
        cost = self.similarity.prepared_cost(trial.moving, self.scale.fixed, reference.prepared).double()
        if self.prior is not None:
            twist = se3.local(self.prior.camera_from_patient, trial.poses, self.model.pivot)
            cost = cost + reference.prior_weight * (twist @ self.prior.information * twist).sum(-1)
        return unless_empty(cost, reference.pixels)

    def score(self, at: Evaluation) -> Float[Tensor, "batch"]:
        """The similarity that users see, with the weights of each pose."""
        return self.similarity.score(at.moving, self.scale.fixed, self.weight(at)).double()

    def widened(self, margin: int) -> "PoseObjective":
        """The same objective on a detector that is `margin` pixels larger on every side and all usable; for rendering only."""
        camera = self.scale.intrinsics
        camera = camera.cropped(-margin, -margin, camera.width + 2 * margin, camera.height + 2 * margin)
        blank = torch.ones(1, camera.height, camera.width)
        return replace(self, scale=replace(self.scale, intrinsics=camera, fixed=blank, usable=blank), n_renders=0)

    def weight(self, at: Evaluation) -> Float[Tensor, "batch height width"]:
        """The pixels that count at each pose."""
        return self.scale.weight(at.poses, at.near)


def effective_pixels(weight: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch"]:
    """The number of independent residuals under the weights."""
    return effective_number(_pixels(weight))


def effective_number(pixels: Int[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """The number of independent residuals at so many pixels."""
    return (pixels / CORRELATION_AREA_PX).clamp_min(7.0).double()


def image_evidence(
    moving: Float[Tensor, "batch height width"],
    fixed: Float[Tensor, "1 height width"],
    weight: Float[Tensor, "batch height width"],
) -> Float[Tensor, "batch"]:
    """How much more likely the X-ray is with the CT at each pose than without it: the gain in log-likelihood, 0 for none.

    For a correlation r of n independent pixels of unknown gain and noise it is `-n / 2 log(1 - r^2)`. It grows with the
    similarity and with the number of pixels that bear it, so a flat place or a place with few pixels cannot win.
    """
    similarity = GradientNCC().score(moving, fixed, weight).double().clamp(0.0, 1 - 1e-9)
    return -0.5 * effective_pixels(weight) * torch.log1p(-similarity.square())


def unless_empty(cost: Float[Tensor, "batch"], pixels: Int[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """The cost; infinite, not zero, for a pose that leaves almost nothing to compare."""
    return torch.where(pixels < MINIMUM_PIXELS, torch.inf, cost)


def _pixels(weight: Float[Tensor, "batch height width"]) -> Int[Tensor, "batch"]:
    """How many pixels have a weight. NumPy counts them ten times as fast as torch."""
    return torch.tensor([np.count_nonzero(one) for one in weight.numpy()])
