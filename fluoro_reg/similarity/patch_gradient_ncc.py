"""Patch gradient NCC: correlation of image gradients in dense windows, for each direction of the gradient on its own.

Windows count by the variance of the X-ray's gradient in them, so that what has edges outweighs what is smooth.
Source: Grupp et al., "Automatic annotation of hip anatomy in fluoroscopy for robust and efficient 2D/3D registration", IJCARS
15, 2020, and its code xReg: windows of 11 and 21 pixels at an eighth and a quarter of the detector's resolution, smoothed by a
Gaussian of 1.1 pixels; weights by variance are a choice there, even ones the default. Even and unsmoothed, it is xvr's
gradient NCC (arXiv 2503.16309).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.similarity.gradient_ncc import gradients
from fluoro_reg.similarity.residual import normalised, standardised
from fluoro_reg.similarity.similarity import AbstractSimilarity, Image, Images
from fluoro_reg.similarity.windows import correlated_windows

BLANK = 1e-12  # mean squared slope below which an image holds nothing


@dataclass(frozen=True, slots=True)
class PatchGradientNCC(AbstractSimilarity):
    """The mean over both directions of the mean over windows."""

    patch: int = option(11, "side of a window", unit="px", minimum=2, maximum=4096)
    smoothing_px: float = option(1.1, "Gaussian smoothing beforehand; 0 is none", unit="px", minimum=0.0, maximum=50.0)
    variance_weights: bool = option(True, "windows count by the variance of the X-ray's gradient in them; else evenly")
    minimum_fraction: float = option(0.3, "share of a window's pixels that must be usable", minimum=0.0, maximum=1.0)
    floor: float = option(1e-4, "variance that counts as flat, as a share of the whole image's", minimum=0.0)

    def score(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        m, f = self._slopes(moving, weight), self._slopes(fixed.expand_as(moving), weight)
        directions = []
        for k in range(2):
            windows = correlated_windows(m[:, k], f[:, k], weight, self.patch, self.minimum_fraction, self.floor)
            variance = windows.fixed_variance
            directions.append(windows.mean(variance if self.variance_weights else variance / (variance + self.floor)))
        return torch.stack(directions).mean(0)

    def _slopes(self, images: Images, weight: Images) -> Float[Tensor, "batch 2 height width"]:
        """Smoothed gradients along columns and rows, in units of their common deviation."""
        smooth = smoothed(images, weight, self.smoothing_px) if self.smoothing_px else images
        slopes = gradients(smooth[:, None])[:, 0]
        z, _ = standardised(slopes.flatten(1), normalised(weight.flatten(1).repeat(1, 2)), BLANK)
        return z.unflatten(1, slopes.shape[1:])


def smoothed(images: Images, weight: Images, sigma: float) -> Images:
    """Gaussian smoothing of what has weight alone; a pixel without weight takes the mean of those near it."""
    usable = (weight > 0).to(images)
    rows, columns = (gaussian_matrix(n, sigma).to(images) for n in images.shape[1:])
    return (rows @ (images * usable) @ columns) / (rows @ usable @ columns).clamp_min(1e-12)


def gaussian_matrix(n: int, sigma: float) -> Float[Tensor, "n n"]:
    """Smoothing of n pixels as a product: faster than a convolution at the sizes in question."""
    at = torch.arange(n, dtype=torch.float64)
    return torch.exp(-0.5 * ((at - at[:, None]) / sigma).square())
