"""Empty space is left out without a trace: sparse volumes from every side against the reference, which looks everywhere."""

import pytest
import torch
from helpers.rendering_scenes import looking

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering import NumbaRenderer, TorchRenderer, project_with_jacobian

CAMERA = CameraIntrinsics(width=33, height=29, fx=310.0, fy=280.0, cx=15.3, cy=14.6, source_to_detector_mm=1000.0)


@pytest.fixture(scope="module")
def crumbs() -> CTVolume:
    """Single voxels and thin sticks, far apart, where a block that is wrongly held for air would be missed at once."""
    attenuation = torch.zeros(70, 62, 75)
    place = torch.rand(60, 3, generator=torch.Generator().manual_seed(3)) * torch.tensor(attenuation.shape)
    attenuation[tuple(place.long().T)] = 1.0
    attenuation[5:66, 30, 37] = attenuation[33, 2:60, 12] = attenuation[50, 40, 3:72] = 0.5
    return CTVolume(attenuation, torch.diag(torch.tensor([1.1, 1.3, 1.2, 1.0], dtype=torch.float64)))


def slanted(seed: int) -> tuple[float, float, float]:
    x, y, z = (torch.rand(3, generator=torch.Generator().manual_seed(seed)) * 4 - 2).tolist()
    return x, y, z


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost_from_any_side(crumbs: CTVolume, seed: int) -> None:
    pose = looking(crumbs, slanted(seed))
    expected = project_with_jacobian(TorchRenderer(crumbs, dtype=torch.float64), pose, CAMERA, crumbs.centre_patient)
    image, jacobian = project_with_jacobian(NumbaRenderer(crumbs), pose, CAMERA, crumbs.centre_patient)
    assert (expected[0] > 0).double().mean() > 0.1
    assert float((image - expected[0]).abs().max() / expected[0].max()) < 1e-5
    scale = expected[1].flatten(0, 1).abs().amax(0)
    assert float(((jacobian - expected[1]).abs() / scale).max()) < 1e-4


def test_nothing_is_lost_where_rays_are_steeper_than_the_blocks_allow(crumbs: CTVolume) -> None:
    wide = CameraIntrinsics(31, 25, 6.0, 6.0, 15.0, 12.0)
    pose = RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor([-40.0, -38.0, 15.0], dtype=torch.float64))
    expected = project_with_jacobian(TorchRenderer(crumbs, dtype=torch.float64), pose, wide, crumbs.centre_patient)
    image, _ = project_with_jacobian(NumbaRenderer(crumbs), pose, wide, crumbs.centre_patient)
    assert expected[0].max() > 0.1
    assert float((image - expected[0]).abs().max() / expected[0].max()) < 1e-5


def test_blocks_are_left_out_of_a_sparse_volume_and_not_of_a_full_one(crumbs: CTVolume) -> None:
    sparse, full = NumbaRenderer(crumbs), NumbaRenderer(CTVolume(torch.ones(40, 40, 40), torch.eye(4, dtype=torch.float64)))
    assert 0 < sparse._grid(2).filled.mean() < 0.75
    assert full._grid(2).filled.size == 0
