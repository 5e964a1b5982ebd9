"""Patch gradient NCC: correlation of image gradients in dense windows, separately for each gradient direction.

Windows are weighted by the variance of the X-ray's gradient in them, so that regions with edges count more than smooth ones.
Source: Grupp et al., "Automatic annotation of hip anatomy in fluoroscopy for robust and efficient 2D/3D registration", IJCARS
15, 2020, and its code xReg: windows of 11 and 21 pixels at an eighth and a quarter of the detector's resolution, smoothed by a
Gaussian of 1.1 pixels. There, weights by variance are optional and equal weights are the default. With equal weights and
without smoothing, it is the gradient NCC of xvr (arXiv 2503.16309).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.similarity.gradient_ncc import sobel_gradients
from fluoro_reg.similarity.residual import normalise_weights, standardise
from fluoro_reg.similarity.similarity import AbstractSimilarity, Image, Images
from fluoro_reg.similarity.windows import correlate_windows

VARIANCE_FLOOR = 1e-12  # mean squared gradient; below it, an image has no content


@dataclass(frozen=True, slots=True)
class PatchGradientNCC(AbstractSimilarity):
    """The mean of both directions' weighted means over windows."""

    patch: int = option(11, "side of a window", unit="px", minimum=2, maximum=4096)
    smoothing_px: float = option(
        1.1, "sigma of the Gaussian smoothing before gradients; 0 is none", unit="px", minimum=0.0, maximum=50.0
    )
    variance_weights: bool = option(True, "weight windows by the variance of the X-ray's gradient, else equally")
    minimum_fraction: float = option(0.3, "fraction of a window's pixels that must be usable", minimum=0.0, maximum=1.0)
    floor: float = option(1e-4, "variance that counts as flat, as a fraction of the whole image's", minimum=0.0)

    def score(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        m, f = self._standardised_gradients(moving, weight), self._standardised_gradients(fixed.expand_as(moving), weight)
        directions = []
        for k in range(2):
            windows = correlate_windows(m[:, k], f[:, k], weight, self.patch, self.minimum_fraction, self.floor)
            variance = windows.fixed_variance
            directions.append(windows.mean(variance if self.variance_weights else variance / (variance + self.floor)))
        return torch.stack(directions).mean(0)

    def _standardised_gradients(self, images: Images, weight: Images) -> Float[Tensor, "batch 2 height width"]:
        """Return smoothed gradients along columns and rows, divided by their common standard deviation."""
        smooth = smooth_image(images, weight, self.smoothing_px) if self.smoothing_px else images
        gradients = sobel_gradients(smooth[:, None])[:, 0]
        z, _ = standardise(gradients.flatten(1), normalise_weights(weight.flatten(1).repeat(1, 2)), VARIANCE_FLOOR)
        return z.unflatten(1, gradients.shape[1:])


def smooth_image(images: Images, weight: Images, sigma: float) -> Images:
    """Smooth the pixels that have weight with a Gaussian; a pixel without weight takes the mean of those near it."""
    usable = (weight > 0).to(images)
    rows, columns = (gaussian_matrix(n, sigma).to(images) for n in images.shape[1:])
    return (rows @ (images * usable) @ columns) / (rows @ usable @ columns).clamp_min(1e-12)


def gaussian_matrix(n: int, sigma: float) -> Float[Tensor, "n n"]:
    """Return the smoothing of n pixels as a matrix, which is faster than a convolution for small images."""
    index = torch.arange(n, dtype=torch.float64)
    return torch.exp(-0.5 * ((index - index[:, None]) / sigma).square())
