"""A procedural pelvis CT: a patient who may be shown to everyone.

`pelvis_anatomy` says where the bones are; here they get cortical shells, marrow with a trabecular grain, the joints' spaces,
and a body around them: skin, fat, muscle, bladder and a bowel with gas. All is a function of `PhantomOptions`: the same
options give the same voxels, on every processor, since what is computed in float64 is rounded to whole HU. Axes are LPS; the
origin of the grid is off zero, as in real series.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.simulation.phantom.pelvis import Bone, Build, bones
from fluoro_reg.simulation.phantom.soft_tissue import smooth_noise, soft_tissue_hu
from fluoro_reg.simulation.phantom.solids import FAR_MM, SampleGrid, model

_HIP_CENTRE_PATIENT = (4.0, -36.0, -412.0)  # where the midpoint of the femoral heads lies in patient mm
_GRID_OFFSET = (0.0, 12.0, 36.0)  # the middle of the grid as seen from there: more of the body lies behind and above


@dataclass(frozen=True, slots=True)
class PhantomOptions:
    """Which person, and how finely scanned."""

    seed: int = option(0, "chooses the person: asymmetries, bowel gas, grain and noise", minimum=0)
    spacing_mm: tuple[float, float, float] = option(
        (2.0, 2.0, 2.0), "voxel size along x, y, z", unit="mm", minimum=0.5, maximum=8
    )
    size_mm: tuple[float, float, float] = option(
        (384.0, 280.0, 344.0), "extent along x, y, z", unit="mm", minimum=100, maximum=600
    )
    sex: str = option("female", "shape of the pelvis", choices=("female", "male"))
    scale: float = option(1.0, "size relative to a grown person", minimum=0.7, maximum=1.2)
    asymmetry: float = option(1.0, "how much left and right differ; 0 is a mirror image of itself", minimum=0, maximum=3)
    bowel_gas: float = option(1.0, "amount of gas in the bowel", minimum=0, maximum=2)
    noise_hu: float = option(8.0, "standard deviation of the scanner's noise", unit="HU", minimum=0, maximum=100)


def phantom_hu(options: PhantomOptions) -> tuple[Float32[np.ndarray, "slices rows columns"], Float[np.ndarray, "4 4"]]:
    """The CT in whole HU [k, j, i] and `patient_from_voxel`."""
    grid = _grid(options)
    skeleton, _ = bones(_build(options))
    generator = np.random.default_rng((options.seed, 1))
    hu = soft_tissue_hu(grid, options.scale, options.bowel_gas, generator)
    grain = smooth_noise(grid.shape, 3.5 / options.spacing_mm[0], generator)
    taken = np.full(grid.shape, FAR_MM)
    for bone in skeleton:
        _add_bone(hu, grid, bone, taken, grain)
    hu += options.noise_hu * generator.standard_normal(grid.shape)
    patient_from_voxel = np.diag([*options.spacing_mm, 1.0])
    first = np.array([grid.x[0], grid.y[0], grid.z[0]], dtype=float)
    patient_from_voxel[:3, 3] = np.array(_HIP_CENTRE_PATIENT) + first
    return np.clip(np.round(hu), -1024, 3071).astype(np.float32), patient_from_voxel


def phantom_volume(options: PhantomOptions) -> CTVolume:
    """The phantom as the renderer sees it, without the detour through DICOM."""
    hu, patient_from_voxel = phantom_hu(options)
    return volume_from_hu(hu, patient_from_voxel, "the phantom")


def phantom_landmarks(options: PhantomOptions) -> dict[str, Float[Tensor, "3"]]:
    """Named anatomical points in patient mm."""
    _, points = bones(_build(options))
    offset = torch.tensor(_HIP_CENTRE_PATIENT, dtype=torch.float64)
    return {name: torch.tensor(point, dtype=torch.float64) + offset for name, point in points.items()}


def _build(options: PhantomOptions) -> Build:
    generator = np.random.default_rng((options.seed, 0))
    return Build(options.sex == "female", options.scale, options.asymmetry, generator)


def _grid(options: PhantomOptions) -> SampleGrid:
    def axis(size: float, step: float, middle: float) -> np.ndarray:
        n = max(2, round(size / step))
        return (np.arange(n) - (n - 1) / 2) * step + middle

    x, y, z = map(axis, options.size_mm, options.spacing_mm, _GRID_OFFSET)
    return SampleGrid(x, y, z)


def _add_bone(hu: np.ndarray, grid: SampleGrid, bone: Bone, taken: np.ndarray, grain: np.ndarray) -> None:
    """Shell and marrow by the share of each voxel that they fill; `taken` is the distance to the bones already there."""
    window, distance = model(bone.strokes, grid)
    distance = np.maximum(distance, bone.joint_mm - taken[window])
    voxel = float(np.mean([axis[1] - axis[0] for axis in (grid.x, grid.y, grid.z)]))
    bone_share = np.clip(0.5 - distance / voxel, 0, 1)
    marrow_share = np.clip(0.5 - _marrow_distance(distance, bone, grid.part(window)) / voxel, 0, 1)
    marrow = bone.marrow_hu * (1 + 0.3 * grain[window])
    inside = bone.cortical_hu + marrow_share * (marrow - bone.cortical_hu)
    hu[window] += bone_share * (inside - hu[window])
    np.minimum(taken[window], distance, out=taken[window])


def _marrow_distance(distance: np.ndarray, bone: Bone, part: SampleGrid) -> np.ndarray:
    spongy = distance + bone.shell_mm
    if bone.canal is None:
        return spongy
    below_neck = bone.canal.points[0][2] - part.coordinates()[2]
    return np.minimum(np.maximum(spongy, below_neck), np.maximum(bone.canal.distance(part), spongy))
