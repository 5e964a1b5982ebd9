"""Images of the reports: an X-ray and, as separate layers, the projected edges of the CT's bones at given poses.

With separate layers, the reader can hide the edges. As WebP files, forty images need one or two megabytes. Images are enlarged
with cubic interpolation, so that the lines are fine enough to show small pose errors.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering.overlay import grey_levels, pose_lines
from fluoro_reg.rendering.renderer import AbstractRenderer

SIZE_PX = 448  # longer side of an image
QUALITY = 80


def xray_webp(pixels: Float[Tensor, "height width"], camera: CameraIntrinsics) -> bytes:
    """Return the X-ray as WebP."""
    large = _enlarge(camera)
    image = torch.nn.functional.interpolate(
        pixels[None, None], size=(large.height, large.width), mode="bicubic", align_corners=False, antialias=True
    )
    return webp(Image.fromarray(grey_levels(image[0, 0].numpy()).round().astype(np.uint8)), quality=QUALITY)


def edges_webp(
    renderer: AbstractRenderer, pose: RigidTransform, camera: CameraIntrinsics, colour: tuple[int, int, int]
) -> bytes:
    """Return the edges of the renderer's volume (preferably a `bone_volume`) at a pose as WebP, transparent elsewhere."""
    return layers_webp([(renderer, pose, colour)], camera)


def layers_webp(
    layers: Sequence[tuple[AbstractRenderer, RigidTransform, tuple[int, int, int]]], camera: CameraIntrinsics
) -> bytes:
    """Return the edges of several volumes, each at its pose and in its colour, later ones over earlier ones."""
    large = _enlarge(camera)
    image = Image.new("RGBA", (large.width, large.height))
    for renderer, pose, colour in layers:
        coverage = (255 * pose_lines(renderer, pose, large)).round().astype(np.uint8)
        layer = np.empty((*coverage.shape, 4), np.uint8)
        layer[..., :3], layer[..., 3] = colour, coverage
        image.alpha_composite(Image.fromarray(layer))
    return webp(image, lossless=True)


def _enlarge(camera: CameraIntrinsics) -> CameraIntrinsics:
    """Return the camera of the enlarged image."""
    scale = SIZE_PX / max(camera.width, camera.height)
    return camera.resized(round(camera.width * scale), round(camera.height * scale))


def webp(image: Image.Image, **options: Any) -> bytes:
    """Return an image as WebP; `options` are those of Pillow."""
    file = io.BytesIO()
    image.save(file, format="WEBP", method=2, **options)
    return file.getvalue()
