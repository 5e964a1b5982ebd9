"""What every optimiser may ask of a similarity: a score of each pose of a batch, larger is better.

Autograd can follow a score to the moving image, and from there the renderer to the pose, so gradient descent needs no more than
this. Levenberg-Marquardt needs residuals besides: `fluoro_reg.similarity.residual`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Image = Float[Tensor, "#batch height width"]
Images = Float[Tensor, "batch height width"]


@dataclass(frozen=True, slots=True)
class AbstractSimilarity(ABC):
    """Final subclasses are the entries of `SIMILARITIES`: frozen dataclasses whose fields are their settings.

    `weight` (>= 0) says how much a pixel of each pose counts. Where it is zero a pixel has no influence, save that differences
    between neighbours read one pixel beyond the weights: masks come eroded by that much.
    """

    @abstractmethod
    def score(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        """1 is the best there can be; without any weight it is 0, and for a constant image some number that is finite."""
