"""What a bag holds of one camera: its topics, the headers of its images and CameraInfos, and one image to look at.

Stamps are kept as differences, because absolute times say when somebody was X-rayed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bags import CAMERA_INFO_TOPIC, IMAGE_TOPIC

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
MAXIMUM_MESSAGES = 2000  # of one topic that are read: two minutes at 15 Hz


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of a bag; `reliability` and `durability` are those that its publishers offered, empty if not recorded."""

    name: str
    type: str
    count: int
    reliability: str = ""
    durability: str = ""


@dataclass(slots=True)
class Messages:
    """Headers of the messages of one topic, in bag order: stamps and times of recording in ns, and frame_ids."""

    topic: str
    stamps: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    frame_ids: list[str] = field(default_factory=list)
    first: Any = None

    def add(self, message: Any, received: int) -> None:
        """Add a message that was recorded at `received` ns."""
        self.stamps.append(stamp_ns(message))
        self.received.append(received)
        self.frame_ids.append(str(message.header.frame_id))
        self.first = self.first or message


@dataclass(slots=True)
class BagContents:
    """The topics of a bag, and what was read of the chosen image and CameraInfo topics; None if there is no such topic.

    `image` is the image in the middle of those that were read, and `camera_infos` are the distinct ones with their stamps.
    """

    topics: Sequence[Topic]
    duration_s: float
    images: Messages | None = None
    infos: Messages | None = None
    image: Any = None
    camera_infos: list[tuple[int, Any]] = field(default_factory=list)


def stamp_ns(message: Any) -> int:
    """Return the stamp of a message in ns."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def read_bag(path: Path, image_topic: str | None, camera_info_topic: str | None) -> BagContents:
    """Read the topics of a bag, and the headers of its images and CameraInfos.

    Args:
        path: A rosbag2 folder or file.
        image_topic: The topic of the images; None takes the default topic if the bag has it, else the one with most images.
        camera_info_topic: The topic of CameraInfo; None takes the default topic, else the one nearest to the images.

    Raises:
        InputError: The bag cannot be read, or a given topic is not in it.
    """
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
            return _read(reader, image_topic, camera_info_topic)
    except InputError:
        raise
    except Exception:  # the storage libraries raise errors of many unrelated classes, which may quote a path
        raise InputError(
            "the bag cannot be read: it is damaged, compressed, or without an index; run ros2 bag reindex, or record it again"
        ) from None


def _read(reader: AnyReader, image_topic: str | None, camera_info_topic: str | None) -> BagContents:
    topics = _topics(reader.connections)
    contents = BagContents(topics, reader.duration * 1e-9)
    images = choose_topic(topics, IMAGE_TYPES, image_topic, IMAGE_TOPIC)
    infos = choose_topic(topics, (CAMERA_INFO_TYPE,), camera_info_topic, CAMERA_INFO_TOPIC, near=images or "")
    contents.images = None if images is None else Messages(images)
    contents.infos = None if infos is None else Messages(infos)
    wanted = [connection for connection in reader.connections if connection.topic in (images, infos)]
    middle = min(sum(topic.count for topic in topics if topic.name == images), MAXIMUM_MESSAGES) // 2
    for connection, received, data in reader.messages(connections=wanted):
        target = contents.images if connection.topic == images else contents.infos
        if target is None or len(target.stamps) >= MAXIMUM_MESSAGES:
            continue
        message = reader.deserialize(data, connection.msgtype)
        if target is contents.images and len(target.stamps) in (0, middle):
            contents.image = message
        target.add(message, received)
        if target is contents.infos:
            _add_camera_info(contents.camera_infos, message)
    return contents


def choose_topic(
    topics: Sequence[Topic], types: tuple[str, ...], given: str | None, default: str, near: str = ""
) -> str | None:
    """Return the topic to examine: the given one, else the default, else the one that shares most of `near`, else the largest.

    Raises:
        InputError: The given topic is not in the bag.
    """
    fitting = [topic for topic in topics if topic.type in types]
    names = [topic.name for topic in fitting]
    if given is not None:
        if given not in names:
            raise InputError(f"the bag has no topic {given} of a usable type; it has: {', '.join(names) or 'none'}")
        return given
    if default in names and (not near or _common(default, near) >= max(_common(name, near) for name in names)):
        return default
    best = max(fitting, key=lambda topic: (_common(topic.name, near), topic.type == types[0], topic.count), default=None)
    return None if best is None else best.name


def _common(name: str, near: str) -> int:
    """Return the number of leading parts that two topic names share."""
    count = 0
    for one, other in zip(name.split("/")[1:-1], near.split("/")[1:-1], strict=False):
        if one != other:
            break
        count += 1
    return count


def _topics(connections: Sequence[Connection]) -> list[Topic]:
    merged: dict[tuple[str, str], Topic] = {}
    for connection in connections:
        key = (connection.topic, connection.msgtype)
        count = connection.msgcount + (merged[key].count if key in merged else 0)
        profiles = list(getattr(connection.ext, "offered_qos_profiles", None) or [])
        reliability, durability = (_policy(profiles, name) for name in ("reliability", "durability"))
        merged[key] = Topic(connection.topic, connection.msgtype, count, reliability, durability)
    return sorted(merged.values(), key=lambda topic: topic.name)


def _policy(profiles: Sequence[Any], name: str) -> str:
    values = {str(getattr(profile, name).name).lower() for profile in profiles}
    return values.pop() if len(values) == 1 else ("mixed" if values else "")


def _add_camera_info(kept: list[tuple[int, Any]], message: Any) -> None:
    if not any(_same_camera(message, other) for _, other in kept):
        kept.append((stamp_ns(message), message))


def _same_camera(one: Any, other: Any) -> bool:
    return camera_numbers(one) == camera_numbers(other)


def camera_numbers(info: Any) -> tuple[Any, ...]:
    """Return size, K, D, P, binning and ROI of a CameraInfo of ROS 1 or ROS 2, to compare cameras."""
    matrices = [tuple(float(x) for x in matrix_of(info, name)) for name in ("k", "d", "p")]
    roi = info.roi
    window = tuple(int(x) for x in (roi.x_offset, roi.y_offset, roi.width, roi.height))
    return (int(info.width), int(info.height), *matrices, int(info.binning_x), int(info.binning_y), window)


def matrix_of(info: Any, name: str) -> list[float]:
    """Return the matrix k, d, r or p of a CameraInfo; ROS 1 writes them as capital letters."""
    value = getattr(info, name, None)
    return list(getattr(info, name.upper()) if value is None else value)
