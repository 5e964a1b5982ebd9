"""Optimisers that know no image and no pose: what each needs of a problem is a type."""

from fluoro_reg.optimisers.levenberg_marquardt import LeastSquaresProblem, LevenbergMarquardt, Linearised

__all__ = ["LeastSquaresProblem", "LevenbergMarquardt", "Linearised"]
