"""Where a C-arm is pointed: the middle of the skeleton, and points of its bone."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.dimensions import FIELD_MM
from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.hu_thresholds import BONE_SAMPLE_MINIMUM_HU
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError

_SAMPLES = 4000


def bone_points(volume: CTVolume, n: int, generator: torch.Generator) -> Float[Tensor, "n 3"]:
    """Random voxels of bone, patient mm; `n` of them, with repetition where there are fewer.

    Raises:
        InputError: there is no bone.
    """
    threshold = float(attenuation_from_hu(np.array([BONE_SAMPLE_MINIMUM_HU], np.float32))[0])
    voxels = torch.nonzero(volume.attenuation > threshold)
    if len(voxels) == 0:
        raise InputError(f"the CT holds no bone (nothing above {BONE_SAMPLE_MINIMUM_HU:.0f} HU); give a CT with bone")
    chosen = voxels[torch.randint(len(voxels), (n,), generator=generator)]
    return volume.points_patient(chosen.flip(-1).double())


def aim_point(volume: CTVolume, bone_patient: Float[Tensor, "n 3"]) -> Float[Tensor, "3"]:
    """The middle of the skeleton, moved along the body so far that the field stays inside the CT, where it is long enough."""
    aim, axis = voxel_of(volume, bone_patient.median(0).values), axis_along_body(volume)
    last = volume.shape_ijk[axis] - 1
    rim = min(1.3 * FIELD_MM / 2 / volume.voxel_size_mm[axis], last / 2)  # the view tilts and wanders
    aim[axis] = aim[axis].clamp(rim, last - rim)
    return volume.points_patient(aim)


def axis_along_body(volume: CTVolume) -> int:
    """Which of the voxel axes (i, j, k) runs most from feet to head."""
    return int(volume.patient_from_voxel[2, :3].abs().argmax())


def voxel_of(volume: CTVolume, point_patient: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    """(i, j, k) of a point in patient mm."""
    return torch.linalg.solve(volume.patient_from_voxel[:3, :3], point_patient - volume.patient_from_voxel[:3, 3])


def middle_of_skeleton(volume: CTVolume) -> Float[Tensor, "3"]:
    """The `aim_point` of bone sampled in a way that is always the same, patient mm.

    Raises:
        InputError: there is no bone.
    """
    return aim_point(volume, bone_points(volume, _SAMPLES, torch.Generator().manual_seed(0)))
