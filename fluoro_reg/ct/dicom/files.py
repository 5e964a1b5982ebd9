"""The files of a folder, and DICOM parsing that reveals nothing about the patient.

Files are found by listing the folder. References in a DICOMDIR and links out of the folder are never followed (CVE-2026-32711
was such a path). pydicom's warnings and errors quote element values, which may contain a name, so warnings are suppressed and
errors are replaced without their cause. Error messages call a file by its number in name order, because file names often
contain names or UIDs too.

pydicom is imported when the first file is parsed, because it takes a fifth of a second and other formats do not need it.
"""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

MAX_FILES = 20_000
MAX_FILE_BYTES = 4 * 2**30
MAX_DEFLATED_BYTES = 8 * 2**20  # deflate shrinks zeros 1000 times: a larger file may not fit into memory
_PREAMBLE = 128


def find_files(folder: Path) -> list[Path]:
    """List all regular files below `folder` in name order, except DICOMDIR, hidden files and links out of the folder.

    Raises:
        InputError: A folder cannot be opened, or there are too many files.
    """
    root = folder.resolve()
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_raise_unreadable_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and name.upper() != "DICOMDIR" and _is_inside(path, root):
                found.append(path)
        if len(found) > MAX_FILES:
            raise InputError(
                f"the folder '{folder.name or folder}' contains more than {MAX_FILES} files; give the folder of one CT"
            )
    return found


def _raise_unreadable_folder(error: OSError) -> None:
    raise InputError(f"a folder of the CT cannot be opened ({error.strerror}); check its permissions") from None


def _is_inside(path: Path, root: Path) -> bool:
    return path.is_file() and path.resolve().is_relative_to(root)


def has_dicom_prefix(path: Path) -> bool:
    """Whether the file has the prefix 'DICM' after the preamble."""
    try:
        with path.open("rb") as file:
            file.seek(_PREAMBLE)
            return file.read(4) == b"DICM"
    except OSError as error:
        raise InputError(f"a file of the CT cannot be opened ({error.strerror}); check its permissions") from None


def looks_like_dicom(path: Path) -> bool:
    """Whether the prefix or the suffix of the file is that of DICOM.

    The suffix counts too, so that an empty or damaged slice is an error and is not silently ignored.
    """
    return path.suffix.lower() in (".dcm", ".ima") or has_dicom_prefix(path)


@contextmanager
def silent_pydicom() -> Iterator[None]:
    """Suppress pydicom's warnings and log messages, which quote element values, in all threads until the last one leaves."""
    _silence.enter()
    try:
        yield
    finally:
        _silence.leave()


class _Silence:
    """What is suppressed belongs to the process, so that threads enter together: the first changes it, the last restores it."""

    def __init__(self) -> None:
        self._lock, self._entered, self._stack = threading.Lock(), 0, ExitStack()

    def enter(self) -> None:
        with self._lock:
            if self._entered == 0:
                logger = logging.getLogger("pydicom")
                self._stack.callback(logger.setLevel, logger.level)
                logger.setLevel(logging.CRITICAL + 1)
                self._stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._entered += 1

    def leave(self) -> None:
        with self._lock:
            self._entered -= 1
            if self._entered == 0:
                self._stack.close()


_silence = _Silence()


def parse_dicom(path: Path, label: str, header_only: bool) -> "FileDataset":
    """Parse one file. pydicom parses values on access, so access them within `convert_pydicom_errors`.

    Args:
        path: The file.
        label: Name of the file in error messages.
        header_only: Whether to stop before the pixels.

    Raises:
        InputError: The file is not DICOM, is damaged, or is too large.
    """
    import pydicom
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    if not has_dicom_prefix(path):
        raise InputError(f"{label} has no 'DICM' prefix: it is empty, damaged or not DICOM; export it again or remove it")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise InputError(f"{label} is larger than {MAX_FILE_BYTES // 2**30} GiB; give a smaller CT")
    with convert_pydicom_errors(label):
        if size > MAX_DEFLATED_BYTES and _transfer_syntax(path) == DeflatedExplicitVRLittleEndian:
            raise InputError(f"{label} is deflated and larger than {MAX_DEFLATED_BYTES // 2**20} MiB; decompress it first")
        return pydicom.dcmread(path, stop_before_pixels=header_only)


@contextmanager
def convert_pydicom_errors(label: str) -> Iterator[None]:
    """Convert any error that pydicom raises for a damaged file to an `InputError` without values of the patient."""
    try:
        with silent_pydicom():
            yield
    except InputError:
        raise
    except Exception:  # pydicom's errors have no common base class, and their text may identify the patient
        raise InputError(f"{label} is damaged or truncated; copy or export it again") from None


def _transfer_syntax(path: Path) -> str:
    import pydicom

    return str(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", ""))
