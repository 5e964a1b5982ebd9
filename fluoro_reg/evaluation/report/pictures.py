"""Pictures of reports: an X-ray and, as layers of their own, the edges of the CT's bones at poses.

Layers let a reader take the edges away and judge by eye. WebP keeps forty pictures at a megabyte or two; images are enlarged by
cubic interpolation so that the lines are as fine as the pose is exact.
"""

import io
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering.overlay import grey_levels, pose_lines
from fluoro_reg.rendering.renderer import AbstractRenderer

SIZE_PX = 448  # of the longer side
QUALITY = 80


def xray_picture(pixels: Float[Tensor, "height width"], camera: CameraIntrinsics) -> bytes:
    """The X-ray as WebP."""
    large = _enlarged(camera)
    image = torch.nn.functional.interpolate(
        pixels[None, None], size=(large.height, large.width), mode="bicubic", align_corners=False, antialias=True
    )
    return _webp(Image.fromarray(grey_levels(image[0, 0].numpy()).round().astype(np.uint8)), quality=QUALITY)


def edges_picture(
    renderer: AbstractRenderer, pose: RigidTransform, camera: CameraIntrinsics, colour: tuple[int, int, int]
) -> bytes:
    """The edges of `renderer`'s volume (best a `bone_volume`) at a pose, on a transparent ground, as WebP."""
    coverage = (255 * pose_lines(renderer, pose, _enlarged(camera))).round().astype(np.uint8)
    layer = np.empty((*coverage.shape, 4), np.uint8)
    layer[..., :3], layer[..., 3] = colour, coverage
    return _webp(Image.fromarray(layer), lossless=True)


def _enlarged(camera: CameraIntrinsics) -> CameraIntrinsics:
    """The camera of the picture."""
    scale = SIZE_PX / max(camera.width, camera.height)
    return camera.resized(round(camera.width * scale), round(camera.height * scale))


def _webp(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format="WEBP", method=2, **options)
    return file.getvalue()
