"""A small CT, its reference view and an untrained ProST."""

import pytest
import torch
from helpers.network_scenes import frontal_view, two_bones

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.learned import ProST, ProSTOptions
from fluoro_reg.networks.reference_view import ReferenceView

TINY = ProSTOptions(image_px=16, voxel_mm=10.0, samples=12, volume_channels=2, encoder_channels=(4, 8), embedding_size=6)


@pytest.fixture(scope="session")
def volume() -> CTVolume:
    return two_bones()


@pytest.fixture(scope="session")
def reference(volume: CTVolume) -> ReferenceView:
    return frontal_view(volume, 16)


@pytest.fixture
def prost(volume: CTVolume, reference: ReferenceView) -> ProST:
    torch.manual_seed(3)
    return ProST(TINY, reference, volume).eval()
