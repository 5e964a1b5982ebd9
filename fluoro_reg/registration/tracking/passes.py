"""Fused passes: a pose in, normal equations out; rendering, residuals and robust weights happen in one compiled pass.

Two similarities have a pass. Patch NCC has its own gain and offset in each patch, which a strip of patches knows: the pass
gives exactly the normal equations of `PatchNCC`. Gradient NCC has one gain and one offset for the whole image, which no strip
knows: here they are two more unknowns of the same normal equations, and the residuals are `gain g + offset - target`. At the
optimum they are those that fit best under the robust weights, while `GradientNCC` fits them to all pixels.

The pixels that count are fixed for a pass, so that one objective is minimised from beginning to end.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.registration.stages.objective import Scale
from fluoro_reg.registration.tracking.kernels import sum_gradient_strip, sum_patch_strip
from fluoro_reg.rendering import AbstractRenderer, NumbaRenderer, Rays, RayTangents, TritonRenderer
from fluoro_reg.rendering.rays import ViewGeometry
from fluoro_reg.rendering.threads import THREADS, parallel_for
from fluoro_reg.similarity import GradientNCC, PatchNCC
from fluoro_reg.similarity.kernels import TWIST

LARGEST_DEVICE_PATCH = 32  # px: a program of a GPU holds a whole patch
_MINIMUM_STRIP = 8  # rows: every strip renders two rows more than it sums


@dataclass(frozen=True, slots=True)
class FusedSystem:
    """Cost, halved gradient and Gauss-Newton Hessian with respect to [twist (6), gain, offset] or the twist alone, float64."""

    cost: float
    gradient: Float[np.ndarray, "unknowns"]
    hessian: Float[np.ndarray, "unknowns unknowns"]


class AbstractFusedPass(ABC):
    """The pass over one X-ray at one scale; `n_renders` counts views."""

    fit: Float[np.ndarray, "unknowns"]  # gain and offset to begin with; empty if they are not unknowns
    n_renders: int

    @abstractmethod
    def system(self, pose: RigidTransform, fit: Float[np.ndarray, "unknowns"]) -> FusedSystem:
        """Return the normal equations at a pose (`camera_from_patient`, float64), and at a gain and an offset."""


def fused_pass_of(
    scale: Scale, model: ObjectModel, similarity: object, weight: Float[Tensor, "height width"]
) -> AbstractFusedPass | None:
    """The pass for a similarity and a renderer; None if there is none. `weight` is of the pixels that count."""
    if not has_fused_pass(similarity, scale.renderer) or float(weight.sum()) == 0:
        return None
    view = View.of(scale, model)
    if isinstance(scale.renderer, NumbaRenderer):
        kinds: tuple[Any, Any] = GradientPass, PatchPass
    else:
        from fluoro_reg.registration.tracking.device_passes import DeviceGradientPass, DevicePatchPass  # they need Triton

        kinds = DeviceGradientPass, DevicePatchPass
    return kinds[isinstance(similarity, PatchNCC)](view, similarity, scale.fixed, weight)


def has_fused_pass(similarity: object, renderer: AbstractRenderer) -> bool:
    """Whether there is a pass for a similarity and a renderer."""
    if isinstance(similarity, PatchNCC) and isinstance(renderer, TritonRenderer):
        return 0 < similarity.patch <= LARGEST_DEVICE_PATCH
    return isinstance(similarity, (GradientNCC, PatchNCC)) and isinstance(renderer, (NumbaRenderer, TritonRenderer))


@dataclass(frozen=True, slots=True)
class View:
    """What is needed to march the rays of a pose."""

    renderer: AbstractRenderer
    geometry: ViewGeometry
    pivot: Float[Tensor, "3"]
    saturation: float

    @staticmethod
    def of(scale: Scale, model: ObjectModel) -> "View":
        geometry = ViewGeometry.from_volume(scale.renderer.volume, scale.intrinsics)
        return View(scale.renderer, geometry, model.pivot, model.saturation)

    def march(self, pose: RigidTransform) -> tuple[Any, Any]:
        """The grid and the rays of a pose in the order of its march axis, for a `NumbaRenderer`."""
        assert isinstance(self.renderer, NumbaRenderer)
        return self.renderer.view(*self._rays(pose))

    def images(self, pose: RigidTransform) -> Float[Tensor, "7 height width"]:
        """The line integrals of a pose and their derivatives with respect to a twist, on the renderer's device."""
        return self.renderer.jacobian(*self._rays(pose))[0].movedim(-1, 0).contiguous()

    def _rays(self, pose: RigidTransform) -> tuple[Rays, RayTangents]:
        one = RigidTransform.stack([pose])
        return self.geometry.rays(one), self.geometry.twist_tangents(one, self.pivot)


