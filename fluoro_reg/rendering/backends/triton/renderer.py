"""`TritonRenderer`: the GPU backend. One launch renders a batch of views from any sides, with the derivatives asked for.

The cropped, padded volume lies in the GPU's memory twice: as it is, for marches along k and j, and turned, for marches along i;
in both, the voxels of a plane's rows are neighbours. float16 voxels (scaled to 1) halve what the caches must deliver and cost
an image 2.5e-5 of its range.

Triton comes with the CUDA builds of torch and is imported at construction. Under its interpreter (`TRITON_INTERPRET=1`)
everything runs on a CPU, slowly: that is how it is tested where there is no GPU.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.rendering.backends.autograd import needs_gradient
from fluoro_reg.rendering.backends.fast_volume import air_box, refuse_volume_gradient
from fluoro_reg.rendering.rays import march_axes
from fluoro_reg.rendering.renderer import AbstractRenderer, Capabilities, Rays, RayTangents

_PAD_BEFORE, _PAD_AFTER = 1, 1


class TritonRenderer(AbstractRenderer):
    """Line integrals and their derivatives on a GPU: float32 or float16 voxels, fixed-point geometry, float32 sums.

    `device` None is the GPU, or the CPU under Triton's interpreter.

    Raises:
        InputError: no Triton, no CUDA device, a volume that requires a gradient, or one of 2^30 voxels or more.
    """

    capabilities = Capabilities(("cuda",), jacobian_in_kernel=True, volume_gradient=False, double_backward=False)

    def __init__(self, volume: CTVolume, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32) -> None:
        refuse_volume_gradient(volume, "triton")
        self._ops = _import_ops()
        self.volume = volume
        self.device = torch.device(device or ("cpu" if self._ops.INTERPRETED else "cuda"))
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise InputError("the triton renderer needs a CUDA device, and none was found; use the numba renderer")
        attenuation = volume.attenuation.detach().to(self.device, torch.float32)
        low, high = air_box(attenuation)
        cropped = attenuation[tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))]
        unit = float(cropped.max()) or 1.0 if dtype == torch.float16 else 1.0
        padded = torch.nn.functional.pad(cropped / unit, (_PAD_BEFORE, _PAD_AFTER) * 3).to(dtype)
        if 2 * padded.numel() >= 2**31:
            raise InputError("the CT has 2^30 voxels or more, which is too many for the GPU; downsample or crop it")
        self._shift = torch.tensor(low, dtype=torch.float64, device=self.device) - _PAD_BEFORE
        self._grid = self._ops.VolumeGrid(
            torch.cat([padded.reshape(-1), padded.permute(2, 0, 1).reshape(-1)]),
            _layout(padded.shape).to(self.device),
            _metric(volume.patient_from_voxel).to(self.device),
            unit,
        )

    def integrals(self, rays: Rays) -> Float[Tensor, "batch height width"]:
        views = self._views(rays)
        if needs_gradient(rays):
            return self._ops.project(*self._grid, *views, rays.height, rays.width)[0]
        nothing = RayTangents.none(len(rays.source), self.device)
        return self._ops.march(*self._grid, *views, *_moved(nothing, self.device), rays.height, rays.width)[:, 0]

    def moments(self, rays: Rays) -> Float[Tensor, "batch height width 7"]:
        return self.jacobian(rays, RayTangents.unit(len(rays.source), self.device))

    def jacobian(self, rays: Rays, tangents: RayTangents) -> Float[Tensor, "batch height width channels"]:
        moved = _moved(tangents, self.device)
        return self._ops.march(*self._grid, *self._views(rays), *moved, rays.height, rays.width).movedim(1, -1)

    def gram(
        self,
        rays: Rays,
        tangents: RayTangents,
        fixed: Float[Tensor, "#batch height width"],
        weight: Float[Tensor, "batch height width"],
    ) -> Float[Tensor, "batch products products"]:
        images = (image.to(self.device, torch.float32).expand_as(weight).contiguous() for image in (fixed, weight))
        sums = self._ops.gram(*self._grid, *self._views(rays), *_moved(tangents, self.device), *images)
        products = 3 + tangents.source.shape[1]
        return sums[:, :products, :products]

    def _views(self, rays: Rays) -> tuple[Tensor, Tensor, Tensor]:
        """Source in the cropped grid, direction matrix, march axis."""
        refuse_volume_gradient(self.volume, "triton")
        axes = rays.axes if rays.axes is not None else torch.tensor(march_axes(rays, self.volume.shape_ijk))
        source = rays.source.to(self.device, torch.float64) - self._shift
        direction = rays.direction_from_pixel.to(self.device, torch.float64)
        return source.contiguous(), direction.contiguous(), axes.to(self.device, torch.int32)


def _import_ops():  # type: ignore[no-untyped-def]  # a module
    try:
        from fluoro_reg.rendering.backends.triton import ops as triton_ops
    except ImportError as error:
        raise InputError("the triton renderer needs Triton, which comes with CUDA builds of torch on Linux") from error
    return triton_ops


def _moved(tangents: RayTangents, device: torch.device) -> tuple[Tensor, Tensor]:
    source, direction = (moved.to(device, torch.float32) for moved in (tangents.source, tangents.direction_from_pixel))
    return source.contiguous(), direction.contiguous()


def _layout(shape_kji: torch.Size) -> Tensor:
    """`layout` of the kernels for [k, j, i], followed in memory by [i, k, j]."""
    nk, nj, ni = shape_kji
    along_i = [nk * nj * ni, nk * nj, nj, ni, nj, nk]
    along_j = [0, ni, nj * ni, nj, ni, nk]
    along_k = [0, nj * ni, ni, nk, ni, nj]
    return torch.tensor([along_i, along_j, along_k], dtype=torch.int32)


def _metric(patient_from_voxel: Float[Tensor, "4 4"]) -> Tensor:
    """`metric` of the kernels by march axis."""
    linear = patient_from_voxel[:3, :3].double().cpu()
    orders = torch.tensor([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
    steps = linear.T[orders]  # along, (m, a, c), xyz
    row, column = torch.triu_indices(3, 3)
    return (steps @ steps.mT)[:, row, column].float()
