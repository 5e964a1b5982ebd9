"""Recordings: a common interface to the frames of a rosbag2 and of a DICOM cine.

The images of a bag have a stamp and, usually, a CameraInfo each. The frames of a cine have the geometry of the file, unless a
camera is given, and its nominal times from 0 (`xray.dicom.times`). A single X-ray is a recording of one frame. Each frame is
read when it is requested and is not kept, so that a recording may be larger than memory and a damaged frame does not affect the
others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bag_files import is_bag
from fluoro_reg.formats.bag_frames import BagImage, CameraInfoChoice, Warn, read_bag_images
from fluoro_reg.formats.bags import CAMERA_INFO_TOPIC, IMAGE_TOPIC, read_bag_truth
from fluoro_reg.formats.json_file import read_json
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.xray.camera_info import CameraInfoRules, CameraMatrix, camera_of_message, disagreement_with
from fluoro_reg.xray.distortion import Distortion
from fluoro_reg.xray.encodings import pixels_from_compressed, pixels_from_message
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.reader import frame_times_ns, read_xray, xray_from_pixels


@dataclass(frozen=True, slots=True)
class RecordingSource:
    """What a recording does not contain.

    Attributes:
        image_topic: The topic of the images in a bag; None takes the default.
        camera_info_topic: The topic of CameraInfo in a bag; None takes the default.
        camera: The camera of all frames. It takes precedence over that of the recording.
        intensity: What the pixel values mean.
        distortion: The distortion of `camera`, which is undone in the pixels.
        camera_info: Which CameraInfo of a bag belongs to an image.
        camera_matrix: Which matrix of a CameraInfo holds for the pixels.
        undistort: Whether the distortion that a CameraInfo states is undone in the pixels.
    """

    image_topic: str | None = None
    camera_info_topic: str | None = None
    camera: CameraIntrinsics | None = None
    intensity: Intensity = Intensity.AUTO
    distortion: Distortion | None = None
    camera_info: CameraInfoChoice = CameraInfoChoice.STAMP
    camera_matrix: CameraMatrix = CameraMatrix.AUTO
    undistort: bool = False


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One frame that has not been read yet.

    Attributes:
        number: Index of the frame, from 0.
        stamp_ns: Its time in ns.
        xray: Function that reads the frame. It raises `InputError` when the frame cannot be read.
        file: The X-ray file that contains the frame under this number; None in a bag.
    """

    number: int
    stamp_ns: int
    xray: Callable[[], XrayImage]
    file: Path | None = None


def read_recording(
    path: Path | str, source: RecordingSource | None = None, warn: Warn = lambda sentence: None
) -> Iterator[RecordedFrame]:
    """Iterate over the frames of a recording, in its order.

    Args:
        path: A rosbag2 folder or file (or a ROS 1 bag), or an X-ray file.
        source: What the recording does not contain.
        warn: Called with sentences for the user: about the files of a bag, and at the end about messages without a partner.

    Raises:
        InputError: There is no recording, or `source` contains what belongs to the other kind of recording (raised at once); a
            bag is damaged (raised during iteration).
    """
    path, source = Path(path), source or RecordingSource()
    if not path.exists():
        raise InputError(f"there is no recording (bag or cine) at {path.name}; check the path")
    if is_bag(path):
        return _bag_frames(path, source, warn)
    return _file_frames(path, source)


@dataclass(frozen=True, slots=True)
class RecordingTruth:
    """True poses by the number or the stamp of a frame; None where there is no pose, as in a blank frame."""

    poses: dict[int, RigidTransform | None]
    by_number: bool

    def pose_of(self, frame: RecordedFrame) -> RigidTransform | None:
        """Return the true pose of a frame; None if it has none or it is unknown."""
        return self.poses.get(frame.number if self.by_number else frame.stamp_ns)


def read_truth(path: Path | str) -> RecordingTruth:
    """Read the true poses of a recording.

    The file is one that `write_bag_truth` writes, or has "frame" (the number from 0) instead of "stamp_ns" in its rows.

    Raises:
        InputError: The file is missing or malformed.
    """
    rows = read_json(path).get("frames")
    by_number = isinstance(rows, list) and any(isinstance(row, dict) and "frame" in row for row in rows)
    return RecordingTruth(read_bag_truth(path, "frame" if by_number else "stamp_ns"), by_number)


def _bag_frames(path: Path, source: RecordingSource, warn: Warn) -> Iterator[RecordedFrame]:
    """Iterate over a bag. The first frame is read at once, so that a bag without frames is rejected early."""
    choice = source.camera_info if source.camera is None else CameraInfoChoice.GIVEN
    topics = source.image_topic or IMAGE_TOPIC, source.camera_info_topic or CAMERA_INFO_TOPIC
    messages = read_bag_images(path, *topics, choice, warn)
    frames = (RecordedFrame(number, frame.stamp_ns, partial(_decode, frame, source)) for number, frame in enumerate(messages))
    return chain([next(frames)], frames)


def _file_frames(path: Path, source: RecordingSource) -> Iterator[RecordedFrame]:
    if source.image_topic is not None or source.camera_info_topic is not None:
        raise InputError(f"{path.name} is not a bag and has no topics; omit the topic names")
    if source.camera_info is not CameraInfoChoice.STAMP or source.camera_matrix is not CameraMatrix.AUTO:
        raise InputError(f"{path.name} is not a bag and has no CameraInfo; omit the options that say how to read it")
    return (
        RecordedFrame(number, stamp_ns, partial(_read_file, path, source, number), path)
        for number, stamp_ns in enumerate(frame_times_ns(path))
    )


def _read_file(path: Path, source: RecordingSource, number: int) -> XrayImage:
    return read_xray(path, source.camera, source.intensity, number, source.distortion)


def _decode(frame: BagImage, source: RecordingSource) -> XrayImage:
    if frame.problem:
        raise InputError(frame.problem)
    compressed = frame.image.__msgtype__ == "sensor_msgs/msg/CompressedImage"
    pixels = pixels_from_compressed(frame.image) if compressed else pixels_from_message(frame.image)
    size, rules = (pixels.shape[1], pixels.shape[0]), CameraInfoRules(source.camera_matrix, source.undistort)
    if source.camera is not None:
        warnings = [] if frame.camera_info is None else disagreement_with(source.camera, frame.camera_info, size)
        return xray_from_pixels(pixels, source.camera, source.intensity, distortion=source.distortion, warnings=warnings)
    camera = camera_of_message(frame.camera_info, size, rules)
    return xray_from_pixels(pixels, camera.intrinsics, source.intensity, distortion=camera.distortion, warnings=camera.warnings)
