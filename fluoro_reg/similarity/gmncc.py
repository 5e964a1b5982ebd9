"""GMNCC, the similarity that xvr maximises: a mixture of multiscale NCC and gradient NCC.

Source: the released code of xvr (arXiv 2503.16309), which gives both the same weight, with windows of 9 and 11 pixels.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.similarity.multiscale_ncc import MultiscaleNCC
from fluoro_reg.similarity.patch_gradient_ncc import PatchGradientNCC
from fluoro_reg.similarity.similarity import AbstractSimilarity, Image, Images


@dataclass(frozen=True, slots=True)
class GMNCC(AbstractSimilarity):
    """`MultiscaleNCC` of the grey values and `PatchGradientNCC` with equal window weights and without smoothing."""

    patches: tuple[int, ...] = option((0, 9), "sides of the grey windows; 0 is the image", unit="px", minimum=0, maximum=4096)
    gradient_patch: int = option(11, "side of a window of gradients", unit="px", minimum=2, maximum=4096)
    grey: float = option(
        0.5, "fraction of the grey values in the score; the rest is for the gradients", minimum=0.0, maximum=1.0
    )

    def score(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        grey = MultiscaleNCC(patches=self.patches).score(moving, fixed, weight)
        edges = PatchGradientNCC(patch=self.gradient_patch, smoothing_px=0.0, variance_weights=False)
        return self.grey * grey + (1 - self.grey) * edges.score(moving, fixed, weight)
