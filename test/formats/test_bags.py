"""Bags: round trips, pairing by stamp, bags of other writers, and damaged bags."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from fluoro_reg.carm.views import carm_camera
from fluoro_reg.errors import InputError
from fluoro_reg.formats.bags import FIRST_STAMP_NS, BagFrame, _camera_info, _image, read_frames, write_bag
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.camera_info import intrinsics_from_message
from fluoro_reg.xray.encodings import pixels_from_message

CAMERA = CameraIntrinsics(7, 5, 900.5, 880.25, 2.75, 3.5, 1000.0)


def frame(n: int) -> BagFrame:
    pixels = (np.arange(35, dtype=np.uint16).reshape(5, 7) * 1871 + n).astype(np.uint16)
    return BagFrame(FIRST_STAMP_NS + n * 66_666_667, pixels, CAMERA)


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_frames_survive_a_round_trip(storage: str, tmp_path: Path) -> None:
    write_bag(tmp_path / "nested" / "bag", (frame(n) for n in range(5)), storage)
    read = list(read_frames(tmp_path / "nested" / "bag"))
    assert [stamp for stamp, _, _ in read] == [frame(n).stamp_ns for n in range(5)]
    for n, (_, image, info) in enumerate(read):
        assert (image.encoding, image.step, image.is_bigendian) == ("mono16", 14, 0)
        np.testing.assert_array_equal(pixels_from_message(image), frame(n).pixels)
        assert intrinsics_from_message(info, 1000.0) == CAMERA


def test_a_bag_is_never_overwritten(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", [frame(0)])
    with pytest.raises(InputError, match="already exists"):
        write_bag(tmp_path / "bag", [frame(1)])


def write_messages(folder: Path, kinds: Iterator[tuple[str, int]] | list[tuple[str, int]]) -> Path:
    """Write a bag of 'image' and 'info' messages of some frames, in the given order, with other topic names."""
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        image = writer.add_connection("/image", "sensor_msgs/msg/Image", typestore=store)
        info = writer.add_connection("/info", "sensor_msgs/msg/CameraInfo", typestore=store)
        for position, (kind, n) in enumerate(kinds):
            make, connection = (_image, image) if kind == "image" else (_camera_info, info)
            writer.write(connection, position, store.serialize_cdr(make(store, frame(n)), connection.msgtype))
    return folder


def test_messages_are_paired_by_stamp_in_any_order(tmp_path: Path) -> None:
    order = [("image", 0), ("info", 1), ("info", 0), ("image", 2), ("image", 1), ("image", 3), ("info", 3)]
    read = list(read_frames(write_messages(tmp_path / "bag", order), "/image", "/info"))
    assert [stamp for stamp, _, _ in read] == [frame(n).stamp_ns for n in (0, 1, 3)], "2 has no CameraInfo"
    assert all(image.header.stamp == info.header.stamp for _, image, info in read)


def test_a_bag_without_any_pair_is_rejected(tmp_path: Path) -> None:
    bag = write_messages(tmp_path / "bag", [("image", 0), ("info", 1)])
    with pytest.raises(InputError, match="no image on /image in bag has a CameraInfo"):
        list(read_frames(bag, "/image", "/info"))


def test_the_error_for_a_missing_topic_lists_the_topics(tmp_path: Path) -> None:
    bag = write_messages(tmp_path / "bag", [("image", 0), ("info", 0)])
    with pytest.raises(InputError, match=r"no topic /carm/image_raw; it has: /image, /info"):
        list(read_frames(bag))
    with pytest.raises(InputError, match="carries sensor_msgs/msg/CameraInfo, not sensor_msgs/msg/Image"):
        list(read_frames(bag, "/info", "/info"))


def test_missing_empty_and_damaged_bags_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no bag at nothing"):
        list(read_frames(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty is not a bag: it holds no"):
        list(read_frames(tmp_path / "empty"))
    write_bag(tmp_path / "truncated", [frame(n) for n in range(200)])
    database = next((tmp_path / "truncated").glob("*.db3"))
    database.write_bytes(database.read_bytes()[: database.stat().st_size // 2])
    with pytest.raises(InputError, match="truncated cannot be read as a bag: it is damaged"):
        list(read_frames(tmp_path / "truncated"))


@pytest.mark.data
@pytest.mark.parametrize("name", ["test_bag_sqlite3", "test_bag_mcap"])
def test_bags_of_another_writer_are_read(name: str, data_folder: Path, tmp_path: Path) -> None:
    bag = tmp_path / name
    shutil.copytree(data_folder / "rosbag2" / name, bag)
    with pytest.raises(InputError, match="no topic /carm/image_raw") as caught:
        list(read_frames(bag))
    topics = str(caught.value).split("it has: ")[1].split(", ")
    image = next(topic for topic in topics if topic.endswith("/image"))
    info = next(topic for topic in topics if topic.endswith("/camera_info"))
    try:
        frames = list(read_frames(bag, image, info))
    except InputError as error:
        assert "has a CameraInfo with its stamp" in str(error)
    else:
        assert all(message.width >= 0 for _, message, _ in frames)


def test_the_default_camera_is_that_of_a_mobile_c_arm() -> None:
    camera = carm_camera(256)
    assert camera.fx == pytest.approx(1020 * 256 / 300) and camera.cx == camera.cy == 127.5
