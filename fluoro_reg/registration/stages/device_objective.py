"""`DeviceObjective`: what `PoseObjective` is for gradient NCC, as torch operations that a CUDA graph can capture.

No value reaches the host, and no shape depends on one. Everything is in the frame of the whole image at its scale, in which
only the pixels of a window are usable, so that one graph serves all poses and images of a camera. Two things differ from
`PoseObjective`: the march axis of each view is that of its first pose, and gradients of the X-ray are clipped at their quantile
over the pixels that count at the first poses. `test_gradient_refiner.py` bounds what both change.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.optimisers import NormalEquations
from fluoro_reg.registration.stages.device_sums import gradient_sums_by_kernel, gradient_sums_in_torch
from fluoro_reg.registration.stages.masks import Extent, complete_rays_in_torch, dilated_in_torch, near_object
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.registration.stages.objective import CORRELATION_AREA_PX, unless_empty
from fluoro_reg.rendering.rays import ViewGeometry
from fluoro_reg.rendering.renderer import AbstractRenderer, Rays
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.similarity.gradient_ncc import CLIP_SAMPLE, sobel_gradients
from fluoro_reg.similarity.kernels import TWIST
from fluoro_reg.similarity.residual import geman_mcclure


@dataclass(frozen=True, slots=True)
class DeviceEvaluation:
    """Poses, their images with derivatives, the gradients of the images, and the pixels that count."""

    poses: RigidTransform
    images: Float[Tensor, "batch 7 height width"]
    gradients: Float[Tensor, "batch 2 height width"]
    pixels: Float[Tensor, "batch height width"]


@dataclass(frozen=True, slots=True)
class DeviceEquations(NormalEquations):
    """Normal equations with their weights, twice whose sum is one, and the X-ray's gradients, standardised under these."""

    weight: Float[Tensor, "batch height width"]
    target: Float[Tensor, "batch 2 height width"]
    n_pixels: Int[Tensor, "batch"]


