"""One small world for the tests of registration."""

import pytest
import torch
from helpers.registration_world import World, bony_volume

from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.geometry import CameraIntrinsics


@pytest.fixture(scope="session")
def world() -> World:
    volume = bony_volume()
    camera = CameraIntrinsics(128, 128, 440.0, 440.0, 63.5, 63.5, 1000.0)
    truth = ap_pose(volume.centre_patient, 700.0)
    points = volume.centre_patient + torch.randn(30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 30
    return World(volume, camera, truth, points)
