"""`fluoro-reg replay` on small bags and cines with known poses."""

import json
import sqlite3

import numpy as np
import pytest
from helpers.recording_files import write_cine

from fluoro_reg.cli.recording_arguments import CameraInfoChoiceName, CameraMatrixName
from fluoro_reg.formats.bag_frames import CameraInfoChoice
from fluoro_reg.formats.bags import FIRST_STAMP_NS, BagFrame, write_bag
from fluoro_reg.formats.cameras import read_camera
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.camera_info import CameraMatrix

KEYS = ["stamp_ns", "accepted", "reason", "camera_from_patient", "latency_s"]
PERIOD_NS = 66_666_667


def transmitted(view) -> np.ndarray:
    return (60000 * np.exp(-np.load(view.image))).astype(np.uint16)


def write(folder, frames: list[tuple[np.ndarray, CameraIntrinsics]], storage: str = "sqlite3"):
    stamped = (BagFrame(FIRST_STAMP_NS + n * PERIOD_NS, pixels, camera) for n, (pixels, camera) in enumerate(frames))
    write_bag(folder, stamped, storage)
    return folder


@pytest.fixture(scope="module")
def good(view):
    return transmitted(view), read_camera(view.camera)


@pytest.fixture
def replay(cli, view):
    def run(bag, *more: object):
        return cli("replay", bag, "--ct", view.ct, "--initial", view.pose, "--intensity", "transmitted", *more)

    return run


def lines(finished) -> list[dict]:
    return [json.loads(line) for line in finished.out.splitlines()]


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_every_frame_is_one_line_and_only_accepted_frames_have_a_pose(replay, view, good, tmp_path, storage):
    blank = np.full_like(good[0], 60000)
    finished = replay(write(tmp_path / "bag", [good, (blank, good[1]), good], storage), "--json")
    assert finished.status == 0
    frames = lines(finished)
    assert [list(frame) for frame in frames] == [KEYS] * 3
    assert [frame["stamp_ns"] for frame in frames] == [FIRST_STAMP_NS + n * PERIOD_NS for n in range(3)]
    assert [frame["accepted"] for frame in frames] == [True, False, True]
    assert frames[1]["camera_from_patient"] is None
    assert all(frame["reason"] and frame["latency_s"] > 0 for frame in frames)
    truth = np.array(json.loads(view.pose.read_text())["camera_from_patient"])
    assert np.abs(np.array(frames[2]["camera_from_patient"]) - truth)[:2, 3].max() < 20


def test_with_bodies_every_line_holds_each_of_them(replay, good, bodies):
    blank = np.full_like(good[0], 60000)
    arguments = ("--bodies", bodies / "bodies.yaml", "--labels", bodies / "seg.nii.gz")
    finished = replay(write(bodies / "bag", [good, (blank, good[1]), good]), *arguments, "--json")
    assert finished.status == 0
    frames = lines(finished)
    for frame in frames:
        assert list(frame) == [*KEYS, "bodies"]
        assert list(frame["bodies"]) == ["pelvis", "femur"]
        assert frame["bodies"]["pelvis"]["camera_from_patient"] == frame["camera_from_patient"]
    assert [frame["bodies"]["pelvis"]["accepted"] for frame in frames] == [True, False, True]
    assert not frames[1]["bodies"]["femur"]["accepted"]
    assert frames[1]["bodies"]["femur"]["camera_from_patient"] is None
    text = replay(bodies / "bag", *arguments)
    assert "accepted pelvis" in text.out and "accepted femur" in text.out


def test_a_segmentation_without_bodies_is_refused(replay, good, bodies):
    finished = replay(write(bodies / "bag", [good]), "--labels", bodies / "seg.nii.gz")
    assert finished.status == 2 and finished.out == ""
    assert "--labels belongs to --bodies" in finished.err


def test_an_unreadable_frame_among_others_is_a_rejected_frame(replay, good, tmp_path):
    finished = replay(write(tmp_path / "bag", [(good[0][:64], good[1]), good]), "--json")
    assert finished.status == 0
    first, second = lines(finished)
    assert not first["accepted"]
    assert "128 x 64" in first["reason"]
    assert second["accepted"]


def test_a_bag_of_unreadable_frames_is_unusable(replay, good, tmp_path):
    finished = replay(write(tmp_path / "bag", [(good[0][:64], good[1])] * 2), "--json")
    assert finished.status == 2
    assert finished.out == ""
    assert "none of the 2 frames" in finished.err


def test_the_status_is_1_if_no_frame_is_accepted(replay, good, tmp_path):
    finished = replay(write(tmp_path / "bag", [(np.full_like(good[0], 60000), good[1])] * 2), "--json")
    assert finished.status == 1
    assert [frame["accepted"] for frame in lines(finished)] == [False, False]


