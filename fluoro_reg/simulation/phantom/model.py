"""A procedural pelvis CT, free of any patient data.

`pelvis` gives the shapes of the bones. This module adds cortical shells, marrow with trabecular texture, joint spaces and the
soft tissue around the bones: skin, fat, muscle, bladder and a bowel with gas. The same `PhantomOptions` give the same voxels on
every processor, because the float64 results are rounded to whole HU. Axes are LPS. The origin of the grid is not at zero, as in
clinical series.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.ct.bone_labels import BONE_LABELS
from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.label_map import LabelMap
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.simulation.phantom.pelvis import BodyShape, Bone, pelvic_bones
from fluoro_reg.simulation.phantom.soft_tissue import smooth_noise, soft_tissue_hu
from fluoro_reg.simulation.phantom.solids import FAR_MM, SampleGrid, signed_distance

_HIP_CENTRE_PATIENT = (4.0, -36.0, -412.0)  # midpoint of the femoral heads in patient mm
_GRID_OFFSET = (0.0, 12.0, 36.0)  # from there to the centre of the grid: more of the body is posterior and superior


@dataclass(frozen=True, slots=True)
class PhantomOptions:
    """Anatomy and voxel grid of the phantom."""

    seed: int = option(0, "seed of the anatomy: asymmetries, bowel gas, texture and noise", minimum=0)
    spacing_mm: tuple[float, float, float] = option(
        (2.0, 2.0, 2.0), "voxel size along x, y, z", unit="mm", minimum=0.5, maximum=8
    )
    size_mm: tuple[float, float, float] = option(
        (384.0, 280.0, 344.0), "extent along x, y, z", unit="mm", minimum=100, maximum=600
    )
    sex: str = option("female", "shape of the pelvis", choices=("female", "male"))
    scale: float = option(1.0, "size relative to an adult", minimum=0.7, maximum=1.2)
    asymmetry: float = option(1.0, "difference between left and right; 0 is mirror symmetric", minimum=0, maximum=3)
    bowel_gas: float = option(1.0, "amount of gas in the bowel", minimum=0, maximum=2)
    noise_hu: float = option(8.0, "standard deviation of the noise", unit="HU", minimum=0, maximum=100)


def phantom_hu(options: PhantomOptions) -> tuple[Float32[np.ndarray, "slices rows columns"], Float[np.ndarray, "4 4"]]:
    """Return the CT in whole HU, indexed [k, j, i], and `patient_from_voxel`."""
    grid = _sample_grid(options)
    skeleton, _ = pelvic_bones(_body_shape(options))
    generator = np.random.default_rng((options.seed, 1))
    hu = soft_tissue_hu(grid, options.scale, options.bowel_gas, generator)
    texture = smooth_noise(grid.shape, 3.5 / options.spacing_mm[0], generator)
    distance_to_bones = np.full(grid.shape, FAR_MM)
    for bone in skeleton:
        _add_bone(hu, grid, bone, distance_to_bones, texture)
    hu += options.noise_hu * generator.standard_normal(grid.shape)
    return np.clip(np.round(hu), -1024, 3071).astype(np.float32), _patient_from_voxel(options, grid)


def phantom_volume(options: PhantomOptions) -> CTVolume:
    """Return the phantom as a CT volume, without writing it as DICOM."""
    hu, patient_from_voxel = phantom_hu(options)
    return volume_from_hu(hu, patient_from_voxel, "the phantom")


def phantom_labels(options: PhantomOptions) -> LabelMap:
    """Return the segmentation of the phantom's bones, with TotalSegmentator's numbers; a voxel is bone if half of it is."""
    grid = _sample_grid(options)
    skeleton, _ = pelvic_bones(_body_shape(options))
    labels, distance_to_bones = np.zeros(grid.shape, np.int32), np.full(grid.shape, FAR_MM)
    for bone in skeleton:
        window, distance = _bone_distance(bone, grid, distance_to_bones)
        labels[window][distance <= 0] = BONE_LABELS[bone.name if bone.name in BONE_LABELS else f"vertebrae_{bone.name}"]
    return LabelMap(torch.from_numpy(labels), torch.from_numpy(_patient_from_voxel(options, grid)))


def phantom_landmarks(options: PhantomOptions) -> dict[str, Float[Tensor, "3"]]:
    """Return named anatomical points in patient mm."""
    _, points = pelvic_bones(_body_shape(options))
    offset = torch.tensor(_HIP_CENTRE_PATIENT, dtype=torch.float64)
    return {name: torch.tensor(point, dtype=torch.float64) + offset for name, point in points.items()}


def _body_shape(options: PhantomOptions) -> BodyShape:
    generator = np.random.default_rng((options.seed, 0))
    return BodyShape(options.sex == "female", options.scale, options.asymmetry, generator)


def _sample_grid(options: PhantomOptions) -> SampleGrid:
    def axis(size: float, step: float, middle: float) -> np.ndarray:
        n = max(2, round(size / step))
        return (np.arange(n) - (n - 1) / 2) * step + middle

    x, y, z = map(axis, options.size_mm, options.spacing_mm, _GRID_OFFSET)
    return SampleGrid(x, y, z)


def _patient_from_voxel(options: PhantomOptions, grid: SampleGrid) -> Float[np.ndarray, "4 4"]:
    patient_from_voxel = np.diag([*options.spacing_mm, 1.0])
    first = np.array([grid.x[0], grid.y[0], grid.z[0]], dtype=float)
    patient_from_voxel[:3, 3] = np.array(_HIP_CENTRE_PATIENT) + first
    return patient_from_voxel


def _bone_distance(
    bone: Bone, grid: SampleGrid, distance_to_bones: np.ndarray
) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """Return the window of a bone and the signed distance to it, mm.

    `distance_to_bones` is the distance to the bones before it, from which a joint space separates it; it is updated.
    """
    window, distance = signed_distance(bone.steps, grid)
    distance = np.maximum(distance, bone.joint_mm - distance_to_bones[window])
    np.minimum(distance_to_bones[window], distance, out=distance_to_bones[window])
    return window, distance


def _add_bone(hu: np.ndarray, grid: SampleGrid, bone: Bone, distance_to_bones: np.ndarray, texture: np.ndarray) -> None:
    """Blend shell and marrow into `hu` by the fraction of each voxel that they fill.

    `distance_to_bones` is the distance to the bones added before; it is updated.
    """
    window, distance = _bone_distance(bone, grid, distance_to_bones)
    voxel = float(np.mean([axis[1] - axis[0] for axis in (grid.x, grid.y, grid.z)]))
    bone_fraction = np.clip(0.5 - distance / voxel, 0, 1)
    marrow_fraction = np.clip(0.5 - _marrow_distance(distance, bone, grid.crop(window)) / voxel, 0, 1)
    marrow = bone.marrow_hu * (1 + 0.3 * texture[window])
    inside = bone.cortical_hu + marrow_fraction * (marrow - bone.cortical_hu)
    hu[window] += bone_fraction * (inside - hu[window])


def _marrow_distance(distance: np.ndarray, bone: Bone, grid: SampleGrid) -> np.ndarray:
    """Return the signed distance to the marrow, mm; below the neck of a long bone only the canal holds marrow."""
    inside_shell = distance + bone.shell_mm
    if bone.canal is None:
        return inside_shell
    below_neck = bone.canal.points[0][2] - grid.coordinates()[2]
    return np.minimum(np.maximum(inside_shell, below_neck), np.maximum(bone.canal.distance(grid), inside_shell))
