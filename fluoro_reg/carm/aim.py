"""The point at which a C-arm is aimed: the centre of the skeleton, found from random bone voxels."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.dimensions import FIELD_MM
from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.hu_thresholds import BONE_SAMPLE_MINIMUM_HU
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError

AIM_STEP_MM = 80.0  # between aims along the body: half of it off the axis is seen about 3 degrees obliquely
_SAMPLES = 4000


def bone_points(volume: CTVolume, n: int, generator: torch.Generator) -> Float[Tensor, "n 3"]:
    """Return the centres of `n` random bone voxels, in patient mm.

    Voxels are drawn with replacement.

    Raises:
        InputError: The CT has no bone.
    """
    threshold = float(attenuation_from_hu(np.array([BONE_SAMPLE_MINIMUM_HU], np.float32))[0])
    voxels = torch.nonzero(volume.attenuation > threshold)
    if len(voxels) == 0:
        raise InputError(f"the CT contains no bone (nothing above {BONE_SAMPLE_MINIMUM_HU:.0f} HU); give a CT with bone")
    chosen = voxels[torch.randint(len(voxels), (n,), generator=generator)]
    return volume.points_patient(chosen.flip(-1).double())


def aim_point(volume: CTVolume, bone_patient: Float[Tensor, "n 3"]) -> Float[Tensor, "3"]:
    """Return the point at which a C-arm is aimed, in patient mm.

    This is the median of the bone points, moved along the body until the field of view lies inside the CT. In a CT that is
    shorter than the field, it is the middle of the CT along the body.
    """
    aim, axis = voxel_coordinates(volume, bone_patient.median(0).values), axis_along_body(volume)
    last, margin = volume.shape_ijk[axis] - 1, _margin(volume, axis)
    aim[axis] = aim[axis].clamp(margin, last - margin)
    return volume.points_patient(aim)


def aim_points(volume: CTVolume) -> Float[Tensor, "n 3"]:
    """Return points along the body at which a C-arm may be aimed, so that its fields cover the CT; the middle of a short one.

    A CT without bone is aimed at in its middle.
    """
    try:
        aim = default_aim_point(volume)
    except InputError:
        aim = volume.centre_patient
    middle, axis = voxel_coordinates(volume, aim), axis_along_body(volume)
    last, margin = volume.shape_ijk[axis] - 1, _margin(volume, axis)
    count = 1 + math.ceil((last - 2 * margin) * volume.voxel_size_mm[axis] / AIM_STEP_MM - 1e-9)
    points = middle.repeat(count, 1)
    points[:, axis] = torch.linspace(margin, last - margin, count, dtype=middle.dtype) if count > 1 else last / 2
    return torch.stack([volume.points_patient(point) for point in points])


def axis_along_body(volume: CTVolume) -> int:
    """Return the voxel axis (0, 1, 2 for i, j, k) that is closest to the direction from feet to head."""
    return int(volume.patient_from_voxel[2, :3].abs().argmax())


def _margin(volume: CTVolume, axis: int) -> float:
    """Half the field in voxels along an axis, and more, because views are tilted and shifted; at most half of the CT."""
    return min(1.3 * FIELD_MM / 2 / volume.voxel_size_mm[axis], (volume.shape_ijk[axis] - 1) / 2)


def voxel_coordinates(volume: CTVolume, point_patient: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    """Return the voxel coordinates (i, j, k) of a point in patient mm."""
    return torch.linalg.solve(volume.patient_from_voxel[:3, :3], point_patient - volume.patient_from_voxel[:3, 3])


def default_aim_point(volume: CTVolume) -> Float[Tensor, "3"]:
    """Return the `aim_point` of a CT, in patient mm, from bone points that are sampled with a fixed seed.

    Raises:
        InputError: The CT has no bone.
    """
    return aim_point(volume, bone_points(volume, _SAMPLES, torch.Generator().manual_seed(0)))
