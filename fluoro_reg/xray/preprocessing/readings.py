"""Readings of an X-ray: what its pixel values mean, and which part of the detector the beam reached.

Rules find both, and rules can be fooled. Where one is certain there is one reading. Where it is not, there are several, and the
registration decides between them: it registers each coarsely and keeps the one that the CT explains best.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fluoro_reg.xray.image import Intensity, XrayImage
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
        is_inverted: Whether the pixel values are inverted first.
    """

    intensity: Intensity
    confidence: float
    field: Field | None
    name: str
    is_inverted: bool = False


@dataclass(frozen=True, slots=True)
class _Meaning:
    intensity: Intensity
    confidence: float
    source: str = ""
    is_inverted: bool = False

    @property
    def name(self) -> str:
        return f"{self.intensity.value}{' inverted' if self.is_inverted else ''}{self.source}"


def readings_of(coarse: CoarseImage, image: XrayImage, find_collimator: bool) -> tuple[Reading, ...]:
    """Return the plausible readings of an X-ray, the likeliest first.

    If the image contradicts the meaning that a header states, both polarities are plausible.

    Args:
        coarse: The coarse copy of the X-ray.
        image: The X-ray; its intensity is AUTO if that is unknown.
        find_collimator: Whether to look for the field of a collimator.
    """
    dark = find_field(coarse.mean, coarse.usable)
    bright = find_field(coarse.mean, coarse.usable, inverted=True)
    meanings = [_Meaning(image.intensity, 1.0)]
    if image.intensity is Intensity.AUTO:
        meanings = _estimated(estimate_polarity(coarse, dark, bright))
    elif image.intensity_from_header:
        meanings = _held_against(image.intensity, estimate_polarity(coarse, dark, bright))
    if image.inverse_sum is not None:
        meanings = [other for one in meanings for other in _with_inverted_photons(one)]
    return tuple(
        Reading(meaning.intensity, meaning.confidence, field, f"{meaning.name}, {name}", meaning.is_inverted)
        for meaning in meanings
        for field, name in (_fields(coarse, meaning, dark, bright) if find_collimator else _WHOLE)
    )


def _estimated(polarity: Polarity) -> list[_Meaning]:
    """Return the meaning that was estimated from the image, and its opposite if that cannot be ruled out."""
    likelier = _Meaning(polarity.intensity, polarity.confidence)
    return [likelier] if polarity.is_certain else [likelier, _Meaning(polarity.intensity.opposite, 1 - polarity.confidence)]


def _held_against(stated: Intensity, polarity: Polarity) -> list[_Meaning]:
    """Return the meaning that a header states, and its opposite if the image speaks for that.

    Headers are wrong more often than never: vendors confuse the signs, and converters invert the pixels and keep the header.
    """
    if polarity.intensity is stated:
        return [_Meaning(stated, 1.0)]
    odds = _HEADER_ODDS * (1 - polarity.confidence) / max(polarity.confidence, 1e-9)
    confidence = odds / (1 + odds)
    header = _Meaning(stated, confidence, " (as in the header)")
    return sorted([header, _Meaning(stated.opposite, 1 - confidence, " (against the header)")], key=lambda one: -one.confidence)


def _with_inverted_photons(meaning: _Meaning) -> list[_Meaning]:
    """Return a meaning, and for bright bones also that of inverted photons: an inverted image is not yet a line integral."""
    if meaning.intensity is not Intensity.ATTENUATION:
        return [meaning]
    half = meaning.confidence / 2
    return [replace(meaning, confidence=half), _Meaning(Intensity.TRANSMITTED, half, meaning.source, is_inverted=True)]


_WHOLE: tuple[tuple[None, str], ...] = ((None, "whole image"),)


def _fields(
    coarse: CoarseImage, meaning: _Meaning, dark: Field | None, bright: Field | None
) -> Sequence[tuple[Field | None, str]]:
    """Return the plausible fields for a polarity, the likeliest first.

    The outside is dark in images of photons. In images of attenuation it is bright, or painted black by a display shutter.
    """
    if meaning.is_inverted:
        return [*([] if bright is None else [(bright, "collimated field")]), *_WHOLE]
    photons = meaning.intensity is Intensity.TRANSMITTED
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
