"""A small CT, its reference view and an untrained network."""

import pytest
import torch
from helpers.network_scenes import frontal_view, two_bones

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.regressor import PoseRegressor, RegressorOptions


@pytest.fixture(scope="session")
def volume() -> CTVolume:
    return two_bones()


@pytest.fixture(scope="session")
def reference(volume: CTVolume) -> ReferenceView:
    return frontal_view(volume, 32)


@pytest.fixture
def network(reference: ReferenceView) -> PoseRegressor:
    """Untrained, with outputs that differ between images."""
    torch.manual_seed(3)
    network = PoseRegressor(RegressorOptions(image_px=32), reference).eval()
    torch.nn.init.normal_(network.pose_numbers.weight, std=0.02)
    torch.nn.init.normal_(network.factor_numbers.weight, std=0.02)
    return network
