"""Metrics of embeddings: how the embeddings of two images are compared.

Euclidean distances between features distort the path to the true pose, which angles can avoid. The residual of the spherical
metrics is the sphere's logarithm at the fixed image's point, in a frame that does not change with the pose. Its squared length
is the squared distance, as Gauss-Newton and gradients require.

- `angle` treats an embedding as one point of a sphere.
- `so4` treats every eight numbers of an embedding as a pair of unit quaternions, under the bi-invariant metric of SO(4): the
  squared distance of a pair is `2 (a^2 + b^2)` of its two angles, and the mean over the pairs counts. A sign common to a pair
  is not divided out: features, unlike rotations, may use it.
- `euclidean` is the mean squared difference, the baseline of the other two and the metric of ProST.

The idea is that of M. Chen and Y. Kong, WACV 2026, arXiv 2509.06890, which leaves these choices open.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import sphere


class AbstractMetric(ABC):
    """A metric of embeddings, as residuals; final subclasses are the entries of `METRICS`."""

    @abstractmethod
    def residuals(
        self, moving: Float[Tensor, "batch embedding"], fixed: Float[Tensor, "#batch embedding"]
    ) -> Float[Tensor, "batch embedding"]:
        """Return a vector whose squared length is the squared distance of two embeddings."""


@dataclass(frozen=True, slots=True)
class EuclideanMetric(AbstractMetric):
    """The mean squared difference."""

    def residuals(
        self, moving: Float[Tensor, "batch embedding"], fixed: Float[Tensor, "#batch embedding"]
    ) -> Float[Tensor, "batch embedding"]:
        return (moving - fixed) / moving.shape[-1] ** 0.5


@dataclass(frozen=True, slots=True)
class SphericalMetric(AbstractMetric):
    """Embeddings as points of spheres; the squared distance (rad^2) is `factor` times the mean squared angle of the points.

    Attributes:
        point_size: how many numbers of an embedding make a point; 0: all.
        factor: factor of the squared distance.
    """

    point_size: int
    factor: float

    def residuals(
        self, moving: Float[Tensor, "batch embedding"], fixed: Float[Tensor, "#batch embedding"]
    ) -> Float[Tensor, "batch embedding"]:
        start, end = self._points(fixed), self._points(moving)
        return (self.factor / end.shape[-2]) ** 0.5 * sphere.log(start, end).flatten(-2)

    def _points(self, embeddings: Float[Tensor, "batch embedding"]) -> Float[Tensor, "batch points n"]:
        return sphere.normalise(embeddings.unflatten(-1, (-1, self.point_size or embeddings.shape[-1])))


METRICS: dict[str, AbstractMetric] = {
    "angle": SphericalMetric(point_size=0, factor=1.0),
    "so4": SphericalMetric(point_size=4, factor=4.0),
    "euclidean": EuclideanMetric(),
}
