"""Pictures that are too coarse to read burnt-in writing.

An X-ray may show a name in its pixels, and no rule finds all writing. A picture is therefore averaged to so few pixels that an
ordinary line of writing is two of them high, and what a registration does not use, such as writing that was found, is painted
over. Anatomy, polarity, field and masks are still seen. A single large letter, such as a lead marker of the side, may be, too.
"""

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from fluoro_reg.evaluation.report.pictures import webp

_MASK_COLOUR = (96, 66, 40)


def coarse_picture(
    grey: Float[np.ndarray, "rows columns"],
    spacing: tuple[float, float] = (1.0, 1.0),
    usable: Bool[np.ndarray, "rows columns"] | None = None,
    longer_side_px: int = 112,
) -> bytes:
    """Return grey levels (0 to 255) as a coarse WebP image.

    Args:
        grey: The image.
        spacing: Height and width of a pixel, in any unit; the picture has square pixels.
        usable: Where the image is usable; the rest is painted over.
        longer_side_px: Pixels along the longer side; fewer if the image itself is small.
    """
    height, width = (size * step for size, step in zip(grey.shape, spacing, strict=True))
    scale = min(longer_side_px, max(grey.shape) // 2 or 1) / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    colour = np.repeat(_averaged(grey, size)[..., None], 3, axis=-1)
    if usable is not None:
        colour = np.where(_averaged(usable, size)[..., None] > 0.5, colour, np.array(_MASK_COLOUR))
    return webp(Image.fromarray(colour.round().clip(0, 255).astype(np.uint8)), quality=85)


def _averaged(image: np.ndarray, size: tuple[int, int]) -> Float[np.ndarray, "rows columns"]:
    return np.asarray(Image.fromarray(image.astype(np.float32)).resize(size, Image.Resampling.BOX))
