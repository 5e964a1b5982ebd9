"""A CT cut to part of its length, as a file of its own: the X-ray then shows anatomy that the CT does not have.

Diagnostic CTs end where the radiologist's interest ended, and C-arms do not care. The X-ray is simulated from the whole CT;
what is registered gets the piece about the aim point, which covers a part of the field. It is written as HU again, from the
attenuation: air comes out as -950 HU, which every reader here takes for the same air.
"""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from fluoro_reg.carm.aim import axis_along_body, voxel_of
from fluoro_reg.carm.dimensions import FIELD_MM
from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.formats.nifti import write_ct

KEPT_FRACTION = 0.7  # of the field's length
_WHOLE_HU = np.arange(
    -950, 32768, dtype=np.float32
)  # attenuation's knots are whole HU, so interpolating between these is exact


def truncated(volume: CTVolume, aim_patient: Float[Tensor, "3"]) -> CTVolume:
    """The slices about `aim_patient` that cover `KEPT_FRACTION` of the field, or of the CT where that is shorter."""
    axis = axis_along_body(volume)
    length = volume.shape_ijk[axis]
    kept = max(3, round(KEPT_FRACTION * min(FIELD_MM / volume.voxel_size_mm[axis], length)))
    first = int(np.clip(round(float(voxel_of(volume, aim_patient)[axis]) - kept / 2), 0, length - kept))
    patient_from_voxel = volume.patient_from_voxel.clone()
    patient_from_voxel[:3, 3] += first * patient_from_voxel[:3, axis]
    attenuation = volume.attenuation.narrow(2 - axis, first, kept).contiguous()
    return dataclasses.replace(volume, attenuation=attenuation, patient_from_voxel=patient_from_voxel, fingerprint="")


def write_volume(path: Path, volume: CTVolume) -> Path:
    """Writes a CT as NIfTI, in whole HU.

    Raises:
        InputError: nibabel is not installed.
    """
    hu = hu_from_attenuation(volume.attenuation.numpy())
    return write_ct(path, hu.transpose(2, 1, 0), volume.patient_from_voxel.numpy()).path


def hu_from_attenuation(attenuation: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """The inverse of `attenuation_from_hu`, up to what 16 bits hold; air is -950 HU."""
    return np.interp(attenuation, attenuation_from_hu(_WHOLE_HU), _WHOLE_HU).astype(np.float32)
