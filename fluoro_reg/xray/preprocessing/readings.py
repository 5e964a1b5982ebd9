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
from fluoro_reg.xray.preprocessing.polarity import estimate_polarity


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


def readings_of(coarse: CoarseImage, intensity: Intensity, find_collimator: bool) -> tuple[Reading, ...]:
    """Return the plausible readings of a coarse X-ray, the likeliest first; `intensity` may be AUTO."""
    dark = find_field(coarse.mean, coarse.usable)
    bright = find_field(coarse.mean, coarse.usable, inverted=True)
    if intensity is Intensity.AUTO:
        polarity = estimate_polarity(coarse, dark, bright)
        polarities = [(polarity.intensity, polarity.confidence)]
        if not polarity.is_certain:
            polarities.append((polarity.intensity.opposite, 1 - polarity.confidence))
    else:
        polarities = [(intensity, 1.0)]
    return tuple(
        Reading(meaning, confidence, field, f"{meaning.value}, {name}")
        for meaning, confidence in polarities
        for field, name in (_fields(coarse, meaning, dark, bright) if find_collimator else _WHOLE)
    )


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
