"""Errors over held-back views: poses of the same range, with degradations of their own, that no training step sees."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.networks.opposite_view import opposite_view_where
from fluoro_reg.regressor import PoseRegressor
from fluoro_reg.regressor.network import camera_twist
from fluoro_reg.training.losses import shown
from fluoro_reg.training.samples import Samples
from fluoro_reg.training.state import AbstractRecord
from fluoro_reg.training.subject import Subject

CAPTURED_MM = 25.0  # a registration's search finds its way from here
_CHUNK = 64
_HELD_BACK = 2**32  # seeds from here on are validation's; users' seeds end below
_INSIDE_95 = 12.592  # the 95 % quantile of chi-squared with 6 degrees of freedom


@dataclass(frozen=True, slots=True)
class ValidationErrors:
    """Medians over the held-back views: mTRE of bone that the view shows, its part in the image plane, the turn; and shares:
    views whose mTRE is below `CAPTURED_MM`, and errors inside the predicted 95 % ellipsoid."""

    mtre_mm: float
    in_plane_mm: float
    rotation_deg: float
    captured: float
    inside_95: float


@dataclass(frozen=True, slots=True)
class Record(AbstractRecord):
    """The errors at one validation, as `ValidationErrors` has them."""

    mtre_mm: float
    in_plane_mm: float
    rotation_deg: float
    captured: float
    inside_95: float

    @property
    def error(self) -> float:
        return self.mtre_mm


class HeldBack:
    """The held-back views of a subject, made once."""

    def __init__(self, subject: Subject, count: int, seed: int) -> None:
        sizes = [min(_CHUNK, count - begin) for begin in range(0, count, _CHUNK)]
        self.chunks = [subject.maker.batch(size, _HELD_BACK + seed, number) for number, size in enumerate(sizes)]
        self._subject = subject

    def errors(self, network: PoseRegressor) -> Float[Tensor, "views 4"]:
        """mTRE and its part in the image plane (mm), the turn (rad) and whether the 95 % ellipsoid holds the truth."""
        return torch.cat([self._of_chunk(network, chunk) for chunk in self.chunks])

    def _of_chunk(self, network: PoseRegressor, chunk: Samples) -> Float[Tensor, "batch 4"]:
        estimate = network(chunk.inputs, self._subject.reference)
        found, target = estimate.camera_from_patient.to("cpu", torch.float64), chunk.target
        pivot = self._subject.reference.pivot
        mtre, in_plane = self.target_errors(opposite_view_where(chunk.behind, found, pivot), chunk.camera_from_patient)
        twist = camera_twist(found, target, pivot)
        whitened = estimate.factor.to("cpu", torch.float64).mT @ twist[..., None]
        inside = (whitened.square().sum((-2, -1)) < _INSIDE_95).double()
        return torch.stack([mtre, in_plane, so3.angle(found.rotation.mT @ target.rotation), inside], dim=-1)

    def target_errors(
        self, found: RigidTransform, true: RigidTransform
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
        """mTRE and its part in the image plane, mm, per pose over the bone that the true view shows."""
        found, camera = found.to("cpu", torch.float64), self._subject.maker.intrinsics
        at = true.apply(self._subject.points_patient)
        difference = found.apply(self._subject.points_patient) - at
        weight = shown(camera.project(at), camera).double()
        weight = weight / weight.sum(-1, keepdim=True).clamp_min(1)
        mtre, in_plane = ((weight * part.norm(dim=-1)).sum(-1) for part in (difference, difference[..., :2]))
        return mtre, in_plane


@torch.no_grad()
def errors_over(held_back: Sequence[HeldBack], network: PoseRegressor) -> ValidationErrors:
    """Of a network in the mode it is in, over the views of all subjects."""
    mtre, in_plane, turn, inside = torch.cat([views.errors(network) for views in held_back]).unbind(-1)
    return ValidationErrors(
        float(mtre.median()),
        float(in_plane.median()),
        float(turn.median().rad2deg()),
        float((mtre < CAPTURED_MM).double().mean()),
        float(inside.mean()),
    )
