"""Correlation in every window of an image, from sums over windows of the images and their products.

Dense windows (stride one) are what DiffPose, xvr and xReg average over; they look the same wherever the detector's grid falls,
which tiles do not. Sums of squares minus squared means lose digits, so images come in standardised.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.similarity.residual import normalised
from fluoro_reg.similarity.similarity import Images


@dataclass(frozen=True, slots=True)
class Windows:
    """Per window: the correlation of the two images, the fixed image's variance, and the share of usable weight (0 to 1)."""

    correlation: Float[Tensor, "batch rows columns"]
    fixed_variance: Float[Tensor, "batch rows columns"]
    share: Float[Tensor, "batch rows columns"]

    def mean(self, importance: Float[Tensor, "batch rows columns"]) -> Float[Tensor, "batch"]:
        """The mean correlation, every window counting by its share times `importance`."""
        return (normalised((self.share * importance).flatten(1)) * self.correlation.flatten(1)).sum(-1)


def correlated_windows(
    moving: Images, fixed: Images, weight: Images, size: int, minimum_fraction: float, floor: float
) -> Windows:
    """All windows of `size` x `size` pixels that lie inside the image (or the image, where that is smaller).

    `floor` is the variance that counts as flat; windows with less than `minimum_fraction` of their pixels usable get no share.
    """
    wm, wf = weight * moving, weight * fixed
    products = (weight, wm, wf, wm * moving, wf * fixed, wm * fixed, (weight > 0).to(weight))
    mass, m, f, mm, ff, mf, usable = (box_means(product, size) for product in products)
    m, f, mm, ff, mf = (total / mass.clamp_min(1e-12) for total in (m, f, mm, ff, mf))
    moving_variance, fixed_variance = ((square - mean * mean).clamp_min(0) for square, mean in ((mm, m), (ff, f)))
    correlation = (mf - m * f) * ((moving_variance + floor) * (fixed_variance + floor)).rsqrt()
    return Windows(correlation, fixed_variance, mass * (usable >= minimum_fraction))


def box_means(images: Images, size: int) -> Float[Tensor, "batch rows columns"]:
    """The mean over every window inside the image."""
    height, width = (min(size, n) for n in images.shape[1:])
    return neighbour_sums(neighbour_sums(images, 1, height), 2, width) / (height * width)


def neighbour_sums(images: Tensor, dim: int, size: int) -> Tensor:
    """Sums of `size` neighbours along `dim`, from sums of 1, 2, 4 ... neighbours: a tenth of the time of average pooling, and
    without the lost digits of differences of running sums."""
    count = images.shape[dim] - size + 1
    pieces, sums, width, begin = [], images, 1, 0
    while True:
        if size & width:
            pieces.append(sums.narrow(dim, begin, count))
            begin += width
        if begin == size:
            return sum(pieces[1:], start=pieces[0])
        rest = sums.shape[dim] - width
        sums = sums.narrow(dim, 0, rest) + sums.narrow(dim, width, rest)
        width *= 2
