"""Similarities that are learned on one patient's CT: a value of a pose and an X-ray whose gradient leads to the true pose."""

from fluoro_reg.learned.calibration import Calibration
from fluoro_reg.learned.checkpoint import (
    LEARNED,
    LEARNED_RESIDUALS,
    check_similarity,
    load_similarity,
    save_similarity,
    similarity_kind,
)
from fluoro_reg.learned.encoders import ImageEncoder
from fluoro_reg.learned.in_use import ImageProblem, SimilarityInUse
from fluoro_reg.learned.prost import ProST, ProSTOptions
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity, LearnedProblem, Projector
from fluoro_reg.learned.spherical_similarity import Spherical, SphericalOptions
from fluoro_reg.learned.volume_network import VolumeNetwork

__all__ = [
    "LEARNED",
    "LEARNED_RESIDUALS",
    "AbstractLearnedSimilarity",
    "Calibration",
    "ImageEncoder",
    "ImageProblem",
    "LearnedProblem",
    "ProST",
    "ProSTOptions",
    "Projector",
    "SimilarityInUse",
    "Spherical",
    "SphericalOptions",
    "VolumeNetwork",
    "check_similarity",
    "load_similarity",
    "save_similarity",
    "similarity_kind",
]
