"""Small CTs on unusual grids, and poses that look at them from different sides."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, se3

CAMERA = CameraIntrinsics(width=21, height=17, fx=310.0, fy=280.0, cx=9.3, cy=8.6, source_to_detector_mm=1000.0)

GRIDS = {
    "cubic": [[1.5, 0, 0], [0, 1.5, 0], [0, 0, 1.5]],
    "anisotropic": [[0.9, 0, 0], [0, 1.3, 0], [0, 0, 4.0]],
    "oblique": (1.4 * torch.linalg.matrix_exp(torch.tensor([[0, -0.5, 0.2], [0.5, 0, -0.4], [-0.2, 0.4, 0]]))).tolist(),
    "sheared": [[1.2, 0, 0], [0, 1.2, 1.1], [0, 0, 2.9]],  # slices are shifted sideways, as with a gantry tilt
}

VIEWS = {  # rotation vectors from the patient to the camera, named after the march axes of a cubic grid
    "along k": (0.0, 0.0, 0.3),
    "along j": (1.5, 0.1, 0.0),
    "along i": (0.1, -1.5, 0.1),
    "opposite": (3.0, 0.3, 0.0),
    "diagonal": (0.5, 0.65, 0.2),
    "at the change of axis": (0.7854, 0.0, 0.0),
}


def grid(linear: list, shape_ijk: tuple[int, int, int] = (18, 23, 14)) -> tuple[tuple[int, int, int], Tensor]:
    """Return the shape and `patient_from_voxel`, with an origin that is not a round number."""
    patient_from_voxel = torch.eye(4, dtype=torch.float64)
    patient_from_voxel[:3, :3] = torch.tensor(linear, dtype=torch.float64)
    patient_from_voxel[:3, 3] = torch.tensor([13.7, -42.1, 105.3], dtype=torch.float64)
    return shape_ijk, patient_from_voxel


def noise_volume(shape_ijk: tuple[int, int, int], patient_from_voxel: Tensor) -> CTVolume:
    """Return smooth noise, dense up to two faces, with air at the others."""
    noise = torch.rand(1, 1, *(n + 4 for n in reversed(shape_ijk)), generator=torch.Generator().manual_seed(7))
    attenuation = 0.04 * torch.nn.functional.avg_pool3d(noise, 5, stride=1)[0, 0]
    attenuation[:2], attenuation[:, -3:], attenuation[..., :1] = 0, 0, 0
    return CTVolume(attenuation, patient_from_voxel)


def pose_towards(volume: CTVolume, rotation_vector: tuple[float, float, float], depth_mm: float = 380.0) -> RigidTransform:
    """Return a pose with the volume's centre a little beside the optical axis, `depth_mm` from the source."""
    twist = torch.tensor([0.0, 0.0, 0.0, *rotation_vector], dtype=torch.float64)
    rotation = se3.exp(twist).rotation
    target = torch.tensor([0.7, -1.3, depth_mm], dtype=torch.float64)
    return RigidTransform(rotation, target - rotation @ volume.centre_patient)


@dataclass(frozen=True)
class Scene:
    """A CT and a view of it."""

    volume: CTVolume
    camera_from_patient: RigidTransform

    @property
    def pivot(self) -> Tensor:
        return self.volume.centre_patient + torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64)
