"""From a pose and a camera to rays in voxel units, and how the rays move when the pose does.

With A the linear part of `patient_from_voxel` and b its offset, R and t of `camera_from_patient` and K the intrinsics, the
source is `s = A^-1 (-R^T t - b)` and the direction of pixel (u, v) is `d = A^-1 R^T K^-1 (u, v, 1)`: its camera z is 1, so the
ray parameter is depth in mm. All of it is float64 torch, so autograd reaches pose and intrinsics.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.geometry.so3 import hat
from fluoro_reg.rendering.renderer import Rays, RayTangents

# A ray that passes this many voxels sideways between two planes has no quadrature: it counts as a miss. Only a source at or in
# the volume has such rays.
STEEPEST = 100.0

_GENERATORS = hat(torch.eye(3, dtype=torch.float64))


def rays_of_views(
    volume: CTVolume,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    k: Float[Tensor, "*#batch 3 3"] | None = None,
) -> Rays:
    """The rays of every view of a batch (batch dimensions flattened); `k` replaces the intrinsics' numbers by a tensor."""
    source, pixel = _patient_rays(camera_from_patient, intrinsics, k)
    linear = torch.linalg.inv(volume.patient_from_voxel[:3, :3])
    source = (source - volume.patient_from_voxel[:3, 3]) @ linear.T
    direction = linear @ pixel
    source = source.expand(*direction.shape[:-2], 3).reshape(-1, 3)
    return Rays(source, direction.reshape(-1, 3, 3), intrinsics.height, intrinsics.width)


def twist_tangents(
    volume: CTVolume, camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics, pivot: Float[Tensor, "3"]
) -> RayTangents:
    """How the rays move with a twist [translation mm, rotation rad] on the right of the pose, about `pivot` in the patient.

    A patient moved by (v, w) is a camera moved by the inverse: `ds = -(v + w x (s - p))`, `dd = -(w x d)` in patient mm.
    """
    source, pixel = _patient_rays(camera_from_patient, intrinsics, None)
    arm = (source - pivot.to(source)).reshape(-1, 1, 1, 3)
    moved = -torch.linalg.inv(volume.patient_from_voxel[:3, :3])
    turned = moved @ _GENERATORS  # [p]: the change of a vector by rotation about axis p, in voxels
    by_source = torch.cat([moved.T.expand(len(arm), 3, 3), (arm @ turned.mT).squeeze(-2)], dim=1)
    by_rotation = turned @ pixel.reshape(-1, 1, 3, 3)
    return RayTangents(by_source, torch.cat([torch.zeros_like(by_rotation), by_rotation], dim=1))


def march_axes(rays: Rays, shape_ijk: tuple[int, int, int]) -> list[int]:
    """Per view, the axis (of i, j, k) along which the most grid planes lie between the source and the volume's centre.

    One axis for a whole view keeps the image free of seams, and this choice depends on neither pixels nor crop, so a crop's
    image is the crop of the image. A source within the volume has no such direction; then the central ray's decides.
    """
    half = torch.tensor(shape_ijk, dtype=torch.float64) / 2
    source = rays.source.detach().to("cpu", torch.float64)
    toward = half - 0.5 - source
    inside = (toward.abs() <= half).all(dim=-1)
    if inside.any():
        centre = torch.tensor([(rays.width - 1) / 2, (rays.height - 1) / 2, 1.0], dtype=torch.float64)
        central = rays.direction_from_pixel.detach().to("cpu", torch.float64) @ centre
        toward = torch.where(inside[:, None], central, toward)
    return toward.abs().argmax(dim=-1).tolist()


def _patient_rays(camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics, k: Tensor | None) -> tuple[Tensor, Tensor]:
    """The source in the patient, and the matrix from homogeneous pixels to directions in the patient."""
    pose = camera_from_patient.to("cpu", torch.float64)
    patient_from_camera = pose.rotation.mT
    source = -(patient_from_camera @ pose.translation[..., None]).squeeze(-1)
    camera_from_pixel = _inverse_matrix(intrinsics) if k is None else torch.linalg.inv(k.to("cpu", torch.float64))
    return source, patient_from_camera @ camera_from_pixel


def _inverse_matrix(camera: CameraIntrinsics) -> Float[Tensor, "3 3"]:
    rows = [[1 / camera.fx, 0.0, -camera.cx / camera.fx], [0.0, 1 / camera.fy, -camera.cy / camera.fy], [0.0, 0.0, 1.0]]
    return torch.tensor(rows, dtype=torch.float64)