@dataclass(slots=True)
class DeviceObjective:
    """A `LeastSquaresProblem` over a fixed number of poses. Its tensors are filled before it is used, and keep their memory."""

    renderer: AbstractRenderer
    geometry: ViewGeometry
    extent: Extent  # on the device
    model: ObjectModel
    similarity: GradientNCC
    margin_px: float
    batch: int
    pivot: Float[Tensor, "3"] = field(init=False)
    axes: Int[Tensor, "batch"] = field(init=False)
    fixed: Float[Tensor, "1 height width"] = field(init=False)
    usable: Float[Tensor, "1 height width"] = field(init=False)
    clipped: Float[Tensor, "1 2 height width"] = field(init=False)  # gradients of the X-ray

    def __post_init__(self) -> None:
        device, shape = self.renderer.device, (self.geometry.height, self.geometry.width)
        self.pivot = self.model.pivot.to(device, torch.float64)
        self.axes = torch.zeros(self.batch, dtype=torch.int64, device=device)
        self.fixed, self.usable = torch.zeros(1, *shape, device=device), torch.zeros(1, *shape, device=device)
        self.clipped = torch.zeros(1, 2, *shape, device=device)

    def start(self, poses: RigidTransform) -> DeviceEvaluation:
        """Evaluate the first poses, and clip the X-ray's gradients where these poses compare it."""
        at = self.evaluate(poses)
        gradients = sobel_gradients(self.fixed[None])[:, 0]
        limit = clip_limit(gradients[0], at.pixels.amax(0) > 0, self.similarity.clip)
        self.clipped.copy_(torch.minimum(torch.maximum(gradients, -limit), limit))
        return at

    def evaluate(self, poses: RigidTransform) -> DeviceEvaluation:
        rays = self.geometry.rays(poses, self.axes)
        tangents = self.geometry.twist_tangents(poses, self.pivot)
        images = self.renderer.jacobian(rays, tangents).movedim(-1, 1)
        pixels = self._pixels(images[:, 0], rays)
        if (saturation := self.model.saturation) > 0:
            passed = torch.exp(-saturation * images[:, :1])
            images = torch.cat([1 - passed, saturation * passed * images[:, 1:]], dim=1)
        return DeviceEvaluation(poses, images, sobel_gradients(images[:, :1])[:, 0], pixels)

    def retract(self, at: DeviceEvaluation, step: Float[Tensor, "batch 6"]) -> DeviceEvaluation:
        return self.evaluate(retract(at.poses, step, self.pivot))

    def linearise(self, at: DeviceEvaluation) -> DeviceEquations:
        weight = at.pixels / (2 * at.pixels.sum((1, 2), keepdim=True)).clamp_min(1e-12)
        mean, sd = self._moments(self.clipped, weight)
        target = (self.clipped - mean) / sd
        mean, sd = self._moments(at.gradients, weight)
        fit = torch.stack([1 / sd, -mean / sd], dim=1).flatten(1)
        sums = gradient_sums_by_kernel if self.renderer.device.type == "cuda" else gradient_sums_in_torch
        robust, plain, cost = sums(at.images, target, weight, fit, self.similarity.robust_scale)
        n_pixels = (at.pixels > 0).sum((1, 2))
        gradient, hessian = system_of_sums(robust, plain, sd.flatten().double())
        return DeviceEquations(unless_empty(cost, n_pixels), gradient, hessian, weight, target, n_pixels)

    def cost(self, trial: DeviceEvaluation, reference: DeviceEquations) -> Float[Tensor, "batch"]:
        rho, _ = geman_mcclure((self._z(trial, reference) - reference.target).square(), self.similarity.robust_scale)
        cost = (reference.weight[:, None] * rho).sum((1, 2, 3), dtype=torch.float64)
        return unless_empty(cost, reference.n_pixels)

    def evidence(self, at: DeviceEvaluation, here: DeviceEquations) -> Float[Tensor, "batch"]:
        """The evidence of each pose: that of `image_evidence`, but with the clipping of this similarity."""
        products = here.weight[:, None] * self._z(at, here) * here.target
        similarity = products.sum((1, 2, 3), dtype=torch.float64).clamp(0.0, 1 - 1e-9)
        effective = (here.n_pixels / CORRELATION_AREA_PX).clamp_min(7.0).double()
        return -0.5 * effective * torch.log1p(-similarity.square())

    def _z(self, at: DeviceEvaluation, under: DeviceEquations) -> Float[Tensor, "batch 2 height width"]:
        mean, sd = self._moments(at.gradients, under.weight)
        return (at.gradients - mean) / sd

    def _moments(self, gradients: Tensor, weight: Tensor) -> tuple[Float[Tensor, "batch 1 1 1"], Float[Tensor, "batch 1 1 1"]]:
        """Mean and standard deviation of gradients under the weights of the pixels."""
        w = weight[:, None]
        mean = (w * gradients).sum((1, 2, 3), keepdim=True)
        variance = (w * (gradients - mean).square()).sum((1, 2, 3), keepdim=True)
        return mean, (variance + self.similarity.floor).sqrt()

    def _pixels(self, integrals: Float[Tensor, "batch height width"], rays: Rays) -> Float[Tensor, "batch height width"]:
        pixels = self.usable.expand_as(integrals)
        if self.model.roi != "full":
            pixels = pixels * near_object(integrals, self.model.roi, self.margin_px, dilated_in_torch)
        if self.extent.is_cut:
            pixels = pixels * (1 - dilated_in_torch(~complete_rays_in_torch(rays, self.extent), 1))
        return pixels


def system_of_sums(
    robust: Float[Tensor, "batch 9 9"], plain: Float[Tensor, "batch 2 9"], sd: Float[Tensor, "batch"]
) -> tuple[Float[Tensor, "batch 6"], Float[Tensor, "batch 6 6"]]:
    """Gradient and Hessian from the sums of `gradient_sums_in_torch`; the mathematics is that of `system_of_products`."""
    unit = torch.diag_embed(torch.ones_like(plain[:, 0, :TWIST]))
    linear = torch.cat([unit, -plain[:, :, :TWIST].flip(1).mT], dim=-1) / sd[:, None, None]
    n = TWIST + 2
    return (linear @ robust[:, :n, n, None]).squeeze(-1), linear @ robust[:, :n, :n] @ linear.mT


def clip_limit(gradients: Float[Tensor, "2 height width"], used: Tensor, clip: float) -> Float[Tensor, ""]:
    """The quantile `clip` of the absolute gradients at used pixels, of the same sample that `GradientNCC` takes.

    A sample has a size that depends on the mask. It is therefore sorted to the front of all gradients.
    """
    flags = used.flatten().repeat(2)
    number, total = flags.cumsum(0) - 1, flags.sum()
    step = (total // CLIP_SAMPLE).clamp_min(1)
    chosen = flags & (number % step == 0)
    ordered = torch.where(chosen, gradients.abs().flatten(), torch.inf).sort().values
    rank = (clip * chosen.sum().double()).long().clamp_min(1) - 1
    return ordered.gather(0, rank[None])[0]
