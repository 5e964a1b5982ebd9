"""Volume files: NIfTI (`nifti_file`), NRRD and MetaImage (`itk_file`). The format follows from the content, not from the name.

Files are renamed, compressed and decompressed by hand, so that a suffix is a hint: a file whose content says otherwise is read,
with a warning. The libraries that read the formats are an optional extra.
"""

import gzip
import zlib
from pathlib import Path

from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.itk_file import read_itk
from fluoro_reg.ct.nifti_file import read_nifti
from fluoro_reg.ct.optional_reader import damaged_file_error
from fluoro_reg.ct.raw_grid import RawGrid
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError

VOLUME_FORMATS = "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd)"
_KIND_BY_SUFFIX = {
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
}
_GZIP = b"\x1f\x8b"
_OTHER_COMPRESSION = {
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7-Zip",
}
_NIFTI_HEADER_SIZES = (348, 540)
_HEAD = 8192  # bytes


def is_volume_file(path: Path) -> bool:
    """Whether the file name has the suffix of one of the supported formats."""
    return _suffix(path) is not None


def holds_volume(path: Path) -> bool:
    """Whether a file is one of the supported formats, by its content, whatever its name."""
    return bool(_content(path)[0])


def format_of(path: Path) -> str:
    """Return NIfTI, NRRD or MetaImage, by the content of a file, else by its name; empty if it is none of them.

    Raises:
        InputError: The file cannot be opened, or it is compressed in a way that is not read.
    """
    return _content(path)[0] or _KIND_BY_SUFFIX.get(_suffix(path) or "", "")


def read_volume_file(path: Path) -> CTVolume:
    """Read one NIfTI, NRRD or MetaImage file.

    Raises:
        InputError: The file is damaged, or it is not a CT of known geometry in HU.
    """
    grid = read_grid(path)
    return volume_from_hu(grid.values, grid.patient_from_voxel, f"'{path.name}'", grid.warnings)


def read_grid(path: Path) -> RawGrid:
    """Read the numbers of one NIfTI, NRRD or MetaImage file as they are, whatever they mean.

    Raises:
        InputError: The file is damaged, or it is not a volume of known geometry.
    """
    suffix = _suffix(path) or ""
    named = _KIND_BY_SUFFIX.get(suffix, "")
    kind, compressed = _content(path)
    warnings = []
    if kind and (kind != named or compressed != suffix.endswith(".gz")):
        content = f"{'gzip-compressed' if compressed else 'uncompressed'} {kind}"
        warnings.append(f"'{path.name}' contains {content}, which its name does not say: it is read as that; rename it")
    if (kind or named) == "NIfTI":
        return read_nifti(path, compressed, warnings)
    if not kind:
        raise damaged_file_error(f"'{path.name}'", named)
    if compressed:
        raise InputError(f"'{path.name}' is a gzip-compressed file, but only NIfTI is read compressed; decompress it first")
    return read_itk(path, kind, warnings)


def _suffix(path: Path) -> str | None:
    name = path.name.lower()
    return next((suffix for suffix in sorted(_KIND_BY_SUFFIX, key=len, reverse=True) if name.endswith(suffix)), None)


def _content(path: Path) -> tuple[str, bool]:
    """Return the format that the first bytes show ("" if none), and whether the file is compressed with gzip."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise InputError(f"'{path.name}' cannot be opened ({error.strerror}); check its permissions") from None
    for magic, name in _OTHER_COMPRESSION.items():
        if head.startswith(magic):
            raise InputError(f"'{path.name}' is compressed with {name}, which is not read; decompress it first")
    if not head.startswith(_GZIP):
        return _kind(head), False
    try:
        with gzip.open(path) as stream:
            return _kind(stream.read(_HEAD)), True
    except (OSError, EOFError, zlib.error):
        return "", True


def _kind(head: bytes) -> str:
    if head.startswith(b"NRRD0"):
        return "NRRD"
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")} if len(head) >= 4 else set[int]()
    if sizes & {*_NIFTI_HEADER_SIZES}:
        return "NIfTI"
    return "MetaImage" if b"NDims" in head and b"ElementType" in head else ""
