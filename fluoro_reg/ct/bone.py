"""Bone apart from the rest: what moves as one piece, and what a learned similarity compares with a whole X-ray."""

from dataclasses import replace

import numpy as np
import torch

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.hu_thresholds import BONE_SPLIT_HU
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError


def soft_and_bone(volume: CTVolume) -> tuple[CTVolume, CTVolume]:
    """Two volumes that add up to the CT: attenuation up to bone, and what lies above; no voxel jumps from one to the other."""
    limit = float(attenuation_from_hu(np.array([BONE_SPLIT_HU], np.float32))[0])
    soft = volume.attenuation.clamp_max(limit)
    return replace(volume, attenuation=soft), replace(volume, attenuation=volume.attenuation - soft)


def coarse_bone(volume: CTVolume, voxel_mm: float) -> CTVolume:
    """What bone adds to soft tissue, in voxels of about a size, cut to the box that holds it.

    Raises:
        InputError: there is no bone.
    """
    _, bone = soft_and_bone(volume)
    i, j, k = (max(1, round(voxel_mm / size)) for size in volume.voxel_size_mm)
    coarse = bone.downsampled((i, j, k))
    filled = coarse.attenuation.nonzero()
    if len(filled) == 0:
        raise InputError(f"the CT contains no bone (nothing above {BONE_SPLIT_HU:.0f} HU); give a CT with bone")
    low, high = filled.amin(0).tolist(), (filled.amax(0) + 1).tolist()
    window = tuple(slice(begin, end) for begin, end in zip(low, high, strict=True))
    patient_from_voxel = coarse.patient_from_voxel.clone()
    patient_from_voxel[:3, 3] = coarse.points_patient(torch.tensor(low[::-1], dtype=torch.float64))
    return replace(coarse, attenuation=coarse.attenuation[window].contiguous(), patient_from_voxel=patient_from_voxel)
