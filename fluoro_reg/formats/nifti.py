"""Writing of CTs as NIfTI, in whole Hounsfield units."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32

from fluoro_reg.errors import InputError

_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class ExportedCT:
    """A CT that was written: its file and the centre of its grid, about which initial poses are rotated."""

    path: Path
    centre_patient: Float[torch.Tensor, "3"]


def write_ct(
    path: Path, hu: Float32[np.ndarray, "columns rows slices"], patient_from_voxel: Float[np.ndarray, "4 4"]
) -> ExportedCT:
    """Write HU [i, j, k], rounded to whole numbers, as NIfTI.

    Raises:
        InputError: nibabel is not installed.
    """
    try:
        import nibabel
    except ImportError as error:
        raise InputError('writing a CT needs nibabel; run pip install "fluoro_reg[datasets]"') from error
    whole_hu = np.clip(np.round(hu), -32768, 32767).astype(np.int16)
    image = nibabel.Nifti1Image(whole_hu, _RAS_FROM_LPS @ patient_from_voxel)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    middle = (np.array(hu.shape) - 1) / 2
    centre = patient_from_voxel[:3, :3] @ middle + patient_from_voxel[:3, 3]
    return ExportedCT(path, torch.from_numpy(centre))
