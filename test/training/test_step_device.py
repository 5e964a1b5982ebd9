"""A step computes on one device: with tensors of the device `meta` in place of a GPU's, an operation on both is an error."""

import contextlib
import dataclasses

import pytest
import torch

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned import ProSTOptions, SphericalOptions
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.regressor import RegressorOptions
from fluoro_reg.training.options import TrainingOptions
from fluoro_reg.training.pairs import Directions
from fluoro_reg.training.similarity import SimilarityTraining, SimilarityTrainingOptions
from fluoro_reg.training.trainer import RegressorTraining


def moved(poses: RigidTransform) -> RigidTransform:
    return poses.to("meta")


@pytest.mark.parametrize("head", ["rotation-6d", "quaternion-adjugate", "se3-log"])
def test_of_a_regressor(volume, carm, monkeypatch, head):
    network = RegressorOptions(image_px=32, head=head)
    options = TrainingOptions(steps=2, batch=4, validation_images=8, network=network)
    options = dataclasses.replace(options, losses=dataclasses.replace(options.losses, log_geodesic=0.01))
    training = RegressorTraining(volume, carm, options)
    batch = training.batches(0)[0]
    samples = dataclasses.replace(batch.samples, inputs=batch.samples.inputs.to("meta"), target=moved(batch.samples.target))
    monkeypatch.setattr(ReferenceView, "__post_init__", lambda view: object.__setattr__(view, "depth_mm", 700.0))
    subject = dataclasses.replace(batch.subject, points=batch.subject.points.to("meta"), view=batch.subject.view.on("meta"))
    training.device = "meta"
    training.state.network.to("meta")
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # unknown to this device
    loss = training.backward(dataclasses.replace(batch, subject=subject, samples=samples))
    assert loss.device.type == "meta"
    assert all(parameter.grad.device.type == "meta" for parameter in training.state.network.parameters())
    with pytest.raises(RuntimeError, match="device"):
        training.backward(dataclasses.replace(batch, samples=samples))


@pytest.mark.parametrize("kind", ["prost", "spherical"])
def test_of_a_similarity(volume, carm, monkeypatch, kind):
    """The projector, which takes poses on the CPU, is replaced by one that gives images of the device."""
    small = ProSTOptions(image_px=16, voxel_mm=16.0, samples=10, volume_channels=2, encoder_channels=(8, 8), embedding_size=8)
    options = SimilarityTrainingOptions(
        kind=kind,
        steps=2,
        batch=4,
        starts=2,
        views=2,
        validation_images=8,
        prost=small,
        spherical=SphericalOptions(image_px=16),
    )
    training = SimilarityTraining(volume, carm, options)
    batch = training.batches(0)[0]
    pairs = dataclasses.replace(batch.pairs, images=batch.pairs.images.to("meta"))
    names = [field.name for field in dataclasses.fields(Directions)]
    directions = Directions(*(getattr(batch.directions, name).to("meta") for name in names))
    training.device = "meta"
    network = training.state.network.to("meta")
    size = (2, 2 if kind == "prost" else 1, 16, 16)
    projection = torch.rand(size, device="meta"), torch.rand(*size, 6, device="meta")
    monkeypatch.setattr(type(network), "make_projector", lambda _: lambda poses: projection)
    assert training.backward(dataclasses.replace(batch, pairs=pairs, directions=directions)).device.type == "meta"
    with pytest.raises(RuntimeError, match="device"):
        training.backward(dataclasses.replace(batch, pairs=pairs))
