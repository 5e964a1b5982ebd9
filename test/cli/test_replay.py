"""`fluoro-reg replay` on small bags whose true poses are known."""

import json

import numpy as np
import pytest
from helpers.recording_files import write_cine

from fluoro_reg.formats.bags import FIRST_STAMP_NS, BagFrame, write_bag
from fluoro_reg.formats.cameras import read_camera
from fluoro_reg.geometry import CameraIntrinsics

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
def test_every_frame_is_one_line_and_only_accepted_ones_have_a_pose(replay, view, good, tmp_path, storage):
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


def test_a_bag_in_which_nothing_is_accepted_ends_with_1(replay, good, tmp_path):
    finished = replay(write(tmp_path / "bag", [(np.full_like(good[0], 60000), good[1])] * 2), "--json")
    assert finished.status == 1
    assert [frame["accepted"] for frame in lines(finished)] == [False, False]


def test_a_cine_of_the_same_frames_gives_the_same_answers(replay, view, good, tmp_path):
    frames = [good[0], np.full_like(good[0], 60000), np.roll(good[0], 2, axis=1)]
    bag = write(tmp_path / "bag", [(pixels, good[1]) for pixels in frames], "mcap")
    cine = write_cine(tmp_path / "cine.dcm", np.stack(frames), FrameTime=40.0)
    of_bag, of_cine = replay(bag, "--json"), replay(cine, "--camera", view.camera, "--json")
    assert (of_bag.status, of_cine.status) == (0, 0)
    answers = [[{key: line[key] for key in KEYS[1:-1]} for line in lines(finished)] for finished in (of_bag, of_cine)]
    assert answers[0] == answers[1] and [answer["accepted"] for answer in answers[1]] == [True, False, True]
    assert [list(line) for line in lines(of_cine)] == [KEYS] * 3
    assert [line["stamp_ns"] for line in lines(of_cine)] == [0, 40_000_000, 80_000_000]


def test_a_cine_without_geometry_or_with_topics_and_a_bag_with_a_camera_are_refused(replay, view, good, tmp_path):
    cine = write_cine(tmp_path / "cine.dcm", np.stack([good[0]] * 2))
    bag = write(tmp_path / "bag", [good])
    for recording, options, said in (
        (cine, (), "none of the 2 frames can be read; the first: cine.dcm has no geometry"),
        (cine, ("--image-topic", "/carm/image_raw"), "cine.dcm is no bag"),
        (bag, ("--camera", view.camera), "bag is a bag"),
    ):
        finished = replay(recording, *options, "--json")
        assert finished.status == 2 and finished.out == "" and finished.err.count("\n") == 1
        assert said in finished.err


def test_people_get_a_line_a_frame_and_a_summary(replay, good, tmp_path):
    finished = replay(write(tmp_path / "bag", [good, good]))
    assert finished.status == 0
    assert finished.out.count("accepted  ") >= 2
    assert "median latency" in finished.out


@pytest.mark.parametrize(
    ("topics", "said"),
    [
        (["--image-topic", "/other"], "/carm/image_raw"),
        (["--camera-info-topic", "/other"], "/carm/camera_info"),
        (["--image-topic", "/carm/camera_info"], "CameraInfo"),
    ],
)
def test_topics_that_are_not_there_are_refused_with_those_that_are(replay, good, tmp_path, topics, said):
    finished = replay(write(tmp_path / "bag", [good]), *topics, "--json")
    assert finished.status == 2
    assert finished.out == ""
    assert said in finished.err


def test_a_bag_that_is_none(replay, tmp_path):
    for bag, said in ((tmp_path / "absent", "absent"), (tmp_path, "bag")):
        finished = replay(bag, "--json")
        assert finished.status == 2
        assert finished.out == ""
        assert said in finished.err
