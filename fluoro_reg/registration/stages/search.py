"""The coarse search around an initial pose, which is rotated in steps and shifted to the best fit at each rotation.

For every rotation the CT is rendered once, on a detector larger than the X-ray. The masked gradient correlation over all
in-plane shifts then takes a few FFTs. Source of the masked correlation: Padfield, "Masked object registration in the Fourier
domain", IEEE TIP 21(5), 2012 (here of zero-mean gradients, so three correlations suffice).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.registration.method import SearchOptions
from fluoro_reg.registration.stages.objective import PoseObjective
from fluoro_reg.similarity.gradient_ncc import sobel_gradients

MINIMUM_OVERLAP = 0.4  # fraction of the largest overlap over all shifts
SHIFT_PENALTY = 0.1  # subtracted from the correlation at the largest shift


@dataclass(frozen=True, slots=True)
class Candidates:
    """Poses at their best shifts, and the correlations there."""

    poses: RigidTransform
    correlation: Float[Tensor, "batch"]


def search(objective: PoseObjective, initial_pose: RigidTransform, options: SearchOptions) -> Candidates:
    """Every rotation of the initial pose at its best shift; `objective.scale` must be the whole image, not a window."""
    pivot = objective.model.pivot
    rotated = rotated_poses(initial_pose, pivot, options)
    scale = objective.scale
    depth = rotated.apply(pivot[None])[:, 0, 2]
    focal = torch.tensor([scale.intrinsics.fx, scale.intrinsics.fy], dtype=torch.float64)
    reach = max(1, math.ceil(options.shift_mm * float(focal.max()) / float(depth.mean())))
    moving, weight = _rendered_wide(objective, rotated, reach)
    correlation, shift = best_shifts(scale.fixed, scale.usable, moving, weight, reach)
    millimetres = shift.double() * depth[:, None] / focal
    translation = torch.cat([rotated.translation[:, :2] + millimetres, rotated.translation[:, 2:]], dim=-1)
    return Candidates(RigidTransform(rotated.rotation, translation), correlation.double())


def rotated_poses(initial_pose: RigidTransform, pivot: Float[Tensor, "3"], options: SearchOptions) -> RigidTransform:
    """The initial pose rotated about the pivot and the camera's axes: all out-of-plane with all in-plane rotations."""
    tilts = [(0.0, 0.0)] if 0.0 in options.out_of_plane_deg else []
    for radius in options.out_of_plane_deg:
        azimuths = [math.pi / 4 * k for k in range(8)] if radius else []
        tilts += [(radius * math.cos(a), radius * math.sin(a)) for a in azimuths]
    angles = [(x, y, z) for x, y in tilts for z in options.in_plane_deg]
    rotations = so3.exp(torch.deg2rad(torch.tensor(angles, dtype=torch.float64)))
    centre = initial_pose.apply(pivot[None])[0]
    translation = (rotations @ (initial_pose.translation - centre)[:, None]).squeeze(-1) + centre
    return RigidTransform(rotations @ initial_pose.rotation, translation)


def best_shifts(
    fixed: Float[Tensor, "1 height width"],
    usable: Float[Tensor, "1 height width"],
    moving: Float[Tensor, "batch wide_height wide_width"],
    weight: Float[Tensor, "batch wide_height wide_width"],
    reach: int,
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch 2"]]:
    """The largest masked gradient correlation over shifts of at most `reach` pixels, and the shift (du, dv) of `moving`.

    `moving` is `reach` pixels larger than `fixed` on every side, so `moving[reach + y, reach + x]` lies on `fixed[y, x]`.
    """
    height, width = moving.shape[1:]
    f = sobel_gradients(fixed[:, None])[:, 0] * usable[:, None]
    m = sobel_gradients(moving[:, None])[:, 0] * weight[:, None]

    def spectrum(images: Tensor) -> Tensor:
        return torch.fft.rfft2(images, s=(height, width))

    def correlation(a: Tensor, b: Tensor) -> Tensor:  # sum over x of a[x] b[x + offset], offset = 0 ... 2 reach
        full = torch.fft.irfft2(a.conj() * b, s=(height, width))
        return full[..., : 2 * reach + 1, : 2 * reach + 1]

    weights, uses = spectrum(weight), spectrum(usable)
    product = correlation(spectrum(f), spectrum(m)).sum(1)
    fixed_energy = correlation(spectrum(f.square().sum(1)), weights)
    moving_energy = correlation(uses, spectrum(m.square().sum(1)))
    overlap = correlation(uses, weights)
    score = product / (fixed_energy.clamp_min(0) * moving_energy.clamp_min(0) + 1e-12).sqrt()
    offset = torch.arange(2 * reach + 1, dtype=score.dtype) - reach
    score = score - SHIFT_PENALTY * (offset[:, None].square() + offset.square()) / reach**2
    score = score.masked_fill(overlap < MINIMUM_OVERLAP * overlap.flatten(1).amax(-1)[:, None, None], -1.0)
    best, index = score.flatten(1).max(-1)
    row, column = index // (2 * reach + 1), index % (2 * reach + 1)
    return best, torch.stack([reach - column, reach - row], dim=-1).to(score.dtype)


def _rendered_wide(objective: PoseObjective, poses: RigidTransform, reach: int) -> tuple[Tensor, Tensor]:
    wide = objective.widened(reach)
    seen = wide.images(poses)
    objective.n_renders += poses.translation.shape[0]
    return seen.moving, wide.weight(seen)
