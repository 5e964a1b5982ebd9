"""The fused passes on a GPU: one launch renders image and derivatives, another sums them up, and 256 numbers come back.

The sums are needed on the host in every round, because the refiner decides there whether to go on. Most frames need two or
three rounds, and a fixed number of them in a graph would be more.
"""

import math
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
import triton
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.tracking.device_kernels import gradient_sums_kernel, patch_sums_kernel
from fluoro_reg.registration.tracking.passes import (
    AbstractFusedPass,
    FusedSystem,
    View,
    gradient_target,
    patch_target,
    system_of_gradients,
    system_of_patches,
)
from fluoro_reg.similarity import GradientNCC, PatchNCC

_LANES = 128  # pixels of a program


@final
@dataclass(slots=True)
class DeviceGradientPass(AbstractFusedPass):
    """`GradientPass` on the device of the view's renderer."""

    view: View
    similarity: GradientNCC
    fixed: Float[Tensor, "1 height width"]
    pixels: Float[Tensor, "height width"]
    fit: Float[np.ndarray, "2"] = field(default_factory=lambda: np.zeros(2), init=False)
    n_renders: int = field(default=0, init=False)
    _target: Float[Tensor, "2 height width"] = field(init=False)
    _weight: Float[Tensor, "height width"] = field(init=False)

    def __post_init__(self) -> None:
        self._target, self._weight = _on_device(self.view, *gradient_target(self.similarity, self.fixed, self.pixels))

    def system(self, pose: RigidTransform, fit: Float[np.ndarray, "2"]) -> FusedSystem:
        images = self.view.images(pose)
        height, width = self._weight.shape
        out = _sums(triton.cdiv(height * width, _LANES), images)
        gradient_sums_kernel[(len(out),)](
            images, self._target, self._weight, out, self.view.saturation, float(fit[0]), float(fit[1]),
            self.similarity.robust_scale, height, width, LANES=_LANES, num_warps=warps_of(_LANES),
            **_variant(self.view, self.similarity.robust_scale),
        )  # fmt: skip
        self.n_renders += 1
        return system_of_gradients(_total(out)[:10, :9], float(fit[0]))


@final
@dataclass(slots=True)
class DevicePatchPass(AbstractFusedPass):
    """`PatchPass` on the device of the view's renderer."""

    view: View
    similarity: PatchNCC
    fixed: Float[Tensor, "1 height width"]
    pixels: Float[Tensor, "height width"]
    fit: Float[np.ndarray, "0"] = field(default_factory=lambda: np.zeros(0), init=False)
    n_renders: int = field(default=0, init=False)
    _target: Float[Tensor, "rows_px columns_px"] = field(init=False)
    _weight: Float[Tensor, "rows_px columns_px"] = field(init=False)
    _patch_weight: Float[Tensor, "rows columns"] = field(init=False)

    def __post_init__(self) -> None:
        tensors = patch_target(self.similarity, self.fixed, self.pixels)
        self._target, self._weight, self._patch_weight = _on_device(self.view, *tensors)

    def system(self, pose: RigidTransform, fit: Float[np.ndarray, "0"]) -> FusedSystem:
        images = self.view.images(pose)
        (rows, columns), (height, width) = self._patch_weight.shape, images.shape[1:]
        size_v, size_u = self._weight.shape[0] // rows, self._weight.shape[1] // columns
        lanes = max(_LANES, triton.next_power_of_2(size_v * size_u))
        out = _sums(rows * columns, images)
        patch_sums_kernel[(len(out),)](
            images, self._target, self._weight, self._patch_weight, out, self.view.saturation, self.similarity.robust_scale,
            self.similarity.floor, height * width, width, columns, size_v, size_u, LANES=lanes, num_warps=warps_of(lanes),
            **_variant(self.view, self.similarity.robust_scale),
        )  # fmt: skip
        self.n_renders += 1
        return system_of_patches(_total(out)[:8, :7])


def warps_of(lanes: int) -> int:
    """The warps of a program: at most two pixels for a thread, so that sixteen values of each fit into its registers."""
    return max(4, lanes // 64)


def _on_device(view: View, *tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.to(view.renderer.device, torch.float32).contiguous() for tensor in tensors)


def _sums(programs: int, images: Tensor) -> Float[Tensor, "programs 16 16"]:
    return torch.empty(programs, 16, 16, device=images.device, dtype=torch.float32)


def _total(sums: Float[Tensor, "programs 16 16"]) -> Float[np.ndarray, "16 16"]:
    return sums.sum(0, dtype=torch.float64).cpu().numpy()


def _variant(view: View, robust_scale: float) -> dict[str, Any]:
    """The constants of a kernel."""
    return {"SATURATED": view.saturation > 0, "ROBUST": not math.isinf(robust_scale)}
