"""The field of a collimator that leaks: about a hundredth of the photons pass outside it.

Anatomy and open air are visible outside, so neither side is brighter everywhere. The edge is what shows such a field. Lead
divides every ray by about the same factor: in the logarithm of the photons, the step across the edge is large everywhere along
an outline that is convex and straight or circular. Saturation and scatter make it smaller in places.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from fluoro_reg.xray.preprocessing.field import MINIMUM_FIELD, MINIMUM_OUTSIDE, MINIMUM_QUALITY, Field
from fluoro_reg.xray.preprocessing.outline import Outline, outline_of

_REGION_EDGES = (0.25, 0.12, 0.5)  # of the natural logarithm per coarse pixel: gradients that bound a region
_MINIMUM_STEP = 2.0  # natural logarithm: a leak is at most 1/7 of the open beam
_MINIMUM_EVENNESS = 0.5  # of the median step, reached along 85 % of the edge


def find_leaking_field(photons: Float[np.ndarray, "rows columns"], usable: Bool[np.ndarray, "rows columns"]) -> Field | None:
    """Find the field of a leaking collimator in a coarse image of photons; None if there is no plausible one."""
    positive = photons[usable & (photons > 0)]
    if not positive.size:
        return None
    log = np.log(np.maximum(photons, max(float(positive.min()), 1e-6 * float(positive.max()))))
    gradient = np.stack(np.gradient(ndimage.gaussian_filter(log, 0.7)))
    fields = [field for region in _regions(gradient, usable) if (field := _evaluate(region, log)) is not None]
    return max(fields, key=lambda field: field.quality, default=None)


def _regions(
    gradient: Float[np.ndarray, "2 rows columns"], usable: Bool[np.ndarray, "rows columns"]
) -> Iterator[Bool[np.ndarray, "rows columns"]]:
    edges = np.hypot(*gradient)
    for barrier in _REGION_EDGES:
        labels, count = ndimage.label((edges < barrier) & usable)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        for number in np.flatnonzero(sizes[1:] >= MINIMUM_FIELD * labels.size) + 1:
            yield ndimage.binary_dilation(labels == number, iterations=2)


def _evaluate(region: Bool[np.ndarray, "rows columns"], log: Float[np.ndarray, "rows columns"]) -> Field | None:
    """Return the convex hull of a region, if a large and constant step surrounds it."""
    outline = outline_of(region)
    if outline is None or (~outline.inside).mean() < MINIMUM_OUTSIDE:
        return None
    steps = _steps(outline, log)
    if steps.size < 10:
        return None
    lower, step = np.quantile(steps, (0.15, 0.5))
    if step < _MINIMUM_STEP or lower < _MINIMUM_EVENNESS * step:
        return None
    quality = outline.regularity() * float((steps > 0.5 * step).mean())
    if quality < MINIMUM_QUALITY:
        return None
    span = float(np.ptp(log))
    return Field(outline.refine_planes((log - log.min()) / span), quality, float(step) / span, 0.0, 0.0, np.inf)


def _steps(outline: Outline, log: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "n"]:
    """Return the rise of the logarithm from 3 pixels outside to 3 pixels inside the edge, along it."""
    beyond = outline.between(-4.5, -2.5)
    return log[outline.inward(beyond, 3)] - log[beyond]
