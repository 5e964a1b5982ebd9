"""A ray that leaves the grid through an edge is not rounded to the voxel before it, which may be outside of the memory."""

import subprocess
import sys

# One view of a grid of views. Its ray in pixel (46, 76) leaves the volume through an edge: with the rounding of the compiled
# loop, its last sample was one voxel before the memory of the volume, and the process died.
PROGRAM = """
import numpy as np
from fluoro_reg.rendering.backends.numba import kernels
source = [114.26676745945906, -61.266767459459075, 33.19050496886243]
direction = [
    [0.0010831905349058632, 9.440627560695366e-05, -0.171572124350716],
    [0.001083190534905863, -9.440627560695367e-05, 0.07191859513937661],
    [0.0, -0.0015260335448709337, 0.05567158593945326],
]
shape, side = (65, 45, 61), 93
volume = np.ones(shape[0] * shape[1] * shape[2], np.float32)
grid = kernels.VolumeGrid(volume, shape, np.eye(3), np.zeros((0, 0, 0), np.bool_))
none = np.zeros((1, 0, 3)), np.zeros((1, 0, 3, 3))
views = kernels.RayViews(np.array([0]), np.array([source]), np.array([direction]), *none)
out = np.empty((1, 1, side, side), np.float32)
kernels.march_rows(grid, views, 0, side, out)
assert np.isfinite(out).all()
"""


def test_a_ray_through_an_edge_of_the_volume_reads_only_its_memory():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
