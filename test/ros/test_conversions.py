"""Conversions between messages and types, compared with rotations of scipy and bytes viewed by numpy."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from helpers.ros_probe import FIRST_STAMP, SIZE, K, camera_info, image
from rclpy.serialization import deserialize_message, serialize_message
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CompressedImage, Image

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.geometry.se3 import exp
from fluoro_reg.ros import conversions
from fluoro_reg.xray.camera_info import CameraInfoRules
from fluoro_reg.xray.image import Intensity


def poses(count=50):
    generator = torch.Generator().manual_seed(1)
    twists = torch.randn(count, 6, generator=generator, dtype=torch.float64) * torch.tensor([300, 300, 300, 2, 2, 2.0])
    return [exp(twist) for twist in twists]


def test_the_quaternion_equals_that_of_scipy_in_the_order_xyzw():
    for pose in poses():
        message = conversions.transform_message(pose, FIRST_STAMP, "camera", "patient")
        q = message.transform.rotation
        expected = Rotation.from_matrix(pose.rotation.numpy())
        assert (Rotation.from_quat([q.x, q.y, q.z, q.w]) * expected.inv()).magnitude() < 1e-9


def test_a_rotation_by_90_degrees_about_z_has_the_known_quaternion():
    pose = RigidTransform.from_matrix([[0, -1, 0, 1000], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    message = conversions.transform_message(pose, FIRST_STAMP, "camera", "patient")
    q = message.transform.rotation
    assert [q.x, q.y, q.z, q.w] == pytest.approx([0, 0, 0.5**0.5, 0.5**0.5])
    assert message.transform.translation.x == 1.0


def test_a_pose_survives_the_round_trip_through_a_message():
    for pose in poses():
        message = conversions.pose_message(pose, None, FIRST_STAMP, "camera")
        sent = deserialize_message(serialize_message(message), type(message))
        torch.testing.assert_close(conversions.pose_from_message(sent).matrix(), pose.matrix())


def test_the_covariance_of_sampled_poses_equals_that_in_the_message():
    # 20 000 samples as ROS defines a pose covariance: positions in m, rotations about fixed axes.
    generator = torch.Generator().manual_seed(2)
    factor = torch.randn(6, 6, generator=generator, dtype=torch.float64) * torch.tensor([3, 2, 8, 0.01, 0.02, 0.01])[:, None]
    covariance = factor @ factor.T
    message = conversions.pose_message(poses(1)[0], covariance, FIRST_STAMP, "camera")
    samples = torch.randn(20_000, 6, generator=generator, dtype=torch.float64) @ factor.T
    samples[:, :3] /= 1000
    expected = torch.cov(samples.T)
    scale = expected.diagonal().sqrt()
    error = (torch.tensor(message.pose.covariance).reshape(6, 6) - expected) / (scale[:, None] * scale)
    assert error.abs().max() < 0.05


def test_stamps_are_exact_to_the_nanosecond():
    stamp = 1_700_000_000_066_666_667
    assert conversions.stamp_ns(conversions.time_message(stamp)) == stamp


ENCODINGS = {
    "mono8": np.uint8,
    "mono16": np.uint16,
    "8UC1": np.uint8,
    "16UC1": np.uint16,
    "16SC1": np.int16,
    "32FC1": np.float32,
    "64FC1": np.float64,
}


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_grey_pixels_survive_serialisation(encoding, padding, big_endian):
    order = np.dtype(ENCODINGS[encoding]).newbyteorder(">" if big_endian else "<")
    pixels = np.random.default_rng(3).integers(0, 120, (5, 8)).astype(order)
    rows = np.pad(pixels.view(np.uint8).reshape(5, -1), ((0, 0), (0, padding * order.itemsize)))
    message = Image(height=5, width=8, encoding=encoding, step=rows.shape[1], is_bigendian=int(big_endian))
    message.data = conversions.byte_array(rows)
    sent = deserialize_message(serialize_message(message), Image)
    info = camera_info(FIRST_STAMP)
    info.height, info.width = 5, 8
    xray = conversions.xray_from_messages(sent, info, Intensity.TRANSMITTED)
    np.testing.assert_array_equal(xray.pixels.numpy(), pixels.astype(np.float32))
    assert xray.intrinsics.k == K
    assert xray.intensity is Intensity.TRANSMITTED


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_pixels_survive_compression(suffix):
    pixels = np.random.default_rng(4).integers(0, 65536, (SIZE, SIZE)).astype(np.uint16)
    _, data = cv2.imencode(suffix, pixels)
    message = CompressedImage(format=f"mono16; {suffix[1:]} compressed", data=data.tobytes())
    xray = conversions.xray_from_messages(message, camera_info(FIRST_STAMP), Intensity.AUTO)
    np.testing.assert_array_equal(xray.pixels.numpy(), pixels.astype(np.float32))


def test_invalid_compressed_data_are_an_error():
    message = CompressedImage(format="png", data=b"not an image")
    with pytest.raises(InputError, match="neither JPEG, PNG nor TIFF"):
        conversions.xray_from_messages(message, camera_info(FIRST_STAMP), Intensity.AUTO)


def test_published_images_hold_the_pixels_unchanged():
    colour = np.random.default_rng(5).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    message = conversions.image_message(colour, FIRST_STAMP, "camera")
    assert (message.encoding, message.width, message.height, message.step) == ("rgb8", 6, 4, 18)
    assert bytes(message.data) == colour.tobytes()
    assert conversions.image_message(colour[..., 0], FIRST_STAMP, "camera").encoding == "mono8"


@pytest.fixture
def bridge(monkeypatch):
    """Install a fake cv_bridge that records its calls."""
    calls = []

    class CvBridge:
        def imgmsg_to_cv2(self, message, desired_encoding):
            calls.append((message.encoding, desired_encoding))
            if len(message.data) < message.height * message.step:
                raise TypeError("buffer is too small for requested array")
            return np.frombuffer(message.data, np.uint16).reshape(message.height, message.width)

    monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace(CvBridge=CvBridge))
    conversions.find_cv_bridge.cache_clear()
    yield calls
    conversions.find_cv_bridge.cache_clear()


def test_an_installed_cv_bridge_is_used_without_conversion(bridge):
    xray = conversions.xray_from_messages(image(FIRST_STAMP), camera_info(FIRST_STAMP), Intensity.AUTO)
    assert bridge == [("mono16", "passthrough")]
    assert float(xray.pixels[0, 3]) == 5300.0


def test_data_that_cv_bridge_cannot_read_are_an_error(bridge):
    message = image(FIRST_STAMP)
    message.data = message.data[:100]
    with pytest.raises(InputError, match="contradict each other"):
        conversions.xray_from_messages(message, camera_info(FIRST_STAMP), Intensity.AUTO)


def test_a_cv_bridge_for_another_numpy_is_ignored(monkeypatch):
    class Broken:
        def CvBridge(self):  # noqa: N802
            raise AttributeError("_ARRAY_API not found")

    monkeypatch.setitem(sys.modules, "cv_bridge", Broken())
    conversions.find_cv_bridge.cache_clear()
    xray = conversions.xray_from_messages(image(FIRST_STAMP), camera_info(FIRST_STAMP), Intensity.AUTO)
    conversions.find_cv_bridge.cache_clear()
    assert float(xray.pixels[0, 3]) == 5300.0


def test_distortion_is_undone_if_asked_and_refused_otherwise():
    info = camera_info(FIRST_STAMP)
    info.distortion_model, info.d = "plumb_bob", [0.5, 0.0, 0.0, 0.0, 0.0]
    sent = image(FIRST_STAMP)
    with pytest.raises(InputError, match="undistort: true of the node"):
        conversions.xray_from_messages(sent, info, Intensity.TRANSMITTED)
    undone = conversions.xray_from_messages(sent, info, Intensity.TRANSMITTED, CameraInfoRules(undistort=True))
    assert undone.intrinsics.k == K
    assert not bool(undone.mask.all()) and bool(undone.mask.any())
