"""A small CT."""

import pytest
from helpers.network_scenes import two_bones

from fluoro_reg.ct.volume import CTVolume


@pytest.fixture(scope="session")
def volume() -> CTVolume:
    return two_bones()
