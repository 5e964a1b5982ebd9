"""Thickness of water and bone along the rays of a view, with a quadrature other than that of the registration's renderer.

The renderer samples bilinearly on the planes of one axis (Joseph). Here every ray is sampled trilinearly at a fixed step of
half the smallest voxel, at distances from the source that do not depend on the volume, and each sample is split into water and
bone. The two methods agree on the anatomy but share no discretisation errors.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Float32

from fluoro_reg.ct.attenuation import BONE_PER_MM, WATER_PER_MM
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform

_ROWS_PER_TASK = 16
_WATER, _BONE = np.float32(WATER_PER_MM), np.float32(BONE_PER_MM)
_MAXIMUM_WATER_DENSITY = np.float32(1.1)  # 100 HU, above which `ct.attenuation` mixes in bone
_MIXTURE_THRESHOLD = _MAXIMUM_WATER_DENSITY * _WATER


@dataclass(frozen=True, slots=True)
class SampledVolume:
    """The bounding box of a CT's tissue with a border of air, so that the sampling loop needs no bounds checks."""

    attenuation: Float32[np.ndarray, "slices rows columns"]
    voxel_from_patient: Float[np.ndarray, "4 4"]
    step_mm: float


def crop_to_body(volume: CTVolume, step_voxels: float = 0.5) -> SampledVolume:
    """Crop a CT to the voxels that attenuate; the sampling step is `step_voxels` of the smallest voxel edge.

    Raises:
        InputError: The CT contains only air.
    """
    attenuation = volume.attenuation.numpy()
    axes = [np.flatnonzero(attenuation.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    if not all(len(occupied) for occupied in axes):
        raise InputError("the CT contains only air, so no X-ray can be simulated from it; give another CT")
    box = tuple(slice(int(occupied[0]), int(occupied[-1]) + 1) for occupied in axes)
    padded = np.pad(attenuation[box], 1)
    patient_from_voxel = volume.patient_from_voxel.numpy().copy()
    first = np.array([box[2].start, box[1].start, box[0].start]) - 1.0
    patient_from_voxel[:3, 3] += patient_from_voxel[:3, :3] @ first
    return SampledVolume(padded, np.linalg.inv(patient_from_voxel), step_voxels * min(volume.voxel_size_mm))


def water_and_bone_thickness_mm(
    volume: SampledVolume, camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics
) -> tuple[Float32[np.ndarray, "height width"], Float32[np.ndarray, "height width"]]:
    """Return the thickness of water and of cortical bone along the ray of every pixel, mm."""
    voxel_from_camera = volume.voxel_from_patient @ camera_from_patient.inverse().matrix().numpy()
    size = (intrinsics.height, intrinsics.width)
    water, bone = np.zeros(size, np.float32), np.zeros(size, np.float32)
    k = np.array([intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy])

    def task(row: int) -> None:
        rows = slice(row, row + _ROWS_PER_TASK)
        _sample_rows(volume.attenuation, voxel_from_camera, k, row, volume.step_mm, water[rows], bone[rows])

    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
        list(pool.map(task, range(0, intrinsics.height, _ROWS_PER_TASK)))
    return water, bone


def compile_kernel(function: Callable) -> Any:
    """Compile a loop, and keep the result on disk if possible."""
    try:
        return numba.njit(nogil=True, fastmath=True, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the home folder is writable: compile once per process
        return numba.njit(nogil=True, fastmath=True)(function)


@compile_kernel
@no_type_check  # numba infers float32
def decompose(mu):
    """Return the equivalent mm of water and of cortical bone per mm of a tissue with attenuation `mu` (1/mm).

    This inverts the two slopes of `ct.attenuation`. Tissue up to 100 HU is water of variable density. Above that it is a
    mixture of water (density 1.1) and cortical bone, and above cortical bone (metal in the CT) it is bone of higher density.
    """
    if mu <= _MIXTURE_THRESHOLD:
        return mu / _WATER, np.float32(0)
    if mu >= _BONE:
        return np.float32(0), mu / _BONE
    fraction = (mu - _MIXTURE_THRESHOLD) / (_BONE - _MIXTURE_THRESHOLD)
    return _MAXIMUM_WATER_DENSITY * (np.float32(1) - fraction), fraction


@compile_kernel
@no_type_check
def _trilinear(attenuation, pi, pj, pk):
    slices, rows, columns = attenuation.shape
    i, j, k = min(int(pi), columns - 2), min(int(pj), rows - 2), min(int(pk), slices - 2)
    a, b, c = np.float32(pi - i), np.float32(pj - j), np.float32(pk - k)
    v00 = attenuation[k, j, i] + a * (attenuation[k, j, i + 1] - attenuation[k, j, i])
    v01 = attenuation[k, j + 1, i] + a * (attenuation[k, j + 1, i + 1] - attenuation[k, j + 1, i])
    v10 = attenuation[k + 1, j, i] + a * (attenuation[k + 1, j, i + 1] - attenuation[k + 1, j, i])
    v11 = attenuation[k + 1, j + 1, i] + a * (attenuation[k + 1, j + 1, i + 1] - attenuation[k + 1, j + 1, i])
    v0, v1 = v00 + b * (v01 - v00), v10 + b * (v11 - v10)
    return v0 + c * (v1 - v0)


@compile_kernel
@no_type_check
def intersect_box(source, direction, ends):
    """Return the distances (mm from the source) at which a ray enters and leaves the grid, (1, 0) if it misses."""
    near, far = 0.0, 1e9
    for axis in range(3):
        if abs(direction[axis]) < 1e-12:
            if source[axis] < 0.0 or source[axis] > ends[axis]:
                return 1.0, 0.0
        else:
            enter, leave = -source[axis] / direction[axis], (ends[axis] - source[axis]) / direction[axis]
            near, far = max(near, min(enter, leave)), min(far, max(enter, leave))
    return near, far


@compile_kernel
@no_type_check
def _sample_rows(attenuation, voxel_from_camera, k, first_row, step_mm, water, bone):
    slices, rows, columns = attenuation.shape
    ends = (columns - 1.0, rows - 1.0, slices - 1.0)
    m = voxel_from_camera
    source = (m[0, 3], m[1, 3], m[2, 3])
    for r in range(water.shape[0]):
        for c in range(water.shape[1]):
            x, y = (c - k[2]) / k[0], (r + first_row - k[3]) / k[1]
            length = np.sqrt(x * x + y * y + 1.0)
            di = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / length
            dj = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / length
            dk = (m[2, 0] * x + m[2, 1] * y + m[2, 2]) / length
            near, far = intersect_box(source, (di, dj, dk), ends)
            sum_water, sum_bone = np.float32(0), np.float32(0)
            for n in range(int(np.ceil(near / step_mm)), int(np.floor(far / step_mm)) + 1):
                t = n * step_mm
                mu = _trilinear(attenuation, source[0] + t * di, source[1] + t * dj, source[2] + t * dk)
                part_water, part_bone = decompose(mu)
                sum_water += part_water
                sum_bone += part_bone
            water[r, c] = sum_water * step_mm
            bone[r, c] = sum_bone * step_mm
