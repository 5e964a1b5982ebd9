"""The image of all bodies in one view at pose after pose; a body is rendered anew only if it has moved visibly.

So are the pixels that count, and the gradients of the X-ray that are compared there: they belong to rendered images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.registration.bodies.body import Body
from fluoro_reg.registration.bodies.scene import Poses, SeenView
from fluoro_reg.registration.stages.masks import Extent, complete_rays, near_object
from fluoro_reg.registration.stages.scales import WINDOW_MM
from fluoro_reg.rendering.bodies import BodyImage, RenderedBody, Window, total_image
from fluoro_reg.similarity import GradientNCC

REMEMBERED = 2  # rendered images of a body, the latest: usually that of the best poses, and that of a trial


@dataclass(frozen=True, slots=True)
class SceneView:
    """One view at one scale: the X-ray, and how each body is rendered in it."""

    camera_from_reference: RigidTransform
    camera: CameraIntrinsics
    fixed: Float[Tensor, "1 height width"]
    usable: Float[Tensor, "1 height width"]
    rendered: tuple[RenderedBody, ...]
    extents: tuple[Extent, ...]
    margins_px: tuple[float, ...]
    rois: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """The pixels that count, and the standardised gradients of the X-ray with their weights, which sum to one."""

    weight: Float[Tensor, "height width"]
    target: Float[Tensor, "2 height width"]
    gradient_weight: Float[Tensor, "2 height width"]


@dataclass(frozen=True, slots=True)
class SeenScene:
    """The image of all bodies in one view, that of each with its derivatives, and what they are compared with."""

    moving: Float[Tensor, "height width"]
    images: tuple[BodyImage, ...]
    compared: Compared


@dataclass(frozen=True, slots=True, eq=False)
class _Rendered:
    """A rendered image of a body, the pixels near it (None: all), and those whose rays the CT holds (None: all)."""

    image: BodyImage
    near: tuple[Window, Float[Tensor, "rows columns"]] | None
    complete: Bool[Tensor, "height width"] | None


@dataclass(slots=True)
class SceneImages:
    """The images of the bodies in one view; `n_renders` counts those that were rendered."""

    view: SceneView
    similarity: GradientNCC
    n_renders: int = 0
    _rendered: list[list[_Rendered]] = field(init=False)
    _compared: tuple[tuple[_Rendered, ...], Compared] | None = None

    def __post_init__(self) -> None:
        self._rendered = [[] for _ in self.view.rendered]

    def seen(self, poses: Sequence[RigidTransform]) -> SeenScene:
        """The scene with every body at its `camera_from_patient`."""
        shown = [self._shown(n, pose) for n, pose in enumerate(poses)]
        images, rendered = tuple(image for image, _ in shown), tuple(of for _, of in shown)
        if self._compared is None or any(a is not b for a, b in zip(rendered, self._compared[0], strict=True)):
            self._compared = rendered, self._compare(rendered)
        return SeenScene(total_image(images, self.view.camera), images, self._compared[1])

    def _shown(self, number: int, pose: RigidTransform) -> tuple[BodyImage, _Rendered]:
        """The image of a body, and the rendered one that it is, or from which it was moved."""
        body, known = self.view.rendered[number], self._rendered[number]
        for rendered in known:
            image = body.image_nearby(rendered.image, pose, self.view.camera)
            if image is not None:
                return image, rendered
        self.n_renders += 1
        rendered = self._render(number, pose)
        self._rendered[number] = [rendered, *known[: REMEMBERED - 1]]
        return rendered.image, rendered

    def _render(self, number: int, pose: RigidTransform) -> _Rendered:
        view, body, extent = self.view, self.view.rendered[number], self.view.extents[number]
        image, complete = body.image(pose, view.camera), None
        if extent.is_cut:
            complete = complete_rays(body.renderer.volume, extent, RigidTransform.stack([pose]), view.camera)[0]
        return _Rendered(image, _near(image, view.rois[number], view.margins_px[number], view.camera), complete)

    def _compare(self, rendered: Sequence[_Rendered]) -> Compared:
        view = self.view
        weight = torch.zeros_like(view.usable[0])
        for one in rendered:
            if one.near is None:
                weight = torch.ones_like(weight)
                break
            window, near = one.near
            weight[window.pixels] = torch.maximum(weight[window.pixels], near)
        weight = weight * view.usable[0]
        for one in rendered:
            if one.complete is not None:
                weight = weight * one.complete
        target, gradient_weight = self.similarity.target(view.fixed, weight[None])
        shape = (2, *weight.shape)
        return Compared(weight, *(part.expand(1, -1).reshape(shape).float().contiguous() for part in (target, gradient_weight)))


def scene_view(bodies: Sequence[Body], view: SeenView, poses: Poses, object_px: int) -> SceneView:
    """One view at the scale at which the reference's projection spans `object_px`; of objects in air, only where they are."""
    reference = bodies[0]
    scales = reference.reading.scales(view.prepared, view.camera_from_reference @ poses[reference.name])
    scale = scales.scale(object_px, None)
    fixed, usable, camera = scale.fixed, scale.usable, scale.intrinsics
    rendered, extents, margins = [], [], []
    for body in bodies:
        model = body.reading.model
        depth_mm = float((view.camera_from_reference @ poses[body.name]).apply(body.pivot[None])[0, 2])
        pixel_mm = depth_mm / camera.fx
        renderer, extent = body.reading.renderers.for_pixel(pixel_mm)
        rendered.append(RenderedBody(renderer, body.pivot))
        extents.append(extent if model.veto_cut_rays else extent.uncut())
        margins.append(model.margin_mm / pixel_mm)
    rois = tuple(body.reading.model.roi for body in bodies)
    if "full" not in rois:
        reach = [margin * (1 + WINDOW_MM / body.reading.model.margin_mm) for margin, body in zip(margins, bodies, strict=True)]
        in_view = [view.camera_from_reference @ poses[body.name] for body in bodies]
        window = _window(rendered, in_view, camera, math.ceil(max(reach)))
        rows, columns = window.pixels
        fixed, usable, camera = fixed[:, rows, columns], usable[:, rows, columns], window.camera(camera)
    return SceneView(view.camera_from_reference, camera, fixed, usable, tuple(rendered), tuple(extents), tuple(margins), rois)


def _near(
    image: BodyImage, roi: str, margin_px: float, camera: CameraIntrinsics
) -> tuple[Window, Float[Tensor, "rows columns"]] | None:
    """The pixels near a body, in a window; None if all of the image are."""
    if roi == "full":
        return None
    window = image.window.grown(max(math.ceil(margin_px), 1), camera)
    if not window.width:
        return window, image.integrals
    left, top = image.window.left - window.left, image.window.top - window.top
    around = torch.zeros(window.height, window.width, dtype=image.integrals.dtype)
    around[top : top + image.window.height, left : left + image.window.width] = image.integrals
    return window, near_object(around[None], roi, margin_px)[0]


def _window(bodies: Sequence[RenderedBody], poses: Sequence[RigidTransform], camera: CameraIntrinsics, margin: int) -> Window:
    """The pixels within `margin` of any body; all, if no body is in the image."""
    windows = [body.window(pose, camera) for body, pose in zip(bodies, poses, strict=True)]
    seen = [window for window in windows if window.width]
    if not seen:
        return Window(0, 0, camera.width, camera.height)
    left, top = min(window.left for window in seen), min(window.top for window in seen)
    right, bottom = (max(window.left + window.width for window in seen), max(window.top + window.height for window in seen))
    return Window(left, top, right - left, bottom - top).grown(margin, camera)
