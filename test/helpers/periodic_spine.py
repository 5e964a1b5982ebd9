"""A spine of equal vertebrae in a body, and a CT of a few of them: a shift by one level explains an X-ray nearly as well."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.xray.image import Intensity, XrayImage

PITCH_MM = 33.0
SPACING_MM = 3.0
LEVELS, LEVELS_OF_CT = 13, 6
HALF_BODY_MM = (120.0, 81.0)  # left-right and front-back
CAMERA = CameraIntrinsics(128, 128, 430.0, 430.0, 63.5, 63.5, 1000.0)


@dataclass(frozen=True)
class Spine:
    """A whole spine, and the CT of the levels `first` to `first + LEVELS_OF_CT - 1` in the same patient coordinates."""

    whole: CTVolume
    ct: CTVolume

    def xray(self, camera_from_patient: RigidTransform, noise: float = 0.002) -> XrayImage:
        """Line integrals of the whole spine, with noise (a fraction of their largest value)."""
        pixels = project(make_renderer(self.whole, "cpu"), camera_from_patient, CAMERA)
        pixels = pixels + noise * pixels.max() * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(3))
        return XrayImage(pixels, CAMERA, Intensity.ATTENUATION, torch.ones_like(pixels, dtype=torch.bool))


def make_spine(variation: float = 0.0, first: int = 4) -> Spine:
    """A spine whose vertebrae differ in size by the fraction `variation` from level to level, from the head to the feet."""
    height = LEVELS * PITCH_MM
    x, y, z = (
        np.arange(-half + SPACING_MM / 2, half, SPACING_MM) for half in (HALF_BODY_MM[0] + 15, HALF_BODY_MM[1] + 15, height / 2)
    )
    z, y, x = np.meshgrid(z, y, x, indexing="ij")
    hu = np.where((x / HALF_BODY_MM[0]) ** 2 + (y / HALF_BODY_MM[1]) ** 2 < 1, 40.0, -1000.0)
    for level in range(LEVELS):
        size = 1 + variation * (level - LEVELS // 2)
        _add_vertebra(hu, x / size, (y - 20) / size, (z - (level - LEVELS / 2 + 0.5) * PITCH_MM) / size)
    patient_from_voxel = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    patient_from_voxel[:3, 3] = [x.min(), y.min(), z.min()]
    whole = volume_from_hu(gaussian_filter(hu, 0.6).astype(np.float32), patient_from_voxel)
    low, high = (round(level * PITCH_MM / SPACING_MM) for level in (first, first + LEVELS_OF_CT))
    begin = whole.patient_from_voxel.clone()
    begin[2, 3] += low * SPACING_MM
    return Spine(whole, replace(whole, attenuation=whole.attenuation[low:high].clone(), patient_from_voxel=begin))


def _add_vertebra(hu: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
    """Body, spinous and transverse processes; the left transverse process is the longer one, so that no mirror image fits."""
    radius = np.hypot(x / 24, y / 17)
    body = (radius < 1) & (np.abs(z) < 12)
    hu[body] = 250
    hu[body & ((radius > 0.82) | (np.abs(z) > 9))] = 600
    hu[(np.abs(x) < 5) & (y > 12) & (y < 50) & (np.abs(z + 0.3 * (y - 12)) < 7)] = 450
    hu[(x > -38) & (x < 48) & (np.abs(y - 20) < 6) & (np.abs(z - 3) < 5)] = 450
