"""Pixels inside the field that carry no information about the anatomy: clipped pixels and burnt-in text.

A pixel that is clipped at the dense end (no photons: metal, or too low an exposure) gives only a lower bound of the
attenuation. One that is clipped at the air end gives only an upper bound, which can be that of thin tissue if the exposure was
set for thick tissue. The rim of a clipped region is kept, because its outline shows the position of an object. At the air end
this position is inaccurate: saturation moves the outline of the body inwards, by centimetres in the worst case. The
surroundings of that outline are therefore reported separately. Text consists of small islands of one extreme grey with sharp
edges near the border of the image.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from fluoro_reg.xray.preprocessing.coarse import CoarseImage

_NEIGHBOURHOOD = np.ones((3, 3), dtype=bool)
_MINIMUM_CLIPPED = 0.002  # of the field: fewer pixels are the natural extreme of the image
_TEXT_TOLERANCE = 0.02  # of the range of greys: glyphs are smoothed and compressed
_TEXT_MARGIN = 0.22  # of the sides of the image
_TEXT_HEIGHT, _TEXT_WIDTH = 0.06, 0.3  # of the sides of the image
_TEXT_EDGE = 0.2  # of the range of greys, within one block
_MAXIMUM_TEXT_FRACTION = 0.05  # of the image: more is not text


def clipped_regions(
    coarse: CoarseImage, field: Bool[np.ndarray, "rows columns"], at_top: bool
) -> Bool[np.ndarray, "rows columns"]:
    """Return the blocks that are clipped completely, without the rim of each clipped region.

    `at_top` selects the maximum or the minimum of the greys.
    """
    clipped, _ = _clipped(coarse, field, at_top)
    # the border of the field is not a rim, because a clipped region continues beyond it
    return ndimage.binary_erosion(clipped | ~field, _NEIGHBOURHOOD, border_value=1) & field if clipped.any() else clipped


def clipped_surroundings(
    coarse: CoarseImage, field: Bool[np.ndarray, "rows columns"], at_top: bool
) -> Bool[np.ndarray, "rows columns"]:
    """Return the clipped regions, the adjacent blocks that contain a clipped pixel, and one block more.

    Every pixel whose gradient depends on a clipped pixel lies in these blocks.
    """
    clipped, partly = _clipped(coarse, field, at_top)
    if not clipped.any():
        return clipped
    region = ndimage.binary_propagation(clipped, _NEIGHBOURHOOD, mask=partly)
    return ndimage.binary_dilation(region, _NEIGHBOURHOOD) & field


def _clipped(
    coarse: CoarseImage, field: Bool[np.ndarray, "rows columns"], at_top: bool
) -> tuple[Bool[np.ndarray, "rows columns"], Bool[np.ndarray, "rows columns"]]:
    """Return the blocks that are clipped completely and those that are at least partly clipped.

    None are clipped completely if there are too few of them for a region.
    """
    if at_top:
        end = coarse.high[field].max()
        completely, partly = coarse.low >= end, coarse.high >= end
    else:
        end = coarse.low[field].min()
        completely, partly = coarse.high <= end, coarse.low <= end
    completely = completely & field
    return completely & (completely.sum() >= _MINIMUM_CLIPPED * field.sum()), partly & field


def burnt_in_text(
    coarse: CoarseImage, field: Bool[np.ndarray, "rows columns"], sample: Float[np.ndarray, "n"]
) -> Bool[np.ndarray, "rows columns"]:
    """Return the blocks of small islands of pure white or pure black with sharp edges near the border of the image.

    Text has its own grey value: more pixels must have the extreme value than the values next to it, which noise never does.

    Args:
        coarse: The downsampled image.
        field: Blocks inside the field.
        sample: Usable pixels of the image, from `sample_usable_pixels`.
    """
    low, high = float(coarse.low.min()), float(coarse.high.max())
    edges = coarse.high - coarse.low >= _TEXT_EDGE * (high - low)
    tolerance = _TEXT_TOLERANCE * (high - low)
    text = np.zeros_like(field)
    limits = np.array([low + tolerance, low + 3 * tolerance, high - 3 * tolerance, high - tolerance])
    ranks = [np.count_nonzero(sample < limit) for limit in limits]
    n_black, near_black, near_white = ranks[0], ranks[1] - ranks[0], ranks[3] - ranks[2]
    n_white = len(sample) - ranks[3]
    ends = ((coarse.high >= high - tolerance, n_white, near_white), (coarse.low <= low + tolerance, n_black, near_black))
    for extreme, n_extreme, n_near in ends:
        if n_extreme <= n_near:
            continue
        islands = _small_islands(extreme & field, edges)
        if islands.sum() <= _MAXIMUM_TEXT_FRACTION * field.size:
            text |= islands
    return ndimage.binary_dilation(text, _NEIGHBOURHOOD) if text.any() else text


def _small_islands(extreme: Bool[np.ndarray, "rows columns"], edges: np.ndarray) -> Bool[np.ndarray, "rows columns"]:
    rows, columns = extreme.shape
    labels, count = ndimage.label(extreme, np.ones((3, 3)))
    chosen = np.zeros(count + 1, dtype=bool)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
        if height > max(_TEXT_HEIGHT * rows, 2) or width > max(_TEXT_WIDTH * columns, 2):
            continue
        centre = ((box[0].start + box[0].stop) / 2 / rows, (box[1].start + box[1].stop) / 2 / columns)
        near_border = min(min(x, 1 - x) for x in centre) < _TEXT_MARGIN
        chosen[number] = near_border and bool(edges[box][labels[box] == number].mean() > 0.6)
    return chosen[labels]
