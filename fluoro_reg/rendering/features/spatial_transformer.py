"""The projective spatial transformer: line integrals of a volume of several channels, differentiable twice, to pose and volume.

A learned similarity compares projections of learned features, and its training differentiates its gradient to the pose once
more. So nothing here is a kernel: samples are gathered, and autograd does the rest, as often as asked. A ray is cut to the box
in which the interpolated volume is not zero, which reaches one voxel beyond the outermost centres, and the same number of
samples lies evenly within; at the ends of the cut the volume is zero, so nothing jumps when the box moves past a pixel.

C. Gao et al., "Generalizing spatial transformers to projective geometry with applications to 2D/3D registration", MICCAI 2020.
There the samples lie between two spheres about the source, in a frame and with a camera of their own; frames, voxel centres and
cameras are the house's here. Ends of rays are computed in float64, whatever the volume is.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering.rays import ViewGeometry
from fluoro_reg.rendering.renderer import homogeneous_pixels

_PARALLEL = 1e-12  # of a voxel in a mm of depth: less does not change a ray's place between two faces


def project_features(
    features: Float[Tensor, "channels slices rows columns"],
    volume: CTVolume,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    samples: int,
) -> Float[Tensor, "batch channels height width"]:
    """Integrals along the rays, per mm of ray, of features on the voxels of `volume`, whose own values play no part.

    Dtype and device are those of the features. Midpoint rule: a sample should not be much further from the next than a voxel.
    """
    start, end, length = _segments(volume, camera_from_patient.to(features.device, torch.float64), intrinsics)
    share = (torch.arange(samples, dtype=features.dtype, device=features.device) + 0.5) / samples
    start, step = start.to(features.dtype)[..., None], (end - start).to(features.dtype)[..., None]
    values = _interpolated(features, (start + step * share).unbind(-2))
    return (values.sum(-1) * (length.to(features.dtype) / samples)).movedim(0, 1)


def _segments(
    volume: CTVolume, camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics
) -> tuple[Float[Tensor, "batch height width 3"], Float[Tensor, "batch height width 3"], Float[Tensor, "batch height width"]]:
    """Where each ray enters the box and leaves it (voxels i, j, k), and how many mm that is: none for a ray that misses."""
    device = camera_from_patient.translation.device
    rays = ViewGeometry.of(volume, intrinsics, device).rays(camera_from_patient)
    pixels = homogeneous_pixels(intrinsics.height, intrinsics.width, torch.float64, device)
    source = rays.source[:, None, None]
    direction = torch.einsum("bij,hwj->bhwi", rays.direction_from_pixel, pixels)
    beyond = torch.tensor(volume.shape_ijk, dtype=torch.float64, device=device)
    slope = torch.where(direction.abs() < _PARALLEL, _PARALLEL, direction)
    to_low, to_high = (-1 - source) / slope, (beyond - source) / slope
    enter = torch.minimum(to_low, to_high).amax(-1, keepdim=True).clamp_min(0)
    leave = torch.maximum(to_low, to_high).amin(-1, keepdim=True)
    hit: Bool[Tensor, "batch height width 1"] = leave > enter
    enter, leave = (torch.where(hit, depth, 0.0) for depth in (enter, leave))
    camera_from_pixel = torch.linalg.inv(intrinsics.matrix()).to(device)
    mm_by_depth = torch.linalg.vector_norm(pixels @ camera_from_pixel.T, dim=-1)
    return source + enter * direction, source + leave * direction, (leave - enter)[..., 0] * mm_by_depth


def _interpolated(
    features: Float[Tensor, "channels slices rows columns"], place: tuple[Float[Tensor, "*samples"], ...]
) -> Float[Tensor, "channels *samples"]:
    """Trilinear at places (i, j, k), falling to zero within a voxel of the outermost centres."""
    padded = torch.nn.functional.pad(features, (1,) * 6)
    strides = padded.stride()[:0:-1]
    index, shares = torch.zeros_like(place[0], dtype=torch.long), []
    for at, size, stride in zip(place, features.shape[:0:-1], strides, strict=True):
        cell = at.detach().floor().clamp(-1, size - 1)
        shares.append(at - cell)
        index = index + (cell.long() + 1) * stride
    flat, index = padded.flatten(1), index.flatten()

    def along(axis: int, offset: int) -> Tensor:
        """Interpolated along the axes up to `axis`, from the corners at `offset`."""
        if axis < 0:
            return flat.gather(1, (index + offset).expand(len(flat), -1)).unflatten(1, place[0].shape)
        near, far = along(axis - 1, offset), along(axis - 1, offset + strides[axis])
        return near + shares[axis] * (far - near)

    return along(2, 0)
