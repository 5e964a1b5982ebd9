"""The examination of the pixels of one X-ray, from a file or a message: polarity, field, saturation, and what is masked."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.doctor.coarse_pictures import coarse_picture
from fluoro_reg.doctor.examination import Fact, Finding, Level, Picture, Section
from fluoro_reg.rendering.overlay import grey_levels
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.preprocessing.coarse import coarse_image
from fluoro_reg.xray.preprocessing.field import find_field
from fluoro_reg.xray.preprocessing.polarity import Polarity, estimate_polarity
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed, PreprocessOptions, preprocess_readings
from fluoro_reg.xray.preprocessing.readings import readings_of

PICTURE_PX, WHOLE_PICTURE_PX = 80, 56  # an X-ray may show a name
_MUCH_SATURATION = 0.02  # of the usable pixels
_SURE = 0.9  # confidence above which a polarity that contradicts the header is a warning
_GIVE_INTENSITY = "--intensity transmitted (bone dark) or --intensity attenuation (bone bright); in the node: intensity"


@dataclass(frozen=True, slots=True)
class PixelExamination:
    """What was found in the pixels."""

    section: Section
    findings: list[Finding]
    pictures: list[Picture]


def examine_pixels(image: XrayImage, stated_by: str) -> PixelExamination:
    """Return what a registration would see in the pixels of an X-ray.

    Args:
        image: The X-ray; its intensity is what the file or the user states, or AUTO.
        stated_by: The item or option that states the intensity.
    """
    readings = preprocess_readings(image, PreprocessOptions())
    polarity = _estimated_polarity(image)
    ends = _ends(image.pixels[_in_field(image)])
    facts = [
        Fact(
            "pixels in the mask of the file",
            _fraction(image.mask.double().mean().item()),
            "of the image",
            "without padding, shutters and colour",
        ),
        Fact(
            "usable pixels",
            _fraction(readings[0].usable_fraction),
            "of the image",
            "in the field, without writing and clipped regions",
        ),
        Fact("range of greys", [float(image.pixels.min()), float(image.pixels.max())]),
        Fact("pixels with the highest grey", _fraction(ends[1]), "of the field"),
        Fact("pixels with the lowest grey", _fraction(ends[0]), "of the field"),
        Fact("meaning of the pixels", readings[0].intensity.value, "", _source_of_intensity(image, stated_by)),
        Fact("readings that a registration tries", [_describe(reading) for reading in readings]),
    ]
    if polarity is not None:
        facts.append(Fact("polarity by the image alone", f"{polarity.intensity.value}, {polarity.confidence:.0%} confident"))
    findings = [*_polarity_findings(image, polarity, stated_by), *_exposure_findings(readings[0], ends)]
    return PixelExamination(Section("Pixels", facts), findings, _pictures(image, readings))


def _estimated_polarity(image: XrayImage) -> Polarity | None:
    """Return the polarity that the image alone suggests; None if it is blank."""
    coarse = coarse_image(image.pixels, image.mask)
    if not coarse.usable.any() or float(np.ptp(coarse.mean[coarse.usable])) == 0:
        return None
    dark, bright = (find_field(coarse.mean, coarse.usable, inverted=inverted) for inverted in (False, True))
    return estimate_polarity(coarse, dark, bright)


def _in_field(image: XrayImage) -> Bool[Tensor, "height width"]:
    """Return the pixels of the mask in the likeliest field: lead around it is black, and that is no saturation."""
    coarse = coarse_image(image.pixels, image.mask)
    if not coarse.usable.any():
        return image.mask
    field = readings_of(coarse, image, find_collimator=True)[0].field
    if field is None:
        return image.mask
    height, width = image.mask.shape
    return image.mask & torch.from_numpy(field.mask(height, width, coarse.factor, margin=1.0))


def _ends(greys: Float[Tensor, "n"]) -> tuple[float, float]:
    """Return the fractions of greys that are the lowest and the highest one."""
    if greys.numel() == 0:
        return 0.0, 0.0
    low, high = ((greys == end).double().mean().item() for end in (greys.min(), greys.max()))
    return low, high


def _source_of_intensity(image: XrayImage, stated_by: str) -> str:
    return "estimated from the image" if image.intensity is Intensity.AUTO else stated_by


def _describe(reading: Preprocessed) -> str:
    confidence = f" ({reading.intensity_confidence:.0%})" if reading.intensity_inferred else ""
    return f"{reading.reading or 'none'}{confidence}" + (f": rejected, {reading.rejection}" if reading.rejection else "")


def _polarity_findings(image: XrayImage, polarity: Polarity | None, stated_by: str) -> list[Finding]:
    if polarity is None:
        return []
    if image.intensity is Intensity.AUTO and not polarity.is_certain:
        sentence = (
            f"the polarity is not certain: the image looks like {polarity.intensity.value} ({polarity.confidence:.0%}); both "
            "are tried and the one that the CT explains is kept, so give it if you know it"
        )
        return [Finding(Level.NOTE, sentence, _GIVE_INTENSITY)]
    if image.intensity in (Intensity.AUTO, polarity.intensity):
        return []
    sentence = (
        f"{stated_by} says {image.intensity.value}, but the image looks like {polarity.intensity.value} "
        f"({polarity.confidence:.0%}); compare the picture, where bone must be bright, and give the right one"
    )
    return [Finding(Level.WARNING if polarity.confidence > _SURE else Level.NOTE, sentence, _GIVE_INTENSITY)]


def _exposure_findings(reading: Preprocessed, ends: tuple[float, float]) -> list[Finding]:
    if reading.rejection is not None:
        return [Finding(Level.WARNING, f"a registration would reject this image: {reading.rejection}")]
    low, high = ends
    air, dense = (high, low) if reading.intensity is Intensity.TRANSMITTED else (low, high)
    findings = []
    if air > _MUCH_SATURATION:
        findings.append(
            f"{air:.0%} of the pixels are clipped at the air end, where the outline of the body is inaccurate; lower the "
            "exposure, or widen the window of the export"
        )
    if dense > _MUCH_SATURATION:
        findings.append(
            f"{dense:.0%} of the pixels are clipped at the dense end (metal, lead, or too low an exposure) and masked"
        )
    return [Finding(Level.NOTE, sentence) for sentence in findings]


def _pictures(image: XrayImage, readings: tuple[Preprocessed, ...]) -> list[Picture]:
    whole = coarse_picture(grey_levels(image.pixels.numpy()), longer_side_px=WHOLE_PICTURE_PX)
    pictures = [Picture("Whole image", "as the file orders its greys; coarser still, as nothing is painted over", whole)]
    for number, reading in enumerate(readings, start=1):
        if reading.rejection is None:
            pixels = torch.where(reading.image.mask, reading.image.pixels, torch.nan)
            grey, usable = grey_levels(pixels.numpy()), reading.image.mask.numpy()
            text = f"{_describe(reading)}; bone must be bright, brown is not used"
            pictures.append(Picture(f"Reading {number}", text, coarse_picture(grey, usable=usable, longer_side_px=PICTURE_PX)))
    return pictures


def _fraction(value: float) -> float:
    return round(value, 4)
