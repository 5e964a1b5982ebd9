"""Empty-space skipping: sparse volumes from all sides, compared with the reference, which samples everything."""

import pytest
import torch
from helpers.rendering_scenes import pose_towards

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering import NumbaRenderer, TorchRenderer, project_with_jacobian

CAMERA = CameraIntrinsics(width=33, height=29, fx=310.0, fy=280.0, cx=15.3, cy=14.6, source_to_detector_mm=1000.0)


@pytest.fixture(scope="module")
def sparse_volume() -> CTVolume:
    """Return single voxels and thin sticks that are far apart, so that any block wrongly skipped causes a visible error."""
    attenuation = torch.zeros(70, 62, 75)
    index = torch.rand(60, 3, generator=torch.Generator().manual_seed(3)) * torch.tensor(attenuation.shape)
    attenuation[tuple(index.long().T)] = 1.0
    attenuation[5:66, 30, 37] = attenuation[33, 2:60, 12] = attenuation[50, 40, 3:72] = 0.5
    return CTVolume(attenuation, torch.diag(torch.tensor([1.1, 1.3, 1.2, 1.0], dtype=torch.float64)))


def random_rotation(seed: int) -> tuple[float, float, float]:
    x, y, z = (torch.rand(3, generator=torch.Generator().manual_seed(seed)) * 4 - 2).tolist()
    return x, y, z


@pytest.mark.parametrize("seed", range(12))
def test_skipping_loses_nothing_from_any_side(sparse_volume: CTVolume, seed: int) -> None:
    pose = pose_towards(sparse_volume, random_rotation(seed))
    expected = project_with_jacobian(
        TorchRenderer(sparse_volume, dtype=torch.float64), pose, CAMERA, sparse_volume.centre_patient
    )
    image, jacobian = project_with_jacobian(NumbaRenderer(sparse_volume), pose, CAMERA, sparse_volume.centre_patient)
    assert (expected[0] > 0).double().mean() > 0.1
    assert float((image - expected[0]).abs().max() / expected[0].max()) < 1e-5
    scale = expected[1].flatten(0, 1).abs().amax(0)
    assert float(((jacobian - expected[1]).abs() / scale).max()) < 1e-4


def test_rays_too_steep_for_skipping_lose_nothing(sparse_volume: CTVolume) -> None:
    wide = CameraIntrinsics(31, 25, 6.0, 6.0, 15.0, 12.0)
    pose = RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor([-40.0, -38.0, 15.0], dtype=torch.float64))
    expected = project_with_jacobian(
        TorchRenderer(sparse_volume, dtype=torch.float64), pose, wide, sparse_volume.centre_patient
    )
    image, _ = project_with_jacobian(NumbaRenderer(sparse_volume), pose, wide, sparse_volume.centre_patient)
    assert expected[0].max() > 0.1
    assert float((image - expected[0]).abs().max() / expected[0].max()) < 1e-5


def test_blocks_are_skipped_in_a_sparse_volume_and_not_in_a_full_one(sparse_volume: CTVolume) -> None:
    sparse, full = (
        NumbaRenderer(sparse_volume),
        NumbaRenderer(CTVolume(torch.ones(40, 40, 40), torch.eye(4, dtype=torch.float64))),
    )
    assert 0 < sparse._grid(2).occupied.mean() < 0.75
    assert full._grid(2).occupied.size == 0
