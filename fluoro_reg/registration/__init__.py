"""Registration of X-rays to a CT: from an image and a start to a judged pose."""

from fluoro_reg.registration.method import Method, load_methods
from fluoro_reg.registration.options import GateOptions, RegistrationOptions
from fluoro_reg.registration.registrar import Registrar
from fluoro_reg.registration.result import Hypothesis, Outcome, RegistrationResult
from fluoro_reg.registration.tracker import Tracker
from fluoro_reg.xray.view import CalibratedXray

__all__ = [
    "CalibratedXray",
    "GateOptions",
    "Hypothesis",
    "Method",
    "Outcome",
    "Registrar",
    "RegistrationOptions",
    "RegistrationResult",
    "Tracker",
    "load_methods",
]
