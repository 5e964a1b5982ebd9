"""Padding of an X-ray: stored values that the header declares to be no image, outside the field.

Padding lies along the border of the image or in a few solid regions. A declared value that is scattered over the image, as of a
header that was copied from another one, is a grey of the anatomy, and masking it would cut holes into the image.
"""

import numpy as np
from jaxtyping import Bool, Num
from pydicom.dataset import Dataset
from scipy import ndimage

from fluoro_reg.xray.dicom.geometry import numbers

_MAXIMUM_INSIDE = 0.01  # of the image, away from its border, in more regions than the next value
_MAXIMUM_REGIONS = 20


def find_padding(dataset: Dataset, raw: Num[np.ndarray, "height width"]) -> tuple[Bool[np.ndarray, "height width"], list[str]]:
    """Return the pixels that are padding, and a warning if the image contradicts the declared values."""
    ends = [numbers(dataset.get(tag), 1) for tag in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    given = [end[0] for end in ends if end is not None]
    if ends[0] is None:
        return np.zeros(raw.shape, dtype=bool), []
    padding = (raw >= min(given)) & (raw <= max(given))
    labels, regions = ndimage.label(padding)
    inside = padding & ~np.isin(labels, np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    if inside.mean() <= _MAXIMUM_INSIDE or regions <= _MAXIMUM_REGIONS:
        return padding, []
    return np.zeros(raw.shape, dtype=bool), [
        f"PixelPaddingValue {min(given):g} to {max(given):g} is a grey of the image ({inside.mean():.0%} of it, away from its "
        "border), and was not masked"
    ]
