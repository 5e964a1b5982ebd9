"""The interface of all similarities: a score for each pose of a batch, where higher is better.

Autograd can follow a score to the moving image, and from there the renderer to the pose, which is sufficient for gradient
descent. Levenberg-Marquardt also needs residuals: `fluoro_reg.similarity.residual`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Image = Float[Tensor, "#batch height width"]
Images = Float[Tensor, "batch height width"]


@dataclass(frozen=True, slots=True)
class AbstractSimilarity(ABC):
    """A similarity. Final subclasses are the entries of `SIMILARITIES`: frozen dataclasses whose fields are their settings.

    `weight` (>= 0) is the weight of each pixel of each pose. Pixels of zero weight have no influence, except that differences
    between neighbours read one pixel beyond the weights; masks are eroded accordingly.
    """

    @abstractmethod
    def score(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        """Return the scores. The maximum is 1; a score is 0 without any weight, and finite for constant images."""
