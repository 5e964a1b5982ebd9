"""Resampling of an X-ray to another camera with the same focal spot and orientation: another scale and principal point.

Both cameras have the same rays, so that target pixel `u` shows the content of source pixel `K_source K_target^-1 u`. If pixels
become larger, blocks of whole pixels are averaged first, to avoid aliasing.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.image import XrayImage


def resample(image: XrayImage, target: CameraIntrinsics) -> XrayImage:
    """Resample an image to the camera `target`, bilinearly; pixels outside the image or mostly masked ones are masked."""
    reduction = min(image.intrinsics.fx / target.fx, image.intrinsics.fy / target.fy)
    source = image.binned(max(1, math.floor(reduction + 1e-6)))
    camera = source.intrinsics
    column = _source_coordinate(target.width, target.fx, target.cx, camera.fx, camera.cx, camera.width)
    row = _source_coordinate(target.height, target.fy, target.cy, camera.fy, camera.cy, camera.height)
    grid = torch.stack(torch.broadcast_tensors(column[None, :], row[:, None]), dim=-1).to(source.pixels.dtype)
    weight = source.mask.to(source.pixels.dtype)
    value = torch.where(source.mask, source.pixels, torch.zeros_like(source.pixels))
    sampled = torch.nn.functional.grid_sample(torch.stack([value, weight])[None], grid[None], align_corners=False)[0]
    pixels = sampled[0] / sampled[1].clamp_min(1e-6)
    return XrayImage(pixels, target, image.intensity, sampled[1] >= 0.5)


def _source_coordinate(
    size: int, focal: float, centre: float, to_focal: float, to_centre: float, to_size: int
) -> Float[Tensor, "n"]:
    """Return the positions of the target's columns or rows in the source, for grid_sample: -1 and 1 are the outer edges."""
    ray = (torch.arange(size, dtype=torch.float64) - centre) / focal
    return (2 * (ray * to_focal + to_centre) + 1) / to_size - 1
