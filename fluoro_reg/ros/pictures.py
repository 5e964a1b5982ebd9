"""Pictures for people: the CT's projection as an X-ray would show it, and the overlay of its edges on the image."""

import numpy as np
import torch
from jaxtyping import UInt8

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.rendering import AbstractRenderer, make_renderer, project
from fluoro_reg.xray.image import XrayImage


class Painter:
    """Renders on demand; the renderer is made when the first picture is asked for."""

    def __init__(self, volume: CTVolume, device: str) -> None:
        self.volume = volume
        self._device = device
        self._renderer: AbstractRenderer | None = None

    def drr(self, xray: XrayImage, camera_from_patient: RigidTransform) -> UInt8[np.ndarray, "height width"]:
        """What the detector would have seen, bone dark; from the deepest shadow to the open beam."""
        if self._renderer is None:
            self._renderer = make_renderer(self.volume, self._device)
        transmitted = torch.exp(-project(self._renderer, camera_from_patient, xray.intrinsics))
        low, high = transmitted.amin(), transmitted.amax()
        grey = (transmitted - low) / (high - low).clamp_min(1e-6) * 255
        return grey.round().to("cpu", torch.uint8).numpy()
