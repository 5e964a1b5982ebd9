"""Writers of small bags, ROS 1 and ROS 2, whose messages come in a given order."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from fluoro_reg.formats.bags import FIRST_STAMP_NS, BagFrame, _camera_info, _image
from fluoro_reg.geometry import CameraIntrinsics

CAMERA = CameraIntrinsics(7, 5, 900.5, 880.25, 2.75, 3.5, 1000.0)
STEP_NS = 66_666_667
IMAGE_TOPIC, INFO_TOPIC = "/carm/image_raw", "/carm/camera_info"
Change = Callable[[str, int, Any], Any]


def frame(n: int) -> BagFrame:
    pixels = (np.arange(35, dtype=np.uint16).reshape(5, 7) * 1871 + n).astype(np.uint16)
    return BagFrame(FIRST_STAMP_NS + n * STEP_NS, pixels, CAMERA)


def unchanged(kind: str, n: int, message: Any) -> Any:
    return message


def write_ros2(folder: Path, kinds: Sequence[tuple[str, int]], storage: str = "sqlite3", change: Change = unchanged) -> Path:
    """Write a bag of 'image' and 'info' messages with the stamps of frames, in the given order, one every second."""
    store = get_typestore(Stores.ROS2_JAZZY)
    plugin = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}[storage]
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        image = writer.add_connection(IMAGE_TOPIC, "sensor_msgs/msg/Image", typestore=store)
        info = writer.add_connection(INFO_TOPIC, "sensor_msgs/msg/CameraInfo", typestore=store)
        for second, (kind, n) in enumerate(kinds):
            make, connection = (_image, image) if kind == "image" else (_camera_info, info)
            message = change(kind, n, make(store, frame(n)))
            data = message if isinstance(message, bytes) else store.serialize_cdr(message, connection.msgtype)
            writer.write(connection, second * 1_000_000_000, data)
    return folder


def write_ros1(path: Path, kinds: Sequence[tuple[str, int]], compression: Any = None, change: Change = unchanged) -> Path:
    """Write the same messages as a ROS 1 bag."""
    store = get_typestore(Stores.ROS1_NOETIC)
    writer = Ros1Writer(path)
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        image = writer.add_connection(IMAGE_TOPIC, "sensor_msgs/msg/Image", typestore=store)
        info = writer.add_connection(INFO_TOPIC, "sensor_msgs/msg/CameraInfo", typestore=store)
        for second, (kind, n) in enumerate(kinds):
            source = frame(n)
            message = change(kind, n, _ros1_image(store, source) if kind == "image" else _ros1_info(store, source))
            connection = image if kind == "image" else info
            writer.write(connection, (second + 1) * 1_000_000_000, store.serialize_ros1(message, connection.msgtype))
    return path


def _ros1_header(store: Any, source: BagFrame) -> Any:
    time = store.types["builtin_interfaces/msg/Time"](sec=source.stamp_ns // 10**9, nanosec=source.stamp_ns % 10**9)
    return store.types["std_msgs/msg/Header"](seq=0, stamp=time, frame_id="camera")


def _ros1_image(store: Any, source: BagFrame) -> Any:
    height, width = source.pixels.shape
    return store.types["sensor_msgs/msg/Image"](
        header=_ros1_header(store, source),
        height=height,
        width=width,
        encoding="mono16",
        is_bigendian=0,
        step=2 * width,
        data=np.frombuffer(source.pixels.astype("<u2").tobytes(), np.uint8),
    )


def _ros1_info(store: Any, source: BagFrame) -> Any:
    k = np.array(source.intrinsics.k)
    roi = store.types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return store.types["sensor_msgs/msg/CameraInfo"](
        header=_ros1_header(store, source),
        height=source.intrinsics.height,
        width=source.intrinsics.width,
        distortion_model="plumb_bob",
        D=np.zeros(5),
        K=k,
        R=np.eye(3).ravel(),
        P=np.hstack([k.reshape(3, 3), np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )
