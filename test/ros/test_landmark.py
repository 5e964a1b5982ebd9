"""The promise to every consumer of /tf, with the real registration: a landmark of the CT lands on its pixel of the image."""

import math

import numpy as np
import pytest
import torch
from helpers.ros_bench import FIRST_STAMP, Bench, values_of
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.registration import Registrar, RegistrationOptions, Tracker
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.ros import conversions
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_landmarks, phantom_volume

pytestmark = pytest.mark.ros

SIZE = 192
CAMERA = CameraIntrinsics.from_k(SIZE, SIZE, [700.0, 0.0, 100.0, 0.0, 690.0, 92.0, 0.0, 0.0, 1.0])  # neither square nor centred
OFF = torch.tensor([4.0, -3.0, 8.0, 0.02, -0.03, 0.02], dtype=torch.float64)


@pytest.fixture(scope="module")
def phantom():
    options = PhantomOptions(spacing_mm=(3.0, 3.0, 3.0))
    return phantom_volume(options), torch.stack(list(phantom_landmarks(options).values()))


def seen_from_the_front(centre):
    """Patient x to the image's right, patient z up, 850 mm from the source, turned a little out of every axis."""
    front = RigidTransform.from_matrix([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 850], [0, 0, 0, 1]])
    turned = retract(front, torch.tensor([10.0, 5.0, 0.0, 0.1, -0.15, 0.05], dtype=torch.float64), torch.zeros(3).double())
    return turned @ RigidTransform(torch.eye(3, dtype=torch.float64), -centre)


def test_a_landmark_of_the_ct_lands_on_its_pixel(phantom):
    volume, landmarks = phantom
    truth = seen_from_the_front(volume.centre_patient)
    pixels = project(make_renderer(volume, "cpu"), truth, CAMERA).numpy().astype(np.float32)
    start = retract(truth, OFF, volume.centre_patient)
    bench = Bench(Tracker(Registrar(volume, RegistrationOptions()), start), volume, ["-p", "intensity:=attenuation"])
    try:
        bench.activate()
        image = Image(header=conversions.header_message(FIRST_STAMP, "carm"), encoding="32FC1", height=SIZE, width=SIZE)
        image.step, image.data = 4 * SIZE, conversions.byte_array(pixels)
        info = CameraInfo(header=image.header, height=SIZE, width=SIZE, k=CAMERA.k)
        bench.infos.publish(info)
        bench.images.publish(image)
        bench.until(lambda: len(bench.results()) == 1, timeout_s=120.0)
        assert values_of(bench.heard["result"][0].status[0])["accepted"] == "true", bench.results()
        bench.until(lambda: len(bench.transforms()) == 1)
    finally:
        bench.close()

    known = CAMERA.project(truth.apply(landmarks)).numpy()
    inside = ((known > 0) & (known < SIZE - 1)).all(axis=1)
    assert inside.sum() >= 4
    seen = pixels_by_tf(bench.transforms()[0].transform, info, landmarks.numpy() / 1000)
    assert np.linalg.norm(seen - known, axis=1)[inside].max() < 0.5
    assert math.dist(seen[0], CAMERA.project(start.apply(landmarks[:1]))[0].tolist()) > 2  # the start would not have done


def pixels_by_tf(transform, info, points_m):
    """What a consumer does, with scipy's rotation and the message's K alone."""
    t, q = transform.translation, transform.rotation
    in_camera = Rotation.from_quat([q.x, q.y, q.z, q.w]).apply(points_m) + np.array([t.x, t.y, t.z])
    homogeneous = in_camera @ np.array(info.k).reshape(3, 3).T
    return homogeneous[:, :2] / homogeneous[:, 2:]
