"""The projective spatial transformer: line integrals of a volume of several channels.

They are differentiable twice with respect to pose and volume.

A learned similarity compares projections of learned features, and its training differentiates its gradient with respect to the
pose once more. Samples are therefore gathered in plain torch, so that autograd can be applied any number of times. A ray is
clipped to the box in which the interpolated volume is not zero, which extends one voxel beyond the outermost voxel centres.
Samples are uniformly spaced within it, the same number for every ray. The volume is zero at both ends, so values stay
continuous when the box moves past a pixel.

C. Gao et al., "Generalizing spatial transformers to projective geometry with applications to 2D/3D registration", MICCAI 2020,
place the samples between two spheres about the source. Frames, voxel centres and cameras here are those of this package. The
ends of rays are computed in float64 whatever the type of the volume.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering.rays import ViewGeometry
from fluoro_reg.rendering.renderer import homogeneous_pixels

_MIN_SLOPE = 1e-12  # voxels per mm of depth; below it, a ray is parallel to the faces


def project_features(
    features: Float[Tensor, "channels slices rows columns"],
    volume: CTVolume,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    samples: int,
) -> Float[Tensor, "batch channels height width"]:
    """Integrate features along the rays, per mm of ray, by the midpoint rule.

    Dtype and device are those of the features.

    Args:
        features: values on the voxels of `volume`.
        volume: the grid of the features; its attenuation is not used.
        camera_from_patient: a batch of poses.
        intrinsics: the camera.
        samples: samples per ray. Their distance should not be much more than a voxel.
    """
    start, end, length = _segments(volume, camera_from_patient.to(features.device, torch.float64), intrinsics)
    fraction = (torch.arange(samples, dtype=features.dtype, device=features.device) + 0.5) / samples
    start, step = start.to(features.dtype)[..., None], (end - start).to(features.dtype)[..., None]
    values = _interpolate(features, (start + step * fraction).unbind(-2))
    return (values.sum(-1) * (length.to(features.dtype) / samples)).movedim(0, 1)


def _segments(
    volume: CTVolume, camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics
) -> tuple[Float[Tensor, "batch height width 3"], Float[Tensor, "batch height width 3"], Float[Tensor, "batch height width"]]:
    """Return where each ray enters and leaves the box (voxels i, j, k), and the length in mm, 0 for a ray that misses it."""
    device = camera_from_patient.translation.device
    rays = ViewGeometry.from_volume(volume, intrinsics, device).rays(camera_from_patient)
    pixels = homogeneous_pixels(intrinsics.height, intrinsics.width, torch.float64, device)
    source = rays.source[:, None, None]
    direction = torch.einsum("bij,hwj->bhwi", rays.direction_from_pixel, pixels)
    upper_bound = torch.tensor(volume.shape_ijk, dtype=torch.float64, device=device)
    slope = torch.where(direction.abs() < _MIN_SLOPE, _MIN_SLOPE, direction)
    to_low, to_high = (-1 - source) / slope, (upper_bound - source) / slope
    enter = torch.minimum(to_low, to_high).amax(-1, keepdim=True).clamp_min(0)
    leave = torch.maximum(to_low, to_high).amin(-1, keepdim=True)
    hits_box: Bool[Tensor, "batch height width 1"] = leave > enter
    enter, leave = (torch.where(hits_box, depth, 0.0) for depth in (enter, leave))
    camera_from_pixel = torch.linalg.inv(intrinsics.matrix()).to(device)
    mm_per_depth = torch.linalg.vector_norm(pixels @ camera_from_pixel.T, dim=-1)
    return source + enter * direction, source + leave * direction, (leave - enter)[..., 0] * mm_per_depth


def _interpolate(
    features: Float[Tensor, "channels slices rows columns"], position: tuple[Float[Tensor, "*samples"], ...]
) -> Float[Tensor, "channels *samples"]:
    """Interpolate at positions (i, j, k), trilinearly, falling to zero within a voxel of the outermost centres."""
    padded = torch.nn.functional.pad(features, (1,) * 6)
    strides = padded.stride()[:0:-1]
    index, fractions = torch.zeros_like(position[0], dtype=torch.long), []
    for coordinate, size, stride in zip(position, features.shape[:0:-1], strides, strict=True):
        cell = coordinate.detach().floor().clamp(-1, size - 1)
        fractions.append(coordinate - cell)
        index = index + (cell.long() + 1) * stride
    flat, index = padded.flatten(1), index.flatten()

    def interpolate_axis(axis: int, offset: int) -> Tensor:
        """Interpolate along the axes up to `axis`, from the corners at `offset`."""
        if axis < 0:
            return flat.gather(1, (index + offset).expand(len(flat), -1)).unflatten(1, position[0].shape)
        near, far = interpolate_axis(axis - 1, offset), interpolate_axis(axis - 1, offset + strides[axis])
        return near + fractions[axis] * (far - near)

    return interpolate_axis(2, 0)
