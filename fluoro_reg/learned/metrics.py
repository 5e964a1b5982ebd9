"""How the numbers of two images are compared: as they are, as points of spheres, or as pairs of quaternions.

Euclidean distances between features bend the way to the true pose; angles need not. The residual is the sphere's logarithm at
the fixed image's point, a frame that stays put while the pose moves, and its squared length is the squared distance: what
Gauss-Newton needs, and the gradient as well.

`angle` takes all numbers as one point of a sphere. `so4` takes them by eights as pairs of unit quaternions under the metric
that is invariant on both sides of SO(4), `2 (a^2 + b^2)` of the two angles, mean over the pairs. A sign common to a pair is not
divided out: features, unlike rotations, may use it. `euclidean` is what both are held against, and ProST's: plain differences,
mean over the numbers.

Source: M. Chen and Y. Kong, WACV 2026, arXiv 2509.06890, for the idea; it leaves these choices open.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import sphere


class AbstractMetric(ABC):
    """Final subclasses say how the numbers of one image differ from another's."""

    @abstractmethod
    def residuals(
        self, moving: Float[Tensor, "batch numbers"], fixed: Float[Tensor, "#batch numbers"]
    ) -> Float[Tensor, "batch numbers"]:
        """A vector whose squared length is the squared distance."""


@dataclass(frozen=True, slots=True)
class EuclideanMetric(AbstractMetric):
    """The mean squared difference."""

    def residuals(
        self, moving: Float[Tensor, "batch numbers"], fixed: Float[Tensor, "#batch numbers"]
    ) -> Float[Tensor, "batch numbers"]:
        return (moving - fixed) / moving.shape[-1] ** 0.5


@dataclass(frozen=True, slots=True)
class SphericalMetric(AbstractMetric):
    """Points of length 1, of `numbers` each (0: all); the squared distance (rad^2) is `factor` times the mean square of the
    points' angles.
    """

    numbers: int
    factor: float

    def residuals(
        self, moving: Float[Tensor, "batch numbers"], fixed: Float[Tensor, "#batch numbers"]
    ) -> Float[Tensor, "batch numbers"]:
        start, end = self._points(fixed), self._points(moving)
        return (self.factor / end.shape[-2]) ** 0.5 * sphere.log(start, end).flatten(-2)

    def _points(self, numbers: Float[Tensor, "batch numbers"]) -> Float[Tensor, "batch points n"]:
        return sphere.normalised(numbers.unflatten(-1, (-1, self.numbers or numbers.shape[-1])))


METRICS: dict[str, AbstractMetric] = {
    "angle": SphericalMetric(numbers=0, factor=1.0),
    "so4": SphericalMetric(numbers=4, factor=4.0),
    "euclidean": EuclideanMetric(),
}
