"""Estimation of the polarity: whether bones are dark (detected photons) or bright (attenuation).

The evidence is odd under inversion, so that an image and its negative are treated alike:
- No photons arrive outside the collimator: a field with a dark surround indicates photons, with a bright one attenuation.
- Dense objects are thin (cortical edges, implants, wires), and the exponential law stretches the bright end. The skewness of
  bands of fine, middle and coarse structure is therefore positive in a linear image of photons.
- Open air is flat and touches the border of the field.
- An object that is surrounded by air has nothing else at the border.
The weights were set by hand on real knees, coronary and cerebral angiograms and radiographs, and on simulated abdomens and
pelves from two CTs with scatter, noise, gamma, windowing, logarithm and collimation. Most errors occur for images with bright
bones and a display shutter painted black. The estimate is returned with a confidence.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.preprocessing.coarse import CoarseImage
from fluoro_reg.xray.preprocessing.field import Field, border_components

_WEIGHTS = {"collimator": 3.0, "fine": 2.0, "middle": 1.0, "coarse": 1.0, "air": 2.0, "surround": 4.0}
_CERTAIN = 0.95  # confidence above which the opposite polarity is not tried
_PENUMBRA = 5  # coarse pixels inside the edge of the field


@dataclass(frozen=True, slots=True)
class Polarity:
    """The estimated meaning of pixel values, and its confidence (0.5 is a guess, 1 is certain).

    `is_certain` says whether the opposite can be ruled out: the confidence is high, and what the rest of the image shows agrees
    with the evidence of a collimator. An open, clipped beam beside a body looks like lead in the negative of the image.
    """

    intensity: Intensity
    confidence: float
    is_certain: bool


def estimate_polarity(coarse: CoarseImage, dark: Field | None, bright: Field | None) -> Polarity:
    """Estimate whether an image is TRANSMITTED or ATTENUATION, with the fields found with a dark and a bright surround."""
    evidence = polarity_evidence(coarse, dark, bright)
    score = sum(_WEIGHTS[name] * value for name, value in evidence.items())
    transmitted = score >= 0
    intensity = Intensity.TRANSMITTED if transmitted else Intensity.ATTENUATION
    without_collimator = score - _WEIGHTS["collimator"] * evidence["collimator"]
    agreed = min(score, without_collimator) if transmitted else -max(score, without_collimator)
    return Polarity(intensity, _logistic(abs(score)), _logistic(agreed) >= _CERTAIN)


def _logistic(score: float) -> float:
    return float(1 / (1 + np.exp(-score)))


def polarity_evidence(coarse: CoarseImage, dark: Field | None, bright: Field | None) -> dict[str, float]:
    """Return the evidence by name, positive for photons."""
    inside = _inside(coarse, dark, bright)
    low, high = np.quantile(coarse.mean[inside], (0.02, 0.98))
    values = np.clip((coarse.mean - low) / max(float(high - low), 1e-12), 0, 1)
    fine, middle, coarse_band = (_band_skewness(values, inside, level) for level in (0, 2, 3))
    return {
        "collimator": _collimation(dark) - _collimation(bright),
        "fine": fine,
        "middle": middle,
        "coarse": coarse_band,
        "air": _open_air(1 - values, inside) - _open_air(values, inside),
        "surround": _surround(1 - values, inside) - _surround(values, inside),
    }


def _inside(coarse: CoarseImage, dark: Field | None, bright: Field | None) -> Bool[np.ndarray, "rows columns"]:
    """Return the pixels to evaluate: inside the more plausible field, without its penumbra."""
    scores = (_collimation(dark), _collimation(bright))
    field = dark if scores[0] >= scores[1] else bright
    if field is None or max(scores) < 0.1:
        return coarse.usable
    inside = coarse.usable & field.mask(*coarse.mean.shape, factor=1, margin=_PENUMBRA)
    return inside if inside.mean() > 0.05 else coarse.usable


def _collimation(field: Field | None) -> float:
    """Return 0 to 1. Brightness is constant inside the strong edge of lead, but keeps rising inside the edge of a body."""
    if field is None:
        return 0.0
    return field.quality * min(1.0, 2 * field.contrast) * float(np.clip(1.5 - 2 * field.gradient, 0, 1))


def _band_skewness(values: Float[np.ndarray, "rows columns"], inside: Bool[np.ndarray, "rows columns"], level: int) -> float:
    """Return the skewness of a band-pass of the image after `level` halvings, with outliers clipped at four sigma."""
    weight = inside.astype(np.float32)
    filled = np.where(inside, values, 0).astype(np.float32)
    for _ in range(level):
        weight, filled = (_halved(image) for image in (weight, filled))
    narrow, wide = (
        ndimage.gaussian_filter(filled, sigma) / np.maximum(ndimage.gaussian_filter(weight, sigma), 1e-6) for sigma in (1, 2)
    )
    band = (narrow - wide)[weight > 0.5]
    spread = band.std() if band.size else 0.0
    return float(np.clip(np.mean(np.clip(band / spread, -4, 4) ** 3), -3, 3)) if spread > 0 else 0.0


def _halved(image: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "half_rows half_columns"]:
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    return image[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean((1, 3))


def _open_air(values: Float[np.ndarray, "rows columns"], inside: Bool[np.ndarray, "rows columns"]) -> float:
    """Return the fraction of the field that is in the lowest 8 % of the greys and connected to its border."""
    darkest = border_components((values < 0.08) | ~inside) & inside
    return float(darkest.sum() / max(inside.sum(), 1))


def _surround(values: Float[np.ndarray, "rows columns"], inside: Bool[np.ndarray, "rows columns"]) -> float:
    """Return 0 to 1 where the lowest 8 % of the greys cover 70 to 100 % of the image's border, as for an object in air."""
    border = np.zeros(values.shape, dtype=bool)
    border[:3] = border[-3:] = border[:, :3] = border[:, -3:] = True
    border &= inside
    if border.sum() < 0.5 * 6 * sum(values.shape):
        return 0.0
    return float(np.clip((values[border] < 0.08).mean() - 0.7, 0, 0.3) / 0.3)
