"""`XrayImage`: pixels with their camera, their meaning, and a mask of usable pixels."""

import enum
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.nominal_view import NominalView
from fluoro_reg.xray.pixel_kernels import bin_usable


class Intensity(str, enum.Enum):
    """What the pixel values of an X-ray mean."""

    TRANSMITTED = "transmitted"  # proportional to detected photons: bone is dark
    ATTENUATION = "attenuation"  # line integrals up to scale and offset: bone is bright
    AUTO = "auto"  # unknown: to be inferred from the image

    @property
    def opposite(self) -> "Intensity":
        """The other polarity; AUTO has none and stays."""
        pairs = {Intensity.TRANSMITTED: Intensity.ATTENUATION, Intensity.ATTENUATION: Intensity.TRANSMITTED}
        return pairs.get(self, self)


@dataclass(frozen=True, slots=True)
class XrayImage:
    """One X-ray.

    Attributes:
        pixels: Grey values.
        intrinsics: The camera of the pixels.
        intensity: What the pixel values mean.
        mask: True where a pixel is usable (inside the field, not NaN, not burnt-in text).
        warnings: Sentences for the user about what the file or the messages state.
        intensity_from_header: Whether `intensity` is what a header states, which the pixels may contradict.
        inverse_sum: The sum of a pixel value and its inverse, if the values may be inverted photons, by what the header states
            of them or of their display; None if not.
        nominal_view: Where a header says that the C-arm was; None if it does not.
    """

    pixels: Float[Tensor, "height width"]
    intrinsics: CameraIntrinsics
    intensity: Intensity
    mask: Bool[Tensor, "height width"]
    warnings: tuple[str, ...] = ()
    intensity_from_header: bool = False
    inverse_sum: float | None = None
    nominal_view: NominalView | None = None

    def cropped(self, left: int, top: int, width: int, height: int) -> "XrayImage":
        """Return the window whose first pixel is (left, top), with its camera."""
        window = (slice(top, top + height), slice(left, left + width))
        camera = self.intrinsics.cropped(left, top, width, height)
        return XrayImage(self.pixels[window], camera, self.intensity, self.mask[window])

    def binned(self, factor: int) -> "XrayImage":
        """Return the means of the usable pixels of factor x factor blocks; a block is usable if at least half of it is."""
        if factor == 1:
            return self
        pixels, usable = (np.ascontiguousarray(plane.numpy()) for plane in (self.pixels, self.mask))
        shape = pixels.shape[0] // factor, pixels.shape[1] // factor
        mean, enough = np.empty(shape, pixels.dtype), np.empty(shape, np.bool_)
        bin_usable(pixels, usable, factor, mean, enough)
        return XrayImage(torch.from_numpy(mean), self.intrinsics.binned(factor), self.intensity, torch.from_numpy(enough))
