"""The images of a bag with their CameraInfo: every image is a frame, with a camera or with the reason why it has none.

CameraInfo messages are small and are read first. An image therefore finds its CameraInfo wherever that is in the bag.
"""

import enum
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bag_files import OpenBag, open_bag

_IMAGE, _COMPRESSED, _CAMERA_INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
Warn = Callable[[str], object]


class CameraInfoChoice(str, enum.Enum):
    """Which CameraInfo belongs to an image."""

    STAMP = "stamp"  # the one with its stamp
    LATEST = "latest"  # the last one recorded before it, as of a latched topic; the first one, if none was
    GIVEN = "given"  # none: another camera is given; the latest CameraInfo, if there is one, is compared with it


@dataclass(frozen=True, slots=True)
class BagImage:
    """An image message with its CameraInfo. `problem` says why one of them is missing."""

    stamp_ns: int
    image: Any
    camera_info: Any = None
    problem: str = ""


def read_bag_images(
    path: Path, image_topic: str, camera_info_topic: str, choice: CameraInfoChoice, warn: Warn
) -> Iterator[BagImage]:
    """Yield every image of a bag in the order of recording.

    Args:
        path: A rosbag2 folder or file, or a ROS 1 bag.
        image_topic: The topic of Image or CompressedImage.
        camera_info_topic: The topic of CameraInfo.
        choice: Which CameraInfo belongs to an image.
        warn: Called with sentences for the user: about the files, and at the end about messages without a partner.

    Raises:
        InputError: The bag cannot be read, a topic is missing or has another type, or there is no image.
    """
    with open_bag(path) as bag:
        for sentence in bag.warnings:
            warn(sentence)
        _check_topic(bag, image_topic, (_IMAGE, _COMPRESSED), "")
        infos = _CameraInfos(camera_info_topic, choice)
        if choice is not CameraInfoChoice.GIVEN:
            _check_topic(bag, camera_info_topic, (_CAMERA_INFO,), "; without CameraInfo, give the camera with --camera C.json")
        if bag.types().get(camera_info_topic) == {_CAMERA_INFO}:
            infos.read(bag)
        count = 0
        for received_ns, image in bag.messages(image_topic):
            count += 1
            yield infos.frame_of(received_ns, image)
        if not count:
            raise InputError(f"topic {image_topic} of {bag.name} has no messages; choose the topic of the X-rays")
        for sentence in [*_count_warnings(bag, image_topic, count), *infos.warnings()]:
            warn(sentence)


def stamp_of(message: Any) -> int:
    """Return the stamp of a message in ns."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def camera_numbers(info: Any) -> tuple[Any, ...]:
    """Return what makes the camera of a CameraInfo, to compare it with that of another."""
    roi = info.roi
    window = (int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height))
    matrices = (tuple(map(float, matrix)) for matrix in (info.k, info.d, info.p))
    return (int(info.width), int(info.height), *matrices, int(info.binning_x), int(info.binning_y), window)


@dataclass(slots=True)
class _CameraInfos:
    """The CameraInfos of a bag, and the count of what has no partner."""

    topic: str
    choice: CameraInfoChoice
    received_ns: list[int] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)
    by_stamp: dict[int, list[Any]] = field(default_factory=dict)
    undecodable: int = 0
    images: int = 0
    images_without: int = 0
    frame_ids_differ: int = 0
    used_stamps: set[int] = field(default_factory=set)

    def read(self, bag: OpenBag) -> None:
        """Read all messages of the topic."""
        for received_ns, info in bag.messages(self.topic):
            if info is None:
                self.undecodable += 1
                continue
            self.received_ns.append(received_ns)
            self.messages.append(info)
            self.by_stamp.setdefault(stamp_of(info), []).append(info)
        if not self.messages and self.choice is not CameraInfoChoice.GIVEN:
            raise InputError(
                f"topic {self.topic} of {bag.name} has no readable CameraInfo; choose another topic, or give the camera with "
                "--camera C.json"
            )

    def frame_of(self, received_ns: int, image: Any) -> BagImage:
        """Return the frame of an image that was recorded at `received_ns`."""
        self.images += 1
        if image is None:
            return BagImage(received_ns, None, problem="the image message is damaged and cannot be decoded")
        stamp = stamp_of(image)
        if not self.messages:
            return BagImage(stamp, image)
        if self.choice is not CameraInfoChoice.STAMP:
            info = self.messages[max(bisect_right(self.received_ns, received_ns) - 1, 0)]
        else:
            candidates = self.by_stamp.get(stamp, [])
            self.used_stamps.add(stamp)
            if not candidates:
                self.images_without += 1
                return BagImage(stamp, image, problem=self._no_partner())
            info = candidates[0]
            if any(camera_numbers(other) != camera_numbers(info) for other in candidates[1:]):
                return BagImage(stamp, image, problem=f"{len(candidates)} CameraInfos with the stamp of this image differ")
        self.frame_ids_differ += image.header.frame_id != info.header.frame_id
        return BagImage(stamp, image, info)

    def _no_partner(self) -> str:
        return (
            f"no CameraInfo on {self.topic} has the stamp of this image; --camera-info latest takes the last one recorded "
            "before each image, and --camera C.json takes another camera"
        )

    def warnings(self) -> Iterator[str]:
        """Yield what did not end in a frame with its camera, with the counts."""
        if self.undecodable:
            yield f"{self.undecodable} messages on {self.topic} are damaged and cannot be decoded"
        if self.images_without:
            yield f"{self.images_without} of {self.images} images are rejected, because {self._no_partner()}"
        unused = sum(len(infos) for stamp, infos in self.by_stamp.items() if stamp not in self.used_stamps)
        if self.choice is CameraInfoChoice.STAMP and unused:
            yield f"{unused} of {len(self.messages)} messages on {self.topic} have no image with their stamp"
        if self.frame_ids_differ:
            yield f"{self.frame_ids_differ} of {self.images} images have another frame_id than their CameraInfo"


def _check_topic(bag: OpenBag, topic: str, types: tuple[str, ...], advice: str) -> None:
    found = bag.types()
    if topic not in found:
        topics = ", ".join(sorted(found)) or "none"
        raise InputError(f"{bag.name} has no topic {topic}; it has: {topics}{advice}")
    if not found[topic] <= {*types}:
        wrong = sorted(found[topic] - {*types})[0]
        raise InputError(f"topic {topic} of {bag.name} carries {wrong}, not {types[0]}; choose another topic")


def _count_warnings(bag: OpenBag, topic: str, count: int) -> list[str]:
    stated = bag.stated_count(topic)
    if stated == count:
        return []
    return [f"{bag.name} states {stated} messages on {topic}, but holds {count}: it was cut, or its metadata is of another bag"]
