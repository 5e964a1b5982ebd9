"""Pixels of DICOM as the values of their stored bits. The readers of CTs and of X-rays share it.

pydicom assumes that the stored bits are the lowest ones of a word, as nearly all files have it. DICOM lets HighBit place them
anywhere, and old files keep an overlay in the unused bits.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless


def stored_pixels(
    source: Path | Dataset, header: Dataset, frame: int | None, raw: bool = False
) -> Shaped[np.ndarray, "height width *channels"]:
    """Return the stored values of one frame.

    Args:
        source: The file, or its dataset with pixels.
        header: The header of the file.
        frame: Index of the frame; None for the only one.
        raw: Whether colours are returned as they are stored.

    Raises:
        Exception: The pixels cannot be decoded; every decoder raises its own errors.
    """
    shift, bits = _unused_low_bits(header), int(header.get("BitsStored", 0) or 0)
    options: dict[str, Any] = {"bits_stored": int(header.BitsAllocated)} if shift else {}
    decoded = pixel_array(source, index=frame, raw=raw, **options)
    return _values_of_bits(decoded, bits, shift)


def _unused_low_bits(header: Dataset) -> int:
    """Return the number of unused bits below the stored ones.

    Compressed images have no unused bits, apart from run lengths, which code the same bytes as an uncompressed image.
    """
    syntax = header.file_meta.TransferSyntaxUID
    bits, allocated = (int(header.get(keyword, 0) or 0) for keyword in ("BitsStored", "BitsAllocated"))
    if (syntax.is_encapsulated and syntax != RLELossless) or not 0 < bits < allocated:
        return 0
    high_bit = int(header.get("HighBit", bits - 1) or bits - 1)
    return min(max(high_bit + 1 - bits, 0), allocated - bits)


def _values_of_bits(decoded: Shaped[np.ndarray, "*shape"], bits: int, shift: int) -> Shaped[np.ndarray, "*shape"]:
    if decoded.dtype.kind not in "ui" or not 0 < bits < 8 * decoded.dtype.itemsize:
        return decoded
    values = (decoded.astype(np.int64) >> shift) & ((1 << bits) - 1)
    if decoded.dtype.kind == "i":
        half = 1 << (bits - 1)
        values = (values ^ half) - half
    return values.astype(decoded.dtype)
