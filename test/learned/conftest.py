"""A CT of a few voxels with two bones, the view it is looked at from, and an untrained ProST."""

import numpy as np
import pytest
import torch

from fluoro_reg.carm.pose_sampling import ap_pose
from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.learned import ProST, ProSTOptions
from fluoro_reg.networks.reference_view import ReferenceView

CAMERA = CameraIntrinsics(16, 16, 54.4, 54.4, 7.5, 7.5, 1020.0)
TINY = ProSTOptions(image_px=16, voxel_mm=10.0, samples=12, volume_channels=2, encoder_channels=(4, 8), numbers=6)


@pytest.fixture(scope="session")
def volume() -> CTVolume:
    hu = np.full((12, 12, 12), -1000, np.float32)
    hu[2:10, 3:9, 4:10] = 400
    hu[6:9, 3:5, 4:6] = 1200
    return volume_from_hu(hu, np.diag([10.0, 10.0, 10.0, 1.0]), "the test's CT")


@pytest.fixture(scope="session")
def reference(volume: CTVolume) -> ReferenceView:
    return ReferenceView(ap_pose(volume.centre_patient, 700.0), volume.centre_patient, CAMERA)


@pytest.fixture
def prost(volume: CTVolume, reference: ReferenceView) -> ProST:
    torch.manual_seed(3)
    return ProST(TINY, reference, volume).eval()
