"""The files of a folder, and DICOM parsing that stays silent about the patient.

Files are found, not referred to: a DICOMDIR and links that lead out of the folder are never followed (CVE-2026-32711 was such a
path). pydicom's warnings and errors quote element values, which may be a name, so they are silenced and errors are raised
anew without their cause; a file is called by its number in name order, because file names are often names or UIDs too.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from fluoro_reg.errors import InputError

MAX_FILES = 20_000
MAX_FILE_BYTES = 4 * 2**30
MAX_DEFLATED_BYTES = 8 * 2**20  # deflate shrinks zeros 1000 times: a larger file may not fit into memory
_PREAMBLE = 128


def find_files(folder: Path) -> list[Path]:
    """All regular files below `folder` in name order, without DICOMDIR, hidden files and links out of the folder."""
    root = folder.resolve()
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and name.upper() != "DICOMDIR" and _is_inside(path, root):
                found.append(path)
        if len(found) > MAX_FILES:
            raise InputError(
                f"the folder '{folder.name or folder}' holds more than {MAX_FILES} files; give the folder of one CT"
            )
    return found


def _refuse(error: OSError) -> None:
    raise InputError(f"a folder of the CT cannot be opened ({error.strerror}); check its permissions") from None


def _is_inside(path: Path, root: Path) -> bool:
    return path.is_file() and path.resolve().is_relative_to(root)


def is_dicom(path: Path) -> bool:
    """By the mark 'DICM' after the preamble."""
    try:
        with path.open("rb") as file:
            file.seek(_PREAMBLE)
            return file.read(4) == b"DICM"
    except OSError as error:
        raise InputError(f"a file of the CT cannot be opened ({error.strerror}); check its permissions") from None


def claims_dicom(path: Path) -> bool:
    """DICOM by its mark or by its name: a slice whose file is empty or damaged is missed, not overlooked."""
    return path.suffix.lower() in (".dcm", ".ima") or is_dicom(path)


@contextmanager
def silent_pydicom() -> Iterator[None]:
    """Keeps pydicom's warnings and log lines, which quote element values, from every output."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def parse(path: Path, label: str, header_only: bool) -> FileDataset:
    """One parsed file, called `label` in refusals; its values are parsed on access, so keep that within `guarded`."""
    if not is_dicom(path):
        raise InputError(f"{label} has no 'DICM' mark: it is empty, damaged or not DICOM; export it again or take it away")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise InputError(f"{label} is larger than {MAX_FILE_BYTES // 2**30} GiB; give a smaller CT")
    with guarded(label):
        if size > MAX_DEFLATED_BYTES and _transfer_syntax(path) == DeflatedExplicitVRLittleEndian:
            raise InputError(f"{label} is deflated and larger than {MAX_DEFLATED_BYTES // 2**20} MiB; decompress it first")
        return pydicom.dcmread(path, stop_before_pixels=header_only)


@contextmanager
def guarded(label: str) -> Iterator[None]:
    """Turns whatever pydicom raises on a damaged file into one `InputError` without a patient's values."""
    try:
        with silent_pydicom():
            yield
    except InputError:
        raise
    except Exception:  # pydicom's errors have no common base, and their text may quote the patient: so no cause either
        raise InputError(f"{label} is damaged or cut off; copy or export it again") from None


def _transfer_syntax(path: Path) -> str:
    return str(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", ""))
