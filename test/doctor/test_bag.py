"""What the doctor says about bags: topics, rates, pairing, frames, QoS, and the camera."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.examinations import fact, finding
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from fluoro_reg.doctor.bag_contents import Topic, choose_topic
from fluoro_reg.doctor.examine import DoctorOptions
from fluoro_reg.formats.bag_frames import CameraInfoChoice
from fluoro_reg.formats.bags import FIRST_STAMP_NS, BagFrame, _camera_info, _image, write_bag
from fluoro_reg.formats.recordings import RecordingSource
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.camera_info import CameraMatrix

PERIOD_NS = 100_000_000
STORE = get_typestore(Stores.ROS2_JAZZY)
IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"


@pytest.fixture(scope="module")
def frames(xray_pixels: np.ndarray) -> list[BagFrame]:
    camera = CameraIntrinsics(256, 256, 900.0, 900.0, 127.5, 127.5)
    return [BagFrame(FIRST_STAMP_NS + n * PERIOD_NS, xray_pixels, camera) for n in range(6)]


def qos(reliability: QosReliability) -> Qos:
    never = QosTime(0, 0)
    history, volatile = QosHistory.KEEP_LAST, QosDurability.VOLATILE
    return Qos(history, 1, reliability, volatile, never, never, QosLiveliness.AUTOMATIC, never, False)


def write(
    folder: Path,
    frames: list[BagFrame],
    infos: list[int],
    shift_ns: int = 0,
    image_topic: str = "/carm/image_raw",
    reliability: QosReliability | None = None,
    change: Any = lambda message: None,
) -> Path:
    """Write a bag whose CameraInfos are those of the frames `infos`, stamped `shift_ns` later; `change` edits each message."""
    profiles = [] if reliability is None else [qos(reliability)]
    with Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        image = writer.add_connection(image_topic, IMAGE, typestore=STORE, offered_qos_profiles=profiles)
        info = writer.add_connection("/carm/camera_info", INFO, typestore=STORE, offered_qos_profiles=profiles)
        for number, frame in enumerate(frames):
            message = _image(STORE, frame)
            change(message)
            received = FIRST_STAMP_NS + number * PERIOD_NS
            writer.write(image, received, STORE.serialize_cdr(message, IMAGE))
            if number in infos:
                shifted = BagFrame(frame.stamp_ns + shift_ns, frame.pixels, frame.intrinsics)
                message = _camera_info(STORE, shifted)
                change(message)
                writer.write(info, received, STORE.serialize_cdr(message, INFO))
    return folder


def test_a_complete_bag_is_ready(examine, tmp_path, frames):
    write_bag(tmp_path / "bag", frames)
    found = examine(tmp_path / "bag")
    assert (found.kind, found.status) == ("bag", "ready")
    assert fact(found, "Images", "rate").value == 10.0
    assert fact(found, "Pairing by stamp", "images with a CameraInfo of their stamp").value == 6
    assert fact(found, "CameraInfo", "focal lengths of the image").value == [900.0, 900.0]
    assert fact(found, "Pixels", "meaning of the pixels").value == "transmitted"
    assert len(found.pictures) >= 2


def test_one_camera_info_for_many_images_is_answered_with_the_option(examine, tmp_path, frames):
    found = examine(write(tmp_path / "bag", frames, [0]))
    assert finding(found, "warning", "5 of 6 images").give == "--camera-info latest"
    latest = DoctorOptions(source=RecordingSource(camera_info=CameraInfoChoice.LATEST))
    assert not [one for one in examine(tmp_path / "bag", latest).findings if "CameraInfo" in one.sentence]


def test_stamps_that_are_always_apart_are_measured(examine, tmp_path, frames):
    found = examine(write(tmp_path / "bag", frames, list(range(6)), shift_ns=2_500_000))
    assert found.status == "incomplete"
    assert fact(found, "Pairing by stamp", "nearest CameraInfo of the others").value == 2.5
    assert found.findings[0].level.value == "missing"  # the most serious finding is first
    assert "2.5 ms away" in finding(found, "missing", "6 of 6 images").sentence


def test_a_bag_without_camera_info_or_without_images_says_so(examine, tmp_path, frames):
    assert "there is no CameraInfo" in finding(examine(write(tmp_path / "bag", frames, [])), "missing", "CameraInfo").sentence
    assert examine(write(tmp_path / "empty", [], [])).status == "refused"


def test_topics_that_are_not_the_default_ones_are_named_as_options(examine, tmp_path, frames):
    found = examine(write(tmp_path / "bag", frames, list(range(6)), image_topic="/other/image"))
    assert finding(found, "note", "not those that replay takes").give == "--image-topic /other/image"
    wrong = examine(tmp_path / "bag", DoctorOptions(source=RecordingSource(image_topic="/none")))
    assert "it has: /other/image" in finding(wrong, "refused", "no topic /none").sentence


def test_the_camera_info_nearest_to_the_images_is_chosen():
    topics = [Topic("/a/camera_info", INFO, 9), Topic("/b/left/camera_info", INFO, 3), Topic("/c", IMAGE, 1)]
    assert choose_topic(topics, (INFO,), None, "/carm/camera_info", near="/b/left/image_raw") == "/b/left/camera_info"
    assert choose_topic(topics[:1], (IMAGE,), None, "/carm/image_raw") is None


@pytest.mark.parametrize(
    ("offered", "advice"),
    [(QosReliability.RELIABLE, "qos.image: reliable"), (QosReliability.BEST_EFFORT, "qos.image: sensor_data")],
)
def test_qos_follows_from_what_was_offered(examine, tmp_path, frames, offered, advice):
    found = examine(write(tmp_path / "bag", frames, list(range(6)), reliability=offered))
    assert advice in [one.give for one in found.findings]
    assert "offered: " + offered.name.lower() in fact(found, "Topics", "/carm/image_raw").source


def test_stamps_and_frames_are_checked(examine, tmp_path, frames):
    def remove_frame(message: Any) -> None:
        message.header.frame_id = ""

    def slash(message: Any) -> None:
        message.header.frame_id = "/carm"

    repeated = [*frames[:3], frames[2]]
    found = examine(write(tmp_path / "none", repeated, [0, 1, 2], change=remove_frame))
    assert "frames.camera" in finding(found, "warning", "no frame_id").give
    assert "1 images repeat" in finding(found, "warning", "repeat").sentence
    found = examine(write(tmp_path / "slash", frames[::-1], [0], change=slash))
    assert finding(found, "warning", "begins with a slash").give == "frames.camera: carm"
    assert "5 stamps go back" in finding(found, "warning", "go back").sentence


def test_a_camera_info_of_another_size_is_refused(examine, tmp_path, frames):
    def halve(message: Any) -> None:
        if message.__msgtype__ == INFO:
            message.height //= 2

    found = examine(write(tmp_path / "bag", frames, list(range(6)), change=halve))
    assert "256 x 256" in finding(found, "refused", "CameraInfo describes").sentence


def test_absolute_times_are_not_shown(examine, tmp_path, frames):
    write_bag(tmp_path / "bag", frames)
    assert str(FIRST_STAMP_NS)[:7] not in str(examine(tmp_path / "bag").to_json(1))


def test_a_damaged_bag_is_one_sentence(examine, tmp_path, frames):
    write_bag(tmp_path / "bag", frames)
    (database,) = (tmp_path / "bag").glob("*.db3")
    database.write_bytes(b"nothing")
    assert examine(tmp_path / "bag").status == "refused"


def test_distortion_is_answered_with_the_option_that_undoes_it(examine, tmp_path, frames):
    def distort(message: Any) -> None:
        if message.__msgtype__ == INFO:
            message.d = np.array([0.9, 0.0, 0.0, 0.0, 0.0])

    folder = write(tmp_path / "bag", frames, list(range(6)), change=distort)
    found = examine(folder)
    assert found.status == "incomplete" and finding(found, "missing", "lens distortion").give.startswith("--undistort")
    undone = examine(folder, DoctorOptions(source=RecordingSource(undistort=True)))
    assert undone.status == "ready"
    name = "pixels in the mask of the file"
    assert fact(undone, "Pixels", name).value < 1.0 == fact(found, "Pixels", name).value


def test_matrices_that_contradict_each_other_are_answered_with_the_option(examine, tmp_path, frames):
    def scale(message: Any) -> None:
        if message.__msgtype__ == INFO:
            message.p[[0, 5]] *= 1.1

    found = examine(write(tmp_path / "bag", frames, list(range(6)), change=scale))
    assert "--camera-matrix k" in finding(found, "missing", "contradicts itself").give
    rectified = DoctorOptions(source=RecordingSource(camera_matrix=CameraMatrix.P))
    assert fact(examine(tmp_path / "bag", rectified), "CameraInfo", "focal lengths of the image").value == [990.0, 990.0]


def test_a_given_camera_replaces_camera_info_and_is_compared_with_it(examine, tmp_path, frames):
    given = DoctorOptions(source=RecordingSource(camera=CameraIntrinsics(256, 256, 1200.0, 1200.0, 127.5, 127.5)))
    found = examine(write(tmp_path / "bag", frames, list(range(6))), given)
    assert fact(found, "Camera", "focal lengths fx, fy").source == "camera.json"
    assert finding(found, "warning", "900") and found.status == "ready"
    assert examine(write(tmp_path / "none", frames, []), given).status == "ready"


def test_a_ros1_bag_is_examined(examine, data_folder):
    found = examine(data_folder / "reported" / "ros1_bag" / "old.bag")
    assert fact(found, "CameraInfo", "focal lengths of the image").value[0] > 0
    assert fact(found, "Pairing by stamp", "images with a CameraInfo of their stamp").value > 0
