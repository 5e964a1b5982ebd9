"""The cheap search from a poor start: turned starts, each slid over the X-ray to its best place.

For every turn the CT is rendered once on a detector larger than the X-ray; masked gradient correlation over all shifts in the
plane is then a handful of FFTs. Source of the masked correlation: Padfield, "Masked object registration in the Fourier domain",
IEEE TIP 21(5), 2012 (here of zero-mean gradients, so three correlations suffice).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.registration.method import SearchOptions
from fluoro_reg.registration.stages.objective import PoseObjective
from fluoro_reg.similarity.gradient_ncc import gradients

MINIMUM_OVERLAP = 0.4  # of the largest overlap over all shifts
SHIFT_PENALTY = 0.1  # of correlation at the largest shift


@dataclass(frozen=True, slots=True)
class Candidates:
    """Poses after their best shift, and the correlation there."""

    poses: RigidTransform
    correlation: Float[Tensor, "batch"]


def search(objective: PoseObjective, start: RigidTransform, options: SearchOptions) -> Candidates:
    """Every turn of `start` with its best shift; `objective.scale` must be the whole image, not a window."""
    pivot = objective.model.pivot
    turned = turned_starts(start, pivot, options)
    scale = objective.scale
    depth = turned.apply(pivot[None])[:, 0, 2]
    focal = torch.tensor([scale.intrinsics.fx, scale.intrinsics.fy], dtype=torch.float64)
    reach = max(1, math.ceil(options.shift_mm * float(focal.max()) / float(depth.mean())))
    moving, weight = _rendered_wide(objective, turned, reach)
    correlation, shift = best_shifts(scale.fixed, scale.usable, moving, weight, reach)
    millimetres = shift.double() * depth[:, None] / focal
    translation = torch.cat([turned.translation[:, :2] + millimetres, turned.translation[:, 2:]], dim=-1)
    return Candidates(RigidTransform(turned.rotation, translation), correlation.double())


def turned_starts(start: RigidTransform, pivot: Float[Tensor, "3"], options: SearchOptions) -> RigidTransform:
    """`start` turned about the pivot, about the camera's axes: every out-of-plane turn with every in-plane turn."""
    tilts = [(0.0, 0.0)] if 0.0 in options.out_of_plane_deg else []
    for radius in options.out_of_plane_deg:
        compass = [math.pi / 4 * k for k in range(8)] if radius else []
        tilts += [(radius * math.cos(a), radius * math.sin(a)) for a in compass]
    turns = [(x, y, z) for x, y in tilts for z in options.in_plane_deg]
    camera_turns = so3.exp(torch.deg2rad(torch.tensor(turns, dtype=torch.float64)))
    centre = start.apply(pivot[None])[0]
    translation = (camera_turns @ (start.translation - centre)[:, None]).squeeze(-1) + centre
    return RigidTransform(camera_turns @ start.rotation, translation)


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
    f = gradients(fixed[:, None])[:, 0] * usable[:, None]
    m = gradients(moving[:, None])[:, 0] * weight[:, None]

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
    seen = wide.evaluate(poses)
    objective.n_renders += poses.translation.shape[0]
    return seen.moving, wide.weight(seen)
