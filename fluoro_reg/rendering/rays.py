"""Rays in voxel units from a pose and a camera, and their derivatives with respect to the pose.

With A the linear part of `patient_from_voxel` and b its offset, R and t of `camera_from_patient`, and K the intrinsics, the
source is `s = A^-1 (-R^T t - b)` and the direction of pixel (u, v) is `d = A^-1 R^T K^-1 (u, v, 1)`. The camera z of d is 1, so
the ray parameter is depth in mm. All computation is float64 torch, so autograd reaches pose and intrinsics.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.arrays import arrays_of
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.geometry.so3 import hat
from fluoro_reg.rendering.ray_kernels import longest_axes, rays_of_poses, tangents_of_poses
from fluoro_reg.rendering.renderer import Rays, RayTangents

# Voxels across per plane. Steeper rays are treated as misses; they occur only if the source is at or in the volume.
MAX_SLOPE = 100.0


@dataclass(frozen=True, slots=True)
class ViewGeometry:
    """The constants of a CT and a camera from which the rays of a pose follow, on the device of the poses.

    Attributes:
        voxel_from_patient: A^-1.
        origin_patient: b.
        camera_from_pixel: K^-1, or one K^-1 per view.
        generators: the generators of rotations about x, y and z.
        height: of the image, pixels.
        width: of the image, pixels.
    """

    voxel_from_patient: Float[Tensor, "3 3"]
    origin_patient: Float[Tensor, "3"]
    camera_from_pixel: Float[Tensor, "*#batch 3 3"]
    generators: Float[Tensor, "3 3 3"]
    height: int
    width: int

    @classmethod
    def from_volume(
        cls,
        volume: CTVolume,
        intrinsics: CameraIntrinsics,
        device: torch.device | str = "cpu",
        k: Float[Tensor, "*#batch 3 3"] | None = None,
    ) -> "ViewGeometry":
        """Return the geometry of a CT and a camera; a tensor `k` replaces the matrix of the intrinsics."""
        patient_from_voxel = volume.patient_from_voxel
        if k is None and torch.device(device).type == "cpu" and not patient_from_voxel.requires_grad:
            return _geometry_on_cpu(tuple(patient_from_voxel.flatten().tolist()), intrinsics)
        camera_from_pixel = _inverse_matrix(intrinsics) if k is None else torch.linalg.inv(k.to(device, torch.float64))
        return cls._of(patient_from_voxel.to(device, torch.float64), camera_from_pixel.to(device), intrinsics)

    @classmethod
    def _of(
        cls, patient_from_voxel: Float[Tensor, "4 4"], camera_from_pixel: Tensor, intrinsics: CameraIntrinsics
    ) -> "ViewGeometry":
        linear, offset = patient_from_voxel[:3, :3], patient_from_voxel[:3, 3]
        generators = hat(torch.eye(3, dtype=torch.float64, device=linear.device))
        return cls(torch.linalg.inv(linear), offset, camera_from_pixel, generators, intrinsics.height, intrinsics.width)

    def rays(self, camera_from_patient: RigidTransform, axes: Int[Tensor, "batch"] | None = None) -> Rays:
        """Return the rays of every view of a batch, with batch dimensions flattened; `axes` as in `Rays`."""
        plain = self._arrays(camera_from_patient, self.origin_patient)
        if plain is not None:
            found = np.empty((len(plain[0]), 3)), np.empty((len(plain[0]), 3, 3))
            rays_of_poses(*plain, *found)
            return Rays(torch.from_numpy(found[0]), torch.from_numpy(found[1]), self.height, self.width, axes)
        source = (self._source_patient(camera_from_patient) - self.origin_patient) @ self.voxel_from_patient.T
        direction = self.voxel_from_patient @ self._patient_from_pixel(camera_from_patient)
        source = source.expand(*direction.shape[:-2], 3).reshape(-1, 3)
        return Rays(source, direction.reshape(-1, 3, 3), self.height, self.width, axes)

    def twist_tangents(self, camera_from_patient: RigidTransform, pivot: Float[Tensor, "3"]) -> RayTangents:
        """Return the derivatives of the rays with respect to a twist on the right of the pose.

        A patient moved by (v, w) corresponds to a camera moved by the inverse: `ds = -(v + w x (s - p))`, `dd = -(w x d)` in
        patient mm. The twist is [translation mm, rotation rad] about `pivot`, in patient mm.
        """
        plain = self._arrays(camera_from_patient, pivot)
        if plain is not None:
            tangents = np.empty((len(plain[0]), 6, 3)), np.empty((len(plain[0]), 6, 3, 3))
            tangents_of_poses(*plain, *tangents)
            return RayTangents(torch.from_numpy(tangents[0]), torch.from_numpy(tangents[1]))
        lever_arm = (self._source_patient(camera_from_patient) - pivot).reshape(-1, 1, 1, 3)
        translation_tangents = -self.voxel_from_patient
        rotation_generators = translation_tangents @ self.generators  # [p]: of a rotation about axis p, voxels
        source_tangents = torch.cat(
            [translation_tangents.T.expand(len(lever_arm), 3, 3), (lever_arm @ rotation_generators.mT).squeeze(-2)], dim=1
        )
        direction_tangents = rotation_generators @ self._patient_from_pixel(camera_from_patient).reshape(-1, 1, 3, 3)
        return RayTangents(source_tangents, torch.cat([torch.zeros_like(direction_tangents), direction_tangents], dim=1))

    def _arrays(self, camera_from_patient: RigidTransform, point: Float[Tensor, "3"]) -> tuple[np.ndarray, ...] | None:
        """Rotations, translations, the constants and a point for the compiled kernels; None if torch must compute."""
        rotation, translation = camera_from_patient.rotation, camera_from_patient.translation
        if self.camera_from_pixel.dim() > 2 or rotation.shape[:-1] != translation.shape:  # the kernels do not broadcast
            return None
        plain = arrays_of(rotation, translation, self.voxel_from_patient, self.camera_from_pixel, point)
        if plain is None:
            return None
        rotations, translations, *others = (np.ascontiguousarray(array) for array in plain)
        return rotations.reshape(-1, 3, 3), translations.reshape(-1, 3), *others

    def _source_patient(self, camera_from_patient: RigidTransform) -> Tensor:
        return -(camera_from_patient.rotation.mT @ camera_from_patient.translation[..., None]).squeeze(-1)

    def _patient_from_pixel(self, camera_from_patient: RigidTransform) -> Tensor:
        """Return the map from homogeneous pixels to directions in the patient."""
        return camera_from_patient.rotation.mT @ self.camera_from_pixel


@lru_cache(maxsize=64)
def _geometry_on_cpu(patient_from_voxel: tuple[float, ...], intrinsics: CameraIntrinsics) -> ViewGeometry:
    """The geometry of a grid, given row by row: every image that is rendered needs it."""
    with torch.inference_mode(False):  # what is kept must serve later calls that need gradients
        matrix = torch.tensor(patient_from_voxel, dtype=torch.float64).reshape(4, 4)
        return ViewGeometry._of(matrix, _inverse_matrix(intrinsics), intrinsics)


def rays_of_views(
    volume: CTVolume,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    k: Float[Tensor, "*#batch 3 3"] | None = None,
) -> Rays:
    """Return the rays of every view of a batch, computed on the CPU; `k` as in `ViewGeometry.from_volume`."""
    return ViewGeometry.from_volume(volume, intrinsics, k=k).rays(camera_from_patient.to("cpu", torch.float64))


def twist_tangents(
    volume: CTVolume, camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics, pivot: Float[Tensor, "3"]
) -> RayTangents:
    """Return `ViewGeometry.twist_tangents`, computed on the CPU."""
    pose = camera_from_patient.to("cpu", torch.float64)
    return ViewGeometry.from_volume(volume, intrinsics).twist_tangents(pose, pivot.to("cpu", torch.float64))


def march_axes(rays: Rays, shape_ijk: tuple[int, int, int]) -> list[int]:
    """Return the march axis of each view (0, 1, 2 for i, j, k).

    It is the axis along which most grid planes lie between the source and the volume's centre. One axis for a whole view avoids
    seams in the image. The choice depends neither on pixels nor on a crop, so the image of a crop is the crop of the image. For
    a source within the volume, the central ray decides instead. Axes that are given in `rays` are kept.
    """
    if rays.axes is not None:
        return rays.axes.tolist()
    geometry = (rays.source, rays.direction_from_pixel)
    source, direction = (np.ascontiguousarray(one.detach().to("cpu", torch.float64).numpy()) for one in geometry)
    axes = np.empty(len(source), np.int64)
    longest_axes(source, direction, shape_ijk, rays.width, rays.height, axes)
    return axes.tolist()


def _inverse_matrix(camera: CameraIntrinsics) -> Float[Tensor, "3 3"]:
    rows = [[1 / camera.fx, 0.0, -camera.cx / camera.fx], [0.0, 1 / camera.fy, -camera.cy / camera.fy], [0.0, 0.0, 1.0]]
    return torch.tensor(rows, dtype=torch.float64)
