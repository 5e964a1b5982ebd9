"""`StoredImage`: the content of an image file, before a camera is assigned."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Num

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.nominal_view import NominalView


@dataclass(frozen=True, slots=True)
class StoredImage:
    """Pixels in the orientation of the detector (display transforms undone), their mask, intensity and camera.

    Attributes:
        pixels: Grey values.
        mask: True where a pixel is usable.
        intensity: What the values mean.
        intrinsics: The camera; None if the file has none.
        why_no_intrinsics: Why there is none.
        intensity_from_header: Whether `intensity` is what a header states, which the pixels may contradict.
        inverse_sum: See `XrayImage`.
        warnings: Sentences for the user.
        nominal_view: See `XrayImage`.
    """

    pixels: Num[np.ndarray, "height width"]
    mask: Bool[np.ndarray, "height width"]
    intensity: Intensity
    intrinsics: CameraIntrinsics | None = None
    why_no_intrinsics: str = ""
    intensity_from_header: bool = False
    inverse_sum: float | None = None
    warnings: tuple[str, ...] = ()
    nominal_view: NominalView | None = None
