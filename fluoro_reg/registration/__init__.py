"""Registration of X-rays to a CT: from an image and an initial pose to an assessed pose."""

from fluoro_reg.registration.method import Method, load_method, load_methods
from fluoro_reg.registration.options import GateOptions, LearnedOptions, RegistrationOptions
from fluoro_reg.registration.registrar import Registrar
from fluoro_reg.registration.result import Hypothesis, Outcome, RegistrationResult
from fluoro_reg.registration.stages.objective import PosePrior
from fluoro_reg.registration.tracker import Tracker
from fluoro_reg.xray.view import CalibratedXray

__all__ = [
    "CalibratedXray",
    "GateOptions",
    "Hypothesis",
    "LearnedOptions",
    "Method",
    "Outcome",
    "PosePrior",
    "Registrar",
    "RegistrationOptions",
    "RegistrationResult",
    "Tracker",
    "load_method",
    "load_methods",
]
