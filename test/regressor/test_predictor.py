"""The predictor: other cameras, the opposite view from the mirror image, and neighbours along the covariance."""

import dataclasses

import pytest
import torch

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, se3
from fluoro_reg.networks.opposite_view import opposite_view
from fluoro_reg.regressor import PosePrediction, PosePredictor
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.xray.image import Intensity, XrayImage


def xray(volume, pose, camera: CameraIntrinsics) -> XrayImage:
    pixels = project(make_renderer(volume, "cpu"), pose, camera)
    return XrayImage(pixels, camera, Intensity.ATTENUATION, torch.ones_like(pixels, dtype=torch.bool))


@pytest.fixture
def predictor(network) -> PosePredictor:
    return PosePredictor(network, torch.device("cpu"))


@pytest.mark.parametrize(
    "camera",
    [
        CameraIntrinsics(128, 128, 435.2, 435.2, 63.5, 63.5),  # finer
        CameraIntrinsics(150, 90, 500.0, 300.0, 70.0, 50.0),  # pixels not square, off-centre
        CameraIntrinsics(200, 200, 435.2, 435.2, 120.0, 80.0),  # a larger detector
    ],
)
def test_the_same_view_of_another_camera_gives_the_same_input(volume, reference, predictor, monkeypatch, camera):
    """Images are compared instead of poses, because an untrained network amplifies small differences."""
    inputs: list[torch.Tensor] = []
    forward = predictor.network.forward
    monkeypatch.setattr(predictor.network, "forward", lambda images: (inputs.append(images), forward(images))[1])
    pose = view_pose(volume.centre_patient, 10.0, 5.0, 0.0, 700.0)
    shifted = view_pose(volume.centre_patient + torch.tensor([30.0, 0, 30.0]), 10.0, 5.0, 0.0, 700.0)
    for view, through in ((pose, reference.intrinsics), (pose, camera), (shifted, camera)):
        predictor.predict(xray(volume, view, through))
    same, other = (float(torch.corrcoef(torch.stack([inputs[0].flatten(), image.flatten()]))[0, 1]) for image in inputs[1:])
    assert same > 0.98 and other < 0.9


def test_the_prediction_is_rigid_and_in_double_precision(volume, reference, predictor):
    (found,) = predictor.predict(xray(volume, reference.camera_from_patient, reference.intrinsics))
    rotation = found.camera_from_patient.rotation
    assert rotation.dtype == torch.float64
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64), atol=1e-12, rtol=0)
    assert (torch.linalg.eigvalsh(found.covariance) > 0).all()


def test_an_image_that_hardly_overlaps_the_networks_image_is_refused(volume, reference, predictor):
    beside = CameraIntrinsics(128, 128, 435.2, 435.2, -150.0, 63.5)
    with pytest.raises(InputError, match="too little"):
        predictor.predict(xray(volume, reference.camera_from_patient, beside))


def test_the_opposite_view_is_predicted_from_the_mirror_image(volume, reference, predictor):
    image = xray(volume, view_pose(volume.centre_patient, 10.0, 5.0, 0.0, 700.0), reference.intrinsics)
    direct, opposite = predictor.predict(image, opposite_view=True)
    (alone,) = predictor.predict(image)
    (mirrored,) = predictor.predict(dataclasses.replace(image, pixels=image.pixels.flip(-1)))
    torch.testing.assert_close(direct.camera_from_patient.matrix(), alone.camera_from_patient.matrix(), atol=1e-3, rtol=1e-5)
    expected = opposite_view(mirrored.camera_from_patient, reference.pivot)
    torch.testing.assert_close(opposite.camera_from_patient.matrix(), expected.matrix(), atol=1e-3, rtol=1e-5)
    assert not torch.allclose(mirrored.camera_from_patient.matrix(), alone.camera_from_patient.matrix(), atol=0.1)


def test_neighbours_lie_along_the_widest_axes_of_the_covariance(reference):
    sd = torch.tensor([2.0, 30.0, 3.0, 0.20, 0.01, 0.10], dtype=torch.float64)  # 20, 1 and 10 mm at 100 mm from the pivot
    prediction = PosePrediction(reference.camera_from_patient, torch.diag(sd.square()), reference.pivot)
    twists = se3.local(reference.camera_from_patient, prediction.neighbours(1.5), reference.pivot)
    assert len(twists) == 6
    for axis in (1, 3, 5):
        expected = torch.zeros(6, dtype=torch.float64)
        expected[axis] = 1.5 * sd[axis]
        reached = [min(float((twist - sign * expected).abs().max()) for twist in twists) for sign in (1, -1)]
        assert max(reached) < 1e-6
