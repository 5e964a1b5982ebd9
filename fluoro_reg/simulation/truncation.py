"""Truncated CTs: a CT cut to a part of its length, so that the X-ray shows anatomy that the CT lacks.

Diagnostic CTs often end within the field of a later X-ray. The X-ray is simulated from the full CT, and the registration gets
the part around the aim point, which covers a fraction of the field. The part is converted from attenuation back to HU and
written to a file. Air becomes -950 HU, which all readers of this package treat as air.
"""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from fluoro_reg.carm.aim import axis_along_body, voxel_coordinates
from fluoro_reg.carm.dimensions import FIELD_MM
from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.formats.nifti import write_ct

KEPT_FRACTION = 0.7  # of the field's length
# The knots of the attenuation curve are whole HU, so linear interpolation between whole HU is exact.
_INTEGER_HU = np.arange(-950, 32768, dtype=np.float32)


def truncate_ct(volume: CTVolume, aim_patient: Float[Tensor, "3"]) -> CTVolume:
    """Return the slices around `aim_patient` that cover `KEPT_FRACTION` of the field, or of the CT if it is shorter."""
    axis = axis_along_body(volume)
    length = volume.shape_ijk[axis]
    kept = max(3, round(KEPT_FRACTION * min(FIELD_MM / volume.voxel_size_mm[axis], length)))
    first = int(np.clip(round(float(voxel_coordinates(volume, aim_patient)[axis]) - kept / 2), 0, length - kept))
    patient_from_voxel = volume.patient_from_voxel.clone()
    patient_from_voxel[:3, 3] += first * patient_from_voxel[:3, axis]
    attenuation = volume.attenuation.narrow(2 - axis, first, kept).contiguous()
    return dataclasses.replace(volume, attenuation=attenuation, patient_from_voxel=patient_from_voxel, fingerprint="")


def write_volume(path: Path, volume: CTVolume) -> Path:
    """Write a CT as NIfTI, in whole HU, and return the path.

    Raises:
        InputError: nibabel is not installed.
    """
    hu = hu_from_attenuation(volume.attenuation.numpy())
    return write_ct(path, hu.transpose(2, 1, 0), volume.patient_from_voxel.numpy()).path


def hu_from_attenuation(attenuation: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Return the inverse of `attenuation_from_hu`, from -950 HU (air) to the maximum of 16-bit HU."""
    return np.interp(attenuation, attenuation_from_hu(_INTEGER_HU), _INTEGER_HU).astype(np.float32)
