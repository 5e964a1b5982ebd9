"""The pose regressor: a small network, trained on one patient's CT, that predicts a pose from one X-ray.

It is the first half of DiffPose (V. Gopalakrishnan, N. Dey, P. Golland, CVPR 2024, arXiv 2312.06358). Its prediction is off by
a few mm and degrees and comes with a covariance, which sets how far to search around it. It is the initial pose of a
registration, never the result.
"""

from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.regressor.backbones import BACKBONES
from fluoro_reg.regressor.checkpoint import check_regressor, is_trained_on, load_regressor, save_regressor
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
    "check_regressor",
    "is_trained_on",
    "load_regressor",
    "save_regressor",
]
