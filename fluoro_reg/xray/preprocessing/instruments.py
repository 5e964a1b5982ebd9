"""Instruments in an X-ray: pins, drills and needles, which the CT does not show.

They are straight, dense and narrower than bones, and their contrast is far above that of all else that is as narrow. A pose
that is nearly right can be refined beside them, because residuals that do not fit have little weight. A search of all views
has no such weights: the strong edges of an instrument decide which view fits best.

The cortex of a long bone or an implant that the CT shows may look the same. Leaving instruments out is therefore a reading,
beside the one with the whole image.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from fluoro_reg.xray.preprocessing.coarse import COARSE_SIZE, CoarseImage, coarse_image, enlarge_blocks

_WIDEST = round(0.09 * COARSE_SIZE)  # blocks; what is wider is anatomy
_CONTRAST = 3.0  # times that of nine tenths of the image, at the same width
_MEDIAN_CONTRAST = 4.0
_LENGTH = COARSE_SIZE / 8  # blocks, at least
_SLENDER = 5.0  # times as long as wide
_ALONG_BORDER = 0.5  # of an object that is the edge of a field, or of the body in it
_NEIGHBOURHOOD = np.ones((3, 3), dtype=np.uint8)


def find_instruments(pixels: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"]) -> Bool[Tensor, "height width"]:
    """Return the pixels of instruments and of their surroundings of one block.

    Args:
        pixels: Attenuation, with dense objects bright.
        mask: The usable pixels.
    """
    coarse = coarse_image(pixels, mask)
    if not coarse.usable.any():
        return torch.zeros_like(mask)
    found = cv2.dilate(_slender(_contrast(coarse), coarse.usable), _NEIGHBOURHOOD)
    return torch.from_numpy(enlarge_blocks(found.astype(bool), coarse.factor, *mask.shape))


def _contrast(coarse: CoarseImage) -> Float[np.ndarray, "rows columns"]:
    """Contrast of what is narrower than `_WIDEST`, relative to that of most of the image."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_WIDEST, _WIDEST))
    mean, usable = coarse.mean, coarse.usable
    eroded = cv2.erode(np.where(usable, mean, mean.max()), disc)
    opened = cv2.dilate(np.where(usable, eroded, mean.min()), disc)
    contrast = np.where(usable, mean - opened, 0.0)
    inside = _eroded(usable, outside=1)
    usual = float(np.quantile(contrast[inside if inside.any() else usable], 0.9))
    return contrast / usual if usual > 0 else np.zeros_like(contrast)


def _slender(contrast: Float[np.ndarray, "rows columns"], usable: Bool[np.ndarray, "rows columns"]) -> np.ndarray:
    """Return 1 where a straight object has enough contrast, else 0."""
    labels, _ = ndimage.label(contrast > _CONTRAST, _NEIGHBOURHOOD)
    border = ~_eroded(usable, outside=0)
    found = np.zeros(labels.shape, dtype=np.uint8)
    for label in np.flatnonzero(np.bincount(labels.ravel())[1:] >= _LENGTH) + 1:
        blocks = labels == label
        width, length = _size(np.argwhere(blocks).astype(np.float64))
        is_straight = length > _LENGTH and length > _SLENDER * width
        if is_straight and np.median(contrast[blocks]) > _MEDIAN_CONTRAST and border[blocks].mean() < _ALONG_BORDER:
            found[blocks] = 1
    return found


def _eroded(usable: Bool[np.ndarray, "rows columns"], outside: int) -> Bool[np.ndarray, "rows columns"]:
    """Without a rim of two blocks, and without that of the image if what is `outside` of it is 0."""
    blocks = usable.astype(np.uint8)
    eroded = cv2.erode(blocks, _NEIGHBOURHOOD, iterations=2, borderType=cv2.BORDER_CONSTANT, borderValue=outside)
    return eroded.astype(bool)


def _size(points: Float[np.ndarray, "n 2"]) -> tuple[float, float]:
    """Width and length of the rectangle with the same second moments."""
    centred = points - points.mean(0)
    variances = np.linalg.eigvalsh(centred.T @ centred / len(points))
    width, length = np.sqrt(12 * variances.clip(0.0) + 1.0)
    return float(width), float(length)
