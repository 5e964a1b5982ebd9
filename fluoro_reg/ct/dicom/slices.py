"""What one slice of a CT says about itself: from a classic file one slice, from an enhanced multi-frame file one per frame.

Only what geometry and HU need is kept. In an enhanced CT the same facts live in functional groups, per frame or shared by all
(PS3.3 C.7.6.16); after this module the two kinds are one. DICOM's order is kept in mind here and nowhere else: PixelSpacing is
row spacing \\ column spacing, and the first triple of ImageOrientationPatient is the direction in which the column index grows.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from fluoro_reg.ct.dicom.files import guarded, parse
from fluoro_reg.errors import InputError

MAX_FRAMES = 20_000
MAX_SIDE = 16_384
_ABSURD = 1e6  # mm or HU; also what NaN is not below
_CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_MODALITIES = ("CR", "DX", "MG", "MR", "NM", "OT", "PT", "RF", "SC", "SR", "US", "XA", "RTDOSE", "RTPLAN", "RTSTRUCT", "SEG")
_NAMED_KERNELS = ("STANDARD", "STND", "SOFT", "DETAIL", "BONE", "BONEPLUS", "LUNG", "EDGE", "CHST")
_HU_TYPES = ("", "HU", "HU_MOD", "US")  # US: unspecified, which is what many exporters write for HU


@dataclass(frozen=True, slots=True)
class CTSlice:
    """One slice: where its pixels are, where they lie in the patient (mm), and what makes them HU."""

    path: Path
    label: str  # how refusals call its file
    frame: int | None
    series: str
    frame_of_reference: str
    rows: int
    columns: int
    position: Float64[np.ndarray, "3"]
    column_direction: Float64[np.ndarray, "3"]  # unit vector along which the column index i grows
    row_direction: Float64[np.ndarray, "3"]  # unit vector along which the row index j grows
    column_spacing: float
    row_spacing: float
    slope: float
    intercept: float
    padding: tuple[float, float] | None  # stored values from ... to that are no tissue
    kernel: str
    stated_tilt: float  # degrees, as the header says; the geometry never uses it

    @property
    def normal(self) -> Float64[np.ndarray, "3"]:
        """Perpendicular to the slice, so that column, row and normal are right-handed."""
        return np.cross(self.column_direction, self.row_direction)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A DICOM file that gives no CT slice: of which series, and either what it is instead or what is wrong with it."""

    series: str
    other_kind: str = ""
    problem: str = ""


def read_slices(path: Path, label: str) -> list[CTSlice] | LeftOut:
    """The slices that a DICOM file holds; a problem is a value, because it may belong to a series that nobody wants."""
    series = ""
    try:
        dataset = parse(path, label, header_only=True)
        with guarded(label):
            series = str(dataset.get("SeriesInstanceUID", ""))
            other_kind = _other_kind(dataset)
            if other_kind:
                return LeftOut(series, other_kind=other_kind)
            groups: list[tuple[int | None, list[Dataset]]] = [(None, [dataset])]
            if "PerFrameFunctionalGroupsSequence" in dataset:
                groups = _functional_groups(dataset, label)
            return [_slice(dataset, sources, frame, path, label) for frame, sources in groups]
    except InputError as error:
        return LeftOut(series, problem=str(error))


def _other_kind(dataset: Dataset) -> str:
    modality, storage = str(dataset.get("Modality", "")), dataset.get("SOPClassUID")
    if modality != "CT":
        return f"{modality} image" if modality in _MODALITIES else "object of another kind"
    if storage is not None and storage not in _CT_CLASSES:
        return "derived CT object"
    if "LOCALIZER" in [str(value).upper() for value in _values(dataset, "ImageType")]:
        return "CT localizer"
    return ""


def _functional_groups(dataset: Dataset, label: str) -> list[tuple[int | None, list[Dataset]]]:
    """Per frame the datasets to ask, most specific first."""
    frames = dataset.PerFrameFunctionalGroupsSequence
    stated = int(dataset.get("NumberOfFrames", 0))
    if stated != len(frames) or not 0 < stated <= MAX_FRAMES:
        raise InputError(f"{label} says {stated} frames and describes {len(frames)}; export the CT again")
    shared = list(dataset.get("SharedFunctionalGroupsSequence", []))
    return [(index, [frame, *shared]) for index, frame in enumerate(frames)]


