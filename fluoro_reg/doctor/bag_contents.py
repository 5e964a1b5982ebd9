"""What a bag holds of one camera: its topics, the headers of its images and CameraInfos, and one image to look at.

Stamps are kept to compute differences. No absolute time is shown, because it says when somebody was X-rayed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bag_files import OpenBag, open_bag
from fluoro_reg.formats.bag_frames import camera_numbers, stamp_of
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
    """Headers of the messages of one topic, in bag order: stamps and times of recording in ns, and frame_ids.

    `damaged` counts messages that cannot be decoded, and `chosen` is the message to look at: the one in the middle.
    """

    topic: str
    stamps: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    frame_ids: list[str] = field(default_factory=list)
    damaged: int = 0
    chosen: Any = None


@dataclass(frozen=True, slots=True)
class BagContents:
    """What was read of a bag: its topics, and of the chosen topics the images and CameraInfos; None without such a topic.

    `cameras` are the CameraInfos that differ from all before them, with their times of recording in ns.
    """

    topics: Sequence[Topic]
    warnings: Sequence[str]
    images: Messages | None
    infos: Messages | None
    cameras: Sequence[tuple[int, Any]]

    @property
    def image(self) -> Any:
        """The image to look at; None without images."""
        return None if self.images is None else self.images.chosen


def read_bag(path: Path, image_topic: str | None, camera_info_topic: str | None) -> BagContents:
    """Read the topics of a bag, and the headers of its images and CameraInfos.

    Args:
        path: A rosbag2 folder or file, or a ROS 1 bag.
        image_topic: The topic of the images; None takes the default topic if the bag has it, else the one with most images.
        camera_info_topic: The topic of CameraInfo; None takes the default topic, else the one nearest to the images.

    Raises:
        InputError: The bag cannot be read, or a given topic is not in it.
    """
    with open_bag(path) as bag:
        topics = _topics(bag.connections())
        image_name = choose_topic(topics, IMAGE_TYPES, image_topic, IMAGE_TOPIC)
        info_name = choose_topic(topics, (CAMERA_INFO_TYPE,), camera_info_topic, CAMERA_INFO_TOPIC, near=image_name or "")
        cameras: list[tuple[int, Any]] = []
        infos = None if info_name is None else _read_messages(bag, info_name, cameras)
        images = None if image_name is None else _read_messages(bag, image_name, None)
        return BagContents(topics, tuple(bag.warnings), images, infos, cameras)


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


def _read_messages(bag: OpenBag, topic: str, cameras: list[tuple[int, Any]] | None) -> Messages:
    """Read the headers of a topic; CameraInfos that differ from all before are added to `cameras`."""
    found = Messages(topic)
    middle = min(bag.stated_count(topic), MAXIMUM_MESSAGES) // 2
    for received, message in bag.messages(topic):
        if len(found.stamps) == MAXIMUM_MESSAGES:
            break
        if message is None:
            found.damaged += 1
            continue
        if found.chosen is None or len(found.stamps) == middle:
            found.chosen = message
        found.stamps.append(stamp_of(message))
        found.received.append(received)
        found.frame_ids.append(str(message.header.frame_id))
        if cameras is not None and not any(camera_numbers(message) == camera_numbers(other) for _, other in cameras):
            cameras.append((received, message))
    return found


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
