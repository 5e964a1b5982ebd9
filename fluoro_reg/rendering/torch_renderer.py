"""`TorchRenderer`: the reference. The same quadrature as every backend, in plain torch and as plainly as it can be said.

Any device, float32 or float64; autograd reaches the rays and the volume, twice where asked (learned similarities need that).
It is the oracle of the fast backends, so nothing here is clever: all planes of the grid are sampled for every ray, and what
lies outside is masked.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.rendering.rays import march_axes
from fluoro_reg.rendering.renderer import AbstractRenderer, Capabilities, Rays, homogeneous_pixels

_SAMPLES_AT_ONCE = 1 << 22


class TorchRenderer(AbstractRenderer):
    """Line integrals with a graph, and their moments in closed form."""

    capabilities = Capabilities(devices=("cpu", "cuda"), volume_gradient=True, double_backward=True)

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
        pixels = homogeneous_pixels(rays.height, rays.width, self.dtype, self.device).reshape(-1, 3)
        at_once = max(1, _SAMPLES_AT_ONCE // max(self.volume.shape_ijk))
        views = []
        for axis, source, matrix in zip(
            march_axes(rays, self.volume.shape_ijk), rays.source, rays.direction_from_pixel, strict=True
        ):
            march = _March(padded, self.volume, axis)
            source, matrix = source.to(self.device, self.dtype), matrix.to(self.device, self.dtype)
            chunks = [march.moments(source, p @ matrix.T, with_moments) for p in pixels.split(at_once)]
            views.append(torch.cat(chunks).reshape(rays.height, rays.width, -1))
        return torch.stack(views)


class _March:
    """The planes of one axis: order (m, a, c) of (i, j, k), the metric in that order, strides into the padded voxels."""

    def __init__(self, padded: Tensor, volume: CTVolume, axis: int) -> None:
        self.order = [axis, (axis + 1) % 3, (axis + 2) % 3]
        self.voxels = padded.reshape(-1)
        self.shape = [volume.shape_ijk[i] for i in self.order]
        self.strides = [padded.stride(2 - i) for i in self.order]
        linear = volume.patient_from_voxel[:3, :3][:, self.order]
        self.metric = (linear.T @ linear).to(padded)

    def moments(
        self, source: Float[Tensor, "3"], directions: Float[Tensor, "rays 3"], with_moments: bool
    ) -> Float[Tensor, "rays channels"]:
        """[I] or [I, dI/ds, dI/dd] of rays from one source."""
        source, (dm, da, dc) = source[self.order], directions[:, self.order].unbind(-1)
        slopes = torch.stack([da / dm, dc / dm], dim=-1)
        plane = torch.arange(self.shape[0], device=source.device)
        q = plane - source[0]
        a, c = (source[1 + n] + q * slopes[:, n, None] for n in range(2))
        seen = (q * dm[:, None] > 0) & self._within(a, 1) & self._within(c, 2)
        corners, fa, fc = self._corners(plane, a, c, seen)
        v00, v10, v01, v11 = corners
        near, far = v00 + fa * (v10 - v00), v01 + fa * (v11 - v01)
        total = (near + fc * (far - near)).sum(-1)
        steps = torch.nn.functional.pad(slopes, (1, 0), value=1.0)
        w = ((steps @ self.metric) * steps).sum(-1).sqrt()
        if not with_moments:
            return (w * total)[:, None]
        gradient = torch.stack([(v10 - v00) + fc * ((v11 - v01) - (v10 - v00)), far - near], dim=-1)
        by_position = w[:, None] * gradient.sum(1)
        by_slope = w[:, None] * (q[:, None] * gradient).sum(1) + ((steps @ self.metric)[:, 1:] / w[:, None]) * total[:, None]
        by_direction = by_slope / dm[:, None]
        along = [-(slopes * x).sum(-1, keepdim=True) for x in (by_position, by_direction)]
        inverse = [self.order.index(i) for i in range(3)]
        by_source = torch.cat([along[0], by_position], dim=-1)[:, inverse]
        return torch.cat([(w * total)[:, None], by_source, torch.cat([along[1], by_direction], dim=-1)[:, inverse]], dim=-1)

    def _within(self, position: Float[Tensor, "rays planes"], axis: int) -> Bool[Tensor, "rays planes"]:
        return (position > -1) & (position < self.shape[axis])

    def _corners(self, plane: Tensor, a: Tensor, c: Tensor, seen: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """The four voxels around each sample, zero where not seen, and the sample's place between them."""
        a, c = (torch.where(seen, x, torch.zeros_like(x)) for x in (a, c))
        ia, ic = a.detach().floor(), c.detach().floor()
        m, sa, sc = self.strides
        index = (plane + 1) * m + (ia.long() + 1) * sa + (ic.long() + 1) * sc
        corners = [self.voxels[index + offset] * seen for offset in (0, sa, sc, sa + sc)]
        return corners, a - ia, c - ic
