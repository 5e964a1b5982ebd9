"""Patch NCC: the mean correlation over square patches, each with its own brightness and contrast.

A robust weight for each patch limits the influence of patches that do not fit (a tool, text, anatomy that the CT lacks). One
patch of the whole image is global NCC.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.optimisers import NormalEquations
from fluoro_reg.similarity.residual import (
    AbstractResidualSimilarity,
    Jacobian,
    geman_mcclure,
    normalise_weights,
    standardise,
    standardise_jacobian,
)
from fluoro_reg.similarity.similarity import Image, Images


@dataclass(frozen=True, slots=True)
class PatchNCC(AbstractResidualSimilarity):
    """NCC over adjacent patches; patches with too few usable pixels are ignored."""

    patch: int = option(16, "side of a patch; 0 makes one patch of the whole image", unit="px", minimum=0, maximum=4096)
    robust_scale: float = option(0.5, "Geman-McClure's c on a patch's 2 (1 - NCC); inf is plain least squares", minimum=1e-3)
    minimum_fraction: float = option(0.3, "fraction of a patch's pixels that must be usable", minimum=0.0, maximum=1.0)
    floor: float = option(1e-4, "variance that counts as flat", minimum=0.0)

    def normal_equations(self, moving: Images, jacobian: Jacobian, fixed: Image, weight: Images) -> NormalEquations:
        z, sd, zf, w, patch_weight = self._standardise(moving, fixed, weight)
        residual = z - zf
        batch, patches, n = z.shape
        rho, reweight = geman_mcclure((w * residual * residual).sum(-1), self.robust_scale)
        rows = w * (patch_weight * reweight)[..., None]
        flat = self._patches(jacobian).flatten(0, 1)
        jz = standardise_jacobian(flat, z.flatten(0, 1), sd.flatten(0, 1), w.flatten(0, 1)).reshape(batch, patches * n, 6)
        weighted = (jz * rows.flatten(1)[..., None]).mT
        gradient = (weighted @ residual.flatten(1)[..., None]).squeeze(-1)
        return NormalEquations((patch_weight * rho).sum(-1), gradient, weighted @ jz)

    def cost(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        z, _, zf, w, patch_weight = self._standardise(moving, fixed, weight)
        rho, _ = geman_mcclure((w * (z - zf).square()).sum(-1), self.robust_scale)
        return (patch_weight * rho).sum(-1)

    def score(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        z, _, zf, w, patch_weight = self._standardise(moving, fixed, weight)
        return (patch_weight * (w * z * zf).sum(-1)).sum(-1)

    def target(
        self, fixed: Image, weight: Float[Tensor, "1 height width"]
    ) -> tuple[Float[Tensor, "rows_px columns_px"], Float[Tensor, "rows_px columns_px"], Float[Tensor, "rows columns"]]:
        """Return the fixed image standardised in each patch, the weights normalised in each patch, and those of the patches.

        The images are cut to whole patches.
        """
        (size_v, size_u), (rows, columns) = self._grid(*weight.shape[1:])
        _, _, zf, w, patch_weight = self._standardise(torch.zeros_like(weight), fixed, weight)

        def image(patches: Float[Tensor, "1 patches n"]) -> Float[Tensor, "rows_px columns_px"]:
            return patches.reshape(rows, columns, size_v, size_u).transpose(1, 2).reshape(rows * size_v, columns * size_u)

        return image(zf), image(w), patch_weight.reshape(rows, columns)

    def _standardise(self, moving: Images, fixed: Image, weight: Images) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        weights = self._patches(weight[..., None]).squeeze(-1)
        batch, patches, n = weights.shape
        usable = (weights > 0).to(weights.dtype).mean(-1)
        patch_weight = normalise_weights(weights.mean(-1) * (usable >= self.minimum_fraction))
        w = normalise_weights(weights.flatten(0, 1))
        values = self._patches(moving[..., None]).squeeze(-1).flatten(0, 1)
        targets = self._patches(fixed[..., None]).squeeze(-1).expand(batch, patches, n).flatten(0, 1)
        z, sd = standardise(values, w, self.floor)
        zf, _ = standardise(targets, w, self.floor)
        shape = (batch, patches)
        return z.unflatten(0, shape), sd.unflatten(0, shape), zf.unflatten(0, shape), w.unflatten(0, shape), patch_weight

    def _patches(self, images: Float[Tensor, "batch height width channels"]) -> Float[Tensor, "batch patches n channels"]:
        batch, height, width, channels = images.shape
        (size_v, size_u), (rows, columns) = self._grid(height, width)
        whole = images[:, : rows * size_v, : columns * size_u]
        tiles = whole.reshape(batch, rows, size_v, columns, size_u, channels).transpose(2, 3)
        return tiles.reshape(batch, rows * columns, size_v * size_u, channels)

    def _grid(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return height and width of a patch, and the number of rows and columns of patches."""
        size_v, size_u = (self.patch, self.patch) if self.patch else (height, width)
        size_v, size_u = min(size_v, height), min(size_u, width)
        return (size_v, size_u), (height // size_v, width // size_u)
