"""`read_ct`: a path to a `CTVolume`, whatever the format.

DICOM is read here in the package, because common readers return wrong geometry for tilted or unevenly stepped series without a
word; NIfTI, NRRD and MetaImage go through nibabel and SimpleITK. What a folder holds decides, never a configured format.
"""

import os
from pathlib import Path

from fluoro_reg.ct.dicom.files import claims_dicom, find_files
from fluoro_reg.ct.dicom.reader import read_dicom
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.ct.volume_files import VOLUME_FORMATS, is_volume_file, read_volume_file
from fluoro_reg.errors import InputError


def read_ct(path: str | os.PathLike[str], series: str | None = None) -> CTVolume:
    """Reads the CT at `path`: a folder or file of DICOM, NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd).

    `series` chooses among several DICOM series: the number in the refusal's list, or a SeriesInstanceUID.

    Raises:
        InputError: anything that is not one CT of known geometry in HU, in one sentence that names nobody.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"there is no CT at '{path.name or path}'; check the path")
    if path.is_dir():
        return _read_folder(path, series)
    if is_volume_file(path):
        return read_volume_file(path)
    if claims_dicom(path):
        return read_dicom([path], series)
    raise InputError(f"'{path.name or path}' is no CT that can be read; give DICOM or {VOLUME_FORMATS}")


def _read_folder(folder: Path, series: str | None) -> CTVolume:
    files = find_files(folder)
    dicom = [file for file in files if claims_dicom(file)]
    volumes = [file for file in files if is_volume_file(file)]
    if dicom and volumes:
        raise InputError(
            f"the folder '{folder.name or folder}' holds DICOM and {len(volumes)} volume files; give the one to use"
        )
    if dicom:
        return read_dicom(dicom, series)
    if len(volumes) == 1:
        return read_volume_file(volumes[0])
    if volumes:
        raise InputError(f"the folder '{folder.name or folder}' holds {len(volumes)} volume files; give the one to use")
    what = "no files (links out of it are not followed)"
    if files:
        what = f"files but no DICOM and no {VOLUME_FORMATS}"
    raise InputError(f"the folder '{folder.name or folder}' holds {what}; give a folder with one CT")
