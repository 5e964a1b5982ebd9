"""The rays of poses as numba kernels, for float64 values on the CPU that need no gradient; `rays` is the reference."""

from typing import Any, no_type_check

import numpy as np

from fluoro_reg.compiled import jit_cached


@jit_cached
@no_type_check
def rays_of_poses(
    rotation: Any, translation: Any, to_voxel: Any, from_pixel: Any, origin: Any, source: Any, direction: Any
) -> None:
    """Write the source [batch, 3] and the direction matrix [batch, 3, 3] of each pose, in voxels.

    `to_voxel` is the linear part of `voxel_from_patient`, `from_pixel` the inverse matrix of the camera, and `origin` the first
    voxel in the patient's coordinates.
    """
    seen = np.empty((3, 3))
    for n in range(len(rotation)):
        r, t = rotation[n], translation[n]
        for i in range(3):
            seen[0, i] = -(r[0, i] * t[0] + r[1, i] * t[1] + r[2, i] * t[2]) - origin[i]
        for i in range(3):
            source[n, i] = to_voxel[i, 0] * seen[0, 0] + to_voxel[i, 1] * seen[0, 1] + to_voxel[i, 2] * seen[0, 2]
        _patient_from_pixel(r, from_pixel, seen)
        for i in range(3):
            for j in range(3):
                direction[n, i, j] = to_voxel[i, 0] * seen[0, j] + to_voxel[i, 1] * seen[1, j] + to_voxel[i, 2] * seen[2, j]


@jit_cached
@no_type_check
def tangents_of_poses(
    rotation: Any, translation: Any, to_voxel: Any, from_pixel: Any, pivot: Any, source: Any, direction: Any
) -> None:
    """Write the derivatives of source [batch, 6, 3] and direction matrix [batch, 6, 3, 3] with respect to a twist."""
    seen, lever, turn = np.empty((3, 3)), np.empty(3), np.zeros((3, 3, 3))
    for i in range(3):  # turn[p] = -to_voxel hat(e_p)
        turn[0, i, 1], turn[0, i, 2] = -to_voxel[i, 2], to_voxel[i, 1]
        turn[1, i, 0], turn[1, i, 2] = to_voxel[i, 2], -to_voxel[i, 0]
        turn[2, i, 0], turn[2, i, 1] = -to_voxel[i, 1], to_voxel[i, 0]
    for n in range(len(rotation)):
        r, t = rotation[n], translation[n]
        for i in range(3):
            lever[i] = -(r[0, i] * t[0] + r[1, i] * t[1] + r[2, i] * t[2]) - pivot[i]
        _patient_from_pixel(r, from_pixel, seen)
        for p in range(3):
            for i in range(3):
                source[n, p, i] = -to_voxel[i, p]
                g = turn[p, i]
                source[n, 3 + p, i] = g[0] * lever[0] + g[1] * lever[1] + g[2] * lever[2]
                for j in range(3):
                    direction[n, p, i, j] = 0.0
                    direction[n, 3 + p, i, j] = g[0] * seen[0, j] + g[1] * seen[1, j] + g[2] * seen[2, j]


@jit_cached
@no_type_check
def _patient_from_pixel(rotation: Any, from_pixel: Any, out: Any) -> None:
    for i in range(3):
        for j in range(3):
            out[i, j] = (
                rotation[0, i] * from_pixel[0, j] + rotation[1, i] * from_pixel[1, j] + rotation[2, i] * from_pixel[2, j]
            )


@jit_cached
@no_type_check
def longest_axes(source: Any, direction: Any, shape: Any, width: int, height: int, axes: Any) -> None:
    """Write the march axis of each view, [batch]: see `rays.march_axes`."""
    toward = np.empty(3)
    for n in range(len(source)):
        is_inside = True
        for i in range(3):
            toward[i] = shape[i] / 2 - 0.5 - source[n, i]
            is_inside = is_inside and abs(toward[i]) <= shape[i] / 2
        if is_inside:
            for i in range(3):
                d = direction[n, i]
                toward[i] = d[0] * (width - 1) / 2 + d[1] * (height - 1) / 2 + d[2]
        axes[n] = np.argmax(np.abs(toward))
