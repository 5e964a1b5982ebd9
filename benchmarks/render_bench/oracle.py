"""The exact line integrals of the trilinear field of a CT, in float64: the reference for every contender's image.

Between two faces of the grid, the field along a ray is a cubic in the ray's parameter, for which Gauss's rule with two points
is exact. With a ray cut at all faces and two samples per piece, only rounding errors remain. The oracle shares no code with the
renderers. Beyond the outermost voxel centres the field falls to zero within one voxel, as if air followed. Derivatives are
central differences; the integral is continuously differentiable in the pose, except for rays within a face.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from render_bench.scene import Scene

COLUMNS = (
    "translation along columns",
    "translation along rows",
    "depth",
    "rotation about columns",
    "rotation about rows",
    "rotation about depth",
)
_STEP = torch.tensor([1e-3] * 3 + [1e-5] * 3, dtype=torch.float64)  # mm, rad
_MAX_PIECES_PER_CHUNK = 1 << 20


def exact_integrals(
    volume: CTVolume, camera_from_patient: RigidTransform, camera: CameraIntrinsics, pixels: Float[Tensor, "n 2"]
) -> Float[Tensor, "n"]:
    """Return line integrals (dimensionless) of the rays through pixels (u, v)."""
    source, directions, mm = rays_of_pixels(volume, camera_from_patient, camera, pixels)
    padded = torch.nn.functional.pad(volume.attenuation.cpu(), (1, 2) * 3)
    chunk_size = max(1, _MAX_PIECES_PER_CHUNK // sum(volume.shape_ijk))
    pieces = [_integrals(padded, volume.shape_ijk, source, d) for d in directions.split(chunk_size)]
    return mm * torch.cat(pieces)


def exact_derivatives(scene: Scene, pixels: Float[Tensor, "n 2"]) -> Float[Tensor, "n 6"]:
    """Return derivatives with respect to a twist about the pivot, in the camera's axes (`COLUMNS`), per mm and per rad."""
    twists = in_patient_axes(scene, torch.diag(_STEP))
    columns = []
    for twist, step in zip(twists, _STEP, strict=True):
        plus, minus = (
            exact_integrals(scene.volume, retract(scene.camera_from_patient, sign * twist, scene.pivot), scene.camera, pixels)
            for sign in (1, -1)
        )
        columns.append((plus - minus) / (2 * step))
    return torch.stack(columns, dim=-1)


def in_patient_axes(scene: Scene, twists: Float[Tensor, "n 6"]) -> Float[Tensor, "n 6"]:
    """Convert twists from the camera's axes to the patient's."""
    return (twists.unflatten(-1, (2, 3)) @ scene.patient_from_camera_axes.mT).flatten(-2)


def in_camera_axes(scene: Scene, jacobian: Float[Tensor, "n 6"]) -> Float[Tensor, "n 6"]:
    """Convert derivatives with respect to a twist from the patient's axes to the camera's."""
    return (jacobian.unflatten(-1, (2, 3)) @ scene.patient_from_camera_axes).flatten(-2)


def rays_of_pixels(
    volume: CTVolume, camera_from_patient: RigidTransform, camera: CameraIntrinsics, pixels: Float[Tensor, "n 2"]
) -> tuple[Float[Tensor, "3"], Float[Tensor, "n 3"], Float[Tensor, "n"]]:
    """Return the source and the rays' steps per mm of depth, both in voxels, and the lengths of the steps in mm."""
    patient_from_camera = camera_from_patient.inverse()
    centre = torch.tensor([camera.cx, camera.cy], dtype=torch.float64)
    focal = torch.tensor([camera.fx, camera.fy], dtype=torch.float64)
    steps = torch.nn.functional.pad((pixels - centre) / focal, (0, 1), value=1.0) @ patient_from_camera.rotation.mT
    voxel_from_patient = torch.linalg.inv(volume.patient_from_voxel)
    source = voxel_from_patient[:3, :3] @ patient_from_camera.translation + voxel_from_patient[:3, 3]
    return source, steps @ voxel_from_patient[:3, :3].mT, torch.linalg.vector_norm(steps, dim=-1)


def enter_and_leave(
    source: Float[Tensor, "3"], directions: Float[Tensor, "n 3"], low: Float[Tensor, "3"], high: Float[Tensor, "3"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Return the ray parameters where rays enter and leave a box; equal if they miss it or it is behind the source."""
    to_low, to_high = (low - source) / directions, (high - source) / directions
    enter = torch.minimum(to_low, to_high).nan_to_num(-math.inf).amax(-1).clamp_min(0.0)
    leave = torch.maximum(to_low, to_high).nan_to_num(math.inf).amin(-1)
    return enter, torch.maximum(enter, leave)


def _integrals(
    padded: Tensor, shape_ijk: tuple[int, int, int], source: Float[Tensor, "3"], directions: Float[Tensor, "n 3"]
) -> Float[Tensor, "n"]:
    """Return integrals over the ray parameter."""
    size = torch.tensor(shape_ijk, dtype=torch.float64)
    enter, leave = (t[:, None] for t in enter_and_leave(source, directions, -torch.ones(3, dtype=torch.float64), size))
    faces = [
        (torch.arange(-1, n + 1, dtype=torch.float64) - source[axis]) / directions[:, axis, None]
        for axis, n in enumerate(shape_ijk)
    ]
    cuts = torch.cat(faces, dim=-1).nan_to_num(0.0).clamp(enter, leave).sort(dim=-1).values
    half, middle = cuts.diff(dim=-1) / 2, (cuts[:, 1:] + cuts[:, :-1]) / 2
    gauss = half / math.sqrt(3.0)
    total = torch.zeros(len(directions), dtype=torch.float64)
    for t in (middle - gauss, middle + gauss):
        total += (half * _trilinear(padded, source + t[..., None] * directions[:, None])).sum(-1)
    return total


def _trilinear(padded: Tensor, points: Float[Tensor, "n m 3"]) -> Float[Tensor, "n m"]:
    """Return the field at points (voxels); `padded` has one voxel of air before the grid and two after it."""
    shape = torch.tensor(padded.shape[::-1], dtype=torch.float64)
    points = torch.minimum((points + 1).clamp_min(0), shape - 2)  # rounding may pass the outermost face
    lower = points.floor()
    x, y, z = (points - lower).unbind(-1)
    strides = torch.tensor([1, padded.shape[2], padded.shape[1] * padded.shape[2]])
    corner = (lower.long() * strides).sum(-1)
    value = torch.zeros_like(x)
    for dz, wz in enumerate((1 - z, z)):
        for dy, wy in enumerate((1 - y, y)):
            for dx, wx in enumerate((1 - x, x)):
                offset = dx + dy * int(strides[1]) + dz * int(strides[2])
                value += wx * wy * wz * padded.reshape(-1)[corner + offset].double()
    return value
