"""The scene that every contender renders: one CT, one C-arm, one view, and for batches poses near that view.

The detector of the C-arm is 1000 mm from the source, the CT's centre is at 700 mm, and the field is 360 mm wide. The CT is a
synthetic body of 256 mm unless another one is given. The view is an oblique anterior-posterior one, so that no ray is along an
axis of the grid.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract, so3

SOURCE_TO_DETECTOR_MM, SOURCE_TO_CENTRE_MM, DETECTOR_MM, BODY_MM = 1000.0, 700.0, 360.0, 256.0
_EDGE_MM = 3.0  # as with a soft reconstruction kernel
_TILT = (0.3, 0.2, 0.1)  # rad, about x, y, z, away from anterior-posterior
_NEARBY = torch.tensor([5.0] * 3 + [0.03] * 3, dtype=torch.float64)  # standard deviation of a batch's poses: mm, rad

# centre and semi-axes as fractions of half the cube, and HU to add; x to the left, y to the back, z to the head
_BODY = ((0.0, 0.0, 0.0), (0.82, 0.62, 0.88), 1040.0)
_ORGANS = (
    *(((0.015 * k, 0.15, -0.7 + 0.28 * k), (0.17, 0.15, 0.11), 560.0) for k in range(6)),  # vertebral bodies
    *(((0.015 * k, 0.15, -0.7 + 0.28 * k), (0.12, 0.10, 0.07), -230.0) for k in range(6)),  # their marrow
    *(((0.015 * k, 0.38, -0.68 + 0.28 * k), (0.03, 0.12, 0.05), 700.0) for k in range(6)),  # spinous processes
    *(((side * 0.48, 0.08, -0.45), (0.26, 0.14, 0.28), 520.0) for side in (-1, 1)),  # wings of the pelvis
    *(((side * 0.48, 0.08, -0.45), (0.21, 0.10, 0.23), -330.0) for side in (-1, 1)),
    *(((side * 0.46, 0.02, -0.75), (0.12, 0.12, 0.11), 450.0) for side in (-1, 1)),  # femoral heads
    ((0.32, -0.28, 0.25), (0.16, 0.11, 0.2), -950.0),  # gas
    ((-0.25, -0.33, -0.1), (0.11, 0.09, 0.13), -900.0),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A CT, the camera, and the view."""

    volume: CTVolume
    camera: CameraIntrinsics
    camera_from_patient: RigidTransform

    @property
    def pivot(self) -> Float[Tensor, "3"]:
        return self.volume.centre_patient

    @property
    def patient_from_camera_axes(self) -> Float[Tensor, "3 3"]:
        """Return the camera's axes in the patient: along columns, along rows, depth."""
        return self.camera_from_patient.rotation.mT

    def poses(self, batch: int) -> RigidTransform:
        """Return the view and `batch - 1` poses near it."""
        twists = _NEARBY * torch.randn(batch, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        twists[0] = 0
        return retract(self.camera_from_patient, twists, self.pivot)

    def pixels(self, maximum: int) -> Float[Tensor, "n 2"]:
        """Return all pixels (u, v), or a random selection of `maximum` pixels."""
        count = self.camera.width * self.camera.height
        chosen = torch.randperm(count, generator=torch.Generator().manual_seed(1))[:maximum].sort().values
        return torch.stack([chosen % self.camera.width, chosen // self.camera.width], dim=-1).double()


def make_scene(volume: CTVolume, detector: int) -> Scene:
    """Return a scene of a CT, with `detector` pixels per side."""
    focal, centre = SOURCE_TO_DETECTOR_MM / DETECTOR_MM * detector, (detector - 1) / 2
    camera = CameraIntrinsics(detector, detector, focal, focal, centre, centre, SOURCE_TO_DETECTOR_MM)
    from_front = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]], dtype=torch.float64)  # columns: x, y, z
    tilts = torch.diag(torch.tensor(_TILT, dtype=torch.float64))
    rotation = (so3.exp(tilts[0]) @ so3.exp(tilts[1]) @ so3.exp(tilts[2]) @ from_front).mT
    centre_camera = torch.tensor([0.0, 0.0, SOURCE_TO_CENTRE_MM], dtype=torch.float64)
    return Scene(volume, camera, RigidTransform(rotation, centre_camera - rotation @ volume.centre_patient))


def body(size: int) -> CTVolume:
    """Return a synthetic body in air, 256 mm and `size` voxels per side, the same body at every size."""
    axis = (torch.arange(size, dtype=torch.float32) + 0.5) * (2 / size) - 1
    edge = 2 * max(_EDGE_MM / BODY_MM, 1 / size)
    inside = _fill_fraction(axis, *_BODY[:2], edge)
    coarse = torch.randn(1, 1, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    texture = torch.nn.functional.interpolate(coarse, size=(size,) * 3, mode="trilinear")[0, 0]
    hu = -1000 + inside * (_BODY[2] + 25 * texture)
    for centre, radii, added in _ORGANS:
        hu += added * _fill_fraction(axis, centre, radii, edge)
    patient_from_voxel = torch.diag(torch.tensor([BODY_MM / size] * 3 + [1.0], dtype=torch.float64))
    patient_from_voxel[:3, 3] = (0.5 - size / 2) * BODY_MM / size
    return CTVolume(torch.from_numpy(attenuation_from_hu(hu.numpy())), patient_from_voxel)


def _fill_fraction(
    axis: Tensor, centre: tuple[float, float, float], radii: tuple[float, float, float], edge: float
) -> Float[Tensor, "k j i"]:
    """Return the fraction of each voxel that an ellipsoid fills, with a rim that is a ramp of width `edge`, as in a scan."""
    x, y, z = ((axis - c) / r for c, r in zip(centre, radii, strict=True))
    radius = (x**2 + (y**2)[:, None] + (z**2)[:, None, None]).sqrt()
    return ((1 - radius) * (min(radii) / edge) + 0.5).clamp_(0, 1)
