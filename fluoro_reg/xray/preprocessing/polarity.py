"""Which way the greys run: are bones dark (detected photons) or bright (attenuation)?

Five pieces of evidence, each odd under inversion, so that an image and its negative are judged alike:
- outside the collimator no photons arrive: an opening in a dark surround speaks for photons, in a bright one for attenuation;
- dense things are thin (cortical edges, implants, wires), but the exponential law stretches the bright end: the skewness of
  bands of fine, middle and coarse structure, in a linear photon image positive;
- open air touches the border of the field and is flat;
- around an object that floats in air there is nothing else.
The weights were set by hand on real knees, coronary and cerebral angiograms and radiographs, and on simulated abdomens and
pelves from two CTs with scatter, noise, gamma, windowing, logarithm and collimation. What it gets wrong is mostly a
bone-bright image behind a shutter painted black. It is a judgement, so it comes with a confidence.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.preprocessing.coarse import CoarseImage
from fluoro_reg.xray.preprocessing.field import Field, as_painted, find_field, touching_border

_WEIGHTS = {"collimator": 3.0, "fine": 2.0, "middle": 1.0, "coarse": 1.0, "air": 2.0, "surround": 4.0}
_RIM = 5  # coarse pixels inside the field's edge that penumbra may reach


@dataclass(frozen=True, slots=True)
class Polarity:
    """What an image's numbers mean, how sure that is (0.5 is a guess, 1 certain), and the field that the judgement found."""

    intensity: Intensity
    confidence: float
    field: Field | None


def estimate_polarity(coarse: CoarseImage) -> Polarity:
    """TRANSMITTED or ATTENUATION, from the image alone."""
    evidence, dark_outside, bright_outside = polarity_evidence(coarse)
    score = sum(_WEIGHTS[name] * value for name, value in evidence.items())
    transmitted = score >= 0
    intensity = Intensity.TRANSMITTED if transmitted else Intensity.ATTENUATION
    confidence = float(1 / (1 + np.exp(-abs(score))))
    field = dark_outside if transmitted else bright_outside or as_painted(dark_outside, coarse)
    return Polarity(intensity, confidence, field)


def polarity_evidence(coarse: CoarseImage) -> tuple[dict[str, float], Field | None, Field | None]:
    """The evidence by name, positive for photons; and the fields found in a dark and in a bright surround."""
    dark = find_field(coarse.mean, coarse.usable)
    bright = find_field(coarse.mean, coarse.usable, inverted=True)
    inside = _inside(coarse, dark, bright)
    low, high = np.quantile(coarse.mean[inside], (0.02, 0.98))
    values = np.clip((coarse.mean - low) / max(float(high - low), 1e-12), 0, 1)
    fine, middle, rough = (_band_skewness(values, inside, level) for level in (0, 2, 3))
    evidence = {
        "collimator": _collimation(dark) - _collimation(bright),
        "fine": fine,
        "middle": middle,
        "coarse": rough,
        "air": _open_air(1 - values, inside) - _open_air(values, inside),
        "surround": _surround(1 - values, inside) - _surround(values, inside),
    }
    return evidence, dark, bright


def _inside(coarse: CoarseImage, dark: Field | None, bright: Field | None) -> Bool[np.ndarray, "rows columns"]:
    """Pixels to judge by: within the more credible field, and not in its penumbra."""
    credits = (_collimation(dark), _collimation(bright))
    field = dark if credits[0] >= credits[1] else bright
    if field is None or max(credits) < 0.1:
        return coarse.usable
    inside = coarse.usable & field.mask(*coarse.mean.shape, factor=1, margin=_RIM)
    return inside if inside.mean() > 0.05 else coarse.usable


def _collimation(field: Field | None) -> float:
    """0 to 1: lead has a strong edge behind which brightness does not go on rising; a body against air does the opposite."""
    if field is None:
        return 0.0
    return field.quality * min(1.0, 2 * field.contrast) * float(np.clip(1.5 - 2 * field.gradient, 0, 1))


def _band_skewness(values: Float[np.ndarray, "rows columns"], inside: Bool[np.ndarray, "rows columns"], level: int) -> float:
    """Skewness of what a blur of two pixels takes away, after `level` halvings; outliers beyond four sigma clipped."""
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
    """The share of the field that lies in the least 8 % of greys and is connected to its border."""
    least = touching_border((values < 0.08) | ~inside) & inside
    return float(least.sum() / max(inside.sum(), 1))


def _surround(values: Float[np.ndarray, "rows columns"], inside: Bool[np.ndarray, "rows columns"]) -> float:
    """0 to 1 as the least 8 % of greys take up 70 to 100 % of the image's border: an object that floats in air."""
    border = np.zeros(values.shape, dtype=bool)
    border[:3] = border[-3:] = border[:, :3] = border[:, -3:] = True
    border &= inside
    if border.sum() < 0.5 * 6 * sum(values.shape):
        return 0.0
    return float(np.clip((values[border] < 0.08).mean() - 0.7, 0, 0.3) / 0.3)
