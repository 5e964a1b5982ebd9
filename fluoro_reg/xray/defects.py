"""Pixels inside the field that say nothing of the anatomy: clipped ones and burnt-in text.

A pixel clipped at the dense end (no photons: metal, or an exposure too low) only says "at least so much". One clipped at the
air end says "next to nothing", which is nearly true, and keeps a pose from putting bone there; so by default it stays. The rim
of a clipped region always stays: its outline is information. Text is told from anatomy by what it is made of: small islands
of one extreme grey with hard edges, near the image's border.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from fluoro_reg.xray.coarse import CoarseImage

_LEAST_CLIPPED = 0.002  # of the field: fewer pixels at the end are its natural extreme
_TEXT_WITHIN = 0.02  # of the range of greys: glyphs are smoothed and compressed
_TEXT_MARGIN = 0.22  # of the image's sides
_TEXT_HEIGHT, _TEXT_WIDTH = 0.06, 0.3  # of the image's sides
_TEXT_EDGE = 0.2  # of the range of greys, within one block
_TEXT_SHARE = 0.05  # of the image: more is no text


def clipped_regions(
    coarse: CoarseImage, field: Bool[np.ndarray, "rows columns"], at_top: bool
) -> Bool[np.ndarray, "rows columns"]:
    """Blocks that lie wholly at one end of the range of greys, where a region of them has its rim taken off."""
    clipped = coarse.low >= coarse.high[field].max() if at_top else coarse.high <= coarse.low[field].min()
    clipped &= field
    if clipped.sum() < _LEAST_CLIPPED * field.sum():
        return np.zeros_like(clipped)
    # beyond the field is no rim: the clipped region goes on there
    return ndimage.binary_erosion(clipped | ~field, np.ones((3, 3), dtype=bool), border_value=1) & field


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
        if islands.sum() <= _TEXT_SHARE * field.size:
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
