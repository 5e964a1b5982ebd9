"""The image of one of several bodies, each at its own pose: its line integrals, and their derivatives to its pose.

Line integrals add up, so that the image of all bodies is the sum of theirs. Every body is rendered only in the window that its
projection can reach, as most bodies are small; elsewhere it is zero. An image from nearby is that image, moved by its
derivatives: most steps of a refinement are too short to be worth another rendering.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, se3
from fluoro_reg.rendering.projection import project, project_with_jacobian
from fluoro_reg.rendering.renderer import AbstractRenderer

NEARBY_PX = 0.25  # edges of bone are wider than a pixel: what derivatives miss would move them by hundredths of one
_NEAREST_MM = 1.0  # points behind the source are moved here
_MARGIN_PX = 2.0


@dataclass(frozen=True, slots=True)
class Window:
    """First column and row, width and height of a part of an image; it is empty without a width."""

    left: int = 0
    top: int = 0
    width: int = 0
    height: int = 0

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def grown(self, margin: int, camera: CameraIntrinsics) -> "Window":
        """The window with a margin, as far as that is in the image; an empty one stays empty."""
        if not self.width:
            return self
        left, top = max(0, self.left - margin), max(0, self.top - margin)
        right, bottom = self.left + self.width + margin, self.top + self.height + margin
        return Window(left, top, min(right, camera.width) - left, min(bottom, camera.height) - top)

    def camera(self, camera: CameraIntrinsics) -> CameraIntrinsics:
        """The camera of the window."""
        return camera.cropped(self.left, self.top, self.width, self.height)


@dataclass(frozen=True, slots=True)
class BodyImage:
    """The line integrals of a body within its window, and their derivatives to its twist, at one `camera_from_patient`.

    The outermost pixels of a window are zero, unless they are those of the image.
    """

    camera_from_patient: RigidTransform
    window: Window
    integrals: Float[Tensor, "height width"]
    jacobian: Float[Tensor, "6 height width"]


@dataclass(frozen=True, slots=True)
class RenderedBody:
    """The renderer of a body's volume, and the pivot of its twists in patient mm."""

    renderer: AbstractRenderer
    pivot: Float[Tensor, "3"]

    def window(self, camera_from_patient: RigidTransform, camera: CameraIntrinsics) -> Window:
        """The pixels that the body reaches."""
        pixels = self._corners_px(camera_from_patient, camera)
        low, high = (pixels.amin(0) - _MARGIN_PX).tolist(), (pixels.amax(0) + _MARGIN_PX).tolist()
        left, top = (max(0, math.floor(value)) for value in low)
        right, bottom = min(math.ceil(high[0]), camera.width - 1), min(math.ceil(high[1]), camera.height - 1)
        return Window() if right < left or bottom < top else Window(left, top, right - left + 1, bottom - top + 1)

    def integrals(self, camera_from_patient: RigidTransform, camera: CameraIntrinsics) -> tuple[Window, Tensor]:
        """The window, and the line integrals in it."""
        window = self.window(camera_from_patient, camera)
        if not window.width:
            return window, torch.zeros(0, 0)
        return window, project(self.renderer, camera_from_patient, window.camera(camera)).cpu()

    def image(self, camera_from_patient: RigidTransform, camera: CameraIntrinsics) -> BodyImage:
        """Render the body at a pose."""
        window = self.window(camera_from_patient, camera)
        if not window.width:
            return BodyImage(camera_from_patient, window, torch.zeros(0, 0), torch.zeros(6, 0, 0))
        rendered = project_with_jacobian(self.renderer, camera_from_patient, window.camera(camera), self.pivot)
        integrals, jacobian = (part.cpu() for part in rendered)
        return BodyImage(camera_from_patient, window, integrals, jacobian.movedim(-1, 0).contiguous())

    def image_nearby(self, image: BodyImage, camera_from_patient: RigidTransform, camera: CameraIntrinsics) -> BodyImage | None:
        """The image moved by its derivatives; None if the body would move by more than `NEARBY_PX` anywhere.

        `image` must be a rendered one: one that has been moved may have been moved as far before.
        """
        before, after = (self._corners_px(pose, camera) for pose in (image.camera_from_patient, camera_from_patient))
        if not float((after - before).abs().amax()) <= NEARBY_PX:
            return None
        twist = se3.local(image.camera_from_patient, camera_from_patient, self.pivot).to(image.jacobian)
        moved = image.integrals + torch.tensordot(twist, image.jacobian, dims=1)
        return BodyImage(camera_from_patient, image.window, moved, image.jacobian)

    def _corners_px(self, camera_from_patient: RigidTransform, camera: CameraIntrinsics) -> Float[Tensor, "8 2"]:
        volume = self.renderer.volume
        ends = torch.tensor([[-1.0, n] for n in volume.shape_ijk], dtype=torch.float64)
        points = camera_from_patient.apply(volume.points_patient(torch.cartesian_prod(*ends)))
        return camera.project(torch.cat([points[:, :2], points[:, 2:].clamp_min(_NEAREST_MM)], dim=-1))


def total_image(images: Sequence[BodyImage], camera: CameraIntrinsics) -> Float[Tensor, "height width"]:
    """The image of all bodies."""
    total = torch.zeros(camera.height, camera.width, dtype=images[0].integrals.dtype)
    for image in images:
        total[image.window.pixels] += image.integrals
    return total
