"""`StoredImage`: the content of an image file, before a camera is assigned."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Num

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.image import Intensity


@dataclass(frozen=True, slots=True)
class StoredImage:
    """Pixels in the orientation of the detector (display transforms undone), their mask, intensity and camera.

    `intrinsics` is None if the file has no camera; `why_no_intrinsics` then contains the reason.
    """

    pixels: Num[np.ndarray, "height width"]
    mask: Bool[np.ndarray, "height width"]
    intensity: Intensity
    intrinsics: CameraIntrinsics | None = None
    why_no_intrinsics: str = ""
