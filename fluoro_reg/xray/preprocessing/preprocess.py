"""From an X-ray as it came to attenuation with bone bright, and a mask of the pixels that may be believed.

The steps are pure functions with a module each: the polarity is judged unless given, the collimator's outside, clipped regions
and burnt-in text leave the mask, photons become line integrals. Judgements are made on a coarse copy of the image; a frame
that cannot show anatomy is rejected with a sentence before anything is rendered.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.preprocessing.attenuation import attenuation_from_transmitted, attenuation_scaled, usable_sample
from fluoro_reg.xray.preprocessing.coarse import CoarseImage, coarse_image, enlarged
from fluoro_reg.xray.preprocessing.defects import beside_clipped, burnt_in_text, clipped_regions
from fluoro_reg.xray.preprocessing.field import Field, find_opening
from fluoro_reg.xray.preprocessing.polarity import estimate_polarity
from fluoro_reg.xray.preprocessing.quality import rejection_of_frame


@dataclass(frozen=True, slots=True)
class PreprocessOptions:
    """What is done to an X-ray before it is registered."""

    find_collimator: bool = option(True, "mask what lies outside a collimator or circular field found in the image")
    field_margin: float = option(
        0.02, "how far inside the edge of the field the mask begins", unit="longer sides", minimum=0.0, maximum=0.2
    )
    mask_clipped: str = option(
        "both",
        "clipped regions to mask, but for their rim: no photons, open air, or both",
        choices=("none", "dense", "air", "both"),
    )
    mask_text: bool = option(True, "mask small hard-edged islands of pure white or black near the border (burnt-in text)")
    air_quantile: float = option(0.995, "quantile of the usable pixels that stands for open air, I0", minimum=0.5, maximum=1.0)
    minimum_usable: float = option(0.05, "reject a frame with fewer usable pixels", unit="share", minimum=0.0, maximum=1.0)
    minimum_contrast: float = option(
        0.02, "reject a frame whose greys differ by less, after averaging", unit="of the greatest", minimum=0.0, maximum=1.0
    )
    minimum_structure: float = option(
        0.3, "reject a frame whose near regions correlate by less: noise", minimum=0.0, maximum=1.0
    )
    maximum_clipped: float = option(
        0.9, "reject a frame with more of its field clipped at one end", unit="share", minimum=0.0, maximum=1.0
    )


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """Attenuation (bone bright, float32; log units for photons) with its mask, and what was found on the way.

    `outline` is True where what the mask leaves is the outline of saturated air: where the body ends, but only roughly.
    `intensity` is what the numbers were taken for, `judged` whether that was judged from the image, with `confidence`
    (0.5 is a guess; 1 when given). `i0` is the number that became attenuation 0. `rejection` says why no registration should be
    tried, or is None.
    """

    image: XrayImage
    intensity: Intensity
    judged: bool
    confidence: float
    i0: float
    usable_fraction: float
    outline: Bool[Tensor, "height width"]
    rejection: str | None = None


def preprocess(image: XrayImage, options: PreprocessOptions) -> Preprocessed:
    """Attenuation, mask and judgement of one X-ray."""
    judged = image.intensity is Intensity.AUTO
    coarse = coarse_image(image.pixels, image.mask)
    if not coarse.usable.any():
        return _rejected(image, judged, "no pixel of the image may be used")
    if float(np.ptp(coarse.mean[coarse.usable])) == 0:
        return _rejected(image, judged, f"the image is blank: every pixel is {coarse.mean[coarse.usable][0]:g}")
    intensity, confidence, field = _understood(image.intensity, coarse, options)
    margin = options.field_margin * max(coarse.mean.shape)
    seen = _seen(coarse, field, margin)
    if not seen.any():
        return _rejected(image, judged, "no pixel of the image may be used")
    doubted = _doubted(image, coarse, seen, intensity, options)
    reason = rejection_of_frame(coarse, seen, options.minimum_contrast, options.minimum_structure, options.maximum_clipped)
    mask = _full_mask(image, coarse, field, doubted, margin)
    usable_fraction = _share(mask)
    if reason is None and usable_fraction < max(options.minimum_usable, 1e-9):
        reason = f"only {usable_fraction:.1%} of the image may be used, less than {options.minimum_usable:.1%}"
    if usable_fraction == 0:
        return _rejected(image, judged, reason or "no pixel of the image may be used")
    ascending = usable_sample(image.pixels, mask)
    convert = attenuation_from_transmitted if intensity is Intensity.TRANSMITTED else attenuation_scaled
    pixels, i0 = convert(image.pixels, ascending, options.air_quantile)
    result = XrayImage(pixels, image.intrinsics, Intensity.ATTENUATION, mask)
    outline = torch.zeros_like(mask)
    if options.mask_clipped in ("air", "both"):
        beside = beside_clipped(coarse, seen, at_top=intensity is Intensity.TRANSMITTED)
        outline = mask & torch.from_numpy(enlarged(beside, coarse.factor, *mask.shape))
    return Preprocessed(result, intensity, judged, confidence, i0, usable_fraction, outline, reason)


def _understood(intensity: Intensity, coarse: CoarseImage, options: PreprocessOptions) -> tuple[Intensity, float, Field | None]:
    """The polarity with its confidence, and the collimator's field; judging the one finds the other."""
    if intensity is Intensity.AUTO:
        polarity = estimate_polarity(coarse)
        return polarity.intensity, polarity.confidence, polarity.field if options.find_collimator else None
    if not options.find_collimator:
        return intensity, 1.0, None
    return intensity, 1.0, find_opening(coarse, intensity)


