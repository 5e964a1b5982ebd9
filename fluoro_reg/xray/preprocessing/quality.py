"""A fast check that a frame can show anatomy, before anything is rendered.

It rejects blank frames at the release of the pedal, black and white frames, closed shutters, and pure noise. Anatomy is smooth
on the scale of a hundredth of the image, so that neighbouring blocks correlate; in noise they do not. An empty beam is not
uniform (heel effect, vignetting), so contrast and structure are measured after a smooth quadratic surface has been subtracted.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

from fluoro_reg.xray.preprocessing.coarse import CoarseImage


def rejection_reason(
    coarse: CoarseImage,
    field: Bool[np.ndarray, "rows columns"],
    minimum_contrast: float,
    minimum_structure: float,
    maximum_clipped: float,
) -> str | None:
    """Return why no registration should be attempted, or None. The limits are those of `PreprocessOptions`."""
    low, high = float(coarse.low[field].min()), float(coarse.high[field].max())
    if high <= low:
        return f"the image is blank: every pixel is {low:g}"
    for end, clipped in (("lowest", coarse.high <= low), ("highest", coarse.low >= high)):
        fraction = float(clipped[field].mean())
        if fraction > maximum_clipped:
            return f"the image is clipped: {fraction:.0%} of its field has the {end} grey; check exposure and window"
    flattened = subtract_shading(coarse.mean, field)
    low, high = np.quantile(flattened[field], (0.01, 0.99))
    spread = float(high - low) / max(float(np.quantile(np.abs(coarse.mean[field]), 0.99)), 1e-30)
    if spread < minimum_contrast:
        return f"the image is blank: without smooth shading its greys differ by {spread:.1%}, less than {minimum_contrast:.1%}"
    structure = neighbour_correlation(flattened.clip(low, high), field)
    if structure < minimum_structure:
        return f"the image contains noise without structure: neighbouring regions correlate by only {structure:.2f}"
    return None


def subtract_shading(
    values: Float[np.ndarray, "rows columns"], field: Bool[np.ndarray, "rows columns"]
) -> Float[np.ndarray, "rows columns"]:
    """Subtract a quadratic surface that is fitted over the field."""
    terms = _quadratic_terms(*values.shape)
    inside = terms[field]
    # normal equations of six well-scaled terms; einsum, because BLAS wakes threads for this product, which then wait busily
    surface, *_ = np.linalg.lstsq(np.einsum("np,nq->pq", inside, inside), inside.T @ values[field], rcond=None)
    return values - terms @ surface


@lru_cache(maxsize=8)
def _quadratic_terms(rows: int, columns: int) -> Float[np.ndarray, "rows columns 6"]:
    """Return the terms of a quadratic surface at every block; the same for all frames of a stream."""
    row, column = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None, :]
    terms = np.stack(np.broadcast_arrays(1.0, row, column, row * column, row**2, column**2), axis=-1)
    terms.setflags(write=False)  # it is shared by all calls
    return terms


def neighbour_correlation(values: Float[np.ndarray, "rows columns"], field: Bool[np.ndarray, "rows columns"]) -> float:
    """Return the correlation of blocks with those three to the right and below: near 1 for anatomy, near 0 for noise.

    The distance of three blocks is larger than the blur of a detector.
    """
    right_pairs, lower_pairs = field[:, :-3] & field[:, 3:], field[:-3] & field[3:]
    left = np.concatenate([values[:, :-3][right_pairs], values[:-3][lower_pairs]])
    right = np.concatenate([values[:, 3:][right_pairs], values[3:][lower_pairs]])
    if left.size < 16:
        return 0.0
    left, right = left - left.mean(), right - right.mean()
    return float((left * right).sum() / max(np.sqrt((left**2).sum() * (right**2).sum()), 1e-30))
