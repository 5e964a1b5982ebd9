"""Pixels inside the field that say nothing of the anatomy: clipped ones and burnt-in text.

A pixel clipped at the dense end (no photons: metal, or an exposure too low) only says "at least so much". One clipped at the
air end says "next to nothing", or, where the exposure is set for a thick head, "less than most of the body". The rim of a
clipped region stays: its outline shows where things are. Only roughly so at the air end, where it is the body's outline moved
inwards, by centimetres at worst; so what lies beside that is told apart. Text is told from anatomy by what it is made of: small
islands of one extreme grey with hard edges, near the image's border.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from fluoro_reg.xray.preprocessing.coarse import CoarseImage

_NEIGHBOURS = np.ones((3, 3), dtype=bool)
_MINIMUM_CLIPPED = 0.002  # of the field: fewer pixels at the end are its natural extreme
_TEXT_WITHIN = 0.02  # of the range of greys: glyphs are smoothed and compressed
_TEXT_MARGIN = 0.22  # of the image's sides
_TEXT_HEIGHT, _TEXT_WIDTH = 0.06, 0.3  # of the image's sides
_TEXT_EDGE = 0.2  # of the range of greys, within one block
_TEXT_FRACTION = 0.05  # of the image: more is no text


def clipped_regions(
    coarse: CoarseImage, field: Bool[np.ndarray, "rows columns"], at_top: bool
) -> Bool[np.ndarray, "rows columns"]:
    """Blocks that lie wholly at one end of the range of greys, where a region of them has its rim taken off."""
    clipped, _ = _clipped(coarse, field, at_top)
    # beyond the field is no rim: the clipped region goes on there
    return ndimage.binary_erosion(clipped | ~field, _NEIGHBOURS, border_value=1) & field if clipped.any() else clipped


def beside_clipped(
    coarse: CoarseImage, field: Bool[np.ndarray, "rows columns"], at_top: bool
) -> Bool[np.ndarray, "rows columns"]:
    """The clipped regions with the blocks about them that hold a clipped pixel, and one block further: whatever looks at a
    clipped pixel, by a gradient say, lies in there.
    """
    clipped, touched = _clipped(coarse, field, at_top)
    if not clipped.any():
        return clipped
    region = ndimage.binary_propagation(clipped, _NEIGHBOURS, mask=touched)
    return ndimage.binary_dilation(region, _NEIGHBOURS) & field


def _clipped(
    coarse: CoarseImage, field: Bool[np.ndarray, "rows columns"], at_top: bool
) -> tuple[Bool[np.ndarray, "rows columns"], Bool[np.ndarray, "rows columns"]]:
    """Blocks of the field that are clipped wholly, and in part; none wholly where they are too few to be a region."""
    if at_top:
        end = coarse.high[field].max()
        wholly, touched = coarse.low >= end, coarse.high >= end
    else:
        end = coarse.low[field].min()
        wholly, touched = coarse.high <= end, coarse.low <= end
    wholly = wholly & field
    return wholly & (wholly.sum() >= _MINIMUM_CLIPPED * field.sum()), touched & field


def burnt_in_text(
    coarse: CoarseImage, field: Bool[np.ndarray, "rows columns"], ascending: Float[np.ndarray, "n"]
) -> Bool[np.ndarray, "rows columns"]:
    """Blocks of small islands of pure white or pure black with hard edges, near the image's border.

    Ink is a grey of its own: `ascending` greys of the image must be fewer beside the extreme than at it, as noise's never are.
    """
    low, high = float(coarse.low.min()), float(coarse.high.max())
    edges = coarse.high - coarse.low >= _TEXT_EDGE * (high - low)
    within = _TEXT_WITHIN * (high - low)
    found = np.zeros_like(field)
    places = np.searchsorted(ascending, [low + within, low + 3 * within, high - 3 * within, high - within])
    black, beside_black, beside_white = places[0], places[1] - places[0], places[3] - places[2]
    white = len(ascending) - places[3]
    ends = ((coarse.high >= high - within, white, beside_white), (coarse.low <= low + within, black, beside_black))
    for extreme, ink, beside in ends:
        if ink <= beside:
            continue
        islands = _small_islands(extreme & field, edges)
        if islands.sum() <= _TEXT_FRACTION * field.size:
            found |= islands
    return ndimage.binary_dilation(found, np.ones((3, 3), dtype=bool)) if found.any() else found


def _small_islands(extreme: Bool[np.ndarray, "rows columns"], edges: np.ndarray) -> Bool[np.ndarray, "rows columns"]:
    rows, columns = extreme.shape
    labels, count = ndimage.label(extreme, np.ones((3, 3)))
    chosen = np.zeros(count + 1, dtype=bool)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
        if height > max(_TEXT_HEIGHT * rows, 2) or width > max(_TEXT_WIDTH * columns, 2):
            continue
        middle = ((box[0].start + box[0].stop) / 2 / rows, (box[1].start + box[1].stop) / 2 / columns)
        near_border = min(min(x, 1 - x) for x in middle) < _TEXT_MARGIN
        chosen[number] = near_border and bool(edges[box][labels[box] == number].mean() > 0.6)
    return chosen[labels]
