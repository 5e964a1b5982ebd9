"""Pictures for people: the CT's projection as an X-ray would show it, and the edges of its bones on the X-ray."""

import numpy as np
import torch
from jaxtyping import UInt8

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.rendering import AbstractRenderer, make_renderer, project
from fluoro_reg.rendering.overlay import bone_volume, overlay
from fluoro_reg.xray.image import XrayImage


class Painter:
    """Renders on demand; a renderer is made when the first picture of its kind is asked for."""

    def __init__(self, volume: CTVolume, device: str) -> None:
        self.volume = volume
        self._device = device
        self._whole: AbstractRenderer | None = None
        self._bone: AbstractRenderer | None = None

    def drr(self, xray: XrayImage, camera_from_patient: RigidTransform) -> UInt8[np.ndarray, "height width"]:
        """What the detector would have seen, bone dark; from the deepest shadow to the open beam."""
        self._whole = self._whole or make_renderer(self.volume, self._device)
        transmitted = torch.exp(-project(self._whole, camera_from_patient, xray.intrinsics))
        low, high = transmitted.amin(), transmitted.amax()
        grey = (transmitted - low) / (high - low).clamp_min(1e-6) * 255
        return grey.round().to("cpu", torch.uint8).numpy()

    def overlay(self, xray: XrayImage, camera_from_patient: RigidTransform) -> UInt8[np.ndarray, "height width 3"]:
        """The X-ray with the edges of the CT's bones at a pose."""
        self._bone = self._bone or make_renderer(bone_volume(self.volume), self._device)
        return overlay(xray.pixels, self._bone, camera_from_patient, xray.intrinsics)
