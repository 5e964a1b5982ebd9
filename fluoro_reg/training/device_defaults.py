"""Defaults of trainings that depend on the device: the sizes of a step.

On a CPU the time of a step grows with its images, and small batches learn most in a given time. On a GPU a step takes as long
as it takes to issue its operations, whatever their size up to a point. So it gets large batches, whose images are made for
several steps at once, and larger images where they help.
"""

from collections.abc import Mapping
from typing import Any

REGRESSOR_ON_CUDA: Mapping[str, Any] = {"batch": 512, "ahead": 4}
SIMILARITY_ON_CUDA: Mapping[str, Any] = {
    "batch": 256,
    "starts": 32,
    "views": 8,
    "ahead": 8,
    "prost": {"image_px": 64, "voxel_mm": 6.0, "samples": 32},
    "spherical": {"image_px": 64},
}


def regressor_defaults(device: str) -> Mapping[str, Any]:
    """Return the settings of a regressor's training on a device that differ from the defaults of `TrainingOptions`."""
    return REGRESSOR_ON_CUDA if device == "cuda" else {}


def similarity_defaults(device: str) -> Mapping[str, Any]:
    """Return the settings of a similarity's training on a device that differ from those of `SimilarityTrainingOptions`."""
    return SIMILARITY_ON_CUDA if device == "cuda" else {}
