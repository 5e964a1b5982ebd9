"""The base class of learned similarities: two encoders of images, and a metric of their embeddings.

The volume that is projected depends on the weights alone, and the embedding of an X-ray on the X-ray alone; each pose needs a
projection, its embedding and the comparison. All images have one camera (`reference.intrinsics`), and X-rays are standardised
by `fluoro_reg.networks.image_input`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform, se3
from fluoro_reg.learned.calibration import Calibration
from fluoro_reg.learned.forward_mode import value_and_forward_derivatives
from fluoro_reg.learned.metrics import AbstractMetric
from fluoro_reg.networks.reference_view import ReferenceView

# Images at poses, and their derivatives with respect to a twist [mm, rad] about `reference.pivot`.
Projection = tuple[Float[Tensor, "batch channels height width"], Float[Tensor, "batch channels height width 6"]]
Projector = Callable[[RigidTransform], Projection]


def attach_pose_gradient(projection: Projection, poses: RigidTransform, pivot: Float[Tensor, "3"]) -> Projection:
    """Make a projection differentiable with respect to poses that require gradients, with its derivatives taken as constant."""
    image, by_twist = projection
    if not (poses.rotation.requires_grad or poses.translation.requires_grad):
        return projection
    here = RigidTransform(poses.rotation.detach(), poses.translation.detach())
    twist = se3.local(here, poses, pivot.to(here.translation))  # zero, but not its derivatives
    return image + torch.einsum("bchwk,bk->bchw", by_twist, twist.to(by_twist)), by_twist


class AbstractLearnedSimilarity(nn.Module, ABC):
    """A similarity as a module; final subclasses are the entries of `LEARNED_SIMILARITIES`.

    Attributes:
        options: an instance of the subclass's `Options`.
        reference: the reference view.
        scale: by how much the value decreases on average from a start of the training's pairs to the true pose; 1 before
            training.
        calibration: the relation of values to distances in mm.
        seen: the range of the poses in its training; None: not known.
        mirrors: whether views from the other side of the patient are mirrored before they are compared.
    """

    Options: type
    scale: Tensor

    def __init__(self, options: Any, reference: ReferenceView, volume: CTVolume) -> None:
        super().__init__()
        self.options, self.reference = options, reference
        self.seen: CarmRange | None = None
        self.mirrors = True
        self.register_buffer("scale", torch.ones(()))
        self.calibration = Calibration()

    def for_volume(self, volume: CTVolume, reference: ReferenceView) -> "AbstractLearnedSimilarity":
        """Return a similarity of another CT that shares the weights of this one."""
        with torch.random.fork_rng(devices=[]):
            other = type(self)(self.options, reference, volume).to(self.scale.device)
        for name, module in self.named_children():
            setattr(other, name, module)
        other.scale = self.scale
        return other

    @property
    @abstractmethod
    def metric(self) -> AbstractMetric:
        """The metric of the embeddings."""

    @abstractmethod
    def make_projector(self) -> Projector:
        """Return the projector of the CT; call it once for each CT, or once for each training step."""

    @abstractmethod
    def embed_moving(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch embedding"]:
        """Return the embeddings of projected images."""

    @abstractmethod
    def embed_fixed(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch embedding"]:
        """Return the embeddings of X-rays."""

    def embed_projection(
        self, projection: Projection
    ) -> tuple[Float[Tensor, "batch embedding"], Float[Tensor, "batch embedding 6"]]:
        """Return the embeddings of a projection and their derivatives with respect to a twist, on the device of the weights."""
        image, by_twist = (part.to(self.scale.device) for part in projection)
        return value_and_forward_derivatives(self.embed_moving, image, by_twist)

    def residuals(
        self,
        moving: tuple[Float[Tensor, "batch embedding"], Float[Tensor, "batch embedding 6"]],
        fixed: Float[Tensor, "#batch embedding"],
    ) -> tuple[Float[Tensor, "batch residuals"], Float[Tensor, "batch residuals 6"]]:
        """Return the residuals of embeddings and their derivatives with respect to a twist."""
        return value_and_forward_derivatives(lambda embedding: self.metric.residuals(embedding, fixed), *moving)
