"""Whether a frame can show anatomy at all: a sentence when it cannot. Cheap, and asked before any rendering.

Blank frames at the release of the pedal, black and white ones, shutters that leave nothing, pure noise. An image of anatomy is
smooth on the scale of a hundredth of its side: neighbouring blocks agree. In noise they do not. A beam that meets nobody is
uneven all the same (heel effect, vignetting), so contrast and structure are those beyond a smooth quadratic surface.
"""

import numpy as np
from jaxtyping import Bool, Float

from fluoro_reg.xray.preprocessing.coarse import CoarseImage


def rejection_of_frame(
    coarse: CoarseImage,
    field: Bool[np.ndarray, "rows columns"],
    minimum_contrast: float,
    minimum_structure: float,
    maximum_clipped: float,
) -> str | None:
    """Why no registration should be tried, or None; the limits are those of `PreprocessOptions`."""
    low, high = float(coarse.low[field].min()), float(coarse.high[field].max())
    if high <= low:
        return f"the image is blank: every pixel is {low:g}"
    for end, clipped in (("least", coarse.high <= low), ("greatest", coarse.low >= high)):
        share = float(clipped[field].mean())
        if share > maximum_clipped:
            return f"the image is clipped: {share:.0%} of its field has the {end} grey; check exposure and window"
    uneven = beyond_shading(coarse.mean, field)
    least, greatest = np.quantile(uneven[field], (0.01, 0.99))
    spread = float(greatest - least) / max(float(np.quantile(np.abs(coarse.mean[field]), 0.99)), 1e-30)
    if spread < minimum_contrast:
        return f"the image is blank: beyond smooth shading its greys differ by {spread:.1%}, less than {minimum_contrast:.1%}"
    structure = correlation_of_neighbours(uneven.clip(least, greatest), field)
    if structure < minimum_structure:
        return f"the image holds noise and no structure: near regions correlate by {structure:.2f} only"
    return None


def beyond_shading(
    values: Float[np.ndarray, "rows columns"], field: Bool[np.ndarray, "rows columns"]
) -> Float[np.ndarray, "rows columns"]:
    """What a quadratic surface fitted over the field leaves."""
    row = np.linspace(-1, 1, values.shape[0])[:, None]
    column = np.linspace(-1, 1, values.shape[1])[None, :]
    terms = np.stack(np.broadcast_arrays(1.0, row, column, row * column, row**2, column**2), axis=-1)
    inside = terms[field]
    # normal equations: six well-scaled terms over thousands of pixels
    surface, *_ = np.linalg.lstsq(inside.T @ inside, inside.T @ values[field], rcond=None)
    return values - terms @ surface


def correlation_of_neighbours(values: Float[np.ndarray, "rows columns"], field: Bool[np.ndarray, "rows columns"]) -> float:
    """Correlation of blocks with those three beside and below, beyond a detector's blur: near 1 for anatomy, 0 for noise."""
    beside, below = field[:, :-3] & field[:, 3:], field[:-3] & field[3:]
    left = np.concatenate([values[:, :-3][beside], values[:-3][below]])
    right = np.concatenate([values[:, 3:][beside], values[3:][below]])
    if left.size < 16:
        return 0.0
    left, right = left - left.mean(), right - right.mean()
    return float((left * right).sum() / max(np.sqrt((left**2).sum() * (right**2).sum()), 1e-30))
