"""Images for visual checks: a DRR of the CT, and the X-ray with the edges of the bones drawn on it."""

import numpy as np
import torch
from jaxtyping import UInt8

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.rendering import AbstractRenderer, make_renderer, project
from fluoro_reg.rendering.overlay import bone_volume, overlay
from fluoro_reg.xray.image import XrayImage


class DebugImageRenderer:
    """Render debug images on demand; each renderer is made when its first image is requested."""

    def __init__(self, volume: CTVolume, device: str) -> None:
        self.volume = volume
        self._device = device
        self._ct_renderer: AbstractRenderer | None = None
        self._bone_renderer: AbstractRenderer | None = None

    def drr(self, xray: XrayImage, camera_from_patient: RigidTransform) -> UInt8[np.ndarray, "height width"]:
        """Return the DRR of the CT at a pose, bone dark, stretched over the full grey range."""
        self._ct_renderer = self._ct_renderer or make_renderer(self.volume, self._device)
        transmitted = torch.exp(-project(self._ct_renderer, camera_from_patient, xray.intrinsics))
        low, high = transmitted.amin(), transmitted.amax()
        grey = (transmitted - low) / (high - low).clamp_min(1e-6) * 255
        return grey.round().to("cpu", torch.uint8).numpy()

    def overlay(self, xray: XrayImage, camera_from_patient: RigidTransform) -> UInt8[np.ndarray, "height width 3"]:
        """Return the X-ray with the edges of the CT's bones at a pose, in RGB."""
        self._bone_renderer = self._bone_renderer or make_renderer(bone_volume(self.volume), self._device)
        return overlay(xray.pixels, self._bone_renderer, camera_from_patient, xray.intrinsics)
