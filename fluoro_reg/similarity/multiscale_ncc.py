"""Multiscale NCC: the mean of the correlation of the whole image and those in small windows, each with its own gain and offset.

The whole image contributes a wide basin. The windows contribute a sharp peak and are robust to shading, scatter and truncated
anatomy. Source: Gopalakrishnan et al., "Intraoperative 2D/3D image registration via differentiable X-ray rendering", CVPR 2024,
with windows of 13 pixels; xvr (arXiv 2503.16309) uses 9.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.similarity.residual import normalise_weights, standardise
from fluoro_reg.similarity.similarity import AbstractSimilarity, Image, Images
from fluoro_reg.similarity.windows import correlate_windows

VARIANCE_FLOOR = 1e-10  # below it, an image has no content


@dataclass(frozen=True, slots=True)
class MultiscaleNCC(AbstractSimilarity):
    """Multiscale NCC with equal weights for all window sizes. Windows in which the X-ray is flat are ignored."""

    patches: tuple[int, ...] = option((0, 13), "sides of the windows; 0 is the whole image", unit="px", minimum=0, maximum=4096)
    minimum_fraction: float = option(0.3, "fraction of a window's pixels that must be usable", minimum=0.0, maximum=1.0)
    floor: float = option(1e-4, "variance that counts as flat, as a fraction of the whole image's", minimum=0.0)

    def score(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        w = normalise_weights(weight.flatten(1))
        z, _ = standardise(moving.flatten(1), w, VARIANCE_FLOOR)
        zf, _ = standardise(fixed.flatten(1), w, VARIANCE_FLOOR)

        def score_at_scale(size: int) -> Float[Tensor, "batch"]:
            if size == 0:
                return (w * z * zf).sum(-1)
            m, f = z.unflatten(1, weight.shape[1:]), zf.unflatten(1, weight.shape[1:])
            windows = correlate_windows(m, f, weight, size, self.minimum_fraction, self.floor)
            structured = windows.fixed_variance / (windows.fixed_variance + self.floor)
            return windows.mean(structured)

        return torch.stack([score_at_scale(size) for size in self.patches]).mean(0)
