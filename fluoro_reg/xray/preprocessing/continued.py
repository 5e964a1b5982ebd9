"""Preprocessing of the frames of a stream: the reading of an earlier frame is used again while the image still resembles it.

Finding fields and polarity takes four fifths of the preprocessing, and neither changes from frame to frame. A coarse image that
correlates with the one in which they were found cannot hide a new blade (3 % of the height lower the correlation to 0.75), a
negative, or another view. The comparison is with the frame of the last full reading, not with the last frame, so that a slow
change does not go unnoticed either.
"""

from dataclasses import dataclass

import numpy as np

from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.preprocessing.coarse import CoarseImage
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions
from fluoro_reg.xray.preprocessing.readings import Reading, readings_of

MINIMUM_RESEMBLANCE = 0.95  # slow motion of a C-arm takes about two seconds to fall below
_MAXIMUM_LEVEL = 2.0  # factor between the median greys of the two images


@dataclass(frozen=True, slots=True)
class KnownReading:
    """A reading, the coarse image in which it was found, what was known of the X-ray's intensity, and how it was found."""

    reading: Reading
    coarse: CoarseImage
    given: Intensity
    find_collimator: bool

    def applies_to(self, image: XrayImage, coarse: CoarseImage, options: PreprocessOptions) -> bool:
        """Whether a coarse image may be read in the same way."""
        is_alike = image.intensity is self.given and options.find_collimator == self.find_collimator
        return is_alike and resembles(coarse, self.coarse)


def read_again(
    image: XrayImage, coarse: CoarseImage, name: str, options: PreprocessOptions, known: KnownReading | None
) -> KnownReading | None:
    """Return the reading `name` of an image: `known` while it applies, else found anew; None if it is not plausible."""
    if not _has_content(coarse):
        return None
    if known is not None and known.reading.name == name and known.applies_to(image, coarse, options):
        return known
    readings = readings_of(coarse, image, options.find_collimator)
    found = next((reading for reading in readings if reading.name == name), None)
    return None if found is None else KnownReading(found, coarse, image.intensity, options.find_collimator)


def resembles(coarse: CoarseImage, other: CoarseImage) -> bool:
    """Whether two coarse images show the same view through the same opening, at a similar exposure."""
    if coarse.mean.shape != other.mean.shape or coarse.factor != other.factor:
        return False
    both = coarse.usable & other.usable
    if both.sum() < 0.9 * max(coarse.usable.sum(), other.usable.sum(), 1):
        return False
    one, two = coarse.mean[both].astype(np.float64), other.mean[both].astype(np.float64)
    levels = sorted((abs(float(np.median(one))), abs(float(np.median(two)))))
    if levels[1] > _MAXIMUM_LEVEL * levels[0]:
        return False
    one, two = one - one.mean(), two - two.mean()
    # not `@`: from 10 000 elements on, BLAS wakes threads, which go on waiting busily for longer than a frame takes
    product, power_one, power_two = (one * two).sum(), (one * one).sum(), (two * two).sum()
    return float(product) >= MINIMUM_RESEMBLANCE * float(np.sqrt(power_one * power_two)) > 0


def _has_content(coarse: CoarseImage) -> bool:
    return bool(coarse.usable.any()) and float(np.ptp(coarse.mean[coarse.usable])) > 0
