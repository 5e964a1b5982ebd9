"""Instruments in an X-ray: pins, drills and needles, which the CT does not show.

They are straight, dense and narrower than bones, and their contrast is far above that of all else that is as narrow. A pose
that is nearly right can be refined beside them, because residuals that do not fit have little weight. A search of all views
has no such weights: the strong edges of an instrument decide which view fits best.

The cortex of a long bone or an implant that the CT shows may look the same. An X-ray is therefore tried with them and without.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from fluoro_reg.xray.preprocessing.coarse import CoarseImage, coarse_image, enlarge_blocks

_WIDEST = 0.09  # of the longer side; what is wider is anatomy
_CONTRAST = 3.0  # times that of nine tenths of the image, at the same width
_MEDIAN_CONTRAST = 4.0  # of an instrument, in the same unit
_LENGTH = 0.125  # of the longer side, at least
_SLENDER = 5.0  # times as long as wide
_ALONG_BORDER = 0.5  # of an object that is the edge of a field, or of the body in it
_NEIGHBOURHOOD = np.ones((3, 3), dtype=bool)


def find_instruments(pixels: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"]) -> Bool[Tensor, "height width"]:
    """Return the pixels of instruments and of their surroundings of one block.

    Args:
        pixels: Attenuation, with dense objects bright.
        mask: The usable pixels.
    """
    coarse = coarse_image(pixels, mask)
    if not coarse.usable.any():
        return torch.zeros_like(mask)
    found = ndimage.binary_dilation(_slender(_contrast(coarse), coarse.usable), _NEIGHBOURHOOD)
    return torch.from_numpy(enlarge_blocks(found, coarse.factor, *mask.shape))


def _contrast(coarse: CoarseImage) -> Float[np.ndarray, "rows columns"]:
    """Contrast of what is narrower than `_WIDEST`, relative to that of most of the image."""
    mean, usable = coarse.mean, coarse.usable
    reach = max(1, round(_WIDEST * max(mean.shape) / 2))
    disc = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach + 0.3
    eroded = ndimage.grey_erosion(np.where(usable, mean, mean.max()), footprint=disc)
    opened = ndimage.grey_dilation(np.where(usable, eroded, mean.min()), footprint=disc)
    contrast = np.where(usable, mean - opened, 0.0)
    inside = ndimage.binary_erosion(usable, _NEIGHBOURHOOD, iterations=2, border_value=1)
    usual = float(np.quantile(contrast[inside if inside.any() else usable], 0.9))
    return contrast / usual if usual > 0 else np.zeros_like(contrast)


def _slender(
    contrast: Float[np.ndarray, "rows columns"], usable: Bool[np.ndarray, "rows columns"]
) -> Bool[np.ndarray, "rows columns"]:
    """Return the blocks of straight objects with enough contrast."""
    labels, _ = ndimage.label(contrast > _CONTRAST, _NEIGHBOURHOOD)
    border = ~ndimage.binary_erosion(usable, _NEIGHBOURHOOD, iterations=2)
    minimum = _LENGTH * max(contrast.shape)
    found = np.zeros(labels.shape, dtype=bool)
    for label in np.flatnonzero(np.bincount(labels.ravel())[1:] >= minimum) + 1:
        blocks = labels == label
        width, length = _size(np.argwhere(blocks).astype(np.float64))
        is_straight = length > minimum and length > _SLENDER * width
        if is_straight and np.median(contrast[blocks]) > _MEDIAN_CONTRAST and border[blocks].mean() < _ALONG_BORDER:
            found |= blocks
    return found


def _size(points: Float[np.ndarray, "n 2"]) -> tuple[float, float]:
    """Width and length of the rectangle with the same second moments."""
    centred = points - points.mean(0)
    variances = np.linalg.eigvalsh(centred.T @ centred / len(points))
    width, length = np.sqrt(12 * variances.clip(0.0) + 1.0)
    return float(width), float(length)