def _seen(coarse: CoarseImage, field: Field | None, margin: float) -> Bool[np.ndarray, "rows columns"]:
    """Coarse blocks well inside the field."""
    if field is None:
        return coarse.usable
    return coarse.usable & field.mask(*coarse.mean.shape, factor=1, margin=margin + 1)


def _doubted(
    image: XrayImage,
    coarse: CoarseImage,
    seen: Bool[np.ndarray, "rows columns"],
    intensity: Intensity,
    options: PreprocessOptions,
) -> Bool[np.ndarray, "rows columns"]:
    """Blocks in the field whose greys say nothing of the anatomy."""
    doubted = np.zeros_like(seen)
    air_is_bright = intensity is Intensity.TRANSMITTED
    if options.mask_clipped in ("dense", "both"):
        doubted |= clipped_regions(coarse, seen, at_top=not air_is_bright)
    if options.mask_clipped in ("air", "both"):
        doubted |= clipped_regions(coarse, seen, at_top=air_is_bright)
    if options.mask_text:
        doubted |= burnt_in_text(coarse, seen, usable_sample(image.pixels, image.mask))
    return doubted


def _full_mask(
    image: XrayImage, coarse: CoarseImage, field: Field | None, doubted: Bool[np.ndarray, "rows columns"], margin: float
) -> Bool[Tensor, "height width"]:
    """The field's edge is drawn finer than blocks; doubted blocks leave the mask whole."""
    height, width = image.pixels.shape
    mask = image.mask
    if field is not None:
        mask = mask & torch.from_numpy(field.mask(height, width, coarse.factor, margin))
    if doubted.any():
        mask = mask & ~torch.from_numpy(enlarged(doubted, coarse.factor, height, width))
    return mask


def _rejected(image: XrayImage, judged: bool, reason: str) -> Preprocessed:
    blank = XrayImage(torch.zeros_like(image.pixels), image.intrinsics, Intensity.ATTENUATION, image.mask)
    nowhere, confidence = torch.zeros_like(image.mask), 0.5 if judged else 1.0
    return Preprocessed(blank, image.intensity, judged, confidence, 0.0, _share(image.mask), nowhere, reason)


def _share(mask: Bool[Tensor, "height width"]) -> float:
    return int(torch.count_nonzero(mask)) / mask.numel()
