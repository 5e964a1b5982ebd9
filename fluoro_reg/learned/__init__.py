"""Similarities that are learned on one patient's CT: a value of a pose and an X-ray whose gradient leads to the true pose."""

from fluoro_reg.learned.encoders import ImageEncoder

__all__ = ["ImageEncoder"]
