"""`StoredImage`: what an image file holds before a camera is attached to it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Num

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.image import Intensity


@dataclass(frozen=True, slots=True)
class StoredImage:
    """Pixels as the detector saw them (display flips undone), which of them may be used, what they mean, and the file's camera.

    `intrinsics` is None where the file has none; `why_no_intrinsics` then says what is missing.
    """

    pixels: Num[np.ndarray, "height width"]
    mask: Bool[np.ndarray, "height width"]
    intensity: Intensity
    intrinsics: CameraIntrinsics | None = None
    why_no_intrinsics: str = ""
