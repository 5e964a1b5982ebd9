"""What every learned similarity is: two encoders of images and a metric of what they make.

What is projected changes with the weights only, what is made of an X-ray with the X-ray; a pose needs a projection, its
encoding and the comparison. Images are those of one camera (`reference.intrinsics`); X-rays come as `network_input` makes them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform, se3
from fluoro_reg.learned.calibration import Calibration
from fluoro_reg.learned.forward_mode import value_and_forward_derivatives
from fluoro_reg.learned.metrics import AbstractMetric
from fluoro_reg.networks.reference_view import ReferenceView

# What poses show, and its derivatives to a twist [mm, rad] about `reference.pivot`.
Projection = tuple[Float[Tensor, "batch channels height width"], Float[Tensor, "batch channels height width 6"]]
Projector = Callable[[RigidTransform], Projection]


def followed(projection: Projection, poses: RigidTransform, pivot: Float[Tensor, "3"]) -> Projection:
    """The projection of poses that come with a graph: the image has it too, as if it were linear in the pose; its derivatives
    are constants.
    """
    image, by_twist = projection
    if not (poses.rotation.requires_grad or poses.translation.requires_grad):
        return projection
    here = RigidTransform(poses.rotation.detach(), poses.translation.detach())
    away = se3.local(here, poses, pivot.to(here.translation))  # zero, but for its derivatives
    return image + torch.einsum("bchwk,bk->bchw", by_twist, away.to(by_twist)), by_twist


class AbstractLearnedSimilarity(nn.Module, ABC):
    """Final subclasses are the entries of `LEARNED`: modules made of their options, a reference view and the CT.

    After training `scale` is how much more a pose of the training's spread differs than the true one, on average.
    """

    Options: type
    scale: Tensor

    def __init__(self, options: Any, reference: ReferenceView, volume: CTVolume) -> None:
        super().__init__()
        self.options, self.reference = options, reference
        self.register_buffer("scale", torch.ones(()))
        self.calibration = Calibration()

    def on(self, volume: CTVolume, reference: ReferenceView) -> "AbstractLearnedSimilarity":
        """The similarity of another CT by the same weights, not a copy of them: what one learns the other knows."""
        with torch.random.fork_rng(devices=[]):
            other = type(self)(self.options, reference, volume).to(self.scale.device)
        for name, module in self.named_children():
            setattr(other, name, module)
        other.scale = self.scale
        return other

    @property
    @abstractmethod
    def metric(self) -> AbstractMetric:
        """How the numbers of two images are compared."""

    @abstractmethod
    def projector(self) -> Projector:
        """What makes of poses the images that are encoded: once a CT, or once a step of training."""

    @abstractmethod
    def moving(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch numbers"]:
        """The numbers of what a projector made."""

    @abstractmethod
    def fixed(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch numbers"]:
        """The numbers of X-rays."""

    def encoded(self, projection: Projection) -> tuple[Float[Tensor, "batch numbers"], Float[Tensor, "batch numbers 6"]]:
        """The numbers of a projection, and their derivatives to a twist; on the device of the weights."""
        image, by_twist = (part.to(self.scale.device) for part in projection)
        return value_and_forward_derivatives(self.moving, image, by_twist)

    def compared(
        self,
        encoded: tuple[Float[Tensor, "batch numbers"], Float[Tensor, "batch numbers 6"]],
        fixed: Float[Tensor, "#batch numbers"],
    ) -> tuple[Float[Tensor, "batch residuals"], Float[Tensor, "batch residuals 6"]]:
        """Residuals, and their derivatives to a twist."""
        return value_and_forward_derivatives(lambda numbers: self.metric.residuals(numbers, fixed), *encoded)
