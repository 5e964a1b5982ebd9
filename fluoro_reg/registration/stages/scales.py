"""Scales: one image and one CT, both coarsened to about the same resolution, so that a stage costs what its pixels need.

The number of pixels across the CT's projection defines a scale, not a power of two of the detector: a 70 mm implant in a
1024-pixel image and a pelvis that fills a 256-pixel one then take the same steps.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.registration.stages.masks import Extent, eroded
from fluoro_reg.registration.stages.objective import Scale
from fluoro_reg.rendering import make_renderer
from fluoro_reg.rendering.renderer import AbstractRenderer
from fluoro_reg.xray.image import XrayImage

MARGIN_MM = 9.0  # how far beyond the projected object residuals are taken, at the object
WINDOW_MM = 15.0  # how far the object may move inside a stage before it leaves the stage's window


@dataclass(slots=True)
class CoarseRenderers:
    """Renderers of one CT at every coarseness asked for, made once."""

    volume: CTVolume
    device: str
    extent: Extent = field(init=False)
    _made: dict[tuple[int, int, int], tuple[AbstractRenderer, Extent]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.extent = Extent.of(self.volume)

    def for_pixel(self, pixel_mm: float) -> tuple[AbstractRenderer, Extent]:
        """The renderer whose voxels are no larger than a pixel at the object, and no smaller than need be."""
        si, sj, sk = (max(1, int(pixel_mm / size)) for size in self.volume.voxel_size_mm)
        if (si, sj, sk) not in self._made:
            coarse = self.volume.downsampled((si, sj, sk))
            self._made[si, sj, sk] = make_renderer(coarse, self.device), self.extent.coarsened((si, sj, sk))
        return self._made[si, sj, sk]


@dataclass(slots=True)
class ImageScales:
    """The scales of one preprocessed X-ray, seen from a start pose."""

    image: XrayImage
    start: RigidTransform
    renderers: CoarseRenderers
    corners_patient: Float[Tensor, "8 3"]
    pivot: Float[Tensor, "3"]
    outline: Bool[Tensor, "height width"] | None = None  # pixels that show only roughly where the body ends
    _binned: dict[tuple[int, bool], XrayImage] = field(default_factory=dict)

    @property
    def depth_mm(self) -> float:
        """Distance of the pivot from the source along the optical axis."""
        return float(self.start.apply(self.pivot[None])[0, 2])

    def factor(self, object_px: int) -> int:
        """How many pixels to average so that the CT's projection (or the image) spans `object_px`."""
        camera = self.image.intrinsics
        low, high = projected_box(self.corners_patient, self.start, camera)
        object_span = float((high - low).max())
        return max(1, round(min(object_span, max(camera.width, camera.height)) / object_px))

    def pixel_mm(self, camera: CameraIntrinsics) -> float:
        """The size of a pixel at the object's depth."""
        return self.depth_mm / camera.fx

    def scale(self, object_px: int, poses: RigidTransform | None, roughly: bool = False) -> Scale:
        """One scale, cut to the window in which the CT can be from any of `poses` (None: the whole image).

        `roughly` is for poses still to be refined at another scale: the outline of saturated air leads to the body from afar,
        and in the end moves its depth by millimetres.
        """
        whole = self._coarsened(self.factor(object_px), roughly)
        pixel_mm = self.pixel_mm(whole.intrinsics)
        image = whole
        if poses is not None:
            image = whole.cropped(*self._window(whole.intrinsics, poses, (MARGIN_MM + WINDOW_MM) / pixel_mm))
        renderer, extent = self.renderers.for_pixel(pixel_mm)
        return Scale(renderer, image.intrinsics, image.pixels[None], eroded(image.mask), extent, MARGIN_MM / pixel_mm)

    def _coarsened(self, factor: int, roughly: bool) -> XrayImage:
        if (factor, roughly) not in self._binned:
            image = self.image
            if self.outline is not None and not roughly:
                image = replace(image, mask=image.mask & ~self.outline)
            self._binned[factor, roughly] = image.binned(factor)
        return self._binned[factor, roughly]

    def _window(self, camera: CameraIntrinsics, poses: RigidTransform, margin_px: float) -> tuple[int, int, int, int]:
        low, high = projected_box(self.corners_patient, poses, camera)
        left, top = (max(0, math.floor(float(x) - margin_px)) for x in low)
        right, bottom = (math.ceil(float(x) + margin_px) for x in high)
        left, top = max(0, min(left, camera.width - 8)), max(0, min(top, camera.height - 8))
        right, bottom = min(max(right, left + 7), camera.width - 1), min(max(bottom, top + 7), camera.height - 1)
        return left, top, right - left + 1, bottom - top + 1


def projected_box(
    points_patient: Float[Tensor, "n 3"], poses: RigidTransform, camera: CameraIntrinsics
) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
    """Smallest and largest pixel (u, v) of points over all poses; points behind the source stand at its plane."""
    points = poses.apply(points_patient).reshape(-1, 3)
    points = torch.cat([points[:, :2], points[:, 2:].clamp_min(1.0)], dim=-1)
    pixels = camera.project(points)
    return pixels.amin(0), pixels.amax(0)


def box_corners(volume: CTVolume, extent: Extent) -> Float[Tensor, "8 3"]:
    """The corners of the CT's non-air box in patient mm."""
    choice = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    return volume.points_patient(extent.low + choice * (extent.high - extent.low))
