"""What people bring as a bag: folders without or with a wrong metadata.yaml, single and compressed files, and ROS 1 bags."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.bag_messages import CAMERA, frame, write_ros1, write_ros2
from rosbags.rosbag1 import Writer as Ros1Writer

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bag_files import zstd
from fluoro_reg.formats.recordings import RecordingSource, read_recording

STORAGES = ("sqlite3", "mcap")
PAIRS = [("info", 0), ("image", 0), ("image", 1), ("info", 1), ("info", 2), ("image", 2)]


def assert_all_frames(path: Path, count: int = 3) -> list[str]:
    """Check that the frames of a bag are those that were written, and return the warnings."""
    warnings: list[str] = []
    read = list(read_recording(path, RecordingSource(), warnings.append))
    assert [one.stamp_ns for one in read] == [frame(n).stamp_ns for n in range(count)]
    for n, one in enumerate(read):
        image = one.xray()
        np.testing.assert_array_equal(image.pixels.numpy(), frame(n).pixels.astype(np.float32))
        assert (image.intrinsics.fx, image.intrinsics.cy) == (CAMERA.fx, CAMERA.cy)
    return warnings


def storage_file(bag: Path) -> Path:
    return next(file for file in bag.iterdir() if file.suffix in (".db3", ".mcap"))


def change_metadata(bag: Path, **changes: object) -> None:
    content = yaml.safe_load((bag / "metadata.yaml").read_text())
    content["rosbag2_bagfile_information"].update(changes)
    (bag / "metadata.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("storage", STORAGES)
def test_a_bag_without_metadata_is_read_from_its_files_with_a_warning(tmp_path, storage):
    bag = write_ros2(tmp_path / "bag", PAIRS, storage)
    assert assert_all_frames(bag) == []
    (bag / "metadata.yaml").unlink()
    (warning,) = assert_all_frames(bag)
    assert "read from its 1 storage file, because metadata.yaml is missing; ros2 bag reindex" in warning


@pytest.mark.parametrize("storage", STORAGES)
def test_a_bag_of_several_files_without_metadata_is_read_in_the_order_of_recording(tmp_path, storage):
    whole = tmp_path / "bag"
    whole.mkdir()
    for part, kinds in (("b", PAIRS[:2]), ("a", PAIRS[2:])):
        piece = storage_file(write_ros2(tmp_path / part, kinds, storage))
        shutil.move(piece, whole / f"bag_{part}{piece.suffix}")
    read = list(read_recording(whole))
    assert sorted(one.stamp_ns for one in read) == [frame(n).stamp_ns for n in range(3)]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"storage_identifier": ""}, "has an empty storage_identifier"),
        ({"storage_identifier": "rocksdb"}, "names no known storage"),
        ({"relative_file_paths": ["bag_0.db3", "bag_1.db3"]}, "lists 2 files, of which 2 are missing"),
        ({"relative_file_paths": []}, "is damaged or lists no file"),
        ({"version": 99}, "is of an unknown version"),
    ],
)
def test_a_bag_with_unusable_metadata_is_read_from_its_files_with_the_reason(tmp_path, storage, changes, why):
    bag = write_ros2(tmp_path / "bag", PAIRS, storage)
    change_metadata(bag, **changes)
    (warning,) = assert_all_frames(bag)
    assert f"metadata.yaml {why}" in warning


@pytest.mark.parametrize("content", ["", "rosbag2_bagfile_information: [1, 2", "- a list", "\xff\xfe"])
def test_damaged_metadata_do_not_matter(tmp_path, content):
    bag = write_ros2(tmp_path / "bag", PAIRS)
    (bag / "metadata.yaml").write_text(content, encoding="latin-1")
    (warning,) = assert_all_frames(bag)
    assert "metadata.yaml is damaged or lists no file" in warning


def test_the_wrong_storage_in_the_metadata_is_noticed(tmp_path):
    bag = write_ros2(tmp_path / "bag", PAIRS, "mcap")
    change_metadata(bag, storage_identifier="sqlite3")
    (warning,) = assert_all_frames(bag)
    assert "names the storage sqlite3, which its files are not" in warning


def test_files_that_the_metadata_do_not_list_are_counted(tmp_path):
    bag = write_ros2(tmp_path / "bag", PAIRS)
    shutil.copy(storage_file(bag), bag / "other.db3")
    (warning,) = assert_all_frames(bag)
    assert "holds 1 more storage files than metadata.yaml lists" in warning


@pytest.mark.parametrize("storage", STORAGES)
def test_the_counts_of_the_metadata_are_held_against_the_messages(tmp_path, storage):
    bag = write_ros2(tmp_path / "bag", PAIRS, storage)
    topics = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["topics_with_message_count"]
    change_metadata(bag, topics_with_message_count=[topic | {"message_count": 7} for topic in topics])
    (warning,) = assert_all_frames(bag)
    assert "states 7 messages on /carm/image_raw, but holds 3" in warning


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("ending", [".zstd", ".zst", ""])
def test_single_files_are_read_also_when_compressed_or_renamed(tmp_path, storage, ending):
    file = storage_file(write_ros2(tmp_path / "bag", PAIRS, storage))
    single = tmp_path / f"{file.name}{ending}"
    single.write_bytes(zstd.compress(file.read_bytes()) if ending else file.read_bytes())
    assert assert_all_frames(single) == []
    renamed = single.rename(tmp_path / "recording.bin")
    assert assert_all_frames(renamed) == []


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("with_metadata", [True, False])
def test_a_folder_with_a_compressed_file_is_read(tmp_path, storage, with_metadata):
    bag = write_ros2(tmp_path / "bag", PAIRS, storage)
    file = storage_file(bag)
    compressed = file.with_name(f"{file.name}.zstd")
    compressed.write_bytes(zstd.compress(file.read_bytes()))
    file.unlink()
    if with_metadata:
        change_metadata(bag, relative_file_paths=[compressed.name], compression_format="zstd", compression_mode="FILE")
    else:
        (bag / "metadata.yaml").unlink()
    assert bool(assert_all_frames(bag)) != with_metadata


def test_messages_that_are_compressed_one_by_one_are_read_without_metadata(tmp_path):
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types = {"image": "sensor_msgs/msg/Image", "info": "sensor_msgs/msg/CameraInfo"}
    bag = write_ros2(
        tmp_path / "bag", PAIRS, change=lambda kind, n, message: zstd.compress(bytes(store.serialize_cdr(message, types[kind])))
    )
    assert assert_all_frames(storage_file(bag)) == []


def test_messages_in_the_journal_of_a_file_that_was_not_closed_are_read(tmp_path):
    source = storage_file(write_ros2(tmp_path / "source", PAIRS))
    live = sqlite3.connect(source)
    live.execute("PRAGMA journal_mode=WAL")
    live.execute("CREATE TABLE kept AS SELECT * FROM messages")
    live.execute("DELETE FROM messages")
    live.commit()
    live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    live.execute("INSERT INTO messages SELECT * FROM kept")  # only in the journal
    live.commit()
    bag = tmp_path / "bag"
    bag.mkdir()
    for file in source.parent.glob(f"{source.name}*"):
        shutil.copy(file, bag / file.name)
    live.close()
    assert (bag / f"{source.name}-wal").stat().st_size > 0
    warnings = assert_all_frames(bag / source.name)
    assert any("was not closed: the messages in its journal" in warning for warning in warnings)


COMPRESSIONS = [None, Ros1Writer.CompressionFormat.BZ2, Ros1Writer.CompressionFormat.LZ4]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_ros_1_bag_is_read_like_a_rosbag2(tmp_path, compression):
    path = write_ros1(tmp_path / "old.bag", PAIRS, compression)
    assert assert_all_frames(path) == []
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(path, folder / "old.bag")
    assert assert_all_frames(folder) == []
    assert assert_all_frames(path.rename(tmp_path / "old.bag.orig")) == []


def test_a_ros_1_bag_without_an_index_is_refused_with_the_command_that_mends_it(tmp_path):
    path = write_ros1(tmp_path / "old.bag", PAIRS)
    content = path.read_bytes()
    at = content.index(b"index_pos=") + len("index_pos=")
    active = tmp_path / "old.bag.active"
    active.write_bytes(content[:at] + bytes(8) + content[at + 8 :])
    with pytest.raises(InputError, match=r"old\.bag\.active cannot .* has no index; run rosbag reindex old\.bag\.active"):
        list(read_recording(active))


def test_old_and_damaged_bags_are_refused_with_what_to_do(tmp_path):
    path = write_ros1(tmp_path / "old.bag", PAIRS)
    path.write_bytes(path.read_bytes().replace(b"#ROSBAG V2.0", b"#ROSBAG V1.2", 1))
    with pytest.raises(InputError, match="rosbag fix"):
        list(read_recording(path))
    mcap = storage_file(write_ros2(tmp_path / "bag", PAIRS, "mcap"))
    mcap.write_bytes(mcap.read_bytes()[:-40])
    with pytest.raises(InputError, match="mcap recover"):
        list(read_recording(mcap))
    (tmp_path / "text.db3").write_text("not a database")
    with pytest.raises(InputError, match=r"text\.db3 cannot be read as a bag: it is damaged, or neither"):
        list(read_recording(tmp_path / "text.db3"))
