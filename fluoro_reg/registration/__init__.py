"""Registration of X-rays to a CT: from an image and a start to a judged pose."""

from fluoro_reg.registration.methods import Method, load_methods
from fluoro_reg.registration.multi_view import View
from fluoro_reg.registration.options import GateOptions, RegistrationOptions
from fluoro_reg.registration.registrar import Registrar
from fluoro_reg.registration.result import Hypothesis, Outcome, RegistrationResult
from fluoro_reg.registration.tracker import Tracker

__all__ = [
    "GateOptions",
    "Hypothesis",
    "Method",
    "Outcome",
    "Registrar",
    "RegistrationOptions",
    "RegistrationResult",
    "Tracker",
    "View",
    "load_methods",
]
