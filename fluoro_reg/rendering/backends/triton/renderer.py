"""The GPU backend, `TritonRenderer`. One launch renders a batch of views from any sides, with the requested derivatives.

The cropped, padded volume is held in GPU memory twice: in its own order for marches along k and j, and transposed for marches
along i, so that the voxels of a plane's rows are always neighbours in memory. float16 voxels (scaled to a maximum of 1) halve
the traffic of the caches and cost an image 2.5e-5 of its range.

Triton comes with the CUDA builds of torch and is imported at construction. Under its interpreter (`TRITON_INTERPRET=1`)
everything runs on a CPU, slowly. The tests use the interpreter where there is no GPU.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.rendering.backends.autograd import needs_gradient
from fluoro_reg.rendering.backends.fast_volume import occupied_bounds, reject_volume_gradient
from fluoro_reg.rendering.rays import march_axes
from fluoro_reg.rendering.renderer import AbstractRenderer, Capabilities, Rays, RayTangents

_PAD_BEFORE, _PAD_AFTER = 1, 1


class TritonRenderer(AbstractRenderer):
    """Line integrals and their derivatives on a GPU, with float32 or float16 voxels, fixed-point positions and float32 sums.

    Args:
        volume: the CT.
        device: a CUDA device. None is the current one, or the CPU under Triton's interpreter.
        dtype: the type of the voxels, float32 or float16.

    Raises:
        InputError: no Triton, no CUDA device, a volume that requires a gradient, or a volume of 2^30 voxels or more.
    """

    capabilities = Capabilities(("cuda",), jacobian_in_kernel=True, volume_gradient=False, double_backward=False)

    def __init__(self, volume: CTVolume, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32) -> None:
        reject_volume_gradient(volume, "triton")
        self._ops = _import_ops()
        self.volume = volume
        self.device = torch.device(device or ("cpu" if self._ops.INTERPRETED else "cuda"))
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise InputError("the triton renderer needs a CUDA device, and none was found; use the numba renderer")
        attenuation = volume.attenuation.detach().to(self.device, torch.float32)
        low, high = occupied_bounds(attenuation)
        cropped = attenuation[tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))]
        scale = float(cropped.max()) or 1.0 if dtype == torch.float16 else 1.0
        padded = torch.nn.functional.pad(cropped / scale, (_PAD_BEFORE, _PAD_AFTER) * 3).to(dtype)
        if 2 * padded.numel() >= 2**31:
            raise InputError("the CT has 2^30 voxels or more, which is too many for the GPU; downsample or crop it")
        self._grid_origin = torch.tensor(low, dtype=torch.float64, device=self.device) - _PAD_BEFORE
        self._grid = self._ops.VolumeGrid(
            torch.cat([padded.reshape(-1), padded.permute(2, 0, 1).reshape(-1)]),
            _layout(padded.shape).to(self.device),
            _metric(volume.patient_from_voxel).to(self.device),
            scale,
        )

    def integrals(self, rays: Rays) -> Float[Tensor, "batch height width"]:
        views = self._arguments(rays, RayTangents.empty(len(rays.source), rays.source.device))
        if needs_gradient(rays):
            return self._ops.project(*self._grid, *views[:3], rays.height, rays.width)[0]
        return self._ops.march(*self._grid, *views, rays.height, rays.width)[:, 0]

    def moments(self, rays: Rays) -> Float[Tensor, "batch height width 7"]:
        return self.jacobian(rays, RayTangents.unit(len(rays.source), self.device))

    def jacobian(self, rays: Rays, tangents: RayTangents) -> Float[Tensor, "batch height width channels"]:
        return self._ops.march(*self._grid, *self._arguments(rays, tangents), rays.height, rays.width).movedim(1, -1)

    def gram(
        self,
        rays: Rays,
        tangents: RayTangents,
        fixed: Float[Tensor, "#batch height width"],
        weight: Float[Tensor, "batch height width"],
    ) -> Float[Tensor, "batch products products"]:
        images = (image.to(self.device, torch.float32).expand_as(weight).contiguous() for image in (fixed, weight))
        sums = self._ops.gram(*self._grid, *self._arguments(rays, tangents), *images)
        products = 3 + tangents.source.shape[1]
        return sums[:, :products, :products]

    def _arguments(self, rays: Rays, tangents: RayTangents) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return sources in the cropped grid, direction matrices, march axes, and the tangents of sources and directions."""
        reject_volume_gradient(self.volume, "triton")
        axes = rays.axes if rays.axes is not None else torch.tensor(march_axes(rays, self.volume.shape_ijk))
        parts = (rays.source, rays.direction_from_pixel, axes, tangents.source, tangents.direction_from_pixel)
        source, direction, axes, *of_tangents = _on_device(parts, self.device)
        source_tangent, direction_tangent = (part.to(torch.float32).contiguous() for part in of_tangents)
        return (
            (source - self._grid_origin).contiguous(), direction.contiguous(), axes.to(torch.int32), source_tangent,
            direction_tangent,
        )  # fmt: skip


def _import_ops():  # type: ignore[no-untyped-def]
    try:
        from fluoro_reg.rendering.backends.triton import ops as triton_ops
    except ImportError as error:
        raise InputError("the triton renderer needs Triton, which comes with CUDA builds of torch on Linux") from error
    return triton_ops


def _on_device(parts: tuple[Tensor, ...], device: torch.device) -> list[Tensor]:
    """Return tensors on a device, float64. Those of the CPU go there in one copy: a copy takes as long as a small kernel."""
    if any(part.device.type != "cpu" for part in parts):
        return [part.to(device, torch.float64) if part.is_floating_point() else part.to(device) for part in parts]
    together = torch.cat([part.to(torch.float64).reshape(-1) for part in parts]).to(device, non_blocking=True)
    pieces = together.split([part.numel() for part in parts])
    return [piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)]


def _layout(shape_kji: torch.Size) -> Tensor:
    """Return the kernels' `layout` for a volume [k, j, i] that is followed in memory by its transpose [i, k, j]."""
    nk, nj, ni = shape_kji
    along_i = [nk * nj * ni, nk * nj, nj, ni, nj, nk]
    along_j = [0, ni, nj * ni, nj, ni, nk]
    along_k = [0, nj * ni, ni, nk, ni, nj]
    return torch.tensor([along_i, along_j, along_k], dtype=torch.int32)


def _metric(patient_from_voxel: Float[Tensor, "4 4"]) -> Tensor:
    """Return the kernels' `metric` by march axis."""
    linear = patient_from_voxel[:3, :3].double().cpu()
    orders = torch.tensor([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
    steps = linear.T[orders]  # [march axis, (m, a, c), xyz]
    row, column = torch.triu_indices(3, 3)
    return (steps @ steps.mT)[:, row, column].float()
