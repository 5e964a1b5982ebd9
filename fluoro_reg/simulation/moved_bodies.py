"""Thickness of water and bone along rays through a patient whose bones have moved.

A sample point belongs to a bone as far as that bone's mask reaches it, at the bone's own pose. There the CT is read where the
point lay in the bone before it moved; everywhere else, the CT without its bones is read where the patient is. A bone thus
displaces what is in its place, and leaves soft tissue behind. The registration adds line integrals of parts instead: the two
agree only where bones do not meet.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from fluoro_reg.ct.attenuation import attenuation_of_tissue
from fluoro_reg.ct.bodies import body_masks
from fluoro_reg.ct.hu_thresholds import SOFT_TISSUE_HU
from fluoro_reg.ct.label_map import LabelMap
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.simulation.ray_sampling import SampledVolume, compile_kernel, crop_to_body, decompose, intersect_box

_ROWS_PER_TASK = 16


@dataclass(frozen=True, slots=True)
class MovableBodies:
    """The CT without its bones, and each bone: its attenuation and the share of each voxel that is its own, cropped to it."""

    rest: SampledVolume
    names: tuple[str, ...]
    parts: tuple[SampledVolume, ...]
    shares: tuple[Float32[np.ndarray, "_ _ _"], ...]

    @classmethod
    def of(cls, ct: CTVolume, labels: LabelMap, bodies: Mapping[str, Sequence[int]]) -> "MovableBodies":
        """The bones of a CT with their labels.

        Raises:
            InputError: Two bodies share a label, or a body is not in the segmentation.
        """
        masks = body_masks(labels.on_grid_of(ct), bodies)
        soft = attenuation_of_tissue(SOFT_TISSUE_HU)
        rest, parts, shares = ct.attenuation.clone(), list[SampledVolume](), list[np.ndarray]()
        step = crop_to_body(ct).step_mm
        for mask in masks.values():
            rest[mask] = rest[mask].clamp_max(soft)
            voxels = mask.nonzero()
            low, high = (voxels.amin(0) - 2).tolist(), (voxels.amax(0) + 3).tolist()
            parts.append(SampledVolume(_box(ct.attenuation, low, high), _voxel_from_patient(ct, low), step))
            shares.append(_box(mask.float(), low, high))
        body = crop_to_body(CTVolume(rest, ct.patient_from_voxel))
        return cls(body, tuple(masks), tuple(parts), tuple(shares))

    def water_and_bone_thickness_mm(
        self, camera_from_patient: RigidTransform, moved: Mapping[str, RigidTransform], intrinsics: CameraIntrinsics
    ) -> tuple[Float32[np.ndarray, "height width"], Float32[np.ndarray, "height width"]]:
        """The thickness of water and of cortical bone along the ray of every pixel, mm.

        Args:
            camera_from_patient: The pose of the patient, and of all bones that have not moved.
            moved: `camera_from_patient` of the bones that have moved, by name.
            intrinsics: The camera.
        """
        poses = [moved.get(name, camera_from_patient) for name in self.names]
        matrices = [
            part.voxel_from_patient @ pose.inverse().matrix().numpy() for part, pose in zip(self.parts, poses, strict=True)
        ]
        from_camera = np.stack([self.rest.voxel_from_patient @ camera_from_patient.inverse().matrix().numpy(), *matrices])
        shapes = np.array([part.attenuation.shape for part in self.parts], np.int64)
        begins = np.concatenate([[0], np.cumsum(shapes.prod(1))])
        values = np.concatenate([part.attenuation.reshape(-1) for part in self.parts])
        shares = np.concatenate([share.reshape(-1) for share in self.shares])
        size = (intrinsics.height, intrinsics.width)
        water, bone = np.zeros(size, np.float32), np.zeros(size, np.float32)
        k = np.array([intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy])

        def task(row: int) -> None:
            rows = slice(row, row + _ROWS_PER_TASK)
            parts = (values, shares, shapes, begins)
            _sample_rows(self.rest.attenuation, *parts, from_camera, k, row, self.rest.step_mm, water[rows], bone[rows])

        with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
            list(pool.map(task, range(0, intrinsics.height, _ROWS_PER_TASK)))
        return water, bone


def _box(values: Float[Tensor, "slices rows columns"], low: list[int], high: list[int]) -> Float32[np.ndarray, "_ _ _"]:
    """A box of a grid, which may reach beyond it; the outermost values go on there, so that a bone does not end in air."""
    index = [torch.arange(a, b).clamp(0, n - 1) for a, b, n in zip(low, high, values.shape, strict=True)]
    return np.ascontiguousarray(values[index[0]][:, index[1]][:, :, index[2]].numpy(), np.float32)


def _voxel_from_patient(ct: CTVolume, low: list[int]) -> Float[np.ndarray, "4 4"]:
    patient_from_voxel = ct.patient_from_voxel.clone()
    patient_from_voxel[:3, 3] = ct.points_patient(torch.tensor(low[::-1], dtype=torch.float64))
    return np.linalg.inv(patient_from_voxel.numpy())


@compile_kernel
@no_type_check  # numba infers float32
def _at(values, begin, shape, pi, pj, pk):
    """Return the trilinear sample of a grid in a flat array."""
    rows, columns = shape[1], shape[2]
    i, j, k = min(int(pi), columns - 2), min(int(pj), rows - 2), min(int(pk), shape[0] - 2)
    a, b, c = np.float32(pi - i), np.float32(pj - j), np.float32(pk - k)
    total = np.float32(0)
    for dk in range(2):
        wk = c if dk else np.float32(1) - c
        for dj in range(2):
            wj = b if dj else np.float32(1) - b
            first = begin + ((k + dk) * rows + j + dj) * columns + i
            total += wk * wj * (values[first] + a * (values[first + 1] - values[first]))
    return total


@compile_kernel
@no_type_check
def _sample_rows(rest, values, shares, shapes, begins, from_camera, k, first_row, step_mm, water, bone):
    bodies = shapes.shape[0]
    rest_shape = np.array(rest.shape)
    flat = rest.reshape(-1)
    origin, along = np.zeros((bodies + 1, 3)), np.zeros((bodies + 1, 3))
    near, far = np.zeros(bodies + 1), np.zeros(bodies + 1)
    for r in range(water.shape[0]):
        for c in range(water.shape[1]):
            x, y = (c - k[2]) / k[0], (r + first_row - k[3]) / k[1]
            length = np.sqrt(x * x + y * y + 1.0)
            for n in range(bodies + 1):
                shape = rest_shape if n == 0 else shapes[n - 1]
                for d in range(3):
                    m = from_camera[n, d]
                    origin[n, d], along[n, d] = m[3], (m[0] * x + m[1] * y + m[2]) / length
                ends = (shape[2] - 1.0, shape[1] - 1.0, shape[0] - 1.0)
                source = (origin[n, 0], origin[n, 1], origin[n, 2])
                near[n], far[n] = intersect_box(source, (along[n, 0], along[n, 1], along[n, 2]), ends)
            begin, end = 1e9, 0.0
            for n in range(bodies + 1):
                if near[n] < far[n]:
                    begin, end = min(begin, near[n]), max(end, far[n])
            sum_water, sum_bone = np.float32(0), np.float32(0)
            for sample in range(int(np.ceil(begin / step_mm)), int(np.floor(end / step_mm)) + 1):
                t = sample * step_mm
                taken, mu = np.float32(0), np.float32(0)
                for n in range(1, bodies + 1):
                    if near[n] <= t <= far[n]:
                        i, j, s = origin[n, 0] + t * along[n, 0], origin[n, 1] + t * along[n, 1], origin[n, 2] + t * along[n, 2]
                        share = _at(shares, begins[n - 1], shapes[n - 1], i, j, s)
                        if share > 0:
                            mu += share * _at(values, begins[n - 1], shapes[n - 1], i, j, s)
                            taken += share
                if taken > 1:
                    mu /= taken
                elif near[0] <= t <= far[0]:
                    i, j, s = origin[0, 0] + t * along[0, 0], origin[0, 1] + t * along[0, 1], origin[0, 2] + t * along[0, 2]
                    mu += (np.float32(1) - taken) * _at(flat, 0, rest_shape, i, j, s)
                part_water, part_bone = decompose(mu)
                sum_water += part_water
                sum_bone += part_bone
            water[r, c] = sum_water * step_mm
            bone[r, c] = sum_bone * step_mm
