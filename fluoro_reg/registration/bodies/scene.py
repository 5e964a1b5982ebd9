"""A scene: the X-rays, the bodies, and where each body is taken to be; and an X-ray without all bodies but one.

The attenuation of the bodies adds up. What remains of an X-ray when the images of the other bodies are taken out of it, with
the gain of the X-ray, shows one body in front of nothing that is known. That is the X-ray of an object, and it is registered
and assessed as one: a body is moved, and believed, by what no other body explains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.bodies.body import Body
from fluoro_reg.registration.stages.masks import eroded
from fluoro_reg.rendering import project
from fluoro_reg.rendering.bodies import RenderedBody
from fluoro_reg.similarity.gradient_ncc import sobel_gradients
from fluoro_reg.similarity.residual import geman_mcclure
from fluoro_reg.xray.image import XrayImage
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed

FINEST_PX = 512  # across a body's projection: twice the finest scale, so that scales are what they are for a CT alone
MARGIN_PX = 6  # the gain is that of the image up to this far around a body's box
GAIN_ITERATIONS = 4
ROBUST_SCALE = 4.0  # Geman-McClure's c, in squared standard deviations of the residuals

Poses = Mapping[str, RigidTransform]  # reference_from_patient of every body, by name


@dataclass(frozen=True, slots=True)
class SeenView:
    """One X-ray, preprocessed, and the pose of its camera."""

    prepared: Preprocessed
    camera_from_reference: RigidTransform


def without_others(view: SeenView, bodies: Sequence[Body], poses: Poses, body: Body) -> Preprocessed:
    """The X-ray of one body alone; the image is no finer than the scales of the body need."""
    scales = body.reading.scales(view.prepared, view.camera_from_reference @ poses[body.name])
    factor = scales.factor(FINEST_PX)
    image = view.prepared.image.binned(factor)
    outline = replace(view.prepared.image, mask=view.prepared.image.mask & ~view.prepared.outline).binned(factor).mask
    others = torch.zeros_like(image.pixels)
    for other in bodies:
        if other.name != body.name:
            others = others + body_image(view, other, poses[other.name], image)
    own = body_image(view, body, poses[body.name], image)
    compared = (image.pixels, others + own, eroded(image.mask)[0])
    gain = _gain(*compared) if body.reading.model.roi == "full" else _gain(*(part[_near(own)] for part in compared))
    without = replace(image, pixels=image.pixels - gain * others)
    return replace(view.prepared, image=without, outline=image.mask & ~outline)


def body_image(view: SeenView, body: Body, pose: RigidTransform, image: XrayImage) -> Float[Tensor, "height width"]:
    """The line integrals of a body at `reference_from_patient`, for the pixels of an image of the view."""
    camera_from_patient = RigidTransform.stack([view.camera_from_reference @ pose])
    depth_mm = float(camera_from_patient.apply(body.pivot[None])[0, 0, 2])
    renderer, _ = body.reading.renderers.for_pixel(depth_mm / image.intrinsics.fx)
    whole = torch.zeros_like(image.pixels)
    window = RenderedBody(renderer, body.pivot).window(camera_from_patient, image.intrinsics)
    if window is not None:
        left, top, width, height = window
        seen = project(renderer, camera_from_patient, image.intrinsics.cropped(*window))[0]
        whole[top : top + height, left : left + width] = seen.cpu()
    return whole


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
    g_fixed, g_moving = (sobel_gradients(image[None, None])[0, 0].double() for image in (fixed, moving))
    w, gain = weight.double().expand_as(g_fixed), torch.zeros(())
    robust = w
    for _ in range(GAIN_ITERATIONS):
        energy = (robust * g_moving.square()).sum()
        if not float(energy) > 0:
            return 0.0
        gain = (robust * g_moving * g_fixed).sum() / energy
        squared = (g_fixed - gain * g_moving).square()
        variance = (w * squared).sum() / w.sum().clamp_min(1.0)
        _, reweight = geman_mcclure(squared / variance.clamp_min(1e-20), ROBUST_SCALE)
        robust = w * reweight
    return float(gain.clamp_min(0.0))
