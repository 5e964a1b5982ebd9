"""`read_ct` reads a CT of any supported format from a path.

The package has its own reader for DICOM series, because common readers silently return a wrong geometry for tilted or unevenly
spaced series. NIfTI, NRRD and MetaImage are read with nibabel and SimpleITK. The format follows from the files, not from an
option.
"""

import os
from pathlib import Path

from fluoro_reg.ct.dicom.files import find_files, has_dicom_prefix, looks_like_dicom
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.ct.volume_files import VOLUME_FORMATS, holds_volume, is_volume_file, read_volume_file
from fluoro_reg.errors import InputError


def read_ct(path: str | os.PathLike[str], series: str | None = None) -> CTVolume:
    """Read a CT.

    Args:
        path: A folder or file of DICOM, NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd).
        series: Which of several DICOM series to read: its number in the error message that lists them, or its
            SeriesInstanceUID.

    Raises:
        InputError: The path is not exactly one CT of known geometry in HU. The message contains nothing that identifies a
            patient.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"there is no CT at '{path.name or path}'; check the path")
    if path.is_dir():
        return _read_folder(path, series)
    if has_dicom_prefix(path) or (looks_like_dicom(path) and not holds_volume(path)):
        return _read_dicom([path], series)
    if is_volume_file(path) or holds_volume(path):
        return read_volume_file(path)
    raise InputError(f"'{path.name or path}' is not a readable CT; give DICOM or {VOLUME_FORMATS}")


def _read_dicom(files: list[Path], series: str | None) -> CTVolume:
    from fluoro_reg.ct.dicom.reader import read_dicom  # imported here, as pydicom takes a fifth of a second

    return read_dicom(files, series)


def _read_folder(folder: Path, series: str | None) -> CTVolume:
    files = find_files(folder)
    dicom = [file for file in files if looks_like_dicom(file)]
    volumes = [file for file in files if is_volume_file(file)]
    if dicom and volumes:
        raise InputError(
            f"the folder '{folder.name or folder}' contains DICOM and {len(volumes)} volume files; give the path of one"
        )
    if dicom:
        return _read_dicom(dicom, series)
    if len(volumes) == 1:
        return read_volume_file(volumes[0])
    if volumes:
        raise InputError(f"the folder '{folder.name or folder}' contains {len(volumes)} volume files; give the path of one")
    content = "no files (links out of it are not followed)"
    if files:
        content = f"files, but neither DICOM nor {VOLUME_FORMATS}"
    raise InputError(f"the folder '{folder.name or folder}' contains {content}; give a folder with one CT")