def test_a_cine_and_a_bag_of_the_same_frames_give_the_same_results(replay, view, good, tmp_path):
    frames = [good[0], np.full_like(good[0], 60000), np.roll(good[0], 2, axis=1)]
    bag = write(tmp_path / "bag", [(pixels, good[1]) for pixels in frames], "mcap")
    cine = write_cine(tmp_path / "cine.dcm", np.stack(frames), FrameTime=40.0)
    bag_run, cine_run = replay(bag, "--json"), replay(cine, "--camera", view.camera, "--json")
    assert (bag_run.status, cine_run.status) == (0, 0)
    results = [[{key: line[key] for key in KEYS[1:-1]} for line in lines(finished)] for finished in (bag_run, cine_run)]
    assert results[0] == results[1] and [result["accepted"] for result in results[1]] == [True, False, True]
    assert [list(line) for line in lines(cine_run)] == [KEYS] * 3
    assert [line["stamp_ns"] for line in lines(cine_run)] == [0, 40_000_000, 80_000_000]


def test_a_cine_without_geometry_or_with_topics_is_an_error(replay, good, tmp_path):
    cine = write_cine(tmp_path / "cine.dcm", np.stack([good[0]] * 2))
    for recording, options, message in (
        (cine, (), "none of the 2 frames can be read; the first: cine.dcm has no geometry"),
        (cine, ("--image-topic", "/carm/image_raw"), "cine.dcm is not a bag"),
    ):
        finished = replay(recording, *options, "--json")
        assert finished.status == 2 and finished.out == "" and finished.err.count("\n") == 1
        assert message in finished.err


def test_the_text_has_a_line_for_each_frame_and_a_summary(replay, good, tmp_path):
    finished = replay(write(tmp_path / "bag", [good, good]))
    assert finished.status == 0
    assert finished.out.count("accepted  ") >= 2
    assert "median latency" in finished.out


@pytest.mark.parametrize(
    ("topics", "message"),
    [
        (["--image-topic", "/other"], "/carm/image_raw"),
        (["--camera-info-topic", "/other"], "/carm/camera_info"),
        (["--image-topic", "/carm/camera_info"], "CameraInfo"),
    ],
)
def test_the_error_for_a_missing_topic_lists_the_topics_of_the_bag(replay, good, tmp_path, topics, message):
    finished = replay(write(tmp_path / "bag", [good]), *topics, "--json")
    assert finished.status == 2
    assert finished.out == ""
    assert message in finished.err


def test_a_path_that_is_not_a_bag_is_an_error(replay, tmp_path):
    for bag, message in ((tmp_path / "absent", "absent"), (tmp_path, "bag")):
        finished = replay(bag, "--json")
        assert finished.status == 2
        assert finished.out == ""
        assert message in finished.err


@pytest.fixture
def one_camera_info(good, tmp_path):
    """A bag with three images, of which only the first has a CameraInfo, as of a latched topic."""
    bag = write(tmp_path / "bag", [(np.roll(good[0], n, axis=1), good[1]) for n in range(3)])
    database = sqlite3.connect(next(bag.glob("*.db3")))
    infos = "topic_id = (SELECT id FROM topics WHERE name = '/carm/camera_info')"
    database.execute(f"DELETE FROM messages WHERE {infos} AND id NOT IN (SELECT min(id) FROM messages WHERE {infos})")
    database.commit()
    database.close()
    (bag / "metadata.yaml").unlink()
    return bag


def test_an_image_without_a_camera_info_is_a_line_and_the_count_is_a_warning(replay, one_camera_info):
    finished = replay(one_camera_info, "--json")
    assert finished.status == 0
    frames = lines(finished)
    assert [frame["accepted"] for frame in frames] == [True, False, False]
    assert all("has the stamp of this image; --camera-info latest" in frame["reason"] for frame in frames[1:])
    assert "2 of 3 images are rejected" in finished.err and "metadata.yaml is missing" in finished.err


@pytest.mark.parametrize("option", ["latest", "camera"])
def test_a_single_camera_info_or_a_given_camera_serves_all_images(replay, view, one_camera_info, option):
    finished = replay(
        one_camera_info, "--json", *(("--camera-info", "latest") if option == "latest" else ("--camera", view.camera))
    )
    assert finished.status == 0
    assert [frame["accepted"] for frame in lines(finished)] == [True] * 3
    assert "rejected" not in finished.err


def test_the_choices_of_the_options_are_those_of_the_readers():
    assert [choice.value for choice in CameraMatrixName] == [matrix.value for matrix in CameraMatrix]
    assert {choice.value for choice in CameraInfoChoiceName} == {choice.value for choice in CameraInfoChoice} - {"given"}
