"""Training of a learned similarity: cosines that increase, seeds, resumption, several CTs and pretrained weights."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers.interruption import InterruptedTrainingError, interrupt_at
from safetensors.torch import load_file

from fluoro_reg.carm.aim import default_aim_point
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import so3
from fluoro_reg.learned import LearnedProblem, ProSTOptions, SphericalOptions, load_similarity
from fluoro_reg.training.degradations import DegradationOptions
from fluoro_reg.training.gradient_direction import LENGTH_MM, Comparison, geodesic_gradient, squared_geodesic
from fluoro_reg.training.loop import resume_path
from fluoro_reg.training.pairs import PairOptions
from fluoro_reg.training.similarity import SimilarityTraining, SimilarityTrainingOptions, _distance_loss

SMALL = ProSTOptions(image_px=16, voxel_mm=16.0, samples=10, volume_channels=2, encoder_channels=(8, 8), embedding_size=8)
SHORT = SimilarityTrainingOptions(
    steps=6, batch=4, starts=2, validations=3, validation_images=8, patience=100, average=0.5, prost=SMALL
)


@pytest.fixture(scope="module")
def trained(volume, carm, tmp_path_factory):
    """Trained long enough for the value to decrease from start to truth, about one view and with all of the body in sight."""
    out = tmp_path_factory.mktemp("trained") / "w.safetensors"
    easy = DegradationOptions(beyond=0, background=0, couch=0, tools=0, collimation=0)
    options = dataclasses.replace(SHORT, steps=100, batch=16, starts=4, average=0.9, validation_images=24)
    options = dataclasses.replace(options, pairs=PairOptions(around="middle"), degradations=easy)
    training = SimilarityTraining(volume, carm, options)
    return training, training.run(out), out


def test_the_cosines_increase_and_gradients_lead_to_the_truth(trained):
    training, best, _ = trained
    first = training.state.history[0]
    assert best.error < first.error < 4.2
    assert best.rotation_cosine > 0.1 and best.translation_cosine > 0.3 and best.towards_truth > 0.5


def test_the_mean_decrease_over_the_validation_pairs_is_1(trained, volume):
    training, _, out = trained
    network = load_similarity(out, volume)
    pairs = training.subjects[0].validation_pairs
    problem = LearnedProblem(network, network.make_projector(), network.embed_fixed(pairs.images))
    decreases = problem.values_at(pairs.starts) - problem.values_at(pairs.truth)
    assert len(decreases) == 24 and float(decreases.mean()) == pytest.approx(1, rel=1e-4)


def test_a_resumed_training_ends_with_the_same_weights(volume, carm, tmp_path, monkeypatch):
    monkeypatch.setattr(SimilarityTraining, "mean_decrease", lambda training: 1.0)  # in 9 steps little is learned
    options = dataclasses.replace(SHORT, steps=9)
    whole, out = tmp_path / "whole.safetensors", tmp_path / "w.safetensors"
    SimilarityTraining(volume, carm, options).run(whole)
    with pytest.raises(InterruptedTrainingError):
        SimilarityTraining(volume, carm, options).run(out, report=interrupt_at(3))
    assert not out.exists() and resume_path(out).exists()
    steps: list[int] = []
    SimilarityTraining(volume, carm, options).run(out, resume=True, report=lambda progress: steps.append(progress.step))
    assert steps == [4, 5, 6, 7, 8, 9]
    one, other = load_file(whole), load_file(out)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert not resume_path(out).exists()


def test_another_seed_gives_other_pairs_and_weights(volume, carm):
    one, other = (SimilarityTraining(volume, carm, dataclasses.replace(SHORT, seed=seed)) for seed in (0, 1))
    assert not torch.equal(one.batches(0)[0].pairs.starts.rotation, other.batches(0)[0].pairs.starts.rotation)
    assert not torch.equal(*(next(training.state.network.moving_encoder.parameters()) for training in (one, other)))


def test_resuming_with_other_settings_is_refused(volume, carm, tmp_path):
    out = tmp_path / "w.safetensors"
    with pytest.raises(InterruptedTrainingError):
        SimilarityTraining(volume, carm, SHORT).run(out, report=interrupt_at(3))
    narrower = dataclasses.replace(SHORT, pairs=PairOptions(translation_mm=10.0))
    with pytest.raises(InputError, match="other settings"):
        SimilarityTraining(volume, carm, narrower).run(out, resume=True)


def test_a_value_that_does_not_decrease_is_refused(volume, carm):
    training = SimilarityTraining(volume, carm, SHORT)
    network = training.state.average
    torch.nn.init.zeros_(network.moving_encoder.head.mlp[2].weight)  # every pose has the same embedding
    with pytest.raises(InputError, match="nothing was learned"):
        training.mean_decrease()


@pytest.mark.parametrize("kind", ["prost", "spherical"])
def test_weights_trained_on_several_cts_serve_any_ct(volume, carm, tmp_path, kind, monkeypatch):
    """Each step uses one of the CTs; the weights are then used and trained further with a CT that was not among them."""
    moved = volume.patient_from_voxel.clone()
    moved[:3, 3] += torch.tensor([30.0, -20.0, 250.0])
    other = dataclasses.replace(volume, attenuation=volume.attenuation.flip(0), fingerprint="other")
    third = dataclasses.replace(volume, patient_from_voxel=moved, fingerprint="third")
    options = dataclasses.replace(SHORT, kind=kind, steps=12, spherical=SphericalOptions(image_px=16, width=16))
    out = tmp_path / "several.safetensors"
    training = SimilarityTraining(volume, carm, options, further_volumes=(other,))
    first, second = (subject.network for subject in training.subjects)
    assert all(one is two for one, two in zip(first.parameters(), second.parameters(), strict=True))
    assert all(training.batches(n)[0].subject is training.subjects[n] for n in (0, 1))
    before = [parameter.detach().clone() for parameter in second.parameters()]
    monkeypatch.setattr(
        SimilarityTraining, "mean_decrease", lambda training: 1.0
    )  # after so few steps the value may not decrease
    training.run(out)
    assert any(not torch.equal(one, two) for one, two in zip(before, second.parameters(), strict=True))
    found = load_similarity(out, third)
    assert torch.allclose(found.reference.pivot, default_aim_point(third))
    pivot = found.reference.camera_from_patient.apply(found.reference.pivot[None])
    assert torch.allclose(pivot, first.reference.camera_from_patient.apply(first.reference.pivot[None]))
    again = SimilarityTraining(third, carm, options, pretrained=out)
    assert all(torch.equal(one, two) for one, two in zip(found.parameters(), again.state.network.parameters(), strict=True))
    with pytest.raises(InputError, match="holds a network with other settings"):
        narrower = dataclasses.replace(SMALL, embedding_size=6), SphericalOptions(image_px=16, width=8)
        SimilarityTraining(third, carm, dataclasses.replace(options, prost=narrower[0], spherical=narrower[1]), pretrained=out)


@pytest.mark.parametrize("views", [1, 2])
def test_the_distance_loss_of_all_pairs_is_the_mean_over_single_pairs(volume, carm, views):
    """Starts from X-rays and X-rays from each other, one at a time, in mm by the calibration, each with those of its view."""
    training = SimilarityTraining(volume, carm, dataclasses.replace(SHORT, views=views, batch=4 * views, starts=2 * views))
    network, batch = training.state.network, training.batches(0)[0]
    pairs, pivot = batch.pairs, network.reference.pivot
    fixed = network.embed_fixed(pairs.images)
    compared = Comparison.of_pairs(network, network.make_projector(), pairs.starts, fixed, *pairs.all_pairs())
    found = _distance_loss(network, compared, fixed, batch)

    def loss_mm(values, one, other) -> float:
        distance = LENGTH_MM * float(squared_geodesic(one, other, pivot)) ** 0.5
        return float(network.calibration.loss_mm(values, torch.tensor([distance])).detach())

    from_starts, from_others = [], []
    for n in range(len(fixed)):
        problem = LearnedProblem(network, network.make_projector(), fixed[n : n + 1])
        for start in (pairs.starts[k : k + 1] for k in range(2 * views) if k // 2 == n // 4):
            from_starts.append(loss_mm(problem.values_at(start).float(), start, pairs.truth[n : n + 1]))
        for k in (k for k in range(n) if k // 4 == n // 4):
            values = (fixed[n] - fixed[k]).square().mean()[None]
            from_others.append(loss_mm(values, pairs.truth[n : n + 1], pairs.truth[k : k + 1]))
    assert float(found.detach()) == pytest.approx(np.mean(from_starts) + np.mean(from_others), rel=1e-3)


def test_the_volume_network_is_trained_in_some_steps_only(volume, carm):
    training = SimilarityTraining(volume, carm, dataclasses.replace(SHORT, volume_every=3))
    network = training.state.network
    has_gradient = []
    for step in range(4):
        network.zero_grad(set_to_none=True)
        training.backward(training.batches(step)[0])
        has_gradient.append(next(network.volume_network.parameters()).grad is not None)
        assert next(network.moving_encoder.parameters()).grad is not None
    assert has_gradient == [True, False, False, True]


@pytest.mark.parametrize("changed", [{"value_loss": 0.0}, {"direction_loss": 0.0}])
def test_each_loss_can_be_used_alone(volume, carm, changed):
    training = SimilarityTraining(volume, carm, dataclasses.replace(SHORT, **changed))
    assert float(training.backward(training.batches(0)[0]).detach()) > 0
    assert any(parameter.grad.abs().max() > 0 for parameter in training.state.network.moving_encoder.parameters())


def test_a_training_without_a_loss_is_refused():
    with pytest.raises(InputError, match="both 0 nothing is trained"):
        dataclasses.replace(SHORT, value_loss=0.0, direction_loss=0.0)


def test_around_a_range_every_validation_pair_has_its_own_view(volume, carm):
    """True poses of one view are within three standard deviations of it, to either side."""
    wide = dataclasses.replace(carm, primary_deg=(-60.0, 60.0))
    narrow = PairOptions(around="range", rotation_deg=1.0, translation_mm=1.0)
    pairs = SimilarityTraining(volume, wide, dataclasses.replace(SHORT, pairs=narrow)).subjects[0].validation_pairs
    angles = [torch.rad2deg(so3.angle(pose.rotation @ pairs.truth.rotation[0].mT)) for pose in (pairs.truth, pairs.starts)]
    assert pairs.groups == 8 and float(angles[0].max()) > 30
    torch.testing.assert_close(angles[0], angles[1], atol=8.0, rtol=0)


def test_the_training_of_a_similarity_is_not_stopped_early_by_default():
    """It improves little at first: one that was stopped half-way, after six validations, had learned nothing."""
    defaults = SimilarityTrainingOptions()
    assert defaults.patience >= defaults.validations


def test_views_that_cannot_share_the_xrays_of_a_step_are_refused():
    with pytest.raises(InputError, match="give multiples of views"):
        dataclasses.replace(SHORT, views=3)


@pytest.mark.parametrize("views", [1, 2])
def test_batches_made_at_once_are_split_by_view(volume, carm, views):
    """Each step has the starts of its own views, and what they are compared with belongs to its own pairs."""
    spread = PairOptions(around="range", rotation_deg=0.5, translation_mm=1.0, depth_mm=1.0)
    wide = dataclasses.replace(carm, primary_deg=(-60.0, 60.0))
    options = dataclasses.replace(SHORT, ahead=3, views=views, batch=4 * views, starts=2 * views, pairs=spread)
    training = SimilarityTraining(volume, wide, options)
    batches = training.batches(1)
    assert [batch.own_step for batch in batches] == [3, 4, 5]
    for batch in batches:
        rows, columns = batch.pairs.all_pairs()
        assert len(rows) == views * 8 and len(batch.pairs.images) == 4 * views
        assert float(batch.directions.distance_mm.max()) < 15  # of poses around one view
        expected = geodesic_gradient(
            batch.pairs.starts[rows], batch.pairs.truth[columns], training.subjects[0].maker.samples.reference.pivot
        )
        torch.testing.assert_close(batch.directions.gradients, expected.float())
    poses = [batch.pairs.truth[:1].rotation[0] for batch in batches]
    assert not torch.allclose(poses[0], poses[1], atol=0.05)


def test_pretrained_weights_of_another_kind_are_refused(trained, volume, carm):
    with pytest.raises(InputError, match="holds weights of the similarity prost; give pretrained weights of the same kind"):
        SimilarityTraining(volume, carm, dataclasses.replace(SHORT, kind="spherical"), pretrained=trained[2])


def test_the_scale_of_pretrained_weights_is_reset(trained, volume, carm):
    again = SimilarityTraining(volume, carm, SHORT, pretrained=trained[2])
    assert float(load_similarity(trained[2], volume).scale) != 1 and float(again.state.average.scale) == 1


def test_resuming_with_other_cts_is_refused(volume, carm, tmp_path):
    out = tmp_path / "w.safetensors"
    other, third = (dataclasses.replace(volume, fingerprint=name) for name in ("other", "third"))
    with pytest.raises(InterruptedTrainingError):
        SimilarityTraining(volume, carm, SHORT, further_volumes=(other,)).run(out, report=interrupt_at(3))
    with pytest.raises(InputError, match="other settings"):
        SimilarityTraining(volume, carm, SHORT, further_volumes=(third,)).run(out, resume=True)