def _slice(dataset: Dataset, sources: list[Dataset], frame: int | None, path: Path, label: str) -> CTSlice:
    def ask(macro: str, keyword: str, count: int) -> list[float]:
        return _numbers(sources, macro, keyword, count, label)

    orientation = ask("PlaneOrientationSequence", "ImageOrientationPatient", 6)
    row_spacing, column_spacing = ask("PixelMeasuresSequence", "PixelSpacing", 2)
    column_direction, row_direction = _directions(np.array(orientation), label)
    rows, columns = int(dataset.get("Rows", 0)), int(dataset.get("Columns", 0))
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE) or int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise InputError(f"{label} is no grey image of a usable size ({rows} x {columns}); leave it out")
    _check_hounsfield(sources, label)
    return CTSlice(
        path=path,
        label=label,
        frame=frame,
        series=str(dataset.get("SeriesInstanceUID", "")),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID", "")),
        rows=rows,
        columns=columns,
        position=np.array(ask("PlanePositionSequence", "ImagePositionPatient", 3)),
        column_direction=column_direction,
        row_direction=row_direction,
        column_spacing=column_spacing,
        row_spacing=row_spacing,
        slope=ask("PixelValueTransformationSequence", "RescaleSlope", 1)[0],
        intercept=ask("PixelValueTransformationSequence", "RescaleIntercept", 1)[0],
        padding=_padding(dataset),
        kernel=_kernel(sources),
        stated_tilt=_stated_tilt(dataset),
    )


def _find(sources: list[Dataset], macro: str, keyword: str) -> Any:
    """The attribute, at the top of a classic file or inside its macro in a functional group."""
    for source in sources:
        if keyword in source:
            return source[keyword].value
        items = source.get(macro) or []
        if len(items) and keyword in items[0]:
            return items[0][keyword].value
    return None


def _numbers(sources: list[Dataset], macro: str, keyword: str, count: int, label: str) -> list[float]:
    value = _find(sources, macro, keyword)
    if value is None or value == "":
        raise InputError(f"{label} has no {keyword}, without which a CT cannot be used; export the original series")
    values = [value] if count == 1 else list(value)
    numbers = [float(v) for v in values]
    usable = len(numbers) == count and all(abs(number) < _ABSURD for number in numbers)
    if not usable or (keyword == "PixelSpacing" and min(numbers) <= 0) or (keyword == "RescaleSlope" and numbers[0] == 0):
        raise InputError(f"{label} has an unusable {keyword}; export the original series")
    return numbers


def _directions(orientation: Float64[np.ndarray, "6"], label: str) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
    column_direction, row_direction = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(column_direction), np.linalg.norm(row_direction)
    if not np.allclose(lengths, 1, atol=1e-2) or abs(column_direction @ row_direction) > 1e-3:
        raise InputError(
            f"{label} has an ImageOrientationPatient that is no pair of perpendicular unit vectors; export it again"
        )
    return column_direction / lengths[0], row_direction / lengths[1]


def _check_hounsfield(sources: list[Dataset], label: str) -> None:
    rescale_type = str(_find(sources, "PixelValueTransformationSequence", "RescaleType") or "").upper()
    if rescale_type not in _HU_TYPES:
        raise InputError(f"{label} holds no Hounsfield units but another quantity (RescaleType); give the plain CT series")


def _padding(dataset: Dataset) -> tuple[float, float] | None:
    """PixelPaddingValue, as a range; a value beyond a signed pixel's range was written as unsigned and wraps."""
    if "PixelPaddingValue" not in dataset:
        return None
    ends = [int(dataset.PixelPaddingValue), int(dataset.get("PixelPaddingRangeLimit", dataset.PixelPaddingValue))]
    bits, signed = int(dataset.get("BitsAllocated", 16)), int(dataset.get("PixelRepresentation", 0)) == 1
    if signed:
        ends = [end - 2**bits if end >= 2 ** (bits - 1) else end for end in ends]
    return float(min(ends)), float(max(ends))


def _kernel(sources: list[Dataset]) -> str:
    """The reconstruction's kernel, which tells two series of one scan apart; only when it looks like a vendor's code."""
    value = _find(sources, "CTReconstructionSequence", "ConvolutionKernel")
    first = str(value if isinstance(value, str) or not value else value[0])
    return first if re.fullmatch(r"[A-Za-z]{1,3}[0-9]{1,3}[a-z]?", first) or first in _NAMED_KERNELS else ""


def _stated_tilt(dataset: Dataset) -> float:
    value = dataset.get("GantryDetectorTilt")
    return 0.0 if value in (None, "") else float(value)


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    value = dataset.get(keyword)
    return [] if value is None else [value] if isinstance(value, str) else list(value)
