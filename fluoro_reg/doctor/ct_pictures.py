"""Pictures of a CT: three planes through its middle and a sum from front to back, in the orientation of radiology."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.attenuation import attenuation_of_tissue
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.doctor.coarse_pictures import coarse_picture
from fluoro_reg.doctor.examination import Picture
from fluoro_reg.rendering.overlay import grey_levels

_WINDOW_MAXIMUM_HU = 600.0


def ct_pictures(volume: CTVolume) -> list[Picture]:
    """Return the pictures of a CT: the patient's right is on the left, front is up, and the head is up."""
    grid, (x_mm, y_mm, z_mm) = _in_patient_order(volume)
    k, j, i = (size // 2 for size in grid.shape)
    planes = (
        ("Axial", "the middle slice; front is up", grid[k], (y_mm, x_mm)),
        ("Coronal", "the middle plane; head is up", grid[:, j].flip(0), (z_mm, x_mm)),
        ("Sagittal", "the middle plane; front is on the left, head is up", grid[:, :, i].flip(0), (z_mm, y_mm)),
    )
    pictures = [
        Picture(title, text, coarse_picture(_windowed(plane.numpy()), spacing)) for title, text, plane, spacing in planes
    ]
    total = grey_levels(grid.sum(1).flip(0).numpy())
    return [*pictures, Picture("Sum", "from front to back; head is up", coarse_picture(total, (z_mm, x_mm)))]


def _windowed(attenuation: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
    return 255 * np.clip(attenuation / attenuation_of_tissue(_WINDOW_MAXIMUM_HU), 0, 1)


def _in_patient_order(volume: CTVolume) -> tuple[Float[Tensor, "z y x"], tuple[float, float, float]]:
    """Return the attenuation with its axes in the order z, y, x of the patient, all growing, and the steps along x, y, z."""
    linear = volume.patient_from_voxel[:3, :3].numpy()
    steps = np.array(volume.voxel_size_mm)
    axes = linear / steps
    voxel_axis_of: dict[int, int] = {}
    for _, row, column in sorted((-abs(axes[r, c]), r, c) for r in range(3) for c in range(3)):
        if row not in voxel_axis_of and column not in voxel_axis_of.values():
            voxel_axis_of[row] = column
    order = [voxel_axis_of[row] for row in range(3)]
    x_dim, y_dim, z_dim = (2 - axis for axis in order)  # memory order is [k, j, i]
    grid = volume.attenuation.permute(z_dim, y_dim, x_dim)
    falling = [dim for dim, row in ((0, 2), (1, 1), (2, 0)) if axes[row, order[row]] < 0]
    x_mm, y_mm, z_mm = (float(steps[axis]) for axis in order)
    return (torch.flip(grid, falling) if falling else grid), (x_mm, y_mm, z_mm)
