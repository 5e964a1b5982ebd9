"""Readers of PNG, TIFF and npy: grey pixels of 8, 16 or 32 bits, also when they are stored as RGB.

Frame grabbers deliver grey X-rays as RGB, often with coloured text or overlays. Pixels with equal channels are grey; the few
others are masked. An image with too many coloured pixels is rejected.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Num
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from fluoro_reg.errors import InputError
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.stored import StoredImage

COLOUR_TOLERANCE = 12  # of 255: chroma that JPEG or an analogue grabber adds to grey
MAXIMUM_COLOURED_FRACTION = 0.05
MAXIMUM_PIXELS = 8192 * 8192


def read_png_or_tiff(path: Path, frame: int) -> StoredImage:
    """Read one image (page `frame` of a TIFF) with 8, 16 or 32 bits of grey, or RGB with equal channels."""
    with _open_image(path) as image:
        check_size(image.width, image.height, path.name)
        check_frame(frame, getattr(image, "n_frames", 1), path.name)
        image.seek(frame)
        pixels = np.asarray(image.convert("RGBA") if image.mode in ("P", "PA") else image)
        tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
        white_is_zero = image.mode.startswith("I;16") and tags.get(262) == 0
    grey, mask = grey_and_mask(pixels, path.name)
    # Pillow inverts WhiteIsZero at 8 bits only
    return StoredImage(65535 - grey if white_is_zero else grey, mask, Intensity.AUTO, None, "PNG and TIFF contain no geometry")


def count_pages(path: Path) -> int:
    """Return the number of pages of a TIFF; 1 for a PNG."""
    with _open_image(path) as image:
        return int(getattr(image, "n_frames", 1))


@contextlib.contextmanager
def _open_image(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings about unusual tags may quote their values
            with Image.open(path, formats=("PNG", "TIFF")) as image:
                yield image
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, Image.DecompressionBombError) as error:
        raise InputError(f"{path.name} is not a readable PNG or TIFF (damaged or truncated); export it again") from error


def read_npy(path: Path) -> StoredImage:
    """Read a 2-D array of integers or floats; pickled objects are never loaded."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path.name} is not a plain .npy array; save the image as numbers with numpy.save") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or 0 in array.shape:
        shape = getattr(array, "shape", "several arrays")
        raise InputError(f"{path.name} must contain one 2-D array (rows, columns), got {shape}")
    if array.dtype.kind not in "uifb":
        raise InputError(f"{path.name} must contain real numbers, got {array.dtype}")
    check_size(array.shape[1], array.shape[0], path.name)
    pixels = np.array(array, dtype=np.float32)
    return StoredImage(pixels, np.ones(pixels.shape, dtype=bool), Intensity.AUTO, None, "npy contains no geometry")


def check_size(width: int, height: int, name: str) -> None:
    """Reject an image that is larger than any detector, before memory is allocated.

    Raises:
        InputError: The image is too large.
    """
    if width * height > MAXIMUM_PIXELS:
        raise InputError(f"{name} is {width} x {height} pixels; give an X-ray of at most 8192 x 8192")


def check_frame(frame: int, frames: int, name: str) -> None:
    """Reject a frame that the file does not have.

    Raises:
        InputError: There is no such frame.
    """
    if not 0 <= frame < frames:
        raise InputError(
            f"frame {frame} does not exist, because {name} has {frames} frame{'s' if frames != 1 else ''}; count from 0"
        )


def grey_and_mask(
    pixels: Num[np.ndarray, "height width *channels"], name: str
) -> tuple[Num[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """Convert grey, grey + alpha, RGB or RGBA pixels to grey.

    Returns:
        The grey pixels, and a mask that is False where a pixel is coloured or transparent.

    Raises:
        InputError: Too many pixels are coloured.
    """
    if pixels.ndim == 2:
        return pixels, np.ones(pixels.shape, dtype=bool)
    channels = pixels.shape[2]
    opaque = pixels[..., -1] > 0 if channels in (2, 4) else np.ones(pixels.shape[:2], dtype=bool)
    if channels <= 2:
        return pixels[..., 0], opaque
    colour = pixels[..., :3]
    low, high = colour.min(-1), colour.max(-1)
    scale = 255 if pixels.dtype == np.uint8 else float(np.iinfo(pixels.dtype).max)
    coloured = (high - low) > COLOUR_TOLERANCE / 255 * scale
    fraction = coloured.mean()
    if fraction > MAXIMUM_COLOURED_FRACTION:
        raise InputError(f"{name} is a colour image ({fraction:.0%} of its pixels are coloured), not an X-ray; give a grey one")
    return colour[..., 1], opaque & ~coloured
