"""Gradient correlation: NCC of the image gradients, with both components normalised together.

Edges are robust to what changes grey values between a CT and an X-ray: truncated anatomy, scatter, gamma, shading, beam
hardening. Source: Penney et al., "A comparison of similarity measures for use in 2-D-3-D medical image registration", IEEE TMI
17(4), 1998. Joint normalisation preserves the direction of edges, which normalisation of each component loses.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.optimisers import NormalEquations
from fluoro_reg.similarity.kernels import (
    TWIST,
    image_gradients,
    standardise_gradients,
    sum_gradient_losses,
    sum_gradient_products,
)
from fluoro_reg.similarity.residual import (
    AbstractResidualSimilarity,
    Jacobian,
    gauss_newton_system,
    geman_mcclure,
    normalise_weights,
    standardise,
    standardise_jacobian,
)
from fluoro_reg.similarity.similarity import Image, Images

CLIP_SAMPLE = 4096  # gradients, about, from which the quantile is estimated


@dataclass(frozen=True, slots=True)
class GradientNCC(AbstractResidualSimilarity):
    """NCC of gradients, clipped and with robust weights.

    Gradients of the fixed image are clipped at their quantile `clip`, as the edges of a tool or a collimator would otherwise
    set the scale for all others. Robust weights affect the cost; the score is the plain correlation.
    """

    robust_scale: float = option(4.0, "Geman-McClure's c in squared z-scores; inf is plain least squares", minimum=1e-3)
    clip: float = option(0.98, "quantile at which gradients of the X-ray are clipped", minimum=0.5, maximum=1.0)
    floor: float = option(1e-6, "variance that counts as flat", minimum=0.0)

    def normal_equations(self, moving: Images, jacobian: Jacobian, fixed: Image, weight: Images) -> NormalEquations:
        if _is_plain(moving, jacobian, fixed, weight) and jacobian.shape[-1] == TWIST:
            return self._compiled_equations(moving, jacobian, *self._gradient_images(fixed, weight.expand_as(moving)))
        channels = torch.cat([moving[..., None], jacobian], dim=-1)
        gradients = sobel_gradients(channels.movedim(-1, 1)).flatten(3).movedim(1, -1)  # batch 2 n 7
        gradients = gradients.flatten(1, 2)
        z, sd, zf, w = self._standardise(gradients[..., 0], fixed, weight)
        residual = z - zf
        rho, reweight = geman_mcclure(residual * residual, self.robust_scale)
        jz = standardise_jacobian(gradients[..., 1:], z, sd, w)
        gradient, hessian = gauss_newton_system(jz, residual, w * reweight)
        return NormalEquations((w * rho).sum(-1), gradient, hessian)

    def prepare(self, fixed: Image, weight: Images) -> tuple[Tensor, ...]:
        """Return the weights and, for compiled kernels, the standardised gradients of the fixed image and their weights."""
        if not _is_plain(fixed, weight):
            return (weight,)
        return (weight, *(torch.from_numpy(image) for image in self._gradient_images(fixed, weight)))

    def prepared_equations(
        self, moving: Images, jacobian: Jacobian, fixed: Image, prepared: tuple[Tensor, ...]
    ) -> NormalEquations:
        if len(prepared) == 1 or not _is_plain(moving, jacobian) or jacobian.shape[-1] != TWIST:
            return self.normal_equations(moving, jacobian, fixed, prepared[0])
        return self._compiled_equations(moving, jacobian, *(image.numpy() for image in prepared[1:]))

    def prepared_cost(self, moving: Images, fixed: Image, prepared: tuple[Tensor, ...]) -> Float[Tensor, "batch"]:
        if len(prepared) == 1 or not _is_plain(moving):
            return self.cost(moving, fixed, prepared[0])
        return self._losses(moving, *(image.numpy() for image in prepared[1:]))[:, 0]

    def _compiled_equations(
        self,
        moving: Images,
        jacobian: Jacobian,
        target: Float[np.ndarray, "batch 2 height width"],
        weights: Float[np.ndarray, "batch 2 height width"],
    ) -> NormalEquations:
        """Compute the same in one compiled pass over each image."""
        images = zip(_each(moving), _each(jacobian.movedim(-1, 1)), target, weights, strict=True)
        sums = np.stack([sum_gradient_products(*image, self.floor, self.robust_scale) for image in images])
        return system_of_products(sums)

    def cost(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        if _is_plain(moving, fixed, weight):
            return self._losses(moving, *self._gradient_images(fixed, weight.expand_as(moving)))[:, 0]
        z, _, zf, w = self._compare(moving, fixed, weight)
        rho, _ = geman_mcclure((z - zf).square(), self.robust_scale)
        return (w * rho).sum(-1)

    def score(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        if _is_plain(moving, fixed, weight):
            return self._losses(moving, *self._gradient_images(fixed, weight.expand_as(moving)))[:, 1]
        z, _, zf, w = self._compare(moving, fixed, weight)
        return (w * z * zf).sum(-1)

    def target(self, fixed: Image, weight: Images) -> tuple[Float[Tensor, "batch n"], Float[Tensor, "batch n"]]:
        """Return the clipped and standardised gradients of the fixed image, and their normalised weights."""
        if _is_plain(fixed, weight) and len(fixed) in (1, len(weight)):
            target, weights = self._gradient_images(fixed, weight)
            return torch.from_numpy(target).flatten(1), torch.from_numpy(weights).flatten(1)
        w = normalise_weights(weight.flatten(1).repeat(1, 2))
        zf, _ = standardise(self._clip(sobel_gradients(fixed[:, None])[:, 0].flatten(1), w), w, self.floor)
        return zf, w

    def _losses(
        self,
        moving: Images,
        target: Float[np.ndarray, "batch 2 height width"],
        weights: Float[np.ndarray, "batch 2 height width"],
    ) -> Float[Tensor, "batch 2"]:
        """Cost and score of each image, in one compiled pass."""
        images = zip(_each(moving), target, weights, strict=True)
        return torch.tensor([sum_gradient_losses(*image, self.floor, self.robust_scale) for image in images])

    def _gradient_images(self, fixed: Image, weight: Images) -> tuple[Float[np.ndarray, "batch 2 height width"], ...]:
        """Compute `target` with compiled kernels."""
        pixels = weight.contiguous().numpy()
        used = pixels.max(0) > 0
        found = [image_gradients(image, used, CLIP_SAMPLE) for image in fixed.contiguous().numpy()]
        sample = np.concatenate([of_one for _, of_one in found])
        rank = max(1, int(self.clip * len(sample))) - 1
        limit = np.partition(sample, rank)[rank] if len(sample) else np.inf
        target, weights = np.empty((2, len(pixels), *found[0][0].shape), np.float32)
        for n, of_one in enumerate(pixels):
            standardise_gradients(found[n % len(found)][0], limit, of_one, self.floor, target[n], weights[n])
        return target, weights

    def _compare(self, moving: Images, fixed: Image, weight: Images) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self._standardise(sobel_gradients(moving[:, None])[:, 0].flatten(1), fixed, weight)

    def _standardise(
        self, gradients: Float[Tensor, "batch n"], fixed: Image, weight: Images
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        zf, w = self.target(fixed, weight)
        z, sd = standardise(gradients, w, self.floor)
        return z, sd, zf, w

    def _clip(self, gradients: Float[Tensor, "one n"], weight: Float[Tensor, "batch n"]) -> Float[Tensor, "one n"]:
        used = gradients[:, weight.amax(0) > 0].abs()
        if used.numel() == 0:
            return gradients
        sample = used.flatten()[:: max(1, used.numel() // CLIP_SAMPLE)]
        limit = sample.kthvalue(max(1, int(self.clip * sample.numel()))).values
        return gradients.clamp(-limit, limit)


def system_of_products(sums: Float[np.ndarray, "batch rows columns"]) -> NormalEquations:
    """Return the normal equations from the sums of `sum_gradient_products`, of each image, for any number n of parameters.

    With m and k the sums of `weight dg/dtwist` and of these times z, `dz/dtwist = (dg/dtwist - m - z k) / sd`.
    """
    n = sums.shape[-1] - 3
    linear = np.empty((len(sums), n, n + 2))
    linear[..., :n] = np.eye(n)
    linear[..., n], linear[..., n + 1] = -sums[:, n + 4, :n], -sums[:, n + 3, :n]
    linear /= sums[:, n + 4, n + 2, None, None]
    gradient = (linear @ sums[:, : n + 2, n + 2, None])[..., 0]
    hessian = linear @ sums[:, : n + 2, : n + 2] @ linear.swapaxes(-1, -2)
    return NormalEquations(*(torch.from_numpy(array) for array in (sums[:, n + 3, n + 2], gradient, hessian)))


def _each(images: Float[Tensor, "batch ..."]) -> Iterator[np.ndarray]:
    """The images of a batch, contiguous each on its own: those of a renderer are, and a batch of them need not be copied."""
    return (np.ascontiguousarray(image) for image in images.numpy())


def _is_plain(*images: Tensor) -> bool:
    """Whether compiled kernels can read images, and no graph is needed."""
    return all(one.device.type == "cpu" and one.dtype == torch.float32 and not one.requires_grad for one in images)


def sobel_gradients(images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels 2 height width"]:
    """Return central differences smoothed across (Sobel / 8), along columns and rows, per pixel; edges are replicated."""
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    smooth_rows = (padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]) / 4
    smooth_columns = (padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]) / 4
    along_columns = (smooth_rows[..., 2:] - smooth_rows[..., :-2]) / 2
    along_rows = (smooth_columns[..., 2:, :] - smooth_columns[..., :-2, :]) / 2
    return torch.stack([along_columns, along_rows], dim=2)
