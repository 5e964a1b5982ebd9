"""Frames, units and transforms: the conventions page of the whole package.

Frames
    `patient`  DICOM patient coordinates (LPS axes, the CT series' origin), mm.
    `voxel`    index (i, j, k) = (column, row, slice); an integer is a voxel's centre; memory order is [k, j, i].
    `camera`   origin at the X-ray focal spot, +z from the source to the detector, +x along columns, +y along rows, mm.
    `pixel`    (u, v); (0, 0) is the centre of the first pixel.

Transforms are named `target_from_source` and map source coordinates to target, so products cancel:
`camera_from_patient @ patient_from_voxel`. Rotations are proper; a mirrored image is un-mirrored in its pixels.

A twist is `[translation mm, rotation rad]`, applied on the right in the patient frame about a pivot:
`camera_from_patient @ shift(pivot) @ exp(twist) @ shift(-pivot)`.

Lengths are mm, angles rad, times s. Metres and quaternions exist in `fluoro_reg.ros.conversions` only.
"""

from fluoro_reg.geometry.camera import CameraIntrinsics
from fluoro_reg.geometry.rigid_transform import RigidTransform
from fluoro_reg.geometry.se3 import retract

__all__ = ["CameraIntrinsics", "RigidTransform", "retract"]
