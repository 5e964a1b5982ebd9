"""From a pose and a camera to rays in voxel units, and how the rays move when the pose does.

With A the linear part of `patient_from_voxel` and b its offset, R and t of `camera_from_patient` and K the intrinsics, the
source is `s = A^-1 (-R^T t - b)` and the direction of pixel (u, v) is `d = A^-1 R^T K^-1 (u, v, 1)`: its camera z is 1, so the
ray parameter is depth in mm. All of it is float64 torch, so autograd reaches pose and intrinsics.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.geometry.so3 import hat
from fluoro_reg.rendering.renderer import Rays, RayTangents

# A ray that passes this many voxels sideways between two planes has no quadrature: it counts as a miss. Only a source at or in
# the volume has such rays.
STEEPEST = 100.0


@dataclass(frozen=True, slots=True)
class ViewGeometry:
    """The constants of a CT and a camera that turn poses into rays, on the device of those poses.

    `voxel_from_patient` is A^-1, `origin_patient` is b and `camera_from_pixel` is K^-1, or one K^-1 a view.
    """

    voxel_from_patient: Float[Tensor, "3 3"]
    origin_patient: Float[Tensor, "3"]
    camera_from_pixel: Float[Tensor, "*#batch 3 3"]
    generators: Float[Tensor, "3 3 3"]
    height: int
    width: int

    @classmethod
    def of(
        cls,
        volume: CTVolume,
        intrinsics: CameraIntrinsics,
        device: torch.device | str = "cpu",
        k: Float[Tensor, "*#batch 3 3"] | None = None,
    ) -> "ViewGeometry":
        """The geometry of a CT and a camera; `k` replaces the intrinsics' numbers by a tensor."""
        patient_from_voxel = volume.patient_from_voxel.to(device, torch.float64)
        return cls(
            torch.linalg.inv(patient_from_voxel[:3, :3]),
            patient_from_voxel[:3, 3],
            _inverse_matrix(intrinsics).to(device) if k is None else torch.linalg.inv(k.to(device, torch.float64)),
            hat(torch.eye(3, dtype=torch.float64, device=device)),
            intrinsics.height,
            intrinsics.width,
        )

    def rays(self, camera_from_patient: RigidTransform, axes: Int[Tensor, "batch"] | None = None) -> Rays:
        """The rays of every view of a batch (batch dimensions flattened)."""
        source = (self._source_patient(camera_from_patient) - self.origin_patient) @ self.voxel_from_patient.T
        direction = self.voxel_from_patient @ self._patient_from_pixel(camera_from_patient)
        source = source.expand(*direction.shape[:-2], 3).reshape(-1, 3)
        return Rays(source, direction.reshape(-1, 3, 3), self.height, self.width, axes)

    def twist_tangents(self, camera_from_patient: RigidTransform, pivot: Float[Tensor, "3"]) -> RayTangents:
        """How the rays move with a twist [translation mm, rotation rad] on the right of the pose, about `pivot` in the patient.

        A patient moved by (v, w) is a camera moved by the inverse: `ds = -(v + w x (s - p))`, `dd = -(w x d)` in patient mm.
        """
        arm = (self._source_patient(camera_from_patient) - pivot).reshape(-1, 1, 1, 3)
        moved = -self.voxel_from_patient
        turned = moved @ self.generators  # [p]: the change of a vector by rotation about axis p, in voxels
        by_source = torch.cat([moved.T.expand(len(arm), 3, 3), (arm @ turned.mT).squeeze(-2)], dim=1)
        by_rotation = turned @ self._patient_from_pixel(camera_from_patient).reshape(-1, 1, 3, 3)
        return RayTangents(by_source, torch.cat([torch.zeros_like(by_rotation), by_rotation], dim=1))

    def _source_patient(self, camera_from_patient: RigidTransform) -> Tensor:
        return -(camera_from_patient.rotation.mT @ camera_from_patient.translation[..., None]).squeeze(-1)

    def _patient_from_pixel(self, camera_from_patient: RigidTransform) -> Tensor:
        """From homogeneous pixels to directions in the patient."""
        return camera_from_patient.rotation.mT @ self.camera_from_pixel


def rays_of_views(
    volume: CTVolume,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    k: Float[Tensor, "*#batch 3 3"] | None = None,
) -> Rays:
    """The rays of every view of a batch, computed on the CPU; `k` as in `ViewGeometry.of`."""
    return ViewGeometry.of(volume, intrinsics, k=k).rays(camera_from_patient.to("cpu", torch.float64))


def twist_tangents(
    volume: CTVolume, camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics, pivot: Float[Tensor, "3"]
) -> RayTangents:
    """`ViewGeometry.twist_tangents`, computed on the CPU."""
    pose = camera_from_patient.to("cpu", torch.float64)
    return ViewGeometry.of(volume, intrinsics).twist_tangents(pose, pivot.to("cpu", torch.float64))


def march_axes(rays: Rays, shape_ijk: tuple[int, int, int]) -> list[int]:
    """Per view, the axis (of i, j, k) along which the most grid planes lie between the source and the volume's centre.

    One axis for a whole view keeps the image free of seams, and this choice depends on neither pixels nor crop, so a crop's
    image is the crop of the image. A source within the volume has no such direction; then the central ray's decides. Rays
    that name their axes keep them.
    """
    if rays.axes is not None:
        return rays.axes.tolist()
    half = torch.tensor(shape_ijk, dtype=torch.float64) / 2
    source = rays.source.detach().to("cpu", torch.float64)
    toward = half - 0.5 - source
    inside = (toward.abs() <= half).all(dim=-1)
    if inside.any():
        centre = torch.tensor([(rays.width - 1) / 2, (rays.height - 1) / 2, 1.0], dtype=torch.float64)
        central = rays.direction_from_pixel.detach().to("cpu", torch.float64) @ centre
        toward = torch.where(inside[:, None], central, toward)
    return toward.abs().argmax(dim=-1).tolist()


def _inverse_matrix(camera: CameraIntrinsics) -> Float[Tensor, "3 3"]:
    rows = [[1 / camera.fx, 0.0, -camera.cx / camera.fx], [0.0, 1 / camera.fy, -camera.cy / camera.fy], [0.0, 0.0, 1.0]]
    return torch.tensor(rows, dtype=torch.float64)
