"""rosbag2 files without ROS: written for the demo and for tests, read with `bag_frames` by `replay`.

A bag contains sensor_msgs/Image (mono16) with sensor_msgs/CameraInfo of the same stamp, as the driver of a C-arm publishes
them, in sqlite3 or mcap, as `ros2 bag` reads them. Messages are returned unchanged; `xray.encodings` interprets their bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bag_frames import CameraInfoChoice, read_bag_images
from fluoro_reg.formats.json_file import read_json, write_json
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform

IMAGE_TOPIC, CAMERA_INFO_TOPIC = "/carm/image_raw", "/carm/camera_info"
CAMERA_FRAME = "carm_xray_optical_frame"
FIRST_STAMP_NS = 1_700_000_000_000_000_000

_IMAGE, _CAMERA_INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
_STORAGE = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}


@dataclass(frozen=True, slots=True)
class BagFrame:
    """One image to write, with its camera."""

    stamp_ns: int
    pixels: UInt16[np.ndarray, "height width"]
    intrinsics: CameraIntrinsics


def write_bag(folder: Path | str, frames: Iterable[BagFrame], storage: str = "sqlite3") -> None:
    """Write a new rosbag2 folder; `storage` is sqlite3 or mcap.

    Raises:
        InputError: The folder already exists.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"the bag {folder.name} already exists; remove it or write to another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    store = _message_types()
    with Writer(folder, version=9, storage_plugin=_STORAGE[storage]) as writer:
        image = writer.add_connection(IMAGE_TOPIC, _IMAGE, typestore=store)
        info = writer.add_connection(CAMERA_INFO_TOPIC, _CAMERA_INFO, typestore=store)
        for frame in frames:
            writer.write(info, frame.stamp_ns, store.serialize_cdr(_camera_info(store, frame), _CAMERA_INFO))
            writer.write(image, frame.stamp_ns, store.serialize_cdr(_image(store, frame), _IMAGE))


def read_frames(
    bag: Path | str, image_topic: str = IMAGE_TOPIC, camera_info_topic: str = CAMERA_INFO_TOPIC
) -> Iterator[tuple[int, Any, Any]]:
    """Yield (stamp_ns, image message, CameraInfo message) for each image with a CameraInfo of the same stamp, in bag order.

    `bag_frames.read_bag_images` yields the other images too.

    Raises:
        InputError: The bag cannot be read, a topic is missing or has another type, or no image has a CameraInfo.
    """
    bag, paired = Path(bag), False
    for frame in read_bag_images(bag, image_topic, camera_info_topic, CameraInfoChoice.STAMP, lambda sentence: None):
        if not frame.problem:
            paired = True
            yield frame.stamp_ns, frame.image, frame.camera_info
    if not paired:
        raise InputError(
            f"no image on {image_topic} in {bag.name} has a CameraInfo with its stamp on {camera_info_topic}; check the topics"
        )


def write_bag_truth(
    path: Path | str,
    poses: dict[int, RigidTransform | None],
    bodies: Mapping[int, Mapping[str, RigidTransform]] | None = None,
) -> None:
    """Write the true pose at every stamp, null where the frame is blank, and those of bodies by name where they move."""
    rows = []
    for stamp, pose in poses.items():
        row: dict[str, Any] = {"stamp_ns": stamp, "camera_from_patient": None if pose is None else pose.matrix().tolist()}
        if moved := (bodies or {}).get(stamp):
            row["bodies"] = {name: body.matrix().tolist() for name, body in moved.items()}
        rows.append(row)
    write_json(path, {"unit": "mm", "frames": rows})


def read_bag_truth(path: Path | str, key: str = "stamp_ns") -> dict[int, RigidTransform | None]:
    """Read the file that `write_bag_truth` writes.

    Args:
        path: The file.
        key: The key that identifies a frame in each row.

    Raises:
        InputError: The file is missing or malformed, or contains a frame twice.
    """
    path = Path(path)
    content = read_json(path)
    rows = content.get("frames")
    if content.get("unit") != "mm" or not isinstance(rows, list):
        raise InputError(f'{path.name} must contain "unit": "mm" and a list "frames"')
    poses: dict[int, RigidTransform | None] = {}
    for row in rows:
        if not isinstance(row, dict) or type(row.get(key)) is not int or "camera_from_patient" not in row:
            number = "whole ns" if key == "stamp_ns" else "whole number"
            raise InputError(f"{path.name}: every frame needs '{key}' ({number}) and 'camera_from_patient' (4 x 4 or null)")
        frame, pose = row[key], row["camera_from_patient"]
        if frame in poses:
            raise InputError(f"{path.name} contains the frame {frame} twice; remove one")
        poses[frame] = None if pose is None else RigidTransform.from_matrix(pose, f"the pose at {frame} in {path.name}")
    return poses


def read_bag_body_truth(path: Path | str) -> dict[int, dict[str, RigidTransform]]:
    """Read the true poses of bodies from the file that `write_bag_truth` writes, by stamp and name; empty where none move.

    Raises:
        InputError: The file is missing or malformed.
    """
    path, poses = Path(path), dict[int, dict[str, RigidTransform]]()
    read_bag_truth(path)  # checks the frames
    for row in read_json(path)["frames"]:
        bodies = row.get("bodies", {})
        if not isinstance(bodies, dict):
            raise InputError(f"{path.name}: 'bodies' of a frame must be an object of 4 x 4 matrices by name")
        poses[row["stamp_ns"]] = {
            name: RigidTransform.from_matrix(pose, f"{name} in {path.name}") for name, pose in bodies.items()
        }
    return poses


def _message_types() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)  # Image and CameraInfo are the same in all later ROS 2 releases


def _header(store: Typestore, stamp_ns: int) -> Any:
    time = store.types["builtin_interfaces/msg/Time"](sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)
    return store.types["std_msgs/msg/Header"](stamp=time, frame_id=CAMERA_FRAME)


def _image(store: Typestore, frame: BagFrame) -> Any:
    height, width = frame.pixels.shape
    return store.types[_IMAGE](
        header=_header(store, frame.stamp_ns),
        height=height,
        width=width,
        encoding="mono16",
        is_bigendian=0,
        step=2 * width,
        data=np.frombuffer(frame.pixels.astype("<u2").tobytes(), np.uint8),
    )


def _camera_info(store: Typestore, frame: BagFrame) -> Any:
    camera = frame.intrinsics
    k = np.array(camera.k)
    no_roi = store.types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return store.types[_CAMERA_INFO](
        header=_header(store, frame.stamp_ns),
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k,
        r=np.eye(3).ravel(),
        p=np.hstack([k.reshape(3, 3), np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=no_roi,
    )
