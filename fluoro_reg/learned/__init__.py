"""Learned similarities: trained on one CT or several, so that their gradient leads to the true pose from far away."""

from fluoro_reg.learned.calibration import Calibration
from fluoro_reg.learned.checkpoint import (
    LEARNED_SIMILARITIES,
    check_similarity,
    load_pretrained_similarity,
    load_similarity,
    save_similarity,
    similarity_kind,
)
from fluoro_reg.learned.encoders import ImageEncoder
from fluoro_reg.learned.inference import ImageProblem, Side, SimilarityInference
from fluoro_reg.learned.problem import LearnedProblem
from fluoro_reg.learned.prost import ProST, ProSTOptions
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity, Projection, Projector
from fluoro_reg.learned.spherical import Spherical, SphericalOptions
from fluoro_reg.learned.volume_network import VolumeNetwork

__all__ = [
    "LEARNED_SIMILARITIES",
    "AbstractLearnedSimilarity",
    "Calibration",
    "ImageEncoder",
    "ImageProblem",
    "LearnedProblem",
    "ProST",
    "ProSTOptions",
    "Projection",
    "Projector",
    "Side",
    "SimilarityInference",
    "Spherical",
    "SphericalOptions",
    "VolumeNetwork",
    "check_similarity",
    "load_pretrained_similarity",
    "load_similarity",
    "save_similarity",
    "similarity_kind",
]
