"""Conversions between ROS messages and the types of the core; the only module with metres, quaternions and ROS times.

Poses: `camera_from_patient` is published with `header.frame_id` = camera and `child_frame_id` = patient, because a transform on
tf2 maps coordinates of the child to the parent. transforms3d computes the quaternions; its order is (w, x, y, z), and the order
of ROS is (x, y, z, w).

Pixels: `fluoro_reg.xray.encodings` decodes them without ROS. If cv_bridge is installed, it decodes the grey encodings, always
with `passthrough`, because its conversion of mono16 to mono8 discards eight bits.
"""

import array
import functools
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from jaxtyping import Float, Shaped, UInt8
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from torch import Tensor
from transforms3d.quaternions import mat2quat, quat2mat

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.xray.camera_info import CameraInfoRules, camera_of_message
from fluoro_reg.xray.encodings import pixels_from_compressed, pixels_from_message
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.reader import xray_from_pixels

M_PER_MM = 1e-3
NS_PER_S = 1_000_000_000
CV_BRIDGE_ENCODINGS = ("mono8", "mono16", "8UC1", "16UC1", "16SC1", "32FC1", "64FC1")


def stamp_ns(stamp: Time) -> int:
    """Return the stamp of a message in ns."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def time_message(stamp: int) -> Time:
    """Return the message of a stamp in ns."""
    return Time(sec=stamp // NS_PER_S, nanosec=stamp % NS_PER_S)


def header_message(stamp: int, frame_id: str) -> Header:
    """Return a header with a stamp in ns."""
    return Header(stamp=time_message(stamp), frame_id=frame_id)


def transform_message(
    camera_from_patient: RigidTransform, stamp: int, camera_frame: str, patient_frame: str
) -> TransformStamped:
    """Return the transform for /tf; lengths in m."""
    message = TransformStamped(header=header_message(stamp, camera_frame), child_frame_id=patient_frame)
    translation, quaternion = _metres_and_xyzw(camera_from_patient)
    for target, names, values in (
        (message.transform.translation, "xyz", translation),
        (message.transform.rotation, "xyzw", quaternion),
    ):
        for name, value in zip(names, values, strict=True):
            setattr(target, name, value)
    return message


def transform_from_message(message: TransformStamped) -> RigidTransform:
    """Return the transform that maps child coordinates to parent coordinates, in mm; the inverse of `transform_message`.

    Raises:
        InputError: the message holds NaN, or a quaternion that is not of unit length.
    """
    t, q = message.transform.translation, message.transform.rotation
    return _rigid_transform((t.x, t.y, t.z), (q.x, q.y, q.z, q.w), "the transform")


def pose_message(
    camera_from_patient: RigidTransform, covariance: Float[Tensor, "6 6"] | None, stamp: int, camera_frame: str
) -> PoseWithCovarianceStamped:
    """Return the pose of the patient in the camera's frame; lengths in m.

    Args:
        camera_from_patient: the pose, in mm.
        covariance: in mm and rad, in the order of ROS; None (zeros in the message) if it is unknown.
        stamp: the stamp in ns.
        camera_frame: the frame_id of the message.
    """
    message = PoseWithCovarianceStamped(header=header_message(stamp, camera_frame))
    translation, quaternion = _metres_and_xyzw(camera_from_patient)
    position, orientation = message.pose.pose.position, message.pose.pose.orientation
    position.x, position.y, position.z = translation
    orientation.x, orientation.y, orientation.z, orientation.w = quaternion
    if covariance is not None:
        to_metres = torch.tensor([M_PER_MM] * 3 + [1.0] * 3, dtype=torch.float64)
        scaled = to_metres[:, None] * covariance.to(torch.float64) * to_metres
        message.pose.covariance = scaled.flatten().tolist()
    return message


def pose_from_message(message: PoseWithCovarianceStamped) -> RigidTransform:
    """Return `camera_from_patient`, in mm, of a pose given in the camera's frame.

    Raises:
        InputError: the message holds NaN, or a quaternion that is not of unit length.
    """
    p, q = message.pose.pose.position, message.pose.pose.orientation
    return _rigid_transform((p.x, p.y, p.z), (q.x, q.y, q.z, q.w), "the pose")


def xray_from_messages(
    image: Image | CompressedImage, camera_info: CameraInfo, intensity: Intensity, rules: CameraInfoRules | None = None
) -> XrayImage:
    """Return the X-ray of an image message and its CameraInfo, which is read by `rules` (None: the defaults).

    Raises:
        InputError: the encoding or K is unusable, the data are damaged, or the sizes contradict each other.
    """
    pixels = pixels_from_compressed(image) if isinstance(image, CompressedImage) else _raw_pixels(image)
    height, width = pixels.shape[:2]
    camera = camera_of_message(camera_info, (width, height), rules or CameraInfoRules())
    return xray_from_pixels(pixels, camera.intrinsics, intensity, distortion=camera.distortion, warnings=camera.warnings)


def image_message(pixels: UInt8[np.ndarray, "height width *channels"], stamp: int, frame_id: str) -> Image:
    """Return the message of grey (mono8) or colour (rgb8) pixels."""
    is_colour = pixels.ndim == 3
    message = Image(header=header_message(stamp, frame_id), encoding="rgb8" if is_colour else "mono8")
    message.height, message.width = pixels.shape[:2]
    message.step = message.width * (3 if is_colour else 1)
    message.data = byte_array(np.ascontiguousarray(pixels))
    return message


def byte_array(buffer: Any) -> array.array:
    """Return the bytes as array.array, which rclpy assigns directly; it checks each item of any other sequence."""
    result = array.array("B")
    result.frombytes(memoryview(buffer).cast("B"))
    return result


def _metres_and_xyzw(pose: RigidTransform) -> tuple[list[float], list[float]]:
    w, x, y, z = mat2quat(pose.rotation.to("cpu", torch.float64).numpy())
    translation = (pose.translation.to("cpu", torch.float64) * M_PER_MM).tolist()
    return translation, [float(x), float(y), float(z), float(w)]


def _rigid_transform(metres: Sequence[float], xyzw: Sequence[float], name: str) -> RigidTransform:
    translation, (x, y, z, w) = np.asarray(metres, dtype=np.float64), xyzw
    length = float(np.linalg.norm(xyzw))
    if not (np.isfinite(translation).all() and np.isfinite(length)):
        raise InputError(f"{name} contains NaN or infinite numbers; check its publisher")
    if abs(length - 1) > 1e-3:
        raise InputError(f"{name} has a quaternion of length {length:.3g}; it must be 1, in the order x, y, z, w")
    matrix = np.eye(4)
    matrix[:3, :3] = quat2mat([w, x, y, z])
    matrix[:3, 3] = translation / M_PER_MM
    return RigidTransform.from_matrix(matrix, name)


def _raw_pixels(image: Image) -> Shaped[np.ndarray, "height width"]:
    bridge = find_cv_bridge()
    if bridge is None or image.encoding not in CV_BRIDGE_ENCODINGS:
        return pixels_from_message(image)
    try:
        return bridge.imgmsg_to_cv2(image, desired_encoding="passthrough")
    except (TypeError, ValueError) as error:
        raise InputError("the image message's size, step and data contradict each other; check the driver") from error


@functools.cache
def find_cv_bridge() -> Any:
    """Return the converter of cv_bridge, or None if it is not installed or was compiled for another numpy."""
    try:
        return importlib.import_module("cv_bridge").CvBridge()
    except (ImportError, AttributeError, SystemError):
        return None
