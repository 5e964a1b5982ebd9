"""Optimisers that depend on neither images nor poses: protocols define what each needs of a problem."""

from typing import Any

from fluoro_reg.optimisers.bounded import BOBYQA, Powell
from fluoro_reg.optimisers.cma_es import CMAES
from fluoro_reg.optimisers.descent import Adam, GradientDescent, Schedule
from fluoro_reg.optimisers.levenberg_marquardt import LeastSquaresProblem, LevenbergMarquardt
from fluoro_reg.optimisers.normal_equations import NormalEquations
from fluoro_reg.optimisers.problem import AbstractOptimiser, AutogradProblem, GradientProblem, Minima, ValueProblem

OPTIMISERS: dict[str, type[AbstractOptimiser[Any]]] = {
    "adam": Adam,
    "bobyqa": BOBYQA,
    "cma-es": CMAES,
    "gradient-descent": GradientDescent,
    "powell": Powell,
}

__all__ = [
    "BOBYQA",
    "CMAES",
    "OPTIMISERS",
    "AbstractOptimiser",
    "Adam",
    "AutogradProblem",
    "GradientDescent",
    "GradientProblem",
    "LeastSquaresProblem",
    "LevenbergMarquardt",
    "Minima",
    "NormalEquations",
    "Powell",
    "Schedule",
    "ValueProblem",
]
