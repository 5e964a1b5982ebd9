"""What every learned similarity is: a value of a pose and an X-ray, in three parts that are computed as seldom as they change.

What is projected changes with the weights only, what is made of an X-ray with the X-ray; a pose needs a projection and the
comparison. Images are those of one camera (`reference.intrinsics`), as `network_input` standardises them. Smaller values are
better; after training, 1 is what a pose of the training's spread has more than the true one, on average.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned.calibration import Calibration
from fluoro_reg.regressor.heads import ReferenceView

Projector = Callable[[RigidTransform], Any]


@runtime_checkable
class LearnedProblem(Protocol):
    """The similarity to given X-rays: a `ValueProblem` of `fluoro_reg.optimisers` whose starts are poses."""

    def at(self, poses: RigidTransform) -> Float[Tensor, "batch"]:
        """The value of each pose with its own X-ray, or with the only one; its derivative to the poses can be differentiated
        once more, to the weights.
        """

    def values(self, starts: RigidTransform, twists: Float[Tensor, "batch 6"]) -> Float[Tensor, "batch"]:
        """The same a twist [mm, rad] about the pivot away from each start, as `retract` takes it.

        Dtype and device are those of the twists.
        """

    def table(self, poses: RigidTransform) -> Float[Tensor, "poses images"]:
        """The value of every pose with every X-ray, before it is scaled; poses come as often as X-rays, or some times that."""


class AbstractLearnedSimilarity(nn.Module, ABC):
    """Final subclasses are the entries of `LEARNED`: modules made of their options, a reference view and the CT."""

    Options: type
    scale: Tensor

    def __init__(self, options: Any, reference: ReferenceView, volume: CTVolume) -> None:
        super().__init__()
        self.options, self.reference = options, reference
        self.register_buffer("scale", torch.ones(()))
        self.calibration = Calibration()

    @abstractmethod
    def projector(self) -> Projector:
        """What makes of poses the images that are compared: once a CT, or once a step of training."""

    @abstractmethod
    def problem(
        self, projector: Projector, images: Float[Tensor, "batch 1 height width"], mask: Bool[Tensor, "batch height width"]
    ) -> LearnedProblem:
        """Once an X-ray, or a batch of them; the mask is True where it may be used."""


def shown(mask: Bool[Tensor, "batch height width"], grid: Float[Tensor, "batch embedding i j"]) -> Float[Tensor, "batch i j"]:
    """The usable share of each place of a grid over the image."""
    return nn.functional.adaptive_avg_pool2d(mask.to(grid)[:, None], (grid.shape[2], grid.shape[3]))[:, 0]


def mean_shown(x: Float[Tensor, "batch i j"], weight: Float[Tensor, "#batch i j"]) -> Float[Tensor, "batch"]:
    """The mean over the grid, by how much is shown."""
    return (x * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-6)
