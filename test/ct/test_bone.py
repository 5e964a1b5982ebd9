"""Separation of bone: two volumes that add up to the CT, and a coarse copy with the same mass and centre."""

import numpy as np
import pytest
import torch

from fluoro_reg.ct.bone import coarse_bone, split_soft_tissue_and_bone
from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError


@pytest.fixture
def volume() -> CTVolume:
    """Return water with one off-centre bone, whose size is a multiple of the coarse voxels, on a sheared grid."""
    hu = np.full((16, 30, 34), 0, np.float32)
    hu[4:9, 8:20, 12:24] = 900
    patient_from_voxel = np.array([[1.0, 0, 0, 5.0], [0, 1.2, 0.8, -40.0], [0, 0, 3.0, 90.0], [0, 0, 0, 1.0]])
    return volume_from_hu(hu, patient_from_voxel, "the test CT")


def test_soft_tissue_and_bone_add_up(volume):
    soft, bone = split_soft_tissue_and_bone(volume)
    torch.testing.assert_close(soft.attenuation + bone.attenuation, volume.attenuation)
    assert float(bone.attenuation.max()) > 0 and float(soft.attenuation.max()) < float(volume.attenuation.max())
    assert torch.equal(bone.attenuation > 0, volume.attenuation > volume.attenuation.median())


@pytest.mark.parametrize("voxel_mm", [1.0, 3.0])
def test_coarse_bone_has_the_mass_and_the_centre_of_the_bone(volume, voxel_mm):
    """Compare zeroth and first moment in patient mm: a wrong offset of the crop or of the blocks would move the centre."""
    _, bone = split_soft_tissue_and_bone(volume)
    coarse = coarse_bone(volume, voxel_mm)
    assert coarse.attenuation.numel() < bone.attenuation.numel() / 5

    def moments(part: CTVolume) -> tuple[float, torch.Tensor]:
        mass = part.attenuation.double() * torch.linalg.det(part.patient_from_voxel[:3, :3])
        points = part.points_patient(torch.nonzero(mass).flip(-1).double())
        return float(mass.sum()), (mass[mass > 0][:, None] * points).sum(0) / mass.sum()

    torch.testing.assert_close(moments(coarse), moments(bone), rtol=1e-5, atol=1e-4)


def test_a_ct_without_bone_is_rejected(volume):
    with pytest.raises(InputError, match="contains no bone"):
        coarse_bone(CTVolume(volume.attenuation.clamp_max(0.02), volume.patient_from_voxel), 3.0)
