"""A landmark of the CT projects to its pixel of the image through /tf, with the real registration."""

import math

import numpy as np
import pytest
import torch
from helpers.ros_bench import Bench
from helpers.ros_probe import FIRST_STAMP, key_values
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.registration import Registrar, RegistrationOptions, Tracker
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.ros import conversions
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_landmarks, phantom_volume

pytestmark = pytest.mark.ros

SIZE = 192
# Non-square pixels and an off-centre principal point.
CAMERA = CameraIntrinsics.from_k(SIZE, SIZE, [700.0, 0.0, 100.0, 0.0, 690.0, 92.0, 0.0, 0.0, 1.0])
OFFSET = torch.tensor([4.0, -3.0, 8.0, 0.02, -0.03, 0.02], dtype=torch.float64)


@pytest.fixture(scope="module")
def phantom():
    options = PhantomOptions(spacing_mm=(3.0, 3.0, 3.0))
    return phantom_volume(options), torch.stack(list(phantom_landmarks(options).values()))


def front_view(centre):
    """Return a front view: patient x to the right, z up, 850 mm from the source, slightly rotated about every axis."""
    front = RigidTransform.from_matrix([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 850], [0, 0, 0, 1]])
    rotated = retract(front, torch.tensor([10.0, 5.0, 0.0, 0.1, -0.15, 0.05], dtype=torch.float64), torch.zeros(3).double())
    return rotated @ RigidTransform(torch.eye(3, dtype=torch.float64), -centre)


def test_a_landmark_of_the_ct_projects_to_its_pixel(phantom):
    volume, landmarks = phantom
    truth = front_view(volume.centre_patient)
    pixels = project(make_renderer(volume, "cpu"), truth, CAMERA).numpy().astype(np.float32)
    initial_pose = retract(truth, OFFSET, volume.centre_patient)
    tracker = Tracker(Registrar(volume, RegistrationOptions()), initial_pose, background=True)
    bench = Bench(tracker, volume, ["-p", "intensity:=attenuation"])
    try:
        bench.activate()
        image = Image(header=conversions.header_message(FIRST_STAMP, "carm"), encoding="32FC1", height=SIZE, width=SIZE)
        image.step, image.data = 4 * SIZE, conversions.byte_array(pixels)
        info = CameraInfo(header=image.header, height=SIZE, width=SIZE, k=CAMERA.k)
        bench.camera_info_publisher.publish(info)
        bench.image_publisher.publish(image)
        bench.spin_until(lambda: len(bench.results()) == 2, timeout_s=120.0)  # a search runs; what it has found
        assert key_values(bench.received["result"][1].status[0])["accepted"] == "true", bench.results()
        bench.spin_until(lambda: len(bench.transforms()) == 1)
    finally:
        bench.close()

    expected = CAMERA.project(truth.apply(landmarks)).numpy()
    inside = ((expected > 0) & (expected < SIZE - 1)).all(axis=1)
    assert inside.sum() >= 4
    projected = project_with_tf(bench.transforms()[0].transform, info, landmarks.numpy() / 1000)
    assert np.linalg.norm(projected - expected, axis=1)[inside].max() < 0.5
    initially_projected = CAMERA.project(initial_pose.apply(landmarks[:1]))[0].tolist()
    assert math.dist(projected[0], initially_projected) > 2  # the initial pose alone would not pass


def project_with_tf(transform, info, points_m):
    """Project points as a consumer does, using only scipy's rotation and the K of the message."""
    t, q = transform.translation, transform.rotation
    in_camera = Rotation.from_quat([q.x, q.y, q.z, q.w]).apply(points_m) + np.array([t.x, t.y, t.z])
    homogeneous = in_camera @ np.array(info.k).reshape(3, 3).T
    return homogeneous[:, :2] / homogeneous[:, 2:]
