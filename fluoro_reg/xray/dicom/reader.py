"""Reader of X-rays in DICOM (XA, RF, CR, DX and their enhanced forms): pixels, intensity, mask and camera.

The order of steps matters. Padding is a stored value, so it is found before the Modality LUT. Shutters are given in rows and
columns of the stored image, so they are drawn before display rotation and flip are undone in pixels and mask.

PixelIntensityRelationship (LIN, LOG, DISP) and its Sign relate the stored values to the beam. MONOCHROME1 concerns the display
only, so the values are inverted for it only if those tags are absent. Warnings of pydicom may quote values of the file and are
suppressed. Only numbers and the base name of the file leave this module.
"""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Num, Shaped
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder
from pydicom.uid import (
    BreastTomosynthesisImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    XRay3DAngiographicImageStorage,
    XRay3DCraniofacialImageStorage,
)

from fluoro_reg.dicom_bits import stored_pixels
from fluoro_reg.errors import InputError
from fluoro_reg.xray.dicom.geometry import intrinsics_from_dicom, lookup, numbers
from fluoro_reg.xray.dicom.modality import apply_modality
from fluoro_reg.xray.dicom.padding import find_padding
from fluoro_reg.xray.dicom.positioner import nominal_view
from fluoro_reg.xray.dicom.shutter import open_field
from fluoro_reg.xray.dicom.statements import statement_warnings
from fluoro_reg.xray.dicom.times import frame_times_ns
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.raster import check_frame, check_size, grey_and_mask
from fluoro_reg.xray.stored import StoredImage

