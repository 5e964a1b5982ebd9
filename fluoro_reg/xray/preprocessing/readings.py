"""Readings of an X-ray: what its pixel values mean, and which part of the detector the beam reached.

Rules find both, and rules can be fooled. Where one is certain there is one reading. Where it is not, there are several, and the
registration decides between them: it registers each coarsely and keeps the one that the CT explains best.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.preprocessing.coarse import CoarseImage
from fluoro_reg.xray.preprocessing.field import Field, find_field, painted_field
from fluoro_reg.xray.preprocessing.leak import find_leaking_field
from fluoro_reg.xray.preprocessing.polarity import Polarity, estimate_polarity

_HEADER_ODDS = 19.0  # of a header that states a polarity: right 19 times in 20, before the image is seen


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read an X-ray.

    Attributes:
        intensity: What the pixel values mean.
        confidence: The probability of that before the registration; 1 if it was given.
        field: The part that the beam reached; None for the whole image.
        name: The reading in words, for results and logs.
    """

    intensity: Intensity
    confidence: float
    field: Field | None
    name: str


def readings_of(
    coarse: CoarseImage, intensity: Intensity, find_collimator: bool, from_header: bool = False
) -> tuple[Reading, ...]:
    """Return the plausible readings of a coarse X-ray, the likeliest first.

    Args:
        coarse: The X-ray.
        intensity: What the pixel values mean; AUTO if that is unknown.
        find_collimator: Whether to look for the field of a collimator.
        from_header: Whether `intensity` is what a header states. If the image contradicts it, both polarities are plausible.
    """
    dark = find_field(coarse.mean, coarse.usable)
    bright = find_field(coarse.mean, coarse.usable, inverted=True)
    if intensity is Intensity.AUTO:
        polarities = _estimated(estimate_polarity(coarse, dark, bright))
    elif from_header:
        polarities = _held_against(intensity, estimate_polarity(coarse, dark, bright))
    else:
        polarities = [(intensity, 1.0, "")]
    return tuple(
        Reading(meaning, confidence, field, f"{meaning.value}{source}, {name}")
        for meaning, confidence, source in polarities
        for field, name in (_fields(coarse, meaning, dark, bright) if find_collimator else _WHOLE)
    )


def _estimated(polarity: Polarity) -> list[tuple[Intensity, float, str]]:
    """Return the meaning that was estimated from the image, and its opposite if that cannot be ruled out."""
    likelier = (polarity.intensity, polarity.confidence, "")
    return [likelier] if polarity.is_certain else [likelier, (polarity.intensity.opposite, 1 - polarity.confidence, "")]


def _held_against(stated: Intensity, polarity: Polarity) -> list[tuple[Intensity, float, str]]:
    """Return the meaning that a header states, and its opposite if the image speaks for that.

    Headers are wrong more often than never: vendors confuse the signs, and converters invert the pixels and keep the header.
    """
    if polarity.intensity is stated:
        return [(stated, 1.0, "")]
    odds = _HEADER_ODDS * (1 - polarity.confidence) / max(polarity.confidence, 1e-9)
    confidence = odds / (1 + odds)
    both = [(stated, confidence, " (as in the header)"), (stated.opposite, 1 - confidence, " (against the header)")]
    return sorted(both, key=lambda one: -one[1])


_WHOLE: tuple[tuple[None, str], ...] = ((None, "whole image"),)


def _fields(
    coarse: CoarseImage, intensity: Intensity, dark: Field | None, bright: Field | None
) -> Sequence[tuple[Field | None, str]]:
    """Return the plausible fields for a polarity, the likeliest first.

    The outside is dark in images of photons. In images of attenuation it is bright, or painted black by a display shutter.
    """
    photons = intensity is Intensity.TRANSMITTED
    found = dark if photons else bright or painted_field(dark, coarse)
    fields = [] if found is None else [(found, "collimated field")]
    if found is not None and found.is_certain:
        return fields
    leaking = find_leaking_field(coarse.mean, coarse.usable) if photons else None
    if leaking is not None and not (found is not None and _is_same(found, leaking, coarse)):
        fields.insert(0, (leaking, "field of a leaking collimator"))
    return [*fields, *_WHOLE]


def _is_same(field: Field, other: Field, coarse: CoarseImage) -> bool:
    masks = [one.mask(*coarse.mean.shape, factor=1, margin=0.0) for one in (field, other)]
    return bool((masks[0] != masks[1]).mean() < 0.03)
