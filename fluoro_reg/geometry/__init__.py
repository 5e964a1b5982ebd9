"""Coordinate frames, units and transforms: the conventions of the package.

Frames
    `patient`  DICOM patient coordinates (LPS axes, origin of the CT series), mm.
    `voxel`    index (i, j, k) = (column, row, slice); integers are voxel centres; memory order is [k, j, i].
    `camera`   origin at the X-ray focal spot, +z from the source to the detector, +x along columns, +y along rows, mm.
    `pixel`    (u, v); (0, 0) is the centre of the first pixel.

Transforms are named `target_from_source` and map source coordinates to target coordinates, so that the names in a product
cancel: `camera_from_patient @ patient_from_voxel`. Rotations are proper; a mirrored image is corrected in its pixels.

A twist is `[translation mm, rotation rad]`, applied on the right in the patient frame about a pivot:
`camera_from_patient @ shift(pivot) @ exp(twist) @ shift(-pivot)`.

Lengths are in mm, angles in rad, times in s. Metres and quaternions occur in `fluoro_reg.ros.conversions` only.
"""

from fluoro_reg.geometry.camera import CameraIntrinsics
from fluoro_reg.geometry.rigid_transform import RigidTransform
from fluoro_reg.geometry.se3 import retract

__all__ = ["CameraIntrinsics", "RigidTransform", "retract"]
