"""Cropped CTs: the CT that is registered is smaller than the patient that the X-ray shows.

The X-ray is simulated from the whole CT. The cropped CT keeps its patient coordinates, so the true pose is the same. Unlike a
truncated CT (`truncation`), which lacks slices, it also lacks the sides of the body, or all soft tissue.
"""

import dataclasses

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fluoro_reg.carm.aim import axis_along_body, voxel_coordinates
from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.hu_thresholds import BODY_MINIMUM_HU, BONE_OUTLINE_MINIMUM_HU
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError

CROPS = ("none", "spine-field", "narrow-field", "bone")
_SPINE_ACROSS_MM, _SPINE_ALONG_MM = 124.0, 100.0  # the field of a cone-beam CT of the spine
_MINIMUM_VOXELS = 3


def crop_ct(volume: CTVolume, crop: str, middle_patient: Float[Tensor, "3"]) -> CTVolume:
    """Return a part of a CT.

    Args:
        volume: The whole CT.
        crop: `spine-field`: a box of 124 x 124 x 100 mm around the middle of the skeleton. `narrow-field`: the middle half of
            the body's width and depth. `bone`: air instead of everything below 200 HU, and the box of the rest.
        middle_patient: The middle of the skeleton, in patient mm.

    Raises:
        InputError: Nothing is left of the CT.
    """
    if crop == "spine-field":
        return _box(volume, *_spine_field(volume, middle_patient))
    if crop == "narrow-field":
        return _box(volume, *_narrow_field(volume))
    bone = volume.attenuation >= _attenuation(BONE_OUTLINE_MINIMUM_HU)
    bone_only = dataclasses.replace(volume, attenuation=volume.attenuation * bone)
    return _box(bone_only, *_occupied(bone))


def contains(volume: CTVolume, points_patient: Float[Tensor, "n 3"]) -> Bool[Tensor, "n"]:
    """Return which points (patient mm) lie within the outer faces of a CT's voxels."""
    last = torch.tensor(volume.shape_ijk, dtype=torch.float64) - 0.5
    voxels = torch.stack([voxel_coordinates(volume, point) for point in points_patient.double()])
    return ((voxels >= -0.5) & (voxels <= last)).all(-1)


def _spine_field(volume: CTVolume, middle_patient: Float[Tensor, "3"]) -> tuple[Int[np.ndarray, "3"], Int[np.ndarray, "3"]]:
    size_mm = np.full(3, _SPINE_ACROSS_MM)
    size_mm[axis_along_body(volume)] = _SPINE_ALONG_MM
    size = np.maximum(np.round(size_mm / np.array(volume.voxel_size_mm)), _MINIMUM_VOXELS)
    low = np.round(voxel_coordinates(volume, middle_patient.double()).numpy() - (size - 1) / 2)
    low = np.clip(low, 0, np.maximum(np.array(volume.shape_ijk) - size, 0)).astype(int)  # moved to lie inside the CT
    return low, low + size.astype(int)


def _narrow_field(volume: CTVolume) -> tuple[Int[np.ndarray, "3"], Int[np.ndarray, "3"]]:
    low, high = _occupied(volume.attenuation > _attenuation(BODY_MINIMUM_HU))
    half = np.round((high - low) / 2).astype(int)
    first, along = low + (high - low - half) // 2, axis_along_body(volume)
    first[along], half[along] = 0, volume.shape_ijk[along]
    return first, first + half


def _occupied(used: Bool[Tensor, "slices rows columns"]) -> tuple[Int[np.ndarray, "3"], Int[np.ndarray, "3"]]:
    """Return the first (i, j, k) of the box of the voxels that are used, and the first beyond it."""
    axes = [np.flatnonzero(used.numpy().any(axis=other)) for other in ((0, 1), (0, 2), (1, 2))]
    if not all(len(axis) for axis in axes):
        raise InputError("the crop leaves nothing of the CT; choose another crop, or give a CT with bone")
    return np.array([axis[0] for axis in axes]), np.array([axis[-1] + 1 for axis in axes])


def _box(volume: CTVolume, low: Int[np.ndarray, "3"], high: Int[np.ndarray, "3"]) -> CTVolume:
    """Return the voxels from `low` to below `high` (i, j, k), cut to the CT, at the same patient coordinates."""
    low, high = np.maximum(low, 0), np.minimum(high, volume.shape_ijk)
    if (high - low < _MINIMUM_VOXELS).any():
        raise InputError("the crop leaves less than three voxels of the CT along an axis; choose another crop")
    box = tuple(slice(int(first), int(end)) for first, end in zip(low[::-1], high[::-1], strict=True))
    patient_from_voxel = volume.patient_from_voxel.clone()
    patient_from_voxel[:3, 3] = volume.points_patient(torch.from_numpy(low).double())
    part = volume.attenuation[box].contiguous()
    return dataclasses.replace(volume, attenuation=part, patient_from_voxel=patient_from_voxel, fingerprint="")


def _attenuation(hu: float) -> float:
    return float(attenuation_from_hu(np.array([hu], np.float32))[0])
