"""What the headers of a CT state, including items that the readers do not use, and which items give the geometry.

Of a DICOM series, only numbers, counts and defined terms are shown: the number of series, never their UIDs.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from fluoro_reg.ct.dicom.files import find_files, looks_like_dicom, silent_pydicom
from fluoro_reg.ct.dicom.slices import CTSlice, SkippedFile, read_slices
from fluoro_reg.ct.text_header import FIELDS, quotable, read_metaimage_header, read_nrrd_header
from fluoro_reg.ct.volume_files import format_of
from fluoro_reg.doctor.examination import Fact, Section
from fluoro_reg.xray.dicom.geometry import numbers

_MAXIMUM_STEPS = 6  # distinct steps that are listed


@dataclass(frozen=True, slots=True)
class GeometrySources:
    """The format of a CT, and the header items that give its size, spacing, directions, origin and values."""

    format: str
    size: str
    spacing: str
    directions: str
    origin: str
    values: str


_DICOM = GeometrySources(
    "DICOM",
    "Columns, Rows, and the number of positions",
    "PixelSpacing, and differences of ImagePositionPatient",
    "ImageOrientationPatient, and differences of ImagePositionPatient",
    "ImagePositionPatient",
    "RescaleSlope and RescaleIntercept",
)
_NIFTI = GeometrySources(
    "NIfTI", "dim", "sform or qform, xyzt_units", "sform or qform", "sform or qform", "scl_slope and scl_inter"
)
_NRRD = GeometrySources("NRRD", "sizes", "space directions", "space directions, space", "space origin", "the stored numbers")
_METAIMAGE = GeometrySources("MetaImage", "DimSize", "ElementSpacing", "TransformMatrix", "Offset", "the stored numbers")
_BY_FORMAT = {"NIfTI": _NIFTI, "NRRD": _NRRD, "MetaImage": _METAIMAGE}


def volume_file_headers(path: Path) -> tuple[list[Section], GeometrySources]:
    """Return what the header of a NIfTI, NRRD or MetaImage file states."""
    kind = format_of(path)
    sources = _BY_FORMAT[kind]
    try:
        if kind == "NIfTI":
            form, stated = _nifti_form_and_facts(path)
            sources = replace(sources, spacing=f"{form}, xyzt_units", directions=form, origin=form)
        else:
            stated = _text_facts(path, kind)
    except Exception:  # a missing extra or a damaged file, which the reader reports
        return [], sources
    return [Section(f"{kind} header", stated)], sources


def _nifti_form_and_facts(path: Path) -> tuple[str, list[Fact]]:
    """Return which of its affines a NIfTI is read with, and what its header states."""
    import nibabel

    header: Any = nibabel.load(path).header
    return "sform" if int(header["sform_code"]) else "qform", [
        Fact("sform code", int(header["sform_code"]), "", "used if it is not 0"),
        Fact("qform code", int(header["qform_code"]), "", "used if the sform code is 0"),
        Fact("pixdim", [float(step) for step in header.get_zooms()[:3]], header.get_xyzt_units()[0]),
        Fact("type of the voxels", str(header.get_data_dtype())),
    ]


def _text_facts(path: Path, kind: str) -> list[Fact]:
    header = read_nrrd_header(path, "") if kind == "NRRD" else read_metaimage_header(path, "")
    return [Fact(name, quotable(header.get(name))) for name in FIELDS[kind] if header.get(name)]


def dicom_headers(path: Path) -> tuple[list[Section], GeometrySources]:
    """Return what the headers of the DICOM files at a path state."""
    files = [file for file in find_files(path) if looks_like_dicom(file)] if path.is_dir() else [path]
    found = [read_slices(file, "the DICOM file") for file in files]
    slices = [item for entry in found if not isinstance(entry, SkippedFile) for item in entry]
    skipped = [entry for entry in found if isinstance(entry, SkippedFile)]
    sections = [Section("DICOM files", _counts(files, slices, skipped))]
    first = next((file for file, entry in zip(files, found, strict=True) if entry is not None), None)
    if first is not None and (stated := _stated(slices[0].path if slices else first)):
        sections.append(Section("First header", stated))
    return sections, _DICOM


def _counts(files: list[Path], slices: list[CTSlice], skipped: list[SkippedFile]) -> list[Fact]:
    kinds = Counter(entry.other_kind or "unusable file" for entry in skipped)
    facts = [Fact("files", len(files)), Fact("CT slices", len(slices))]
    if skipped:
        facts.append(Fact("other files", dict(kinds.most_common())))
    if not slices:
        return facts
    sizes = sorted({(item.columns, item.rows) for item in slices})
    spacings = sorted({(round(item.row_spacing, 4), round(item.column_spacing, 4)) for item in slices})
    return [
        *facts,
        Fact("series", len({item.series for item in slices}), "", "SeriesInstanceUID"),
        Fact("frames of reference", len({item.frame_of_reference for item in slices}), "", "FrameOfReferenceUID"),
        Fact("matrix sizes (columns, rows)", [list(size) for size in sizes], "px"),
        Fact("pixel spacings (row, column)", [list(spacing) for spacing in spacings], "mm", "PixelSpacing"),
        Fact("steps between slices", _steps(slices), "mm", "ImagePositionPatient along the normal"),
        Fact("slopes and intercepts", sorted({(item.slope, item.intercept) for item in slices})[:_MAXIMUM_STEPS]),
    ]


def _steps(slices: list[CTSlice]) -> list[str]:
    """Return the steps between neighbouring slices as `count x step`, the most frequent first."""
    normal = slices[0].normal
    heights = np.sort([float(item.position @ normal) for item in slices])
    counted = Counter(np.round(np.diff(heights), 2).tolist()).most_common()
    listed = [f"{count} x {step:g}" for step, count in counted[:_MAXIMUM_STEPS]]
    return [*listed, f"and {len(counted) - _MAXIMUM_STEPS} more"] if len(counted) > _MAXIMUM_STEPS else listed


def _stated(file: Path) -> list[Fact]:
    """Return numbers of a header that the readers do not use, or use in one way of several."""
    items = {
        "SliceThickness": "mm",
        "SpacingBetweenSlices": "mm",
        "GantryDetectorTilt": "deg",
        "BitsStored": "bits",
        "PixelRepresentation": "",
        "PixelPaddingValue": "",
        "NumberOfFrames": "",
        "KVP": "kV",
    }
    unused = "not used: positions give the step"
    sources = {"SliceThickness": unused, "SpacingBetweenSlices": unused, "GantryDetectorTilt": "compared with the positions"}
    try:
        with silent_pydicom():
            header = pydicom.dcmread(file, stop_before_pixels=True)
            values = {keyword: numbers(header.get(keyword), 1) for keyword in items}
    except Exception:  # a damaged file, which the reader reports
        return []
    return [
        Fact(keyword, value[0], items[keyword], sources.get(keyword, ""))
        for keyword, value in values.items()
        if value is not None
    ]
