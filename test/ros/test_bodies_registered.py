"""Bones of the phantom on /tf, with the real registration: found in one image, followed in the next, one out of the field."""

import numpy as np
import pytest
import torch
from helpers.ros_bench import Bench
from helpers.ros_probe import FIRST_STAMP, FRAME_NS, key_values
from sensor_msgs.msg import CameraInfo, Image

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.carm.views import carm_camera
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.bodies import bodies_from_mapping
from fluoro_reg.geometry import retract
from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
from fluoro_reg.registration.bodies.tracker import BodiesTracker
from fluoro_reg.ros import conversions
from fluoro_reg.ros.frame_tree import FrameTree
from fluoro_reg.ros.session import Session
from fluoro_reg.simulation.moved_bodies import MovableBodies
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_labels, phantom_landmarks, phantom_volume
from fluoro_reg.simulation.simulator import XraySimulator

pytestmark = pytest.mark.ros

OPTIONS = PhantomOptions(spacing_mm=(4.0, 4.0, 4.0))
CAMERA = carm_camera(128)
CONFIG = {
    "reference": "pelvis",
    "bodies": {
        "pelvis": {"frame": "pelvis_link"},
        "L5": {"labels": ["vertebrae_L5"], "joint": {"sd_mm": 2, "sd_deg": 3}},
        "femur_left": {"labels": ["femur_left"], "joint": {"sd_mm": 2, "sd_deg": 3}},
    },
}
TURN = torch.tensor([1.0, 0.5, -1.0, 0.05, -0.03, 0.04], dtype=torch.float64)  # of L5 against the pelvis


@pytest.fixture(scope="module")
def frames():
    """The phantom, its bodies, and two X-rays of its lumbar spine with the poses of pelvis and L5."""
    ct, labels, config = phantom_volume(OPTIONS), phantom_labels(OPTIONS), bodies_from_mapping(CONFIG, "bodies")
    registrar = BodiesRegistrar(ct, config, labels)
    movable = MovableBodies.of(ct, labels, {name: body.numbers for name, body in config.bodies.items() if name != "pelvis"})
    centre = phantom_landmarks(OPTIONS)["sacral_promontory"] + torch.tensor([0.0, 0.0, -20.0], dtype=torch.float64)
    simulator, l5, xrays = XraySimulator(ct, SimulationOptions()), registrar.bodies[1], []
    for number in range(2):
        view = view_pose(centre, 6.0 + 0.4 * number, 3.0, 2.0, 700.0)
        moved = {"L5": retract(view, (1 + 0.1 * number) * TURN, l5.pivot)}
        pixels = simulator.image(view, CAMERA, torch.Generator().manual_seed(number), (), (movable, moved))
        xrays.append((view, moved["L5"], pixels.astype(np.float32)))
    return ct, registrar, xrays


def send(bench, pixels, stamp):
    """Publish an X-ray of photons as a driver does."""
    image = Image(header=conversions.header_message(stamp, "carm"), encoding="32FC1", height=CAMERA.height, width=CAMERA.width)
    image.step, image.data = 4 * CAMERA.width, conversions.byte_array(pixels)
    bench.camera_info_publisher.publish(CameraInfo(header=image.header, height=CAMERA.height, width=CAMERA.width, k=CAMERA.k))
    bench.image_publisher.publish(image)


def statuses(message):
    return {key_values(status).get("body", ""): key_values(status) for status in message.status}


def test_bones_are_found_and_followed_on_tf_and_one_out_of_the_field_is_not(frames):
    ct, registrar, xrays = frames
    tracker = BodiesTracker(registrar, xrays[0][0], background=True)
    session = Session(ct, tracker, registrar.method.name, registrar.bodies)
    bench = Bench(tracker, ct, ["-p", "intensity:=transmitted"], load=lambda *_: session)
    try:
        bench.activate()
        send(bench, xrays[0][2], FIRST_STAMP)
        bench.spin_until(lambda: len(bench.results()) == 2, timeout_s=60.0)  # a search runs; what it has found
        send(bench, xrays[1][2], FIRST_STAMP + FRAME_NS)
        bench.spin_until(lambda: len(bench.results()) == 3, timeout_s=60.0)
        bench.spin_until(lambda: len(bench.transforms()) == 4)
    finally:
        bench.close()

    tree = FrameTree(maximum_gap_s=0.2)
    for transform in bench.transforms():
        tree.add(transform, is_static=False)
    for number, (view, of_l5, _) in enumerate(xrays):
        found = statuses(bench.received["result"][number + 1])
        accepted = {name: values["accepted"] for name, values in found.items() if name}
        assert accepted == {"pelvis": "true", "L5": "true", "femur_left": "false"}, found
        for body, frame, true in zip(registrar.bodies, ("pelvis_link", "L5"), (view, of_l5), strict=False):
            pose = tree.lookup("carm", frame, FIRST_STAMP + number * FRAME_NS, 0.0)
            points = body.reading.corners_patient if frame == "L5" else ct.centre_patient[None]
            assert target_registration_errors(pose, true, points).in_plane_mm < 1.0, (number, frame)
    pelvis, of_l5, _ = xrays[0]
    assert target_registration_errors(pelvis, of_l5, registrar.bodies[1].reading.corners_patient).in_plane_mm > 1.0
