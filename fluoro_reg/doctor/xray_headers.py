"""What the header of an X-ray file states. Only numbers and defined terms of DICOM leave this module."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from fluoro_reg.ct.dicom.files import has_dicom_prefix, silent_pydicom
from fluoro_reg.doctor.camera_advice import KnownGeometry
from fluoro_reg.doctor.examination import Fact, Section
from fluoro_reg.xray.dicom.carm_items import CArmItem, carm_items
from fluoro_reg.xray.dicom.geometry import lookup, numbers

_TERMS = {
    "Modality": ("XA", "RF", "CR", "DX", "OT", "SC", "MG", "US", "NM", "PT", "MR", "CT"),
    "PhotometricInterpretation": ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR"),
    "PixelIntensityRelationship": ("LIN", "LOG", "DISP", "SQRT", "OTHER"),
    "PresentationIntentType": ("FOR PRESENTATION", "FOR PROCESSING"),
    "PixelSpacingCalibrationType": ("GEOMETRY", "FIDUCIAL"),
    "BurnedInAnnotation": ("YES", "NO"),
    "LossyImageCompression": ("00", "01"),
    "ShutterShape": ("RECTANGULAR", "CIRCULAR", "POLYGONAL", "BITMAP"),
    "CollimatorShape": ("RECTANGULAR", "CIRCULAR", "POLYGONAL"),
}
_NUMBERS = (
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelIntensityRelationshipSign",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "WindowCenter",
    "WindowWidth",
    "FrameTime",
    "CineRate",
)
_DETECTOR = ("FieldOfViewOrigin", "DetectorElementSpacing", "DetectorActiveDimensions")


@dataclass(frozen=True, slots=True)
class XrayHeader:
    """What a header states.

    Attributes:
        kind: The kind of file, such as `X-ray (DICOM XA)`.
        sections: Facts to show.
        known: The geometry that it states; None without a DICOM header.
        centre_source: What places the principal point.
        intensity_item: The items that state the meaning of the pixels.
        has_writing: Whether the header says that writing is burnt into the image.
    """

    kind: str
    sections: tuple[Section, ...] = ()
    known: KnownGeometry | None = None
    centre_source: str = ""
    intensity_item: str = ""
    has_writing: bool = False


def read_header(path: Path) -> XrayHeader:
    """Return what the header of an X-ray file states; of a damaged file, only its kind."""
    if not has_dicom_prefix(path):
        return XrayHeader(f"X-ray ({path.suffix.lower().lstrip('.') if _is_raster(path) else 'file'})")
    try:
        with silent_pydicom():
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            return _from_dataset(dataset)
    except Exception:  # a damaged file, which the reader reports
        return XrayHeader("X-ray (DICOM)")


def _is_raster(path: Path) -> bool:
    return path.suffix.lower() in (".png", ".tif", ".tiff", ".npy")


def _from_dataset(dataset: Dataset) -> XrayHeader:
    frame = int(dataset.get("NumberOfFrames", 1) or 1) // 2
    terms = {keyword: _terms(lookup(dataset, keyword, frame), allowed) for keyword, allowed in _TERMS.items()}
    stated = [Fact(keyword, " ".join(words)) for keyword, words in terms.items() if words]
    stated += [
        Fact(keyword, value[0]) for keyword in _NUMBERS if (value := numbers(lookup(dataset, keyword, frame), 1)) is not None
    ]
    tables = [keyword for keyword in ("ModalityLUTSequence", "VOILUTSequence") if dataset.get(keyword)]
    stated += [Fact(keyword, "present", "", _USE_OF_TABLE[keyword]) for keyword in tables]
    sections = [Section("Header", [*_compression(dataset), *stated])]
    captured = any(word in ("OT", "SC") for word in terms["Modality"])
    if items := carm_items(dataset, frame):
        facts = [Fact(item.keyword, _plain(value), item.unit, f"{item.gives}; {_use(item, captured)}") for item, value in items]
        sections.append(Section("C-arm", facts))
    modality = " ".join(["DICOM", *terms["Modality"]])
    by_detector = all(lookup(dataset, keyword, frame) for keyword in _DETECTOR)
    return XrayHeader(
        f"X-ray ({modality})",
        tuple(sections),
        _known(dataset, frame),
        "centre of the detector: FieldOfViewOrigin" if by_detector else "centre of the image, assumed",
        "PixelIntensityRelationship and its Sign",
        terms["BurnedInAnnotation"] == ["YES"],
    )


_USE_OF_TABLE = {"ModalityLUTSequence": "used", "VOILUTSequence": "not used: it is for display"}


def _use(item: CArmItem, captured: bool) -> str:
    if captured:
        return "not used: a secondary capture does not describe a detector"
    return f"used: {item.use}" if item.used else f"not used: {item.use}"


def _terms(value: Any, allowed: tuple[str, ...]) -> list[str]:
    """Return the words of a value that are defined terms; any other text may name a person."""
    words = [value] if isinstance(value, str) else list(value or ())
    return [word for word in (str(one).strip().upper() for one in words) if word in allowed]


def _compression(dataset: Dataset) -> list[Fact]:
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    known = syntax.is_transfer_syntax and not syntax.is_private
    return [Fact("transfer syntax", syntax.name if known else "unknown")]


def _plain(value: list[float] | str) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _known(dataset: Dataset, frame: int) -> KnownGeometry:
    def positive(keyword: str, count: int = 1) -> list[float] | None:
        value = numbers(lookup(dataset, keyword, frame), count)
        return value if value is not None and min(value) > 0 else None

    def first(*keywords: str) -> float | None:
        return next((value[0] for keyword in keywords if (value := positive(keyword))), None)

    spacing = positive("ImagerPixelSpacing", 2)
    return KnownGeometry(
        int(dataset.get("Columns", 0) or 0),
        int(dataset.get("Rows", 0) or 0),
        first("DistanceSourceToDetector"),
        None if spacing is None else (spacing[0], spacing[1]),
        first("DistanceSourceToPatient"),
        first("EstimatedRadiographicMagnificationFactor"),
        first("FieldOfViewDimensions", "IntensifierSize"),
    )
