"""A view to refer to, a CT that has it, and an untrained network."""

import numpy as np
import pytest
import torch

from fluoro_reg.carm.pose_sampling import ap_pose
from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.regressor import PoseRegressor, RegressorOptions

CAMERA = CameraIntrinsics(32, 32, 108.8, 108.8, 15.5, 15.5, 1020.0)


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
def network(reference: ReferenceView) -> PoseRegressor:
    """Untrained, with outputs that differ between images."""
    torch.manual_seed(3)
    network = PoseRegressor(RegressorOptions(image_px=32), reference).eval()
    torch.nn.init.normal_(network.pose_numbers.weight, std=0.02)
    torch.nn.init.normal_(network.factor_numbers.weight, std=0.02)
    return network
