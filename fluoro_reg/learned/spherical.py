"""Images compared as points of spheres: one point, or pairs of quaternions, in every cell of a grid of features.

Euclidean distances between features bend the way to the true pose; angles need not. The residual of a cell is the sphere's
logarithm at the fixed image's feature, a frame that stays put while the pose moves, and its squared length is the cell's
squared distance: what Gauss-Newton needs, and the gradient as well.

`angle` takes all channels of a cell as one point of a sphere. `so4` takes them by eights as pairs of unit quaternions under the
metric that is invariant on both sides of SO(4), `2 (a^2 + b^2)` of the two angles, mean over the pairs. A sign common to a pair
is not divided out: features, unlike rotations, may use it. `euclidean` is what both are held against: plain differences, mean
over the channels.

Source: M. Chen and Y. Kong, WACV 2026, arXiv 2509.06890, for the idea; it leaves these choices open.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import sphere


class AbstractMetric(ABC):
    """Final subclasses say what points the channels of a cell make up, and how one differs from another."""

    @abstractmethod
    def points(self, features: Float[Tensor, "batch channels i j"]) -> Float[Tensor, "batch cells points numbers"]:
        """The channels must be a multiple of a point's numbers."""

    @abstractmethod
    def residuals(
        self, moving: Float[Tensor, "batch cells points numbers"], fixed: Float[Tensor, "#batch cells points numbers"]
    ) -> Float[Tensor, "batch cells residuals"]:
        """Per cell a vector whose squared length is the cell's squared distance."""


@dataclass(frozen=True, slots=True)
class EuclideanMetric(AbstractMetric):
    """The mean squared difference of the channels."""

    def points(self, features: Float[Tensor, "batch channels i j"]) -> Float[Tensor, "batch cells 1 channels"]:
        return features.flatten(2).mT[:, :, None]

    def residuals(
        self, moving: Float[Tensor, "batch cells 1 channels"], fixed: Float[Tensor, "#batch cells 1 channels"]
    ) -> Float[Tensor, "batch cells channels"]:
        return ((moving - fixed) / moving.shape[-1] ** 0.5).flatten(2)


@dataclass(frozen=True, slots=True)
class SphericalMetric(AbstractMetric):
    """Points of length 1, of `numbers` each (0: all); the squared distance (rad^2) is `factor` times the mean square of the
    points' angles.
    """

    numbers: int
    factor: float

    def points(self, features: Float[Tensor, "batch channels i j"]) -> Float[Tensor, "batch cells points numbers"]:
        cells = features.flatten(2).mT
        return sphere.normalised(cells.unflatten(-1, (-1, self.numbers or cells.shape[-1])))

    def residuals(
        self, moving: Float[Tensor, "batch cells points numbers"], fixed: Float[Tensor, "#batch cells points numbers"]
    ) -> Float[Tensor, "batch cells residuals"]:
        share = self.factor / moving.shape[-2]
        return share**0.5 * sphere.log(fixed, moving).flatten(2)


METRICS: dict[str, AbstractMetric] = {
    "angle": SphericalMetric(numbers=0, factor=1.0),
    "so4": SphericalMetric(numbers=4, factor=4.0),
    "euclidean": EuclideanMetric(),
}


def squared_distance(
    residuals: Float[Tensor, "batch cells residuals"], weight: Float[Tensor, "#batch cells"]
) -> Float[Tensor, "batch"]:
    """The mean over cells of their squared distances, rad^2; 0 where no cell counts."""
    total = weight.sum(-1).clamp_min(1e-12)
    return (weight * residuals.square().sum(-1)).sum(-1) / total
