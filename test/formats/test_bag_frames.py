"""Every image of a bag ends in a frame, with a camera or with the reason why it has none, and what is left over is counted."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.bag_messages import CAMERA, frame, write_ros1, write_ros2

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bag_frames import CameraInfoChoice
from fluoro_reg.formats.recordings import RecordingSource, read_recording
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.camera_info import CameraMatrix

STAMP, LATEST = CameraInfoChoice.STAMP, CameraInfoChoice.LATEST
GIVEN = CameraIntrinsics(7, 5, 500.0, 500.0, 3.0, 2.0)
NONE = "no CameraInfo on /carm/camera_info has the stamp of this image"


def read(path: Path, **source) -> tuple[list[float | str], list[str]]:
    """Return for every frame the focal length or the reason why it cannot be read, and the warnings."""
    warnings: list[str] = []
    found: list[float | str] = []
    for one in read_recording(path, RecordingSource(**source), warnings.append):
        try:
            image = one.xray()
            found.append(image.intrinsics.fx)
            warnings += [warning for warning in image.warnings if warning not in warnings]
        except InputError as error:
            found.append(str(error))
    return found, warnings


def with_focal_length(kind, n, message):
    """Make the focal length of CameraInfo n 1000 + n."""
    if kind == "info":
        message.k = np.array([1000.0 + n, *message.k[1:]])
        message.p = np.array([1000.0 + n, *message.p[1:]])
    return message


ORDERS = {
    "later": [("image", 0), ("image", 1), ("image", 2), ("info", 2), ("info", 1), ("info", 0)],
    "earlier": [("info", 0), ("info", 1), ("info", 2), ("image", 0), ("image", 1), ("image", 2)],
    "interleaved": [("info", 0), ("image", 0), ("image", 1), ("info", 1), ("info", 2), ("image", 2)],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_camera_info_of_the_stamp_is_found_wherever_it_is_in_the_bag(tmp_path, order, storage):
    bag = write_ros2(tmp_path / "bag", ORDERS[order], storage, with_focal_length)
    assert read(bag) == ([1000.0, 1001.0, 1002.0], [])


@pytest.mark.parametrize("count", [150, 300])
def test_a_camera_info_is_found_however_far_it_is_from_its_image(tmp_path, count):
    order = [("image", n) for n in range(count)] + [("info", n) for n in range(count)]
    assert read(write_ros2(tmp_path / "bag", order)) == ([CAMERA.fx] * count, [])


SINGLE = [("info", 0), ("image", 0), ("image", 1), ("image", 2), ("image", 3)]


@pytest.mark.parametrize("write", [write_ros2, write_ros1])
def test_images_without_a_camera_info_are_frames_with_the_reason_and_are_counted(tmp_path, write):
    frames, warnings = read(write(tmp_path / "one.bag", SINGLE))
    assert frames[0] == CAMERA.fx and all(NONE in str(reason) for reason in frames[1:]) and len(frames) == 4
    assert len(warnings) == 1 and warnings[0].startswith("3 of 4 images are rejected, because")
    assert "--camera-info latest" in warnings[0] and "--camera C.json" in warnings[0]


def test_camera_infos_without_an_image_are_counted(tmp_path):
    bag = write_ros2(tmp_path / "bag", [("info", 0), ("info", 1), ("info", 2), ("image", 1)])
    assert read(bag) == ([CAMERA.fx], ["2 of 3 messages on /carm/camera_info have no image with their stamp"])


@pytest.mark.parametrize(
    ("order", "focal"),
    [
        (SINGLE, [1000.0] * 4),
        ([("image", 0), ("image", 1), ("info", 7), ("image", 2)], [1007.0] * 3),
        ([("info", 9), ("image", 0), ("info", 5), ("image", 1), ("image", 2)], [1009.0, 1005.0, 1005.0]),
    ],
)
def test_latest_takes_the_last_camera_info_before_an_image_or_the_first(tmp_path, order, focal):
    assert read(write_ros2(tmp_path / "bag", order, change=with_focal_length), camera_info=LATEST) == (focal, [])


def without_info_topic(tmp_path: Path) -> Path:
    return write_ros2(tmp_path / "bag", [("image", 0), ("image", 1)])


def test_a_bag_without_camera_infos_takes_a_given_camera_and_the_error_says_so(tmp_path):
    bag = without_info_topic(tmp_path)
    for choice in (STAMP, LATEST):
        with pytest.raises(InputError, match=r"no readable CameraInfo; .*--camera C\.json"):
            read(bag, camera_info=choice)
    with pytest.raises(InputError, match=r"no topic /other; it has: .*without CameraInfo, give the camera with --camera"):
        read(bag, camera_info_topic="/other")
    assert read(bag, camera=GIVEN) == ([500.0, 500.0], [])
    assert read(bag, camera=GIVEN, camera_info_topic="/other") == ([500.0, 500.0], [])


def test_a_given_camera_takes_precedence_over_camera_info_and_a_difference_is_reported(tmp_path):
    bag = write_ros2(tmp_path / "bag", ORDERS["interleaved"])
    frames, warnings = read(bag, camera=GIVEN)
    assert frames == [500.0] * 3
    (warning,) = warnings
    assert "given camera has focal lengths 500.0 and 500.0" in warning and "CameraInfo says focal lengths 900.5" in warning
    assert read(bag, camera=dataclasses.replace(CAMERA, fx=CAMERA.fx * 1.001)) == ([CAMERA.fx * 1.001] * 3, [])


def test_a_given_camera_of_another_size_rejects_the_frames(tmp_path):
    frames, _ = read(without_info_topic(tmp_path), camera=dataclasses.replace(GIVEN, width=8))
    assert all("7 x 5 pixels, but its camera is for 8 x 5" in str(reason) for reason in frames)


def test_a_damaged_message_is_a_frame_with_a_reason_and_the_others_are_read(tmp_path):
    def damage(kind, n, message):
        return b"\0\1\0\0damaged" if n == 1 else message

    frames, warnings = read(write_ros2(tmp_path / "bag", ORDERS["interleaved"], change=damage))
    assert frames == [CAMERA.fx, "the image message is damaged and cannot be decoded", CAMERA.fx]
    assert warnings == ["1 messages on /carm/camera_info are damaged and cannot be decoded"]


def test_two_camera_infos_of_one_stamp_that_differ_reject_the_image(tmp_path):
    numbers = iter(range(10))

    def change(kind, n, message):
        return with_focal_length(kind, next(numbers), message) if kind == "info" else message

    bag = write_ros2(tmp_path / "bag", [("info", 0), ("info", 0), ("image", 0)], change=change)
    assert read(bag)[0] == ["2 CameraInfos with the stamp of this image differ"]
    same = write_ros2(tmp_path / "same", [("info", 0), ("info", 0), ("image", 0)])
    assert read(same) == ([CAMERA.fx], [])


def test_other_frame_ids_of_image_and_camera_info_are_counted(tmp_path):
    def change(kind, n, message):
        if kind == "info":
            message.header.frame_id = "other"
        return message

    _, warnings = read(write_ros2(tmp_path / "bag", ORDERS["earlier"], change=change))
    assert warnings == ["3 of 3 images have another frame_id than their CameraInfo"]


def test_a_topic_without_images_is_an_error(tmp_path):
    with pytest.raises(InputError, match="topic /carm/image_raw of bag has no messages"):
        read(write_ros2(tmp_path / "bag", [("info", 0)]))


def rectified(kind, n, message):
    if kind == "info":
        message.d = np.array([-0.2, 0.05, 0.0, 0.0, 0.0])
        message.p = np.array([700.0, *message.p[1:]])
    return message


def test_rectified_images_with_the_distortion_of_the_lens_take_p_when_asked(tmp_path):
    bag = write_ros2(tmp_path / "bag", ORDERS["earlier"], change=rectified)
    frames, _ = read(bag)
    assert all("--camera-matrix p" in str(reason) for reason in frames)
    assert read(bag, camera_matrix=CameraMatrix.P) == ([700.0] * 3, [])


def test_frames_have_the_stamps_of_their_images(tmp_path):
    bag = write_ros2(tmp_path / "bag", SINGLE)
    assert [one.stamp_ns for one in read_recording(bag)] == [frame(n).stamp_ns for n in range(4)]