MODALITIES = ("XA", "RF", "CR", "DX", "RG", "DF", "CF", "VF")  # the last three are retired names of RF
_CAPTURED = ("OT", "SC")
_OTHER_MODALITIES = (
    *("CT", "MR", "MG", "US", "NM", "PT", "ES", "XC", "GM", "SM", "IO", "PX", "OP", "OCT", "IVUS", "ECG", "BMD", "TG"),
    *("SR", "PR", "KO", "SEG", "REG", "FID", "DOC", "RTIMAGE", "RTDOSE", "RTPLAN", "RTSTRUCT", "RTRECORD"),
)
_CAPTURE_CLASSES = (
    SecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
_VOLUME_CLASSES = (XRay3DAngiographicImageStorage, XRay3DCraniofacialImageStorage, BreastTomosynthesisImageStorage)
_DECODERS = {
    "JPEG Lossless": "pylibjpeg-libjpeg",
    "JPEG Extended": "pylibjpeg-libjpeg",
    "JPEG Baseline": "Pillow",
    "JPEG-LS": "pyjpegls",
    "JPEG 2000": "pylibjpeg-openjpeg",
    "High-Throughput JPEG 2000": "pylibjpeg-openjpeg",
}


def read_dicom(path: Path, intensity: Intensity, frame: int) -> StoredImage:
    """Read one frame of an X-ray DICOM file, in the orientation of the detector.

    Raises:
        InputError: The file is not an X-ray, is damaged, or cannot be decoded.
    """
    with _damage_as_input_error(path.name):
        return _read(path, intensity, frame)


def count_frames(path: Path) -> int:
    """Return the number of frames, from the header."""
    with _damage_as_input_error(path.name):
        return _frame_count(_dataset(path))


def read_times_ns(path: Path) -> list[int]:
    """Return the time of each frame in ns after the first, from the header."""
    with _damage_as_input_error(path.name):
        dataset = _dataset(path)
        return frame_times_ns(dataset, _frame_count(dataset))


def _read(path: Path, intensity: Intensity, frame: int) -> StoredImage:
    dataset = _dataset(path)
    check_frame(frame, _frame_count(dataset), path.name)
    raw = _decoded(path, dataset, frame)
    raw, mask = grey_and_mask(raw, path.name)
    padding, padding_warnings = find_padding(dataset, raw)
    mask = mask & ~padding & open_field(dataset, raw.shape, frame)
    values = _interpret(dataset, raw, intensity, frame, path.name)
    camera, missing = intrinsics_from_dicom(dataset, frame)
    with _no_warnings():
        warnings = [*padding_warnings, *statement_warnings(dataset, frame)]
        stated_view = nominal_view(dataset, frame)
    if _is_capture(dataset):
        camera, missing = None, "it is a secondary capture, whose header does not describe a detector"
        warnings.append(
            "the image is a secondary capture: its greys may have been windowed for display, and its pixels resized"
        )
    undo = _undo_display(dataset, frame, path.name)
    return dataclasses.replace(
        values,
        pixels=undo(values.pixels),
        mask=undo(mask),
        intrinsics=camera,
        why_no_intrinsics=missing,
        warnings=tuple(warnings),
        nominal_view=stated_view,
    )


def _dataset(path: Path) -> Dataset:
    """Read the header. The pixels are read later, and only those of the requested frame."""
    try:
        with _no_warnings():
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            modality = str(dataset.get("Modality", "") or "")
    except (InvalidDicomError, KeyError, TypeError) as error:
        raise InputError(f"{path.name} is neither PNG, TIFF, npy nor DICOM; give an X-ray in one of these formats") from error
    except (OSError, EOFError, ValueError, AttributeError, NotImplementedError) as error:
        raise InputError(f"{path.name} is a damaged DICOM file; copy or export it again") from error
    if dataset.get("SOPClassUID") in _VOLUME_CLASSES:
        raise InputError(f"{path.name} is a reconstructed volume, not an X-ray; give it as --ct")
    if modality not in MODALITIES and not _is_capture(dataset):
        raise InputError(f"{path.name} is DICOM of modality {_known(modality)}, not an X-ray; give XA, RF, CR or DX")
    return dataset


def _known(modality: str) -> str:
    """Return a modality that DICOM defines; anything else that stands there may name a person."""
    return modality if modality in _OTHER_MODALITIES else "unknown"


def _is_capture(dataset: Dataset) -> bool:
    """Whether a file holds a captured or digitised image, which shows an X-ray if the user says so by giving its camera."""
    modality, storage = str(dataset.get("Modality", "") or ""), dataset.get("SOPClassUID")
    return modality in _CAPTURED or (not modality and storage in _CAPTURE_CLASSES)


def _frame_count(dataset: Dataset) -> int:
    with _no_warnings():
        return max(int(dataset.get("NumberOfFrames", 1) or 1), 1)


def _decoded(path: Path, dataset: Dataset, frame: int) -> Shaped[np.ndarray, "height width *channels"]:
    name = path.name
    check_size(int(dataset.get("Columns", 0) or 0), int(dataset.get("Rows", 0) or 0), name)
    try:
        with _no_warnings():
            return stored_pixels(path, dataset, frame)
    except Exception as error:  # third-party decoders raise errors of any class for damaged data
        if _decoder_is_missing(dataset, error):
            raise InputError(_missing_decoder_message(name, dataset)) from error
        raise InputError(f"{name} has no readable pixels (truncated or damaged); copy or export it again") from error


def _decoder_is_missing(dataset: Dataset, error: Exception) -> bool:
    """Whether another decoder would help: none is installed, or the installed ones do not support this variant."""
    if not isinstance(error, RuntimeError):
        return False
    return not get_decoder(dataset.file_meta.TransferSyntaxUID).is_available or "not support" in str(error)


def _missing_decoder_message(name: str, dataset: Dataset) -> str:
    syntax = dataset.file_meta.TransferSyntaxUID
    package = next((p for start, p in _DECODERS.items() if syntax.name.startswith(start)), "pylibjpeg")
    return (
        f"{name} is compressed as {syntax.name} ({syntax}) and no installed decoder reads it; "
        f"run pip install {package}, or decompress the file first"
    )


def _interpret(
    dataset: Dataset, raw: Num[np.ndarray, "height width"], intensity: Intensity, frame: int, name: str
) -> StoredImage:
    """Return pixel values and what they mean: from the tags unless the caller overrides them, else as displayed."""
    values, ends = (apply_modality(dataset, stored, name) for stored in (raw, _value_range(dataset, raw)))
    inverse_sum = float(ends.max() + ends.min())
    inverse, whole, is_open = inverse_sum - values, np.ones(values.shape, dtype=bool), intensity is Intensity.AUTO
    tagged = _tagged_intensity(dataset, frame, falls=bool(ends[1] < ends[0]))
    if tagged is not None and intensity in (Intensity.AUTO, tagged[0]):
        pixels, may_be_photons = inverse if tagged[1] else values, is_open and _relationship(dataset, frame) != "LOG"
        return StoredImage(
            pixels,
            whole,
            tagged[0],
            intensity_from_header=is_open,
            inverse_sum=inverse_sum if may_be_photons else None,
        )
    if str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1":
        return StoredImage(inverse, whole, intensity, inverse_sum=inverse_sum if is_open else None)
    return StoredImage(values, whole, intensity)


def _tagged_intensity(dataset: Dataset, frame: int, falls: bool) -> tuple[Intensity, bool] | None:
    """Return the intensity from the tags and whether values must be inverted, or None if the tags do not determine it.

    The Sign relates the stored values to the beam; `falls` says that the Modality LUT inverts them. Without a Sign, LIN grows
    with the beam, as in the XA module, which has no Sign. LOG without a Sign may have either polarity.
    """
    relation = _relationship(dataset, frame)
    sign = numbers(lookup(dataset, "PixelIntensityRelationshipSign", frame), 1)
    stored_grows = sign[0] > 0 if sign is not None and sign[0] != 0 else True if relation == "LIN" else None
    if stored_grows is None:
        return None
    grows_with_beam = stored_grows is not falls
    if relation == "LIN":
        return Intensity.TRANSMITTED, not grows_with_beam
    if relation == "LOG":
        return Intensity.ATTENUATION, grows_with_beam
    return (Intensity.TRANSMITTED if grows_with_beam else Intensity.ATTENUATION), False


def _relationship(dataset: Dataset, frame: int) -> str:
    """Return LIN, LOG, DISP, another word or nothing; some writers spell the defined terms out."""
    word = str(lookup(dataset, "PixelIntensityRelationship", frame) or "").strip().upper()
    return word[:3] if word.startswith(("LIN", "LOG")) else word


def _value_range(dataset: Dataset, raw: Num[np.ndarray, "height width"]) -> Num[np.ndarray, "2"]:
    """Return the minimum and maximum of the stored bits. Inversion about them keeps zero photons at zero."""
    bits = int(dataset.get("BitsStored", 0) or 0) or 8 * raw.dtype.itemsize
    half = 1 << (bits - 1)
    low, high = (-half, half - 1) if raw.dtype.kind == "i" else (0, 2 * half - 1)
    return np.array([low, high], dtype=raw.dtype)


def _undo_display(dataset: Dataset, frame: int, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that undoes FieldOfViewHorizontalFlip and then FieldOfViewRotation (clockwise degrees)."""
    degrees = (numbers(lookup(dataset, "FieldOfViewRotation", frame), 1) or [0.0])[0]
    if degrees % 90:
        raise InputError(f"{name} has a field of view rotated by {degrees:g} degrees; export it with a multiple of 90 degrees")
    mirrored = str(lookup(dataset, "FieldOfViewHorizontalFlip", frame) or "").strip().upper() == "YES"

    def undo(image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirrored else image, int(degrees // 90)))

    return undo


@contextlib.contextmanager
def _damage_as_input_error(name: str) -> Iterator[None]:
    """Convert what pydicom raises when it parses a damaged value, on first use; its errors have no common base class."""
    try:
        with _no_warnings():
            yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{name} has a damaged DICOM header; copy or export it again") from error


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
