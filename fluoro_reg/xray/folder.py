"""The X-rays of a folder, in name order, for work on many of them.

Only the folder itself is looked at. A folder also holds cameras, poses and reports, so that only what looks like an X-ray is
taken: DICOM by its prefix or suffix, other formats by their suffix. Whether a file can be read is found out by reading it.
"""

from pathlib import Path

from fluoro_reg.errors import InputError

SUFFIXES = (".dcm", ".ima", ".png", ".tif", ".tiff", ".npy")
_PREAMBLE = 128


def find_xrays(folder: Path) -> list[Path]:
    """Return the X-ray files of a folder in name order, without hidden files and DICOMDIR.

    Raises:
        InputError: The folder cannot be opened, or there is no X-ray in it.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot open the folder {folder.name}: {error.strerror}; check its permissions") from error
    found = [path for path in files if path.name.upper() != "DICOMDIR" and _looks_like_xray(path)]
    if not found:
        raise InputError(f"the folder {folder.name} contains no X-ray (DICOM, PNG, TIFF or .npy); give a folder with X-rays")
    return found


def _looks_like_xray(path: Path) -> bool:
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            file.seek(_PREAMBLE)
            return file.read(4) == b"DICM"
    except OSError:
        return False  # a file without a suffix that cannot be opened is not known to be an X-ray
