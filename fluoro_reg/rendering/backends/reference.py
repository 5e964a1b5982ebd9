"""The reference backend, `TorchRenderer`: the same quadrature as the other backends, in plain torch and as simple as possible.

It runs on any device in float32 or float64. Autograd reaches the rays and the volume, and can be applied twice, as learned
similarities require. It is the oracle for the fast backends and therefore not optimised: every ray samples all planes of the
grid, and samples outside are masked. Sample positions are always float64, because in float32 samples near a voxel face would
fall on its other side, where the derivative is different.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.rendering.rays import MAX_SLOPE, march_axes
from fluoro_reg.rendering.renderer import AbstractRenderer, Capabilities, Rays, homogeneous_pixels

_MAX_SAMPLES_PER_CHUNK = 1 << 22


class TorchRenderer(AbstractRenderer):
    """Line integrals that autograd can follow, and their moments in closed form."""

    capabilities = Capabilities(("cpu", "cuda"), jacobian_in_kernel=False, volume_gradient=True, double_backward=True)

    def __init__(self, volume: CTVolume, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.volume = volume
        self.device = torch.device(device)
        self.dtype = dtype

    def integrals(self, rays: Rays) -> Float[Tensor, "batch height width"]:
        return self._render(rays, with_moments=False)[..., 0]

    def moments(self, rays: Rays) -> Float[Tensor, "batch height width 7"]:
        return self._render(rays, with_moments=True)

    def _render(self, rays: Rays, with_moments: bool) -> Tensor:
        padded = torch.nn.functional.pad(self.volume.attenuation.to(self.device, self.dtype), (1, 1) * 3)
        pixels = homogeneous_pixels(rays.height, rays.width, torch.float64, self.device).reshape(-1, 3)
        chunk_size = max(1, _MAX_SAMPLES_PER_CHUNK // max(self.volume.shape_ijk))
        views = []
        for axis, source, matrix in zip(
            march_axes(rays, self.volume.shape_ijk), rays.source, rays.direction_from_pixel, strict=True
        ):
            march = _PlaneMarch(padded, self.volume, axis)
            source, matrix = source.to(self.device, torch.float64), matrix.to(self.device, torch.float64)
            chunks = [march.moments(source, p @ matrix.T, with_moments) for p in pixels.split(chunk_size)]
            views.append(torch.cat(chunks).to(self.dtype).reshape(rays.height, rays.width, -1))
        return torch.stack(views)


class _PlaneMarch:
    """Quadrature over the planes of one axis, with the grid's axes, metric and strides in the order (m, a, c)."""

    def __init__(self, padded: Tensor, volume: CTVolume, axis: int) -> None:
        self.order = [axis, (axis + 1) % 3, (axis + 2) % 3]
        self.voxels = padded.reshape(-1)
        self.shape = [volume.shape_ijk[i] for i in self.order]
        self.strides = [padded.stride(2 - i) for i in self.order]
        linear = volume.patient_from_voxel[:3, :3][:, self.order]
        self.metric = (linear.T @ linear).to(padded.device)

    def moments(
        self, source: Float[Tensor, "3"], directions: Float[Tensor, "rays 3"], with_moments: bool
    ) -> Float[Tensor, "rays channels"]:
        """Return [I] or [I, dI/ds, dI/dd] of rays from one source."""
        source, (dm, da, dc) = source[self.order], directions[:, self.order].unbind(-1)
        has_quadrature = (da.abs() < MAX_SLOPE * dm.abs()) & (dc.abs() < MAX_SLOPE * dm.abs())
        dm, da, dc = (torch.where(has_quadrature, x, torch.ones_like(x)) for x in (dm, da, dc))
        slopes = torch.stack([da / dm, dc / dm], dim=-1)
        plane = torch.arange(self.shape[0], device=source.device)
        q = plane - source[0]
        a, c = (source[1 + n] + q * slopes[:, n, None] for n in range(2))
        valid = has_quadrature[:, None] & (q * dm[:, None] >= 0) & self._within(a, 1) & self._within(c, 2)
        value, gradient = self._sample(plane, a, c, valid)
        total = value.sum(-1, keepdim=True)
        step = torch.nn.functional.pad(slopes, (1, 0), value=1.0)
        w = ((step @ self.metric) * step).sum(-1, keepdim=True).sqrt()
        if not with_moments:
            return w * total
        grad_source = w * gradient.sum(1)
        grad_slope = w * (q[:, None] * gradient).sum(1) + (step @ self.metric)[:, 1:] / w * total
        grad_direction = grad_slope / dm[:, None]
        return torch.cat([w * total, self._to_ijk(slopes, grad_source), self._to_ijk(slopes, grad_direction)], dim=-1)

    def _to_ijk(self, slopes: Float[Tensor, "rays 2"], grad_ac: Float[Tensor, "rays 2"]) -> Float[Tensor, "rays 3"]:
        """Return derivatives with respect to (i, j, k) from those to (a, c); a motion along the ray changes nothing."""
        grad_m = -(slopes * grad_ac).sum(-1, keepdim=True)
        return torch.cat([grad_m, grad_ac], dim=-1)[:, [self.order.index(i) for i in range(3)]]

    def _within(self, position: Float[Tensor, "rays planes"], axis: int) -> Bool[Tensor, "rays planes"]:
        return (position > -1) & (position < self.shape[axis])

    def _sample(
        self,
        plane: Tensor,
        a: Float[Tensor, "rays planes"],
        c: Float[Tensor, "rays planes"],
        valid: Bool[Tensor, "rays planes"],
    ) -> tuple[Float[Tensor, "rays planes"], Float[Tensor, "rays planes 2"]]:
        """Return bilinear samples and their derivatives along a and c; zero where not valid."""
        a, c = (torch.where(valid, x, torch.zeros_like(x)) for x in (a, c))
        ia, ic = a.detach().floor(), c.detach().floor()
        fa, fc = (a - ia).to(self.voxels), (c - ic).to(self.voxels)
        stride_m, stride_a, stride_c = self.strides
        index = (plane + 1) * stride_m + (ia.long() + 1) * stride_a + (ic.long() + 1) * stride_c
        v00, v10, v01, v11 = (self.voxels[index + n] * valid for n in (0, stride_a, stride_c, stride_a + stride_c))
        near, far = v00 + fa * (v10 - v00), v01 + fa * (v11 - v01)
        along_a = (1 - fc) * (v10 - v00) + fc * (v11 - v01)
        return near + fc * (far - near), torch.stack([along_a, far - near], dim=-1)
