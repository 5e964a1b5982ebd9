"""Errors over validation views: X-rays of the simulator, at poses of the same range that no training step uses."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.networks.opposite_view import opposite_view_where
from fluoro_reg.regressor import PoseRegressor
from fluoro_reg.regressor.network import camera_twist
from fluoro_reg.training.losses import is_on_image
from fluoro_reg.training.random_values import seeded_generator
from fluoro_reg.training.samples import Samples, TrainingViews
from fluoro_reg.training.simulated_xrays import XraysForValidation, XrayThreads
from fluoro_reg.training.state import AbstractRecord
from fluoro_reg.training.subject import Subject

CAPTURE_RANGE_MM = 25.0  # a registration's search converges from here
_CHUNK = 64
_VALIDATION_SEED = 2**32  # validation uses seeds from here on; users' seeds are below
_CHI_SQUARED_95 = 12.592  # the 95 % quantile of chi-squared with 6 degrees of freedom


@dataclass(frozen=True, slots=True)
class ValidationErrors:
    """Errors over the validation views.

    Attributes:
        mtre_mm: median mTRE of the bone that the view shows.
        in_plane_mm: median of its part in the image plane.
        rotation_deg: median rotation error.
        captured: fraction of views whose mTRE is below `CAPTURE_RANGE_MM`.
        inside_95: fraction of errors inside the predicted 95 % ellipsoid.
    """

    mtre_mm: float
    in_plane_mm: float
    rotation_deg: float
    captured: float
    inside_95: float


@dataclass(frozen=True, slots=True)
class RegressorRecord(AbstractRecord):
    """One validation of a regressor; the fields are those of `ValidationErrors`."""

    mtre_mm: float
    in_plane_mm: float
    rotation_deg: float
    captured: float
    inside_95: float

    @property
    def error(self) -> float:
        return self.mtre_mm


class ValidationViews:
    """The validation views of one subject, made once, by `threads` that start at once."""

    def __init__(self, subject: Subject, count: int, seed: int, threads: XrayThreads) -> None:
        sizes = [min(_CHUNK, count - begin) for begin in range(0, count, _CHUNK)]
        xrays, seed = XraysForValidation(subject.volume, subject.reference), _VALIDATION_SEED + seed
        self._subject = subject
        self._started = []
        for number, size in enumerate(sizes):
            projections = subject.maker.projections(size, seed, number)
            started = xrays.start(projections.camera_from_patient, seeded_generator(seed, number), threads)
            self._started.append((projections, started))

    @functools.cached_property
    def chunks(self) -> list[Samples]:
        """The views, once they are made.

        Raises:
            InputError: as `XraysForValidation.inputs`.
        """
        maker, chunks = self._subject.maker, []
        for projections, started in self._started:
            made, images = started.wait()
            chunks.append(maker.samples_of(TrainingViews(images.to(maker.device), projections.part(made))))
        return chunks

    def errors(self, network: PoseRegressor) -> Float[Tensor, "views 4"]:
        """Return mTRE, its in-plane part (mm), rotation error (rad), and 1 where the truth is in the 95 % ellipsoid."""
        return torch.cat([self._chunk_errors(network, chunk) for chunk in self.chunks])

    def _chunk_errors(self, network: PoseRegressor, chunk: Samples) -> Float[Tensor, "batch 4"]:
        estimate = network(chunk.inputs, self._subject.view)
        estimated, pivot = estimate.camera_from_patient.to("cpu", torch.float64), self._subject.reference.pivot
        target = opposite_view_where(chunk.opposite, chunk.camera_from_patient, pivot)
        mtre, in_plane = self.target_errors(opposite_view_where(chunk.opposite, estimated, pivot), chunk.camera_from_patient)
        twist = camera_twist(estimated, target, pivot)
        whitened = estimate.factor.to("cpu", torch.float64).mT @ twist[..., None]
        inside = (whitened.square().sum((-2, -1)) < _CHI_SQUARED_95).double()
        return torch.stack([mtre, in_plane, so3.angle(estimated.rotation.mT @ target.rotation), inside], dim=-1)

    def target_errors(
        self, estimated: RigidTransform, truth: RigidTransform
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
        """Return the mTRE of each pose and its part in the image plane, in mm, over the bone that the true view shows."""
        estimated, camera = estimated.to("cpu", torch.float64), self._subject.maker.intrinsics
        true_points = truth.apply(self._subject.points_patient)
        difference = estimated.apply(self._subject.points_patient) - true_points
        weight = is_on_image(camera.project(true_points), camera).double()
        weight = weight / weight.sum(-1, keepdim=True).clamp_min(1)
        mtre, in_plane = ((weight * part.norm(dim=-1)).sum(-1) for part in (difference, difference[..., :2]))
        return mtre, in_plane


@torch.no_grad()
def validation_errors(validation_views: Sequence[ValidationViews], network: PoseRegressor) -> ValidationErrors:
    """Return the errors of a network, in its current mode, over the validation views of all subjects."""
    mtre, in_plane, rotation, inside = torch.cat([views.errors(network) for views in validation_views]).unbind(-1)
    return ValidationErrors(
        float(mtre.median()),
        float(in_plane.median()),
        float(rotation.median().rad2deg()),
        float((mtre < CAPTURE_RANGE_MM).double().mean()),
        float(inside.mean()),
    )
