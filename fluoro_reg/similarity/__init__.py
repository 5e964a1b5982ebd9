"""Similarities of a moving image (the CT rendered at a pose) and a fixed image (the X-ray), by name."""

from fluoro_reg.similarity.gmncc import GMNCC
from fluoro_reg.similarity.gradient_ncc import GradientNCC
from fluoro_reg.similarity.multiscale_ncc import MultiscaleNCC
from fluoro_reg.similarity.mutual_information import MutualInformation
from fluoro_reg.similarity.ncc import NCC
from fluoro_reg.similarity.patch_gradient_ncc import PatchGradientNCC
from fluoro_reg.similarity.patch_ncc import PatchNCC
from fluoro_reg.similarity.residual import AbstractResidualSimilarity
from fluoro_reg.similarity.similarity import AbstractSimilarity
from fluoro_reg.similarity.ssd import SSD

SIMILARITIES: dict[str, type[AbstractSimilarity]] = {
    "gmncc": GMNCC,
    "gradient-ncc": GradientNCC,
    "multiscale-ncc": MultiscaleNCC,
    "mutual-information": MutualInformation,
    "ncc": NCC,
    "patch-gradient-ncc": PatchGradientNCC,
    "patch-ncc": PatchNCC,
    "ssd": SSD,
}

RESIDUAL_SIMILARITIES: dict[str, type[AbstractResidualSimilarity]] = {
    name: kind for name, kind in SIMILARITIES.items() if issubclass(kind, AbstractResidualSimilarity)
}

__all__ = [
    "GMNCC",
    "NCC",
    "RESIDUAL_SIMILARITIES",
    "SIMILARITIES",
    "SSD",
    "AbstractResidualSimilarity",
    "AbstractSimilarity",
    "GradientNCC",
    "MultiscaleNCC",
    "MutualInformation",
    "PatchGradientNCC",
    "PatchNCC",
]
