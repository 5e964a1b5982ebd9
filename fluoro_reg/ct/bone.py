"""Separation of bone from soft tissue, for rendering with a varied bone contrast and for a learned volume of bone."""

from dataclasses import replace

import numpy as np
import torch

from fluoro_reg.ct.attenuation import attenuation_from_hu, attenuation_of_tissue
from fluoro_reg.ct.hu_thresholds import BODY_MINIMUM_HU, BONE_ABOVE_SOFT_TISSUE_HU, BONE_SPLIT_HU, SOFT_TISSUE_HU
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError


def split_soft_tissue_and_bone(volume: CTVolume) -> tuple[CTVolume, CTVolume]:
    """Return two volumes that add up to the CT: the attenuation up to that of bone, and the rest.

    Both are continuous functions of the attenuation, so that no voxel switches from one volume to the other.
    """
    limit = float(attenuation_from_hu(np.array([BONE_SPLIT_HU], np.float32))[0])
    soft = volume.attenuation.clamp_max(limit)
    return replace(volume, attenuation=soft), replace(volume, attenuation=volume.attenuation - soft)


def bone_above_soft_tissue(volume: CTVolume) -> CTVolume:
    """Return the bone alone, as the attenuation by which it exceeds soft tissue.

    What a CT that is cut lacks is mostly soft tissue, which is smooth in an X-ray. The edges of bone in the image are those of
    this volume, whether or not the CT holds all that a ray passes.
    """
    soft = attenuation_of_tissue(SOFT_TISSUE_HU)
    is_bone = volume.attenuation >= attenuation_of_tissue(BONE_ABOVE_SOFT_TISSUE_HU)
    return replace(volume, attenuation=torch.where(is_bone, volume.attenuation - soft, 0.0))


def lacks_soft_tissue(volume: CTVolume) -> bool:
    """Return whether a CT holds more bone than soft tissue: somebody has removed the rest."""
    is_body = volume.attenuation >= attenuation_of_tissue(BODY_MINIMUM_HU)
    is_bone = volume.attenuation >= attenuation_of_tissue(BONE_ABOVE_SOFT_TISSUE_HU)
    return bool(2 * is_bone.sum() > is_body.sum())


def tissue_beyond(volume: CTVolume, margin_mm: float) -> CTVolume | None:
    """Return soft tissue beyond the faces of a CT, as if its outermost voxels went on, and air within the CT.

    A face in air gives air. None if the CT has no tissue at any face.
    """
    tissue = volume.attenuation.clamp_max(attenuation_of_tissue(SOFT_TISSUE_HU))
    margins = [max(1, round(margin_mm / size)) for size in volume.voxel_size_mm]  # along i, j, k
    sides = [margin for margin in margins for _ in range(2)]
    padded = torch.nn.functional.pad(tissue[None, None], sides, mode="replicate")[0, 0]
    inside = tuple(slice(margin, margin + n) for margin, n in zip(margins[::-1], tissue.shape, strict=True))
    padded[inside] = 0
    if not (padded >= attenuation_of_tissue(BODY_MINIMUM_HU)).any():
        return None
    patient_from_voxel = volume.patient_from_voxel.clone()
    patient_from_voxel[:3, 3] = volume.points_patient(-torch.tensor(margins, dtype=torch.float64))
    return replace(volume, attenuation=padded.contiguous(), patient_from_voxel=patient_from_voxel)


def coarse_bone(volume: CTVolume, voxel_mm: float) -> CTVolume:
    """Return what bone adds to soft tissue, downsampled to voxels of about `voxel_mm` and cropped to its bounding box.

    Raises:
        InputError: The CT has no bone.
    """
    _, bone = split_soft_tissue_and_bone(volume)
    i, j, k = (max(1, round(voxel_mm / size)) for size in volume.voxel_size_mm)
    coarse = bone.downsampled((i, j, k))
    bone_voxels = coarse.attenuation.nonzero()
    if len(bone_voxels) == 0:
        raise InputError(f"the CT contains no bone (nothing above {BONE_SPLIT_HU:.0f} HU); give a CT with bone")
    low, high = bone_voxels.amin(0).tolist(), (bone_voxels.amax(0) + 1).tolist()
    box = tuple(slice(begin, end) for begin, end in zip(low, high, strict=True))
    patient_from_voxel = coarse.patient_from_voxel.clone()
    patient_from_voxel[:3, 3] = coarse.points_patient(torch.tensor(low[::-1], dtype=torch.float64))
    return replace(coarse, attenuation=coarse.attenuation[box].contiguous(), patient_from_voxel=patient_from_voxel)
