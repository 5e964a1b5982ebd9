"""Stored pixel values to Hounsfield units, slice by slice.

Rescale slope and intercept belong to each slice (they do vary within a series). Padding is air; so is everything below -1024 HU
later on, which catches the fillers that no header mentions (-2000, -3024). Compressed slices need a decoder that may not be
installed, and the refusal names it. No decoder is a dependency: the one for lossless JPEG is GPL, and GDCM is open to
CVE-2026-3650.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32
from pydicom.dataset import FileDataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID

from fluoro_reg.ct.attenuation import AIR_HU
from fluoro_reg.ct.dicom.files import parse, silent_pydicom
from fluoro_reg.ct.dicom.slices import CTSlice
from fluoro_reg.ct.dicom.stack import Stack
from fluoro_reg.ct.hu_thresholds import AIR_OR_LUNG_MAXIMUM_HU
from fluoro_reg.errors import InputError

_JPEG = "1.2.840.10008.1.2.4."
_LIBJPEG = "pip install pylibjpeg pylibjpeg-libjpeg"
_EXTRA = 'pip install "fluoro_reg[decoders]"'
_DECODERS = {
    **dict.fromkeys([_JPEG + n for n in ("50", "51", "57", "70")], _LIBJPEG),
    **dict.fromkeys([_JPEG + n for n in ("80", "81", "90", "91", "201", "202", "203")], _EXTRA),
}
_LOSSY = tuple(_JPEG + n for n in ("50", "51", "53", "55", "81"))


def read_hounsfield(stack: Stack) -> tuple[Float32[np.ndarray, "slices rows columns"], list[str]]:
    """The HU of a stack's slices at their true places, with warnings; duplicates must have the same pixels."""
    first = stack.places[0][0]
    hu = np.empty((len(stack.places), first.rows, first.columns), dtype=np.float32)
    warnings: list[str] = []
    open_file = _one_open_file()
    for plane, place in zip(hu, stack.places, strict=True):
        plane[...] = _slice_hu(open_file, place[0], warnings)
        for number, other in enumerate(place[1:], start=2):
            if not np.array_equal(plane, _slice_hu(open_file, other, warnings)):
                raise InputError(
                    f"{len(place)} slices lie at one place with different pixels (first differing: number {number}): "
                    "several phases or reconstructions in one series; export one of them"
                )
    return hu, warnings


def _one_open_file() -> Callable[[CTSlice], FileDataset]:
    """Parses a file when it is not the one parsed last: the frames of an enhanced CT share theirs."""
    last: dict[str, FileDataset] = {}

    def open_file(item: CTSlice) -> FileDataset:
        key = str(item.path)
        if key not in last:
            last.clear()
            last[key] = parse(item.path, item.label, header_only=False)
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
            _add(warnings, "PixelPaddingValue stands for tissue and was not taken for air: check the field's outside")
        else:
            hu[(stored >= low) & (stored <= high)] = AIR_HU
    if syntax in _LOSSY:
        _add(warnings, f"lossy compression ({syntax.name}): HU are approximate")
    return hu


def _decodable_syntax(dataset: FileDataset, item: CTSlice) -> UID:
    with silent_pydicom():
        syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            raise InputError(
                f"{item.label} is stored as {_name(syntax)}, which cannot be read; export it uncompressed"
            ) from None
        if not decoder.is_available:
            raise InputError(f"{item.label} is stored as {_name(syntax)}; install a decoder: {_DECODERS.get(syntax, _EXTRA)}")
    return syntax


def _name(syntax: UID) -> str:
    """Only names of DICOM's own register: an unknown UID could be anything."""
    return f"{syntax.name} ({syntax})" if syntax.is_transfer_syntax and not syntax.is_private else "an unknown transfer syntax"


def _decoded(dataset: FileDataset, item: CTSlice, syntax: UID) -> np.ndarray:
    try:
        with silent_pydicom():
            stored = pixel_array(dataset, index=item.frame, raw=True)
    except Exception:  # every decoder raises its own errors, and pydicom wraps some of them
        reason = "its pixels are damaged or cut off; copy or export it again"
        if syntax in _DECODERS:
            reason = f"its pixels cannot be decoded ({_name(syntax)}): damaged, or try another decoder: {_DECODERS[syntax]}"
        raise InputError(f"{item.label}: {reason}") from None
    if stored.shape != (item.rows, item.columns):
        raise InputError(
            f"{item.label}: its pixels are not the {item.rows} x {item.columns} that its header says; export it again"
        )
    return stored


def _add(warnings: list[str], warning: str) -> None:
    if warning not in warnings:
        warnings.append(warning)
