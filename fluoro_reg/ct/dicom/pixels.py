"""Conversion of stored pixel values to Hounsfield units, slice by slice.

Rescale slope and intercept are those of each slice, because they vary within a series. Padding becomes air.
`fluoro_reg.ct.hounsfield` later sets everything below -1024 HU to air as well, which covers padding that no header declares
(-2000, -3024). Compressed slices need a decoder that may not be installed; the error message names it. No decoder is a
dependency: the one for lossless JPEG is GPL, and GDCM is affected by CVE-2026-3650.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float32
from pydicom.dataset import FileDataset
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from fluoro_reg.ct.attenuation import AIR_HU
from fluoro_reg.ct.dicom.files import parse_dicom, silent_pydicom
from fluoro_reg.ct.dicom.slices import CTSlice
from fluoro_reg.ct.dicom.stack import Stack
from fluoro_reg.ct.hu_thresholds import AIR_OR_LUNG_MAXIMUM_HU
from fluoro_reg.dicom_bits import stored_pixels
from fluoro_reg.errors import InputError

READERS = 8  # threads that read files at once: those of a network answer late, and decoding leaves the GIL
_JPEG = "1.2.840.10008.1.2.4."
_LIBJPEG = "pip install pylibjpeg pylibjpeg-libjpeg"
_EXTRA = 'pip install "fluoro_reg[decoders]"'
_DECODERS = {
    **dict.fromkeys([_JPEG + n for n in ("50", "51", "57", "70")], _LIBJPEG),
    **dict.fromkeys([_JPEG + n for n in ("80", "81", "90", "91", "201", "202", "203")], _EXTRA),
}
_LOSSY = tuple(_JPEG + n for n in ("50", "51", "53", "55", "81"))


def read_hounsfield(stack: Stack) -> tuple[Float32[np.ndarray, "slices rows columns"], list[str]]:
    """Read the HU of the slices of a stack, at their true positions.

    Returns:
        HU [position, row, column], and warnings.

    Raises:
        InputError: Pixels cannot be decoded, or slices at the same position have different pixels.
    """
    first = stack.positions[0][0]
    hu = np.empty((len(stack.positions), first.rows, first.columns), dtype=np.float32)
    numbers = range(len(hu))
    files = {str(item.path) for slices in stack.positions for item in slices}
    part = max(1, len(hu) // READERS) if len(files) > 1 else len(hu)  # the frames of one file share its dataset
    with ThreadPoolExecutor(READERS) as pool:
        parts = [numbers[begin : begin + part] for begin in range(0, len(hu), part)]
        found = list(pool.map(lambda part: _read_part(hu, stack, part), parts))
    return hu, list(dict.fromkeys(warning for warnings in found for warning in warnings))


def _read_part(hu: Float32[np.ndarray, "slices rows columns"], stack: Stack, part: range) -> list[str]:
    """Read the slices of some positions into `hu`, and return warnings."""
    warnings: list[str] = []
    open_file = _file_cache()
    for plane, slices in zip(hu[part.start : part.stop], stack.positions[part.start : part.stop], strict=True):
        plane[...] = _slice_hu(open_file, slices[0], warnings)
        for number, other in enumerate(slices[1:], start=2):
            if not np.array_equal(plane, _slice_hu(open_file, other, warnings)):
                raise InputError(
                    f"{len(slices)} slices at one position have different pixels (number {number} is the first that differs): "
                    "the series contains several phases or reconstructions; export one of them"
                )
    return warnings


def _file_cache() -> Callable[[CTSlice], FileDataset]:
    """Return a function that parses the file of a slice and caches the last one, which the frames of an enhanced CT share."""
    last: dict[str, FileDataset] = {}

    def open_file(item: CTSlice) -> FileDataset:
        key = str(item.path)
        if key not in last:
            last.clear()
            last[key] = parse_dicom(item.path, item.label, header_only=False)
        return last[key]

    return open_file


def _slice_hu(
    open_file: Callable[[CTSlice], FileDataset], item: CTSlice, warnings: list[str]
) -> Float32[np.ndarray, "rows columns"]:
    dataset = open_file(item)
    syntax = _decodable_syntax(dataset, item)
    stored = _decoded(dataset, item, syntax)
    hu = stored.astype(np.float32) * np.float32(item.slope) + np.float32(item.intercept)
    if item.padding is not None:
        low, high = item.padding
        if max(low * item.slope, high * item.slope) + item.intercept > AIR_OR_LUNG_MAXIMUM_HU:
            _add_once(
                warnings,
                "PixelPaddingValue is a HU of tissue and was not treated as air; check the pixels outside the body",
            )
        else:
            hu[(stored >= low) & (stored <= high)] = AIR_HU
    if syntax in _LOSSY:
        _add_once(warnings, f"lossy compression ({syntax.name}): HU are approximate")
    return hu


def _decodable_syntax(dataset: FileDataset, item: CTSlice) -> UID:
    with silent_pydicom():
        syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            raise InputError(
                f"{item.label} is stored as {_syntax_name(syntax)}, which cannot be read; export it uncompressed"
            ) from None
        if not decoder.is_available:
            raise InputError(
                f"{item.label} is stored as {_syntax_name(syntax)}; install a decoder: {_DECODERS.get(syntax, _EXTRA)}"
            )
    return syntax


def _syntax_name(syntax: UID) -> str:
    """Return the name of a registered transfer syntax; an unknown UID is not repeated, because it could contain anything."""
    return f"{syntax.name} ({syntax})" if syntax.is_transfer_syntax and not syntax.is_private else "an unknown transfer syntax"


def _decoded(dataset: FileDataset, item: CTSlice, syntax: UID) -> np.ndarray:
    try:
        with silent_pydicom():
            stored = stored_pixels(dataset, dataset, item.frame, raw=True)
    except Exception:  # every decoder raises its own errors, and pydicom wraps only some of them
        problem = "its pixels are damaged or truncated; copy or export it again"
        if syntax in _DECODERS:
            problem = f"its pixels cannot be decoded ({_syntax_name(syntax)}); export it again or try {_DECODERS[syntax]}"
        raise InputError(f"{item.label}: {problem}") from None
    if stored.shape != (item.rows, item.columns):
        raise InputError(
            f"{item.label}: its pixels do not have the size {item.rows} x {item.columns} of its header; export it again"
        )
    return stored


def _add_once(warnings: list[str], warning: str) -> None:
    if warning not in warnings:
        warnings.append(warning)
