"""Interfaces of the pose predictors and learned similarities that a `Registrar` accepts in place of weights files."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from fluoro_reg.learned import ImageProblem
from fluoro_reg.regressor import PosePrediction
from fluoro_reg.xray.image import XrayImage


@runtime_checkable
class Predictor(Protocol):
    """Finds initial poses in an image; `fluoro_reg.regressor.PosePredictor` does so with trained weights."""

    def predict(self, image: XrayImage, opposite_view: bool = False) -> Sequence[PosePrediction]:
        """Predictions for a preprocessed X-ray, the likeliest first; with `opposite_view`, for the opposite view too.

        Raises:
            InputError: The image shows too little.
        """


@runtime_checkable
class SimilarityProvider(Protocol):
    """Makes the optimisation problem of an image; `fluoro_reg.learned.SimilarityInference` does so with trained weights."""

    def problem(self, image: XrayImage) -> ImageProblem:
        """The problem of one preprocessed X-ray.

        Raises:
            InputError: The image shows too little.
        """
