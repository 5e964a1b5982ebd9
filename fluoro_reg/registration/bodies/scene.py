"""A scene: the X-rays, the bodies, and where each body is taken to be; and an X-ray without all bodies but one.

The attenuation of the bodies adds up. What remains of an X-ray when the images of the other bodies are taken out of it, with
the gain of the X-ray, shows one body in front of nothing that is known. That is the X-ray of an object, and it is registered
and assessed as one: a body is moved, and believed, by what no other body explains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.registration.bodies.body import Body
from fluoro_reg.registration.bodies.kernels import robust_gain
from fluoro_reg.registration.stages.masks import eroded
from fluoro_reg.rendering.bodies import BodyImage, RenderedBody, Window
from fluoro_reg.similarity.gradient_ncc import sobel_gradients
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed

FINEST_PX = 512  # across a body's projection: twice the finest scale, so that scales are what they are for a CT alone
MARGIN_PX = 6  # the gain is that of the image up to this far around a body's box
GAIN_ITERATIONS = 4
ROBUST_SCALE = 4.0  # Geman-McClure's c, in squared standard deviations of the residuals

Poses = Mapping[str, RigidTransform]  # reference_from_patient of every body, by name


@dataclass(slots=True)
class Pictures:
    """The line integrals of bodies in one X-ray, once for a pose and a camera: rendered, or moved there by derivatives."""

    _made: dict[tuple[str, CameraIntrinsics, bytes], tuple[Window, Float[Tensor, "rows columns"]]] = field(default_factory=dict)

    def add_to(
        self, image: Float[Tensor, "height width"], body: Body, camera_from_patient: RigidTransform, camera: CameraIntrinsics
    ) -> None:
        """Add those of a body to an image."""
        key = _key(body, camera_from_patient, camera)
        if key not in self._made:
            depth_mm = float(camera_from_patient.apply(body.pivot[None])[0, 2])
            renderer, _ = body.reading.renderers.for_pixel(depth_mm / camera.fx)
            self._made[key] = RenderedBody(renderer, body.pivot).integrals(camera_from_patient, camera)
        window, integrals = self._made[key]
        image[window.pixels] += integrals

    def keep(self, bodies: Sequence[Body], images: Sequence[BodyImage], camera: CameraIntrinsics) -> None:
        """Remember images that have been rendered elsewhere."""
        for body, image in zip(bodies, images, strict=True):
            self._made[_key(body, image.camera_from_patient, camera)] = image.window, image.integrals


@dataclass(frozen=True, slots=True)
class SeenView:
    """One X-ray, preprocessed, the pose of its camera, and images of bodies in it."""

    prepared: Preprocessed
    camera_from_reference: RigidTransform
    pictures: Pictures = field(default_factory=Pictures)

    def image(self, bodies: Sequence[Body], poses: Poses, camera: CameraIntrinsics) -> Float[Tensor, "height width"]:
        """The line integrals of bodies at `reference_from_patient`, for the pixels of a camera of the view."""
        image = torch.zeros(camera.height, camera.width)
        for body in bodies:
            self.pictures.add_to(image, body, self.camera_from_reference @ poses[body.name], camera)
        return image


def without_others(view: SeenView, bodies: Sequence[Body], poses: Poses, body: Body) -> Preprocessed:
    """The X-ray of one body alone; the image is no finer than the scales of the body need."""
    scales = body.reading.scales(view.prepared, view.camera_from_reference @ poses[body.name])
    factor = scales.factor(FINEST_PX)
    image = view.prepared.image.binned(factor)
    outline = replace(view.prepared.image, mask=view.prepared.image.mask & ~view.prepared.outline).binned(factor).mask
    others = view.image([other for other in bodies if other.name != body.name], poses, image.intrinsics)
    own = view.image([body], poses, image.intrinsics)
    compared = (image.pixels, others + own, eroded(image.mask)[0])
    gain = _gain(*compared) if body.reading.model.roi == "full" else _gain(*(part[_near(own)] for part in compared))
    without = replace(image, pixels=image.pixels - gain * others)
    return replace(view.prepared, image=without, outline=image.mask & ~outline)


def _key(body: Body, pose: RigidTransform, camera: CameraIntrinsics) -> tuple[str, CameraIntrinsics, bytes]:
    return body.name, camera, pose.rotation.numpy().tobytes() + pose.translation.numpy().tobytes()


def _near(own: Float[Tensor, "height width"]) -> tuple[slice, slice]:
    """The rows and columns within a margin of a body; none if it is not in the image."""
    rows, columns = ((own > 0).any(dim).nonzero().flatten().tolist() for dim in (1, 0))
    if not rows:
        return slice(0, 0), slice(0, 0)
    top, left = max(0, rows[0] - MARGIN_PX), max(0, columns[0] - MARGIN_PX)
    return slice(top, rows[-1] + MARGIN_PX + 1), slice(left, columns[-1] + MARGIN_PX + 1)


def _gain(
    fixed: Float[Tensor, "height width"], moving: Float[Tensor, "height width"], weight: Float[Tensor, "height width"]
) -> float:
    """The factor by which the gradients of the line integrals fit those of the X-ray, robustly; 0 where nothing is."""
    if fixed.numel() == 0:
        return 0.0
    g_fixed, g_moving = (sobel_gradients(image[None, None])[0, 0].numpy() for image in (fixed, moving))
    return max(0.0, robust_gain(g_fixed, g_moving, weight.contiguous().numpy(), GAIN_ITERATIONS, ROBUST_SCALE))
