"""Training of a regressor: errors that decrease, seeds, resumption, several CTs and pretrained weights."""

import dataclasses
import math

import pytest
import torch
from helpers.interruption import InterruptedTrainingError, interrupt_at
from safetensors.torch import load_file

from fluoro_reg.config import from_mapping
from fluoro_reg.errors import InputError
from fluoro_reg.networks.safetensors_file import read_tensors
from fluoro_reg.regressor import PoseRegressor, RegressorOptions, load_regressor
from fluoro_reg.regressor.checkpoint import KIND
from fluoro_reg.training.device_defaults import regressor_defaults, similarity_defaults
from fluoro_reg.training.loop import learning_rate_factor, resume_path
from fluoro_reg.training.options import TrainingOptions
from fluoro_reg.training.similarity import SimilarityTrainingOptions
from fluoro_reg.training.simulated_xrays import XrayThreads
from fluoro_reg.training.trainer import RegressorTraining

SHORT = TrainingOptions(
    steps=8,
    budget_s=0,
    batch=8,
    validations=4,
    validation_images=8,
    patience=100,
    average=0.9,
    network=RegressorOptions(image_px=32),
)


@pytest.fixture(scope="module")
def uninterrupted(volume, carm, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "w.safetensors"
    return RegressorTraining(volume, carm, SHORT).run(out), load_file(out)


def test_a_resumed_training_ends_with_the_same_weights(volume, carm, uninterrupted, tmp_path):
    out = tmp_path / "w.safetensors"

    with pytest.raises(InterruptedTrainingError):
        RegressorTraining(volume, carm, SHORT).run(out, report=interrupt_at(5))
    assert not out.exists() and resume_path(out).exists()
    steps: list[int] = []
    best = RegressorTraining(volume, carm, SHORT).run(out, resume=True, report=lambda progress: steps.append(progress.step))
    assert steps == [5, 6, 7, 8]  # the last validation was after step 4
    whole, weights = uninterrupted
    assert best.mtre_mm == whole.mtre_mm
    again = load_file(out)
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    assert not resume_path(out).exists()
    _, header = read_tensors(out, KIND)
    assert [record["step"] for record in header["notes"]["history"]] == [2, 4, 6, 8]
    assert header["notes"]["validation"]["mtre_mm"] == best.mtre_mm


def test_a_training_is_resumed_between_steps_whose_images_are_made_at_once(volume, carm, tmp_path):
    """The last validation is after step 4, the first of the second three steps."""
    options = dataclasses.replace(SHORT, ahead=3)
    whole, out = tmp_path / "whole.safetensors", tmp_path / "w.safetensors"
    RegressorTraining(volume, carm, options).run(whole)
    with pytest.raises(InterruptedTrainingError):
        RegressorTraining(volume, carm, options).run(out, report=interrupt_at(5))
    RegressorTraining(volume, carm, options).run(out, resume=True)
    one, other = load_file(whole), load_file(out)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_steps_whose_images_are_made_at_once_have_images_of_their_own(volume, carm):
    batches = RegressorTraining(volume, carm, dataclasses.replace(SHORT, ahead=3)).batches(0)
    images = torch.cat([batch.samples.inputs for batch in batches])
    assert [len(batch.samples.inputs) for batch in batches] == [8, 8, 8] and len(torch.unique(images, dim=0)) == 24
    for batch in batches:
        truth = batch.samples.camera_from_patient  # of an AP range: no opposite views
        torch.testing.assert_close(batch.samples.target.rotation, truth.rotation.float())


def test_another_seed_gives_other_weights(volume, carm, uninterrupted, tmp_path):
    RegressorTraining(volume, carm, dataclasses.replace(SHORT, seed=1)).run(tmp_path / "w.safetensors")
    other, weights = load_file(tmp_path / "w.safetensors"), uninterrupted[1]
    assert any(not torch.equal(other[name], weights[name]) for name in weights)


def test_resuming_with_other_settings_is_refused(volume, carm, tmp_path):
    out = tmp_path / "w.safetensors"

    with pytest.raises(InterruptedTrainingError):
        RegressorTraining(volume, carm, SHORT).run(out, report=interrupt_at(3))
    with pytest.raises(InputError, match="other settings"):
        RegressorTraining(volume, carm, dataclasses.replace(SHORT, batch=4)).run(out, resume=True)
    with pytest.raises(InputError, match=r"there is no x\.resume\.safetensors"):
        RegressorTraining(volume, carm, SHORT).run(tmp_path / "x.safetensors", resume=True)


def test_training_decreases_the_error_on_validation_views(volume, carm, tmp_path):
    options = dataclasses.replace(SHORT, steps=120, batch=16, validation_images=32, validations=6)
    training = RegressorTraining(volume, carm, options)
    best = training.run(tmp_path / "w.safetensors")
    first = training.state.history[0]
    assert best.in_plane_mm < 0.6 * first.in_plane_mm and best.mtre_mm < first.mtre_mm
    assert load_regressor(tmp_path / "w.safetensors", volume).options == options.network


def test_every_loss_can_be_used(volume, carm, tmp_path):
    weights = dataclasses.replace(SHORT.losses, image=1.0, log_geodesic=0.01)
    best = RegressorTraining(volume, carm, dataclasses.replace(SHORT, steps=3, losses=weights)).run(tmp_path / "w.safetensors")
    assert math.isfinite(best.mtre_mm)


def test_a_training_stops_without_improvement(volume, carm, tmp_path):
    options = dataclasses.replace(SHORT, learning_rate=1e-7, steps=400, validations=400, patience=1, average=0.0)
    training = RegressorTraining(volume, carm, options)
    training.run(tmp_path / "w.safetensors")
    assert training.state.step < 400  # which take longer than the making of the X-rays to validate with


def test_a_time_budget_is_kept(volume, carm, tmp_path):
    options = dataclasses.replace(SHORT, steps=0, budget_s=2.0)
    training = RegressorTraining(volume, carm, options)
    training.run(tmp_path / "w.safetensors")
    assert 2 <= training.state.elapsed_s < 4
    assert TrainingOptions().fraction_done(10**6, 150.0) == pytest.approx(0.5)  # five minutes by default
    assert TrainingOptions(steps=1000).fraction_done(100, 1e6) == pytest.approx(0.1)


@pytest.mark.parametrize("timed", [True, False])
def test_a_validation_does_not_wait_for_its_xrays_while_there_is_time(volume, carm, tmp_path, monkeypatch, timed):
    """Where the number of steps decides, the result must not depend on time, and every validation takes place."""
    monkeypatch.setattr(XrayThreads, "have_finished", lambda threads: False)
    options = dataclasses.replace(SHORT, steps=0, budget_s=1.5) if timed else SHORT
    training = RegressorTraining(volume, carm, options)
    training.run(tmp_path / "w.safetensors")
    assert len(training.state.history) == (1 if timed else 4)
    assert training.state.history[-1].step == training.state.step
    assert training.durations.data_s + training.durations.validation_s > 0 and training.durations.setup_s > 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_defaults_of_a_device_are_settings_of_a_training(device):
    regressor = from_mapping(TrainingOptions, regressor_defaults(device))
    similarity = from_mapping(SimilarityTrainingOptions, similarity_defaults(device))
    on_cpu = (regressor, similarity) == (TrainingOptions(), SimilarityTrainingOptions())
    assert on_cpu == (device == "cpu")
    assert regressor.network == TrainingOptions().network  # its weights serve on both


def test_the_learning_rate_rises_and_falls_to_zero():
    assert learning_rate_factor(0.05, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(0.1, 0.1) == pytest.approx(1)
    assert learning_rate_factor(0.55, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(1.0, 0.1) == pytest.approx(0, abs=1e-12)


@pytest.fixture(scope="module")
def other(volume):
    """Another patient: twice the size along one axis."""
    stretched = volume.patient_from_voxel.clone()
    stretched[:, 2] *= 2
    return dataclasses.replace(volume, patient_from_voxel=stretched, fingerprint="1" * 64)


@pytest.fixture(scope="module")
def pretrained(volume, other, carm, tmp_path_factory):
    out = tmp_path_factory.mktemp("several") / "several.safetensors"
    training = RegressorTraining(volume, carm, SHORT, further_volumes=(other,))
    return training, training.run(out), out


def test_batches_come_from_each_ct_in_turn_and_use_its_reference_view(volume, other, pretrained):
    training, best, _ = pretrained
    first, second, again = (training.batches(number)[0] for number in (0, 1, 2))
    assert [batch.subject.volume.fingerprint for batch in (first, second, again)] == [
        volume.fingerprint,
        other.fingerprint,
        volume.fingerprint,
    ]
    assert not torch.equal(first.subject.reference.pivot, second.subject.reference.pivot)
    assert best.mtre_mm > 0 and len(training.validation_views) == 2
    network = training.state.average
    estimate = network(second.samples.inputs, second.subject.reference).camera_from_patient
    alone = PoseRegressor(network.options, second.subject.reference)
    alone.load_state_dict(network.state_dict())
    torch.testing.assert_close(estimate.translation, alone(second.samples.inputs).camera_from_patient.translation)


def test_weights_of_several_cts_are_only_a_starting_point(volume, other, carm, pretrained, tmp_path):
    training, _, several = pretrained
    sentence = "on several CTs and is only a starting point; train on this one with .* --pretrained"
    with pytest.raises(InputError, match=sentence):
        load_regressor(several, volume)
    further_trained = RegressorTraining(other, carm, SHORT, pretrained=several)
    for ours, theirs in zip(further_trained.state.network.parameters(), training.state.average.parameters(), strict=True):
        assert torch.equal(ours, theirs.half().float())
    further_trained.run(tmp_path / "w.safetensors")
    assert load_regressor(tmp_path / "w.safetensors", other).reference.pivot.equal(further_trained.subjects[0].reference.pivot)


def test_pretrained_weights_of_another_network_are_refused(volume, carm, pretrained):
    larger = dataclasses.replace(SHORT, network=RegressorOptions(image_px=64))
    with pytest.raises(InputError, match=r"other settings; give the same with --set: .*network.image_px=32"):
        RegressorTraining(volume, carm, larger, pretrained=pretrained[2])
