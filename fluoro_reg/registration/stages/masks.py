"""Masks: the pixels at which X-ray and rendered CT can be compared, for each pose.

There are two reasons why a pixel cannot be compared. The X-ray may show anatomy beyond the end of the CT, so that the line
integral is incomplete. Or the CT is a single object (an implant, one bone) and the pixel shows something else. On real
fluoroscopy of implants the second mask makes the difference between 0 and 90 % success; with a CT that is cut at the pelvis,
the first one does.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.registration.stages.ray_kernels import mark_complete_rays, mark_near
from fluoro_reg.rendering.rays import rays_of_views
from fluoro_reg.rendering.renderer import Rays, homogeneous_pixels

BODY_ATTENUATION = 0.008  # 1/mm: between lung and fat
CUT_FRACTION = 0.4  # an outermost slice is a cut if it holds at least this fraction of the body in the fullest slice
CUT_FRACTION_OF_OBJECT = 0.1  # the same of an object in air: a shaft is thinner than its ends, and air is not skin


@dataclass(frozen=True, slots=True)
class Extent:
    """The CT's non-air box in voxels, and the faces at which the body continues beyond the CT.

    A face that only cuts off skin (a field of view narrower than the patient) does not count as a cut: the missing part is thin
    and smooth, and a view along that axis would have no complete ray.
    """

    low: Float[Tensor, "3"]
    high: Float[Tensor, "3"]
    cut_low: Bool[Tensor, "3"]
    cut_high: Bool[Tensor, "3"]
    cut_faces: tuple[tuple[bool, bool], ...] = field(init=False)  # `cut_low` and `cut_high` of each axis

    def __post_init__(self) -> None:
        object.__setattr__(self, "cut_faces", tuple(zip(self.cut_low.tolist(), self.cut_high.tolist(), strict=True)))

    @property
    def is_cut(self) -> bool:
        """Whether the body continues beyond any face."""
        return any(low or high for low, high in self.cut_faces)

    @staticmethod
    def of(volume: CTVolume, cut_fraction: float = CUT_FRACTION) -> "Extent":
        """The extent of a volume; the box of an empty one is the whole grid."""
        values = volume.attenuation.detach().cpu().numpy()
        filled, body = _counts(values, 0.0), _counts(values, BODY_ATTENUATION)
        low, high = torch.zeros(3, dtype=torch.float64), torch.tensor(volume.shape_ijk, dtype=torch.float64) - 1
        cut_low, cut_high = torch.zeros(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)
        for axis in range(3):
            occupied = filled[axis].nonzero().squeeze(-1)
            if occupied.numel():
                low[axis], high[axis] = float(occupied[0]), float(occupied[-1])
            area = body[axis].double()
            cut_low[axis], cut_high[axis] = (end > cut_fraction * area.max() for end in (area[0], area[-1]))
        return Extent(low, high, cut_low, cut_high)

    def uncut(self) -> "Extent":
        """The same box, as if the body ended at its faces."""
        nowhere = torch.zeros_like(self.cut_low)
        return Extent(self.low, self.high, nowhere, nowhere)

    def to(self, device: torch.device) -> "Extent":
        """The same on a device."""
        return Extent(self.low.to(device), self.high.to(device), self.cut_low, self.cut_high)

    def coarsened(self, factors_ijk: tuple[int, int, int]) -> "Extent":
        """The same box in the voxels of `CTVolume.downsampled`.

        The last block beyond a cut may be partly air: it neither shows the cut nor is it a complete voxel.
        """
        factors = torch.tensor(factors_ijk, dtype=torch.float64)
        last_complete = ((self.high + 1) / factors).floor() - 1
        high = torch.where(self.cut_high, last_complete.clamp_min(0), (self.high / factors).floor())
        return Extent((self.low / factors).floor(), high, self.cut_low, self.cut_high)


def _counts(values: Float[np.ndarray, "k j i"], limit: float) -> tuple[Tensor, Tensor, Tensor]:
    """The number of voxels above a limit in every slice across i, j and k, in one pass through memory."""
    across_k, along_k = np.zeros(len(values), np.int64), np.zeros(values.shape[1:], np.int64)
    for k, plane in enumerate(values):
        flags = plane > limit
        across_k[k] = np.count_nonzero(flags)
        along_k += flags
    return torch.from_numpy(along_k.sum(0)), torch.from_numpy(along_k.sum(1)), torch.from_numpy(across_k)


def complete_rays(
    volume: CTVolume, extent: Extent, camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics
) -> Bool[Tensor, "batch height width"]:
    """Rays that do not pass through the body beyond a cut face.

    Within the column that the body fills (the non-air box, extended beyond a cut face) a ray must not leave the CT.
    """
    complete = torch.ones(len(camera_from_patient.translation), intrinsics.height, intrinsics.width, dtype=torch.bool)
    if not extent.is_cut:
        return complete
    rays = rays_of_views(volume, camera_from_patient, intrinsics)
    geometry = (rays.source, rays.direction_from_pixel, extent.low, extent.high, extent.cut_low, extent.cut_high)
    mark_complete_rays(*(tensor.contiguous().numpy() for tensor in geometry), complete.numpy())
    return complete


def complete_rays_in_torch(rays: Rays, extent: Extent) -> Bool[Tensor, "batch height width"]:
    """`complete_rays` on the device of the rays, without a branch on their values; the box must be on that device."""
    pixels = homogeneous_pixels(rays.height, rays.width, torch.float64, rays.source.device).reshape(-1, 3)
    source, d = rays.source[..., None], rays.direction_from_pixel @ pixels.mT  # batch 3 n
    safe = torch.where(d.abs() >= 1e-12, d, 1e-12)
    one, two = ((face[:, None] - source) / safe for face in (extent.low - 1, extent.high + 1))
    enters, leaves = torch.minimum(one, two), torch.maximum(one, two)
    complete = torch.ones_like(d[:, 0], dtype=torch.bool)
    for axis in range(3):
        cut_low, cut_high = extent.cut_faces[axis]
        if not (cut_low or cut_high):
            continue
        across, other = (axis + 1) % 3, (axis + 2) % 3
        begin = torch.maximum(enters[:, across], enters[:, other]).clamp_min(0.0)
        end = torch.minimum(leaves[:, across], leaves[:, other]).clamp_max(1e30)
        first, last = (source[:, axis] + depth * d[:, axis] for depth in (begin, end))
        outside = torch.zeros_like(complete)
        if cut_low:
            outside = outside | (torch.minimum(first, last) < extent.low[axis])
        if cut_high:
            outside = outside | (torch.maximum(first, last) > extent.high[axis])
        complete = complete & ~(outside & (begin < end))
    return complete.unflatten(1, (rays.height, rays.width))


def near_object(
    integrals: Float[Tensor, "batch height width"],
    roi: str,
    margin_px: float,
    dilate: Callable[[Tensor, int], Tensor] | None = None,
) -> Float[Tensor, "batch height width"]:
    """1 where the moving image is compared, 0 elsewhere; `roi` is full, moving-support or box.

    `dilate` is `dilated`, unless the images are on a GPU.
    """
    if roi == "full":
        return torch.ones_like(integrals)
    peak = integrals.flatten(1).amax(-1)[:, None, None]
    support = ((integrals > 0.02 * peak) & (peak > 0)).float()
    if roi == "box":
        rows, columns = support.amax(2, keepdim=True), support.amax(1, keepdim=True)
        support = _filled(rows, 1) * _filled(columns, 2)
    return (dilate or dilated)(support > 0, margin_reach(margin_px))


def margin_reach(margin_px: float) -> int:
    """How many whole pixels a margin reaches."""
    return max(math.ceil(margin_px), 1)


def dilated(
    flags: Bool[Tensor, "batch height width"], reach_px: int, beyond: bool = False
) -> Float[Tensor, "batch height width"]:
    """1 within a square of `reach_px` to either side of any set pixel, 0 elsewhere.

    `beyond` says whether the pixels beyond the border of the image count as set.
    """
    near = np.empty(flags.shape, np.float32)
    mark_near(flags.contiguous().numpy(), reach_px, beyond, near)
    return torch.from_numpy(near)


def dilated_in_torch(flags: Bool[Tensor, "batch height width"], reach_px: int) -> Float[Tensor, "batch height width"]:
    """`dilated` on any device; pixels beyond the border do not count as set."""
    side, near = 2 * reach_px + 1, flags[:, None].float()
    for kernel, padding in (((side, 1), (reach_px, 0)), ((1, side), (0, reach_px))):
        near = torch.nn.functional.max_pool2d(near, kernel, stride=1, padding=padding)
    return near[:, 0]


def _filled(flags: Tensor, dim: int) -> Tensor:
    """Return the values with everything between the first and the last 1 set to 1."""
    return flags.cummax(dim).values * flags.flip(dim).cummax(dim).values.flip(dim)


def with_neighbours(flags: Bool[Tensor, "batch height width"]) -> Float[Tensor, "batch height width"]:
    """1 where a pixel and those of its eight neighbours that are in the image are set, 0 elsewhere."""
    return 1 - dilated(~flags, 1)


def eroded(usable: Bool[Tensor, "height width"]) -> Float[Tensor, "1 height width"]:
    """1 where a pixel and its eight neighbours, which a gradient reads, are usable; 0 at the border of the image."""
    return 1 - dilated(~usable[None], 1, beyond=True)
