"""The headers of CT slices: one slice from a classic file, one per frame from an enhanced multi-frame file.

A `CTSlice` keeps what geometry and HU need. In an enhanced CT the same attributes are in functional groups, per frame or shared
by all frames (PS3.3 C.7.6.16); `CTSlice` is the same for both kinds of file. DICOM's order of values matters in this module
only: PixelSpacing is row spacing, then column spacing, and the first triple of ImageOrientationPatient is the direction in
which the column index grows.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    XRay3DAngiographicImageStorage,
    XRay3DCraniofacialImageStorage,
)

from fluoro_reg.ct.dicom.attributes import find, required_numbers, strings
from fluoro_reg.ct.dicom.files import convert_pydicom_errors, parse_dicom
from fluoro_reg.ct.dicom.quantity import UNKNOWN_QUANTITY, is_other_quantity, is_unknown_quantity
from fluoro_reg.ct.dicom.statements import Statements, doubled_statements, read_statements
from fluoro_reg.errors import InputError

MAX_FRAMES = 20_000
MAX_SIDE = 16_384
_CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_CONE_BEAM_CLASSES = (XRay3DAngiographicImageStorage, XRay3DCraniofacialImageStorage)
_MODALITIES = ("CR", "DX", "MG", "MR", "NM", "OT", "PT", "RF", "SC", "SR", "US", "XA", "RTDOSE", "RTPLAN", "RTSTRUCT", "SEG")
_NAMED_KERNELS = ("STANDARD", "STND", "SOFT", "DETAIL", "BONE", "BONEPLUS", "LUNG", "EDGE", "CHST")
_ACQUISITION = ("SeriesNumber", "AcquisitionNumber", "KVP", "SliceThickness", "ConvolutionKernel")


@dataclass(frozen=True, slots=True)
class CTSlice:
    """One slice: its file, its geometry in the patient (mm), and its conversion to HU.

    Attributes:
        label: Name of the file in error messages.
        acquisition: What identifies the acquisition and reconstruction apart from UIDs; never shown.
        column_direction: Unit vector along which the column index i grows.
        row_direction: Unit vector along which the row index j grows.
        padding: Range of stored values that are padding.
        is_calibrated: Whether the rescaled values are HU; those of a C-arm's cone-beam CT are not.
        stated: Redundant statements of the header, which the geometry does not use.
        warnings: Sentences for the user.
    """

    path: Path
    label: str
    frame: int | None
    series: str
    frame_of_reference: str
    acquisition: tuple[str, ...]
    rows: int
    columns: int
    position: Float64[np.ndarray, "3"]
    column_direction: Float64[np.ndarray, "3"]
    row_direction: Float64[np.ndarray, "3"]
    column_spacing: float
    row_spacing: float
    slope: float
    intercept: float
    padding: tuple[float, float] | None
    kernel: str
    is_calibrated: bool
    stated: Statements
    warnings: tuple[str, ...]

    @property
    def normal(self) -> Float64[np.ndarray, "3"]:
        """Unit vector perpendicular to the slice; column, row and normal are right-handed."""
        return np.cross(self.column_direction, self.row_direction)


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A DICOM file that contains no usable CT slice: its series, and either its kind or its problem."""

    series: str
    other_kind: str = ""
    problem: str = ""


def read_slices(path: Path, label: str) -> list[CTSlice] | SkippedFile:
    """Read the slices of a DICOM file.

    A problem is returned and not raised, because the file may belong to a series that is not read.
    """
    series = ""
    try:
        dataset = parse_dicom(path, label, header_only=True)
        with convert_pydicom_errors(label):
            series = str(dataset.get("SeriesInstanceUID", ""))
            other_kind = _other_kind(dataset)
            if other_kind:
                return SkippedFile(series, other_kind=other_kind)
            groups: list[tuple[int | None, list[Dataset]]] = [(None, [dataset])]
            if "PerFrameFunctionalGroupsSequence" in dataset:
                groups = _functional_groups(dataset, label)
            else:
                _check_single_frame(dataset, label)
            return [_slice(dataset, sources, frame, path, label) for frame, sources in groups]
    except InputError as error:
        return SkippedFile(series, problem=str(error))


def _other_kind(dataset: Dataset) -> str:
    modality, storage = str(dataset.get("Modality", "")), dataset.get("SOPClassUID")
    if storage in _CONE_BEAM_CLASSES:
        return ""
    if modality != "CT":
        return f"{modality} image" if modality in _MODALITIES else "object of another kind"
    if storage is not None and storage not in _CT_CLASSES:
        return "derived CT object"
    if "LOCALIZER" in [value.upper() for value in strings(dataset.get("ImageType"))]:
        return "CT localizer"
    return ""


