"""The image of several bodies, each at its own pose: the sum of their line integrals, and its derivatives to every pose.

Every body is rendered only in the window that its projection can reach, as most bodies are small. A body's derivatives are zero
elsewhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering.projection import project_with_jacobian
from fluoro_reg.rendering.renderer import AbstractRenderer

_NEAREST_MM = 1.0  # points behind the source are moved here
_MARGIN_PX = 2.0


@dataclass(frozen=True, slots=True)
class RenderedBody:
    """The renderer of a body's volume, and the pivot of its twists in patient mm."""

    renderer: AbstractRenderer
    pivot: Float[Tensor, "3"]

    def window(self, poses: RigidTransform, camera: CameraIntrinsics) -> tuple[int, int, int, int] | None:
        """First column and row, width and height of the pixels that the body reaches from any pose; None if there are none."""
        volume = self.renderer.volume
        ends = torch.tensor([[-1.0, n] for n in volume.shape_ijk], dtype=torch.float64)
        points = poses.apply(volume.points_patient(torch.cartesian_prod(*ends))).reshape(-1, 3)
        pixels = camera.project(torch.cat([points[:, :2], points[:, 2:].clamp_min(_NEAREST_MM)], dim=-1))
        low, high = (pixels.amin(0) - _MARGIN_PX).tolist(), (pixels.amax(0) + _MARGIN_PX).tolist()
        left, top = (max(0, math.floor(value)) for value in low)
        right, bottom = min(math.ceil(high[0]), camera.width - 1), min(math.ceil(high[1]), camera.height - 1)
        return None if right < left or bottom < top else (left, top, right - left + 1, bottom - top + 1)


@dataclass(frozen=True, slots=True)
class BodyImages:
    """The line integrals of each body, and the derivatives to its own twist, at every pose of a batch.

    `windows` are first column and row, width and height of the pixels outside of which a body's are zero; None if all are.
    """

    integrals: Float[Tensor, "batch bodies height width"]
    jacobians: Float[Tensor, "batch bodies height width 6"]
    windows: tuple[tuple[int, int, int, int] | None, ...]

    def total(self) -> Float[Tensor, "batch height width"]:
        """The image of all bodies."""
        return self.integrals.sum(1)

    def images_of_twists(self) -> Float[Tensor, "batch parameters height width"]:
        """The derivatives of the image of all bodies as one image for each parameter, one body after the other."""
        return self.jacobians.movedim(-1, 2).flatten(1, 2)

    def total_jacobian(self) -> Float[Tensor, "batch height width parameters"]:
        """Its derivatives to the twists of all bodies, one body after the other."""
        return self.jacobians.movedim(1, 3).flatten(3)


def project_bodies(bodies: Sequence[RenderedBody], poses: Sequence[RigidTransform], camera: CameraIntrinsics) -> BodyImages:
    """Render every body at its own poses.

    Args:
        bodies: The bodies.
        poses: `camera_from_patient` of each body, batches of the same size.
        camera: The camera.
    """
    batch, size = len(poses[0].translation), (camera.height, camera.width)
    windows = [body.window(pose, camera) for body, pose in zip(bodies, poses, strict=True)]
    rendered = {
        n: project_with_jacobian(bodies[n].renderer, poses[n], camera.cropped(*window), bodies[n].pivot)
        for n, window in enumerate(windows)
        if window is not None
    }
    dtype = next((image.dtype for image, _ in rendered.values()), torch.float32)
    integrals = torch.zeros(batch, len(bodies), *size, dtype=dtype)
    jacobians = torch.zeros(batch, len(bodies), 6, *size, dtype=dtype).movedim(2, -1)
    for n, (image, derivatives) in rendered.items():
        left, top, width, height = windows[n]
        rows, columns = slice(top, top + height), slice(left, left + width)
        integrals[:, n, rows, columns], jacobians[:, n, rows, columns] = image.cpu(), derivatives.cpu()
    return BodyImages(integrals, jacobians, tuple(windows))
