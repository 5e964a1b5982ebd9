"""PNG, TIFF and npy: grey pixels of 8, 16 or 32 bits; colour is refused unless it is a grey picture in colour's clothes.

Frame grabbers deliver grey X-rays as RGB, often with coloured text or marks burnt in: pixels whose channels agree are grey, the
few others are masked. Where too many disagree the picture is no X-ray.
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
    """One picture (page `frame` of a TIFF) with 8, 16 or 32 bits of grey, or RGB with equal channels."""
    with _opened(path) as picture:
        check_size(picture.width, picture.height, path.name)
        check_frame(frame, getattr(picture, "n_frames", 1), path.name)
        picture.seek(frame)
        pixels = np.asarray(picture.convert("RGBA") if picture.mode in ("P", "PA") else picture)
        tags = picture.tag_v2 if isinstance(picture, TiffImageFile) else {}
        white_is_zero = picture.mode.startswith("I;16") and tags.get(262) == 0
    grey, mask = grey_and_mask(pixels, path.name)
    # Pillow inverts WhiteIsZero at 8 bits only
    return StoredImage(65535 - grey if white_is_zero else grey, mask, Intensity.AUTO, None, "pictures carry no geometry")


def count_pages(path: Path) -> int:
    """Pages of a TIFF; 1 for a PNG."""
    with _opened(path) as picture:
        return int(getattr(picture, "n_frames", 1))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's words on odd tags may quote them
            with Image.open(path, formats=("PNG", "TIFF")) as picture:
                yield picture
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, Image.DecompressionBombError) as error:
        raise InputError(f"{path.name} is no readable PNG or TIFF (damaged or truncated); export it again") from error


def read_npy(path: Path) -> StoredImage:
    """A 2-D array of integers or floats; pickled objects are never loaded."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path.name} is not a plain .npy array; save the image by numpy.save as numbers") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or 0 in array.shape:
        shape = getattr(array, "shape", "several arrays")
        raise InputError(f"{path.name} must hold one 2-D array (rows, columns), it holds {shape}")
    if array.dtype.kind not in "uifb":
        raise InputError(f"{path.name} must hold real numbers, it holds {array.dtype}")
    check_size(array.shape[1], array.shape[0], path.name)
    pixels = np.array(array, dtype=np.float32)
    return StoredImage(pixels, np.ones(pixels.shape, dtype=bool), Intensity.AUTO, None, "an array carries no geometry")


def check_size(width: int, height: int, name: str) -> None:
    """Refuses what no detector delivers, before memory is taken for it."""
    if width * height > MAXIMUM_PIXELS:
        raise InputError(f"{name} is {width} x {height} pixels; X-rays of more than 8192 x 8192 are refused")


def check_frame(frame: int, frames: int, name: str) -> None:
    """Refuses a frame number that the file does not have."""
    if not 0 <= frame < frames:
        raise InputError(
            f"{name} has {frames} frame{'s' if frames != 1 else ''} (numbered from 0), so frame {frame} does not exist"
        )


def grey_and_mask(
    pixels: Num[np.ndarray, "height width *channels"], name: str
) -> tuple[Num[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """Grey pixels of a grey, grey + alpha, RGB or RGBA picture; the mask is False where a pixel is coloured or transparent."""
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
    share = coloured.mean()
    if share > MAXIMUM_COLOURED_FRACTION:
        raise InputError(f"{name} is a colour picture ({share:.0%} of its pixels are coloured), not an X-ray; give a grey one")
    return colour[..., 1], opaque & ~coloured
