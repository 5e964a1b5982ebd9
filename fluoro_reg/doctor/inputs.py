"""Which inputs a path holds: a CT, X-rays, or a bag. Kinds follow from the content of files, and not from what a user says."""

import enum
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.uid import XRay3DAngiographicImageStorage, XRay3DCraniofacialImageStorage

from fluoro_reg.ct.dicom.files import find_files, has_dicom_prefix, looks_like_dicom, silent_pydicom
from fluoro_reg.ct.volume_files import format_of, is_volume_file
from fluoro_reg.errors import InputError
from fluoro_reg.formats.bag_files import is_bag

MAXIMUM_XRAYS = 12  # of a folder; a report of hundreds of X-rays is not read
_RASTER_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
_RASTER_STARTS = (b"\x89PNG\r\n\x1a\n", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+", b"\x93NUMPY")
_VOLUME_CLASSES = (XRay3DAngiographicImageStorage, XRay3DCraniofacialImageStorage)


class InputKind(str, enum.Enum):
    """The kinds of input that the doctor examines."""

    CT = "CT"
    XRAY = "X-ray"
    BAG = "bag"


@dataclass(frozen=True, slots=True)
class Input:
    """One input to examine."""

    path: Path
    kind: InputKind


@dataclass(frozen=True, slots=True)
class FoundInputs:
    """The inputs of a path, and how many X-rays of a folder were left out."""

    inputs: list[Input]
    left_out: int = 0


def find_inputs(path: Path) -> FoundInputs:
    """Return the inputs at a path: those of a file, of a bag, or of all files in a folder.

    Raises:
        InputError: The path does not exist, or nothing in it is a CT, an X-ray or a bag.
    """
    if not path.exists():
        raise InputError(f"there is no file or folder at {path.name}; check the path")
    if not path.is_dir():
        return FoundInputs([Input(path, _kind_of_file(path))])
    if _is_bag_folder(path):
        return FoundInputs([Input(path, InputKind.BAG)])
    return _find_in_folder(path)


def _find_in_folder(folder: Path) -> FoundInputs:
    files = find_files(folder)
    bags = list(dict.fromkeys(_bag_of(file) for file in files if is_bag(file)))
    dicom = [file for file in files if is_dicom(file)]
    kinds = {file: _kind_of_dicom(file) for file in dicom}
    volumes = [file for file in files if is_volume_file(file)]
    xrays = [file for file in files if kinds.get(file) is InputKind.XRAY or file.suffix.lower() in _RASTER_SUFFIXES]
    inputs = [Input(folder, InputKind.CT)] if InputKind.CT in kinds.values() else []
    inputs += [Input(file, InputKind.CT) for file in volumes]
    inputs += [Input(file, InputKind.XRAY) for file in xrays[:MAXIMUM_XRAYS]]
    inputs += [Input(bag, InputKind.BAG) for bag in bags]
    if not inputs and dicom:
        return FoundInputs([Input(folder, InputKind.CT)])  # its reader says what the files are
    if not inputs:
        raise InputError(f"the folder {folder.name} holds no CT, no X-ray and no bag; give the path of one")
    return FoundInputs(inputs, max(len(xrays) - MAXIMUM_XRAYS, 0))


def _kind_of_file(path: Path) -> InputKind:
    if is_bag(path):
        return InputKind.BAG
    if is_dicom(path):
        return _kind_of_dicom(path) or InputKind.CT
    if format_of(path):
        return InputKind.CT
    with path.open("rb") as file:
        if file.read(8).startswith(_RASTER_STARTS):
            return InputKind.XRAY
    raise InputError(f"{path.name} is not a CT, an X-ray or a bag; give DICOM, NIfTI, NRRD, MetaImage, PNG, TIFF, npy or a bag")


def _kind_of_dicom(path: Path) -> InputKind | None:
    """Return the kind of a DICOM file from its header; None for other objects and for damaged files."""
    try:
        with silent_pydicom():
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality", "SOPClassUID"])
            modality, storage = str(header.get("Modality", "")), header.get("SOPClassUID")
    except Exception:  # pydicom's errors have no common base class; the reader of the kind reports the damage
        return None
    if modality == "CT" or storage in _VOLUME_CLASSES:
        return InputKind.CT
    return InputKind.XRAY if modality in ("XA", "RF", "CR", "DX", "OT") else None


def is_dicom(path: Path) -> bool:
    """Whether a path is a folder or has the content of DICOM, or at least the name and no other content."""
    return path.is_dir() or has_dicom_prefix(path) or (looks_like_dicom(path) and not format_of(path))


def _is_bag_folder(folder: Path) -> bool:
    """Whether a folder is a bag: it has the metadata of one, or nothing but files of one."""
    content = list(folder.iterdir())
    return (folder / "metadata.yaml").is_file() or (bool(content) and all(path.is_file() and is_bag(path) for path in content))


def _bag_of(file: Path) -> Path:
    return file.parent if (file.parent / "metadata.yaml").is_file() else file
