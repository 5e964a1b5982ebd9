"""A small CT with two bones, and the reference view of networks for it."""

import numpy as np

from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.networks.reference_view import ReferenceView


def two_bones() -> CTVolume:
    """Return a CT of 12 x 12 x 12 voxels with a large and a small bone."""
    hu = np.full((12, 12, 12), -1000, np.float32)
    hu[2:10, 3:9, 4:10] = 400
    hu[6:9, 3:5, 4:6] = 1200
    return volume_from_hu(hu, np.diag([10.0, 10.0, 10.0, 1.0]), "the test's CT")


def frontal_view(volume: CTVolume, size_px: int) -> ReferenceView:
    """Return an AP view with the source 700 mm from the CT's centre, on a detector of 300 mm."""
    focal, middle = 1020.0 * size_px / 300.0, (size_px - 1) / 2
    camera = CameraIntrinsics(size_px, size_px, focal, focal, middle, middle, 1020.0)
    return ReferenceView(ap_pose(volume.centre_patient, 700.0), volume.centre_patient, camera)
