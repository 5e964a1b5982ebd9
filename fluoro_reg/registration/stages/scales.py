"""Scales: one image and one CT, both at about the same resolution, so that a stage does no more work than its pixels need.

A scale is defined by the number of pixels across the projected CT, not by a power of two of the detector. A 70 mm implant in an
image of 1024 pixels and a pelvis that fills one of 256 then go through the same steps.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.registration.stages.masks import CUT_FRACTION, Extent, eroded
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.registration.stages.objective import Scale
from fluoro_reg.rendering import make_renderer
from fluoro_reg.rendering.renderer import AbstractRenderer
from fluoro_reg.xray.image import XrayImage

WINDOW_MM = 15.0  # the object may move this far within a stage before it leaves the window


@dataclass(slots=True)
class CoarseRenderers:
    """Renderers of one CT at several resolutions, each made once."""

    volume: CTVolume
    device: str
    cut_fraction: float = CUT_FRACTION
    extent: Extent = field(init=False)
    _voxel_size_mm: tuple[float, float, float] = field(init=False)
    _made: dict[tuple[int, int, int], tuple[AbstractRenderer, Extent]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.extent, self._voxel_size_mm = Extent.of(self.volume, self.cut_fraction), self.volume.voxel_size_mm

    def for_pixel(self, pixel_mm: float) -> tuple[AbstractRenderer, Extent]:
        """The renderer with the largest voxels that are not larger than a pixel at the object."""
        si, sj, sk = (max(1, int(pixel_mm / size)) for size in self._voxel_size_mm)
        if (si, sj, sk) not in self._made:
            coarse = self.volume.downsampled((si, sj, sk))
            self._made[si, sj, sk] = make_renderer(coarse, self.device), self.extent.coarsened((si, sj, sk))
        return self._made[si, sj, sk]


@dataclass(slots=True)
class ImageScales:
    """The scales of one preprocessed X-ray at an initial pose."""

    image: XrayImage
    initial_pose: RigidTransform
    renderers: CoarseRenderers
    corners_patient: Float[Tensor, "8 3"]
    model: ObjectModel
    outline: Bool[Tensor, "height width"] | None = None  # pixels at which saturation has moved the edge of the body
    _binned: dict[tuple[int, bool], XrayImage] = field(default_factory=dict)
    _span: float | None = field(default=None, init=False)  # of the projected CT at the initial pose, pixels of `image`

    @property
    def depth_mm(self) -> float:
        """Distance of the pivot from the source along the optical axis."""
        return float(self.initial_pose.apply(self.model.pivot[None])[0, 2])

    def factor(self, object_px: int) -> int:
        """The binning factor at which the projected CT (or the image, if smaller) spans `object_px`."""
        camera = self.image.intrinsics
        if self._span is None:
            low, high = projected_box(self.corners_patient, self.initial_pose, camera)
            self._span = float((high - low).max())
        return max(1, round(min(self._span, max(camera.width, camera.height)) / object_px))

    def pixel_mm(self, camera: CameraIntrinsics) -> float:
        """The size of a pixel at the object's depth."""
        return self.depth_mm / camera.fx

    def scale(self, object_px: int, poses: RigidTransform | None, coarse: bool = False) -> Scale:
        """One scale, cropped to the window that the CT can reach from any of `poses` (None: the whole image).

        `coarse` is for all stages but the last: there the outline of saturated air counts, because it guides a pose from far
        away. In the last stage it would move the depth by millimetres.
        """
        whole = self._coarsened(self.factor(object_px), coarse)
        pixel_mm = self.pixel_mm(whole.intrinsics)
        image = whole
        if poses is not None:
            image = whole.cropped(*self._window(whole.intrinsics, poses, pixel_mm))
        renderer, extent = self.renderers.for_pixel(pixel_mm)
        if not self.model.veto_cut_rays:
            extent = extent.uncut()
        margin_px = self.model.margin_mm / pixel_mm
        return Scale(renderer, image.intrinsics, image.pixels[None], eroded(image.mask), extent, margin_px)

    def framed(self, object_px: int, poses: RigidTransform, coarse: bool) -> Scale:
        """The same, not cropped: only the pixels of the window are usable. Its shape does not depend on the poses."""
        whole = self._coarsened(self.factor(object_px), coarse)
        left, top, width, height = self._window(whole.intrinsics, poses, self.pixel_mm(whole.intrinsics))
        scale, usable = self.scale(object_px, None, coarse), torch.zeros(1, *whole.mask.shape)
        window = whole.mask[top : top + height, left : left + width]
        usable[:, top : top + height, left : left + width] = eroded(window)
        return replace(scale, usable=usable)

    def renderer(self, object_px: int) -> AbstractRenderer:
        """The renderer of the CT at a scale."""
        return self.renderers.for_pixel(self.pixel_mm(self.image.intrinsics.binned(self.factor(object_px))))[0]

    def from_afar(self, object_px: int) -> Scale:
        """The scale of the whole image at which poses far off are compared."""
        scale = self.scale(object_px, None, coarse=True)
        return scale.locally(self.local_px(scale.intrinsics))

    def local_px(self, camera: CameraIntrinsics) -> int:
        """How far the local mean reaches with which the object is compared from far away, in pixels; 0: it is not."""
        return round(self.model.local_mm / self.pixel_mm(camera))

    def _coarsened(self, factor: int, coarse: bool) -> XrayImage:
        if (factor, coarse) not in self._binned:
            image = self.image
            if self.outline is not None and not coarse:
                image = replace(image, mask=image.mask & ~self.outline)
            self._binned[factor, coarse] = image.binned(factor)
        return self._binned[factor, coarse]

    def _window(self, camera: CameraIntrinsics, poses: RigidTransform, pixel_mm: float) -> tuple[int, int, int, int]:
        margin_px = (self.model.margin_mm + WINDOW_MM) / pixel_mm
        low, high = projected_box(self.corners_patient, poses, camera)
        left, top = (max(0, math.floor(float(x) - margin_px)) for x in low)
        right, bottom = (math.ceil(float(x) + margin_px) for x in high)
        left, top = max(0, min(left, camera.width - 8)), max(0, min(top, camera.height - 8))
        right, bottom = min(max(right, left + 7), camera.width - 1), min(max(bottom, top + 7), camera.height - 1)
        return left, top, right - left + 1, bottom - top + 1


def projected_box(
    points_patient: Float[Tensor, "n 3"], poses: RigidTransform, camera: CameraIntrinsics
) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
    """Smallest and largest pixel (u, v) of points over all poses; points behind the source are moved to 1 mm in front of it."""
    points = poses.apply(points_patient).reshape(-1, 3)
    points[:, 2].clamp_(min=1.0)
    pixels = camera.project(points)
    return pixels.amin(0), pixels.amax(0)


def box_corners(volume: CTVolume, extent: Extent) -> Float[Tensor, "8 3"]:
    """The corners of the CT's non-air box in patient mm."""
    choice = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    return volume.points_patient(extent.low + choice * (extent.high - extent.low))
