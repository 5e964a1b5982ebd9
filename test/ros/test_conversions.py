"""Messages to types and back, against scipy's rotations and numpy's own view of the bytes."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from helpers.ros_bench import FIRST_STAMP, SIZE, K, camera_info, image
from rclpy.serialization import deserialize_message, serialize_message
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CompressedImage, Image

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.geometry.se3 import exp
from fluoro_reg.ros import conversions
from fluoro_reg.xray.image import Intensity


def poses(count=50):
    generator = torch.Generator().manual_seed(1)
    twists = torch.randn(count, 6, generator=generator, dtype=torch.float64) * torch.tensor([300, 300, 300, 2, 2, 2.0])
    return [exp(twist) for twist in twists]


def test_the_quaternion_is_that_of_scipy_in_the_order_xyzw():
    for pose in poses():
        message = conversions.transform_message(pose, FIRST_STAMP, "camera", "patient")
        q = message.transform.rotation
        expected = Rotation.from_matrix(pose.rotation.numpy())
        assert (Rotation.from_quat([q.x, q.y, q.z, q.w]) * expected.inv()).magnitude() < 1e-9


def test_a_quarter_turn_about_z_is_the_quaternion_of_the_textbook():
    turn = RigidTransform.from_matrix([[0, -1, 0, 1000], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    message = conversions.transform_message(turn, FIRST_STAMP, "camera", "patient")
    q = message.transform.rotation
    assert [q.x, q.y, q.z, q.w] == pytest.approx([0, 0, 0.5**0.5, 0.5**0.5])
    assert message.transform.translation.x == 1.0


def test_a_pose_message_comes_back_as_the_pose_it_was():
    for pose in poses():
        message = conversions.pose_message(pose, None, FIRST_STAMP, "camera")
        sent = deserialize_message(serialize_message(message), type(message))
        torch.testing.assert_close(conversions.pose_from_message(sent).matrix(), pose.matrix())


def test_the_covariance_of_scattered_poses_is_the_one_in_the_message():
    # 20 000 poses scattered about one in the way that ROS defines it: positions in m, rotations about fixed axes.
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


def test_stamps_survive_to_the_nanosecond():
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
def test_grey_pixels_arrive_through_a_real_message(encoding, padding, big_endian):
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
def test_sixteen_bits_survive_compression(suffix):
    pixels = np.random.default_rng(4).integers(0, 65536, (SIZE, SIZE)).astype(np.uint16)
    _, data = cv2.imencode(suffix, pixels)
    message = CompressedImage(format=f"mono16; {suffix[1:]} compressed", data=data.tobytes())
    xray = conversions.xray_from_messages(message, camera_info(FIRST_STAMP), Intensity.AUTO)
    np.testing.assert_array_equal(xray.pixels.numpy(), pixels.astype(np.float32))


def test_garbage_in_a_compressed_image_is_refused_with_a_sentence():
    message = CompressedImage(format="png", data=b"no picture at all")
    with pytest.raises(InputError, match="neither JPEG, PNG nor TIFF"):
        conversions.xray_from_messages(message, camera_info(FIRST_STAMP), Intensity.AUTO)


def test_pictures_go_out_as_they_are():
    colour = np.random.default_rng(5).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    message = conversions.image_message(colour, FIRST_STAMP, "camera")
    assert (message.encoding, message.width, message.height, message.step) == ("rgb8", 6, 4, 18)
    assert bytes(message.data) == colour.tobytes()
    assert conversions.image_message(colour[..., 0], FIRST_STAMP, "camera").encoding == "mono8"


@pytest.fixture
def bridge(monkeypatch):
    """A cv_bridge that says what it was asked for."""
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


def test_what_cv_bridge_cannot_read_is_refused_with_a_sentence(bridge):
    message = image(FIRST_STAMP)
    message.data = message.data[:100]
    with pytest.raises(InputError, match="contradict each other"):
        conversions.xray_from_messages(message, camera_info(FIRST_STAMP), Intensity.AUTO)


def test_a_cv_bridge_that_does_not_fit_numpy_is_left_alone(monkeypatch):
    class Broken:
        def CvBridge(self):  # noqa: N802
            raise AttributeError("_ARRAY_API not found")

    monkeypatch.setitem(sys.modules, "cv_bridge", Broken())
    conversions.find_cv_bridge.cache_clear()
    xray = conversions.xray_from_messages(image(FIRST_STAMP), camera_info(FIRST_STAMP), Intensity.AUTO)
    conversions.find_cv_bridge.cache_clear()
    assert float(xray.pixels[0, 3]) == 5300.0
