"""Similarities of a moving image (the CT rendered at a pose) and a fixed one (the X-ray), by name."""

from fluoro_reg.similarity.gradient_ncc import GradientNCC
from fluoro_reg.similarity.patch_ncc import PatchNCC
from fluoro_reg.similarity.residual import AbstractResidualSimilarity, NormalEquations

SIMILARITIES: dict[str, type[AbstractResidualSimilarity]] = {"gradient-ncc": GradientNCC, "patch-ncc": PatchNCC}

__all__ = ["SIMILARITIES", "AbstractResidualSimilarity", "GradientNCC", "NormalEquations", "PatchNCC"]