def _check_single_frame(dataset: Dataset, label: str) -> None:
    """Reject several frames in a classic file: its one position is that of the first frame."""
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if frames > 1:
        raise InputError(
            f"{label} holds {frames} frames but no position for each of them (PerFrameFunctionalGroupsSequence): where the "
            "slices after the first lie, and on which side of it, is not stated; export it as enhanced multi-frame CT, or with "
            "one file for each slice"
        )


def _functional_groups(dataset: Dataset, label: str) -> list[tuple[int | None, list[Dataset]]]:
    """Return for each frame its index and the datasets to search, the most specific first."""
    frames = dataset.PerFrameFunctionalGroupsSequence
    stated = int(dataset.get("NumberOfFrames", 0))
    if stated != len(frames) or not 0 < stated <= MAX_FRAMES:
        raise InputError(f"{label} declares {stated} frames but describes {len(frames)}; export the CT again")
    shared = list(dataset.get("SharedFunctionalGroupsSequence", []))
    return [(index, [frame, *shared]) for index, frame in enumerate(frames)]


def _slice(dataset: Dataset, sources: list[Dataset], frame: int | None, path: Path, label: str) -> CTSlice:
    def read(macro: str, keyword: str, count: int) -> list[float]:
        return required_numbers(sources, macro, keyword, count, label)

    orientation = read("PlaneOrientationSequence", "ImageOrientationPatient", 6)
    row_spacing, column_spacing = read("PixelMeasuresSequence", "PixelSpacing", 2)
    column_direction, row_direction = _directions(np.array(orientation), label)
    rows, columns = int(dataset.get("Rows", 0)), int(dataset.get("Columns", 0))
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE) or int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise InputError(f"{label} is not a grey image of a usable size ({rows} x {columns}); remove it")
    is_calibrated = dataset.get("SOPClassUID") not in _CONE_BEAM_CLASSES
    if not is_calibrated and find(sources, "PixelValueTransformationSequence", "RescaleSlope") is None:
        slope, intercept = 1.0, 0.0  # values without a unit need no rescaling
    else:
        slope, intercept = (read("PixelValueTransformationSequence", f"Rescale{name}", 1)[0] for name in ("Slope", "Intercept"))
    warnings = _quantity_warnings(sources, label)
    if frame is not None:
        warnings += doubled_statements(dataset, sources)
    return CTSlice(
        path=path,
        label=label,
        frame=frame,
        series=str(dataset.get("SeriesInstanceUID", "")),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID", "")),
        acquisition=tuple(str(dataset.get(keyword, "")) for keyword in _ACQUISITION),
        rows=rows,
        columns=columns,
        position=np.array(read("PlanePositionSequence", "ImagePositionPatient", 3)),
        column_direction=column_direction,
        row_direction=row_direction,
        column_spacing=column_spacing,
        row_spacing=row_spacing,
        slope=slope,
        intercept=intercept,
        padding=_padding(dataset),
        kernel=_kernel(sources),
        is_calibrated=is_calibrated,
        stated=read_statements(dataset, sources),
        warnings=tuple(warnings),
    )


def _directions(orientation: Float64[np.ndarray, "6"], label: str) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
    column_direction, row_direction = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(column_direction), np.linalg.norm(row_direction)
    if not np.allclose(lengths, 1, atol=1e-2) or abs(column_direction @ row_direction) > 1e-3:
        raise InputError(
            f"{label} has an ImageOrientationPatient that is not a pair of perpendicular unit vectors; export it again"
        )
    return column_direction / lengths[0], row_direction / lengths[1]


def _quantity_warnings(sources: list[Dataset], label: str) -> list[str]:
    rescale_type = str(find(sources, "PixelValueTransformationSequence", "RescaleType") or "")
    if is_other_quantity(rescale_type):
        raise InputError(f"{label} contains a quantity other than Hounsfield units (RescaleType); give the original CT series")
    return [UNKNOWN_QUANTITY] if is_unknown_quantity(rescale_type) else []


def _padding(dataset: Dataset) -> tuple[float, float] | None:
    """Return the range of padding values. A value above the range of signed pixels was written as unsigned and is wrapped."""
    if "PixelPaddingValue" not in dataset:
        return None
    ends = [int(dataset.PixelPaddingValue), int(dataset.get("PixelPaddingRangeLimit", dataset.PixelPaddingValue))]
    bits, signed = int(dataset.get("BitsAllocated", 16)), int(dataset.get("PixelRepresentation", 0)) == 1
    if signed:
        ends = [end - 2**bits if end >= 2 ** (bits - 1) else end for end in ends]
    return float(min(ends)), float(max(ends))


def _kernel(sources: list[Dataset]) -> str:
    """Return the reconstruction kernel, which distinguishes two series of one scan, if it looks like a vendor's code."""
    value = find(sources, "CTReconstructionSequence", "ConvolutionKernel")
    first = str(value if isinstance(value, str) or not value else value[0])
    return first if re.fullmatch(r"[A-Za-z]{1,3}[0-9]{1,3}[a-z]?", first) or first in _NAMED_KERNELS else ""
