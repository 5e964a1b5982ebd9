"""The small world of the tests of registration: a seeded blob-and-bones CT, a camera, and an X-ray of it."""

from dataclasses import dataclass

import torch

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.xray.image import Intensity, XrayImage


@dataclass(frozen=True)
class World:
    volume: CTVolume
    camera: CameraIntrinsics
    truth: RigidTransform
    landmarks_patient: torch.Tensor

    def xray(self, volume: CTVolume | None = None, pose: RigidTransform | None = None) -> XrayImage:
        """Transmitted photons with a curve, an offset and noise that the registration does not know."""
        line = project(make_renderer(volume or self.volume, "cpu"), pose or self.truth, self.camera)
        photons = 40000 * (torch.exp(-line.double()) + 0.02) ** 0.8
        noise = torch.randn(photons.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        pixels = (photons + photons.sqrt() * noise).clamp(0, 65535).float()
        return XrayImage(pixels, self.camera, Intensity.TRANSMITTED, torch.ones(pixels.shape, dtype=torch.bool))


def bony_volume() -> CTVolume:
    """A body of 200 x 140 x 180 mm at 4 mm with a dozen seeded bones: no two views of it look alike."""
    generator = torch.Generator().manual_seed(4)
    k, j, i = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (45, 35, 50)), indexing="ij")
    inside = ((i / 0.9) ** 2 + (j / 0.85) ** 2) < 1
    attenuation = 0.019 * inside
    for _ in range(12):
        centre, radius = torch.rand(3, generator=generator) * 1.1 - 0.55, torch.rand(3, generator=generator) * 0.2 + 0.08
        distance = ((k - centre[0]) / radius[0]) ** 2 + ((j - centre[1]) / radius[1]) ** 2 + ((i - centre[2]) / radius[2]) ** 2
        attenuation = attenuation + 0.02 * torch.sigmoid(8 * (1 - distance)) * inside
    patient_from_voxel = torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0], dtype=torch.float64))
    patient_from_voxel[:3, 3] = torch.tensor([-100.0, -250.0, 600.0])
    return CTVolume(attenuation.float(), patient_from_voxel, fingerprint="test")
