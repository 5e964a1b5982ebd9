"""From one X-ray to a first pose without a start: a small network per patient, trained on the patient's own CT.

The first half of DiffPose (V. Gopalakrishnan, N. Dey, P. Golland, CVPR 2024, arXiv 2312.06358). What it finds is a start for a
registration, a few mm and degrees off, with a covariance that says how far to search; it is never an answer.
"""

from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.regressor.backbones import BACKBONES
from fluoro_reg.regressor.checkpoint import load_regressor, save_regressor, trained_for
from fluoro_reg.regressor.heads import HEADS
from fluoro_reg.regressor.network import PoseEstimate, PoseRegressor, RegressorOptions
from fluoro_reg.regressor.predictor import PosePrediction, PosePredictor

__all__ = [
    "BACKBONES",
    "HEADS",
    "PoseEstimate",
    "PosePrediction",
    "PosePredictor",
    "PoseRegressor",
    "ReferenceView",
    "RegressorOptions",
    "load_regressor",
    "save_regressor",
    "trained_for",
]
