"""Registrations from a predicted initial pose: right, as the opposite view, or wrong. The network is an oracle."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.networks.opposite_view import opposite_view
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.registration import Outcome, Registrar, RegistrationOptions
from fluoro_reg.regressor import PosePrediction, PosePredictor, PoseRegressor, RegressorOptions, save_regressor
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess_readings

OFF = torch.tensor([12.0, 45.0, -10.0, 0.06, -0.05, 0.10], dtype=torch.float64)  # y is depth in this view


class Oracle(PosePredictor):
    """Returns a given prediction, and counts the calls."""

    def __init__(self, prediction: PosePrediction | None) -> None:
        self.prediction, self.asked = prediction, 0

    def predict(self, image, opposite_view=False):
        self.asked += 1
        if self.prediction is None:
            raise InputError("the image shows nothing that the network knows")
        return (self.prediction, self.prediction.opposite_view()) if opposite_view else (self.prediction,)


@pytest.fixture(scope="session")
def weights(world, tmp_path_factory):
    """Untrained weights, which the oracle replaces."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    network = PoseRegressor(
        RegressorOptions(image_px=32), ReferenceView(world.truth, world.volume.centre_patient, world.camera)
    )
    save_regressor(path, network, world.volume.fingerprint, {})
    return path


def predicting(world, pose: RigidTransform) -> Oracle:
    sd = torch.tensor([10.0, 45.0, 10.0, 0.05, 0.05, 0.1], dtype=torch.float64)
    return Oracle(PosePrediction(pose, torch.diag(sd.square()), world.volume.centre_patient))


def registrar_of(world, weights, method: str, oracle: Oracle) -> Registrar:
    return Registrar(world.volume, RegistrationOptions(method=method, model=str(weights)), predictor=oracle)


def mtre_mm(world, pose: RigidTransform) -> float:
    points = world.landmarks_patient
    return float((pose.apply(points) - world.truth.apply(points)).norm(dim=-1).mean())


@pytest.mark.parametrize("method", ["regressor-lm", "lm-gradient-ncc"])
def test_the_pose_is_found_without_an_initial_pose(world, weights, method):
    oracle = predicting(world, retract(world.truth, OFF, world.volume.centre_patient))
    result = registrar_of(world, weights, method, oracle).register(world.xray(), None)
    assert result.accepted, result.reason
    assert mtre_mm(world, result.camera_from_patient) < 2 < 45 < mtre_mm(world, result.initial_camera_from_patient)
    assert "predict" in result.seconds


def test_an_opposite_view_is_found_from_the_mirror_image(world, weights):
    opposite = opposite_view(world.truth, world.volume.centre_patient)
    oracle = predicting(world, retract(opposite, 0.5 * OFF, world.volume.centre_patient))
    result = registrar_of(world, weights, "regressor-lm", oracle).register(world.xray(), None)
    assert result.accepted, result.reason
    assert mtre_mm(world, result.camera_from_patient) < 2


def test_diffpose_refines_the_prediction(world, weights):
    oracle = predicting(world, retract(world.truth, 0.1 * OFF, world.volume.centre_patient))
    result = registrar_of(world, weights, "diffpose", oracle).register(world.xray(), None)
    assert oracle.asked == 1
    assert mtre_mm(world, result.camera_from_patient) < 0.5 * mtre_mm(world, result.initial_camera_from_patient)


def test_a_given_initial_pose_is_tried_beside_a_wrong_prediction(world, weights):
    lost = retract(world.truth, torch.tensor([0, 0, 0, 1.2, 0.9, 1.5], dtype=torch.float64), world.volume.centre_patient)
    registrar = registrar_of(world, weights, "regressor-lm", predicting(world, lost))
    result = registrar.register(world.xray(), retract(world.truth, 0.2 * OFF, world.volume.centre_patient))
    assert result.accepted, result.reason
    assert mtre_mm(world, result.camera_from_patient) < 2


def test_an_image_without_a_prediction_has_no_initial_pose(world, weights):
    result = registrar_of(world, weights, "regressor-lm", Oracle(None)).register(world.xray(), None)
    assert (result.outcome, result.accepted, result.camera_from_patient) == (Outcome.NO_START, False, None)
    assert "nothing that the network knows" in result.reason


@pytest.mark.parametrize("refused", [0, 1])
def test_a_reading_without_a_prediction_is_left_out(world, weights, monkeypatch, refused):
    """Where a field is taken for collimated, too little of it may be left for the network."""
    from fluoro_reg.xray.preprocessing import readings
    from fluoro_reg.xray.preprocessing.polarity import Polarity

    class OracleOfOneReading(Oracle):
        def predict(self, image, opposite_view=False):
            found = super().predict(image, opposite_view)
            if self.asked == refused + 1:
                raise InputError("the image shows too little")
            return found

    monkeypatch.setattr(readings, "estimate_polarity", lambda *arguments: Polarity(Intensity.ATTENUATION, 0.8, False))
    image = replace(world.xray(), intensity=Intensity.AUTO)
    of_readings = [prepared.reading for prepared in preprocess_readings(image, PreprocessOptions())]
    oracle = OracleOfOneReading(predicting(world, world.truth).prediction)
    result = registrar_of(world, weights, "regressor-lm", oracle).register(image, None)
    assert oracle.asked == len(of_readings) == 2
    assert result.reading.startswith(of_readings[1 - refused])


def test_tracking_does_not_run_the_network(world, weights):
    oracle = predicting(world, world.truth)
    result = registrar_of(world, weights, "regressor-lm", oracle).register(world.xray(), world.truth, tracking=True)
    assert result.accepted and not oracle.asked


def test_a_method_that_needs_weights_says_so(world):
    with pytest.raises(InputError, match="regressor-lm needs weights; give them with --model"):
        Registrar(world.volume, RegistrationOptions(method="regressor-lm"))


def test_weights_of_another_ct_are_refused(world, weights):
    other = world.volume.downsampled((2, 2, 2))
    object.__setattr__(other, "fingerprint", "another")
    with pytest.raises(InputError, match="trained on another CT"):
        Registrar(other, RegistrationOptions(method="regressor-lm", model=str(weights)))
