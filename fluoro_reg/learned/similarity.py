"""What every learned similarity is: a value of a pose and an X-ray, in three parts that are computed as seldom as they change.

The learned volume changes with the weights only, what is made of an X-ray with the X-ray; a pose needs a projection and the
comparison. Images are those of one camera (`reference.intrinsics`), as `network_input` standardises them. Smaller values are
better; after training, 1 is what a pose of the training's spread has more than the true one, on average.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.regressor.heads import ReferenceView


@dataclass(frozen=True, slots=True)
class FixedFeatures:
    """What is compared of X-rays: features on a grid, and how much of each place of the grid the X-ray shows."""

    grid: Float[Tensor, "batch embedding i j"]
    weight: Float[Tensor, "batch i j"]


class AbstractLearnedSimilarity(nn.Module, ABC):
    """Final subclasses are the entries of `LEARNED`: modules made of their options, a reference view and the CT."""

    Options: type
    scale: Tensor

    def __init__(self, options: Any, reference: ReferenceView, volume: CTVolume) -> None:
        super().__init__()
        self.options, self.reference = options, reference
        self.register_buffer("scale", torch.ones(()))

    @abstractmethod
    def learned_volume(self) -> Float[Tensor, "channels slices rows columns"]:
        """What is projected: once a CT, or once a step of training."""

    @abstractmethod
    def fixed_features(
        self, images: Float[Tensor, "batch 1 height width"], mask: Bool[Tensor, "batch height width"]
    ) -> FixedFeatures:
        """Once an X-ray; the mask is True where it may be used."""

    @abstractmethod
    def values(
        self, learned_volume: Float[Tensor, "channels slices rows columns"], fixed: FixedFeatures, poses: RigidTransform
    ) -> Float[Tensor, "batch"]:
        """The value of each pose with its own X-ray, or with the only one; differentiable twice to the poses."""


def shown(mask: Bool[Tensor, "batch height width"], grid: Float[Tensor, "batch embedding i j"]) -> Float[Tensor, "batch i j"]:
    """The usable share of each place of a grid over the image."""
    return nn.functional.adaptive_avg_pool2d(mask.to(grid.dtype)[:, None], (grid.shape[2], grid.shape[3]))[:, 0]


def mean_shown(x: Float[Tensor, "batch i j"], weight: Float[Tensor, "#batch i j"]) -> Float[Tensor, "batch"]:
    """The mean over the grid, by how much is shown."""
    return (x * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-6)
