"""Preprocessing of an X-ray: attenuation with bright bones, and a mask of the usable pixels, in every plausible reading.

The image goes one way: a coarse copy (`coarse`), its fields (`field`, `leak`), its polarity (`polarity`), its readings
(`readings`), and then, in each reading, the defects (`defects`), the check for anatomy (`quality`) and the conversion of
photons to line integrals (`attenuation`). A frame that cannot show anatomy is rejected with a reason before it is rendered.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.preprocessing.attenuation import attenuation_from_transmitted, sample_usable_pixels, scale_attenuation
from fluoro_reg.xray.preprocessing.coarse import CoarseImage, coarse_image, enlarge_blocks
from fluoro_reg.xray.preprocessing.defects import burnt_in_text, clipped_regions, clipped_surroundings
from fluoro_reg.xray.preprocessing.field import Field
from fluoro_reg.xray.preprocessing.instruments import find_instruments
from fluoro_reg.xray.preprocessing.quality import rejection_reason
from fluoro_reg.xray.preprocessing.readings import Reading, readings_of


@dataclass(frozen=True, slots=True)
class PreprocessOptions:
    """Options of the preprocessing of an X-ray."""

    find_collimator: bool = option(True, "mask the region outside a collimator or circular field that is found in the image")
    field_margin: float = option(
        0.02, "width of the masked margin inside the edge of the field", unit="of the longer side", minimum=0.0, maximum=0.2
    )
    mask_clipped: str = option(
        "both",
        "clipped regions to mask, except for their rim: no photons (dense), open air, or both",
        choices=("none", "dense", "air", "both"),
    )
    mask_text: bool = option(True, "mask burnt-in text: small islands of pure white or black with sharp edges near the border")
    air_quantile: float = option(
        0.995, "quantile of the usable pixels that is used as the intensity of open air, I0", minimum=0.5, maximum=1.0
    )
    minimum_usable: float = option(0.05, "reject a frame with fewer usable pixels", unit="fraction", minimum=0.0, maximum=1.0)
    minimum_contrast: float = option(
        0.02, "reject a frame whose greys differ by less, after averaging", unit="of the maximum", minimum=0.0, maximum=1.0
    )
    minimum_structure: float = option(
        0.3, "reject a frame as noise if its neighbouring regions correlate less", minimum=0.0, maximum=1.0
    )
    maximum_clipped: float = option(
        0.9, "reject a frame with more of its field clipped at one end", unit="fraction", minimum=0.0, maximum=1.0
    )


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """A preprocessed X-ray.

    Attributes:
        image: Attenuation with bright bones, float32, and its mask. It is a line integral if the X-ray contained photons.
        intensity: What the pixel values of the X-ray mean.
        intensity_inferred: Whether `intensity` was inferred from the image.
        intensity_confidence: Confidence of `intensity`: 0.5 is a guess; 1 if it was given.
        i0: The pixel value that became attenuation 0.
        usable_fraction: Fraction of the pixels in the mask.
        outline: Usable pixels at the outline of saturated air, where the edge of the body is inaccurate.
        reading: The reading of the X-ray in words: the meaning of its pixels, and its field.
        without_instruments: Whether what looks like an instrument has been removed from the mask.
        rejection: Why no registration should be attempted; None if it should.
    """

    image: XrayImage
    intensity: Intensity
    intensity_inferred: bool
    intensity_confidence: float
    i0: float
    usable_fraction: float
    outline: Bool[Tensor, "height width"]
    reading: str = ""
    without_instruments: bool = False
    rejection: str | None = None


def preprocess(image: XrayImage, options: PreprocessOptions) -> Preprocessed:
    """Preprocess an X-ray in its likeliest reading that shows anatomy."""
    return preprocess_readings(image, options)[0]


def preprocess_readings(image: XrayImage, options: PreprocessOptions) -> tuple[Preprocessed, ...]:
    """Preprocess an X-ray in all plausible readings that show anatomy (if none does, in the likeliest), the likeliest first."""
    inferred = image.intensity is Intensity.AUTO
    coarse = coarse_image(image.pixels, image.mask)
    if not coarse.usable.any():
        return (_rejected(image, inferred, "no pixel of the image is usable"),)
    if float(np.ptp(coarse.mean[coarse.usable])) == 0:
        return (_rejected(image, inferred, f"the image is blank: every pixel is {coarse.mean[coarse.usable][0]:g}"),)
    readings = readings_of(coarse, image, options.find_collimator)
    prepared = tuple(preprocess_reading(image, coarse, reading, options) for reading in readings)
    return tuple(one for one in prepared if one.rejection is None) or prepared[:1]


def without_instruments(prepared: Preprocessed) -> Preprocessed | None:
    """Return an X-ray whose mask leaves out what looks like an instrument; None if nothing does, or nothing else is usable."""
    image = prepared.image
    mask = image.mask & ~find_instruments(image.pixels, image.mask)
    usable_fraction = _usable_fraction(mask)
    if not 0 < usable_fraction < prepared.usable_fraction:
        return None
    return replace(prepared, image=replace(image, mask=mask), usable_fraction=usable_fraction, without_instruments=True)


def preprocess_reading(image: XrayImage, coarse: CoarseImage, reading: Reading, options: PreprocessOptions) -> Preprocessed:
    """Convert an X-ray to attenuation, find its usable pixels, and check that it can show anatomy."""
    inferred, intensity = image.intensity is Intensity.AUTO or reading.confidence < 1, reading.intensity
    if reading.is_inverted:
        image = _inverted(image, coarse)
        coarse = coarse_image(image.pixels, image.mask)
    margin = options.field_margin * max(coarse.mean.shape)
    in_field = _blocks_in_field(coarse, reading.field, margin)
    if not in_field.any():
        return _rejected(image, inferred, "no pixel of the image is usable")
    defective = _defective_blocks(image, coarse, in_field, intensity, options)
    reason = rejection_reason(coarse, in_field, options.minimum_contrast, options.minimum_structure, options.maximum_clipped)
    mask = _full_mask(image, coarse, reading.field, defective, margin)
    usable_fraction = _usable_fraction(mask)
    if reason is None and usable_fraction < max(options.minimum_usable, 1e-9):
        reason = f"only {usable_fraction:.1%} of the image is usable, less than {options.minimum_usable:.1%}"
    if usable_fraction == 0:
        return _rejected(image, inferred, reason or "no pixel of the image is usable")
    ascending = np.sort(sample_usable_pixels(image.pixels, mask))
    convert = attenuation_from_transmitted if intensity is Intensity.TRANSMITTED else scale_attenuation
    pixels, i0 = convert(image.pixels, ascending, options.air_quantile)
    result = XrayImage(pixels, image.intrinsics, Intensity.ATTENUATION, mask)
    outline = torch.zeros_like(mask)
    if options.mask_clipped in ("air", "both"):
        surroundings = clipped_surroundings(coarse, in_field, at_top=intensity is Intensity.TRANSMITTED)
        outline = mask & torch.from_numpy(enlarge_blocks(surroundings, coarse.factor, *mask.shape))
    return Preprocessed(
        result, intensity, inferred, reading.confidence, i0, usable_fraction, outline, reading.name, rejection=reason
    )


def _inverted(image: XrayImage, coarse: CoarseImage) -> XrayImage:
    """Return the image with inverted values: about the range of stored values, or about those in use if they fill a small part.

    The first keeps zero photons at zero. The second is how programs invert images of fewer bits than the header states.
    """
    low, high = float(coarse.low[coarse.usable].min()), float(coarse.high[coarse.usable].max())
    total = low + high if image.inverse_sum is None else image.inverse_sum
    if abs(total - low - high) > high - low:
        total = low + high
    return replace(image, pixels=total - image.pixels)


def _blocks_in_field(coarse: CoarseImage, field: Field | None, margin: float) -> Bool[np.ndarray, "rows columns"]:
    """Return the usable coarse blocks that are completely inside the field."""
    if field is None:
        return coarse.usable
    return coarse.usable & field.mask(*coarse.mean.shape, factor=1, margin=margin + 1)


def _defective_blocks(
    image: XrayImage,
    coarse: CoarseImage,
    in_field: Bool[np.ndarray, "rows columns"],
    intensity: Intensity,
    options: PreprocessOptions,
) -> Bool[np.ndarray, "rows columns"]:
    """Return the blocks in the field that carry no information about the anatomy."""
    defective = np.zeros_like(in_field)
    air_is_bright = intensity is Intensity.TRANSMITTED
    if options.mask_clipped in ("dense", "both"):
        defective |= clipped_regions(coarse, in_field, at_top=not air_is_bright)
    if options.mask_clipped in ("air", "both"):
        defective |= clipped_regions(coarse, in_field, at_top=air_is_bright)
    if options.mask_text:
        defective |= burnt_in_text(coarse, in_field, sample_usable_pixels(image.pixels, image.mask))
    return defective


def _full_mask(
    image: XrayImage, coarse: CoarseImage, field: Field | None, defective: Bool[np.ndarray, "rows columns"], margin: float
) -> Bool[Tensor, "height width"]:
    """Return the mask of usable pixels. The edge of the field is exact to a pixel, defective regions to a block."""
    height, width = image.pixels.shape
    mask = image.mask
    if field is not None:
        mask = mask & torch.from_numpy(field.mask(height, width, coarse.factor, margin))
    if defective.any():
        mask = mask & ~torch.from_numpy(enlarge_blocks(defective, coarse.factor, height, width))
    return mask


def _rejected(image: XrayImage, inferred: bool, reason: str) -> Preprocessed:
    blank = XrayImage(torch.zeros_like(image.pixels), image.intrinsics, Intensity.ATTENUATION, image.mask)
    no_outline, confidence = torch.zeros_like(image.mask), 0.5 if inferred else 1.0
    return Preprocessed(
        blank, image.intensity, inferred, confidence, 0.0, _usable_fraction(image.mask), no_outline, rejection=reason
    )


def _usable_fraction(mask: Bool[Tensor, "height width"]) -> float:
    return int(torch.count_nonzero(mask)) / mask.numel()
