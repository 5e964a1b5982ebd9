"""Recordings: a rosbag2 or a DICOM cine as one thing, frame after frame, for whatever registers frames.

A bag's images come with their CameraInfo and their stamps. A cine's come with the file's own geometry, unless a camera is
given, and with its nominal times from 0 (`xray.dicom_times`); a single X-ray is a recording of one frame. Frames are read when
they are asked for and not kept, so that a recording may be longer than memory, and one that is damaged spoils no other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bags import CAMERA_INFO_TOPIC, IMAGE_TOPIC, read_bag_truth, read_frames
from fluoro_reg.formats.json_file import read_json
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.xray.encodings import intrinsics_from_message, pixels_from_compressed, pixels_from_message
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.reader import frame_times_ns, read_xray, xray_from_pixels

_BAGS = (".db3", ".mcap", ".bag")


@dataclass(frozen=True, slots=True)
class Source:
    """What a recording does not say of itself: a bag's topics (None: the usual ones), a cine's camera, what pixels are."""

    image_topic: str | None = None
    camera_info_topic: str | None = None
    camera: CameraIntrinsics | None = None
    intensity: Intensity = Intensity.AUTO


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One frame, not yet read. `number` counts from 0; `file` is the X-ray file that holds it under this number, None in a bag.

    `xray()` reads it.

    Raises:
        InputError: by `xray`, when this frame cannot be read.
    """

    number: int
    stamp_ns: int
    xray: Callable[[], XrayImage]
    file: Path | None = None


def recorded_frames(path: Path | str, source: Source | None = None) -> Iterator[RecordedFrame]:
    """All frames in the recording's order.

    Raises:
        InputError: at once where there is no recording, or `source` tells what belongs to the other kind; while iterating where
            a bag breaks off.
    """
    path, source = Path(path), source or Source()
    if not path.exists():
        raise InputError(f"there is no recording at {path.name}, neither bag nor cine; check the path")
    if path.is_dir() or path.suffix in _BAGS:
        return _of_bag(path, source)
    return _of_file(path, source)


@dataclass(frozen=True, slots=True)
class RecordingTruth:
    """True poses by the frames' numbers or by their stamps; None where a pose does not exist, as in a blank frame."""

    poses: dict[int, RigidTransform | None]
    by_number: bool

    def of(self, frame: RecordedFrame) -> RigidTransform | None:
        """The frame's true pose, if it has one and it is known."""
        return self.poses.get(frame.number if self.by_number else frame.stamp_ns)


def read_truth(path: Path | str) -> RecordingTruth:
    """The file that `write_bag_truth` writes, or one whose rows say "frame", the number from 0, instead of "stamp_ns".

    Raises:
        InputError: a missing or malformed file.
    """
    rows = read_json(path).get("frames")
    by_number = isinstance(rows, list) and any(isinstance(row, dict) and "frame" in row for row in rows)
    return RecordingTruth(read_bag_truth(path, "frame" if by_number else "stamp_ns"), by_number)


def _of_bag(path: Path, source: Source) -> Iterator[RecordedFrame]:
    """Its first frame is found at once, so that a bag without any is refused before anything else is done."""
    if source.camera is not None:
        raise InputError(f"{path.name} is a bag, whose images have their cameras in CameraInfo; leave the camera.json out")
    messages = read_frames(path, source.image_topic or IMAGE_TOPIC, source.camera_info_topic or CAMERA_INFO_TOPIC)
    found = (
        RecordedFrame(number, stamp_ns, partial(_xray, image, camera_info, source.intensity))
        for number, (stamp_ns, image, camera_info) in enumerate(messages)
    )
    return chain([next(found)], found)


def _of_file(path: Path, source: Source) -> Iterator[RecordedFrame]:
    if source.image_topic is not None or source.camera_info_topic is not None:
        raise InputError(f"{path.name} is no bag, so it has no topics; leave their names out")
    return (
        RecordedFrame(number, stamp_ns, partial(read_xray, path, source.camera, source.intensity, number), path)
        for number, stamp_ns in enumerate(frame_times_ns(path))
    )


def _xray(image: Any, camera_info: Any, intensity: Intensity) -> XrayImage:
    compressed = image.__msgtype__ == "sensor_msgs/msg/CompressedImage"
    pixels = pixels_from_compressed(image) if compressed else pixels_from_message(image)
    return xray_from_pixels(pixels, intrinsics_from_message(camera_info), intensity)