@final
@dataclass(slots=True)
class GradientPass(AbstractFusedPass):
    """Gradient NCC with gain and offset as unknowns."""

    view: View
    similarity: GradientNCC
    fixed: Float[Tensor, "1 height width"]
    pixels: Float[Tensor, "height width"]
    fit: Float[np.ndarray, "2"] = field(init=False)
    n_renders: int = field(default=0, init=False)
    _target: Any = field(init=False)
    _weight: Any = field(init=False)

    def __post_init__(self) -> None:
        target, weight = gradient_target(self.similarity, self.fixed, self.pixels)
        self._target, self._weight = target.float().contiguous().numpy(), weight.float().contiguous().numpy()
        self.fit = np.zeros(2)  # of a gain of 0: the first system finds both from the image

    def system(self, pose: RigidTransform, fit: Float[np.ndarray, "2"]) -> FusedSystem:
        grid, view = self.view.march(pose)
        height, saturation, robust_scale = self._weight.shape[0], self.view.saturation, self.similarity.robust_scale
        edges = np.linspace(1, height - 1, 1 + max(1, min(2 * THREADS, (height - 2) // _MINIMUM_STRIP))).astype(int)
        parts = np.zeros((len(edges) - 1, 10, 9))

        def work(first: int, last: int) -> None:
            for n in range(first, last):
                parts[n] = sum_gradient_strip(
                    grid, view, saturation, self._target, self._weight, (fit[0], fit[1]), robust_scale,
                    edges[n], edges[n + 1],
                )  # fmt: skip

        parallel_for(work, len(parts))
        self.n_renders += 1
        return system_of_gradients(parts.sum(0), float(fit[0]))


@final
@dataclass(slots=True)
class PatchPass(AbstractFusedPass):
    """Patch NCC."""

    view: View
    similarity: PatchNCC
    fixed: Float[Tensor, "1 height width"]
    pixels: Float[Tensor, "height width"]
    fit: Float[np.ndarray, "0"] = field(default_factory=lambda: np.zeros(0), init=False)
    n_renders: int = field(default=0, init=False)
    _target: Any = field(init=False)
    _weight: Any = field(init=False)
    _patch_weight: Any = field(init=False)

    def __post_init__(self) -> None:
        tensors = patch_target(self.similarity, self.fixed, self.pixels)
        self._target, self._weight, self._patch_weight = (tensor.float().contiguous().numpy() for tensor in tensors)

    def system(self, pose: RigidTransform, fit: Float[np.ndarray, "0"]) -> FusedSystem:
        grid, view = self.view.march(pose)
        rows, columns = self._patch_weight.shape
        size = self._weight.shape[0] // rows, self._weight.shape[1] // columns
        parts = np.zeros((rows, 8, 7))

        def work(first: int, last: int) -> None:
            for n in range(first, last):
                parts[n] = sum_patch_strip(
                    grid, view, self.view.saturation, self._target, self._weight, self._patch_weight,
                    self.similarity.robust_scale, self.similarity.floor, n, size,
                )  # fmt: skip

        parallel_for(work, rows)
        self.n_renders += 1
        return system_of_patches(parts.sum(0))


def gradient_target(
    similarity: GradientNCC, fixed: Float[Tensor, "1 height width"], pixels: Float[Tensor, "height width"]
) -> tuple[Float[Tensor, "2 height width"], Float[Tensor, "height width"]]:
    """The clipped, standardised gradients of the X-ray, and the weights that sum to one over both directions."""
    target, weight = similarity.target(fixed, pixels[None])
    return target[0].unflatten(0, (2, *pixels.shape)), weight[0].unflatten(0, (2, *pixels.shape))[0]


def patch_target(
    similarity: PatchNCC, fixed: Float[Tensor, "1 height width"], pixels: Float[Tensor, "height width"]
) -> tuple[Float[Tensor, "rows_px columns_px"], Float[Tensor, "rows_px columns_px"], Float[Tensor, "rows columns"]]:
    """The X-ray standardised in each patch, the weights normalised in each patch, and the weights of the patches.

    What is left over beside the last whole patch is cut off.
    """
    return similarity.target(fixed, pixels[None])


def system_of_gradients(sums: Float[np.ndarray, "10 9"], gain: float) -> FusedSystem:
    """The normal equations of [twist, gain, offset] from the sums of `sum_gradient_strip`."""
    factor = np.concatenate([np.full(TWIST, gain), np.ones(2)])  # d residual / d twist = gain dg / d twist
    return FusedSystem(float(sums[9, 0]), factor * sums[8, :8], factor[:, None] * sums[:8, :8] * factor)


def system_of_patches(sums: Float[np.ndarray, "8 7"]) -> FusedSystem:
    """The normal equations of the twist from the sums of `sum_patch_strip`."""
    return FusedSystem(float(sums[7, 0]), sums[6, :TWIST].copy(), sums[:TWIST, :TWIST].copy())
