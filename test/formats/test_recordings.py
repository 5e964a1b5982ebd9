"""Recordings: a bag and a cine of the same frames give the same X-rays; times, true poses, and wrong input."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.recording_files import write_cine
from PIL import Image

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bag_frames import CameraInfoChoice
from fluoro_reg.formats.bags import BagFrame, write_bag
from fluoro_reg.formats.recordings import RecordingSource, read_recording, read_truth
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.camera_info import CameraMatrix
from fluoro_reg.xray.image import Intensity

CAMERA = CameraIntrinsics(30, 20, 120.0, 121.0, 14.5, 9.0)
STAMPS = (5_000_000_007, 5_066_666_674, 5_133_333_341)
EYE = np.eye(4).tolist()


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (3, 20, 30), dtype=np.uint16)


@pytest.fixture
def bag(frames: np.ndarray, tmp_path: Path) -> Path:
    write_bag(tmp_path / "bag", [BagFrame(stamp, f, CAMERA) for stamp, f in zip(STAMPS, frames, strict=True)])
    return tmp_path / "bag"


@pytest.mark.parametrize("intensity", [Intensity.AUTO, Intensity.TRANSMITTED, Intensity.ATTENUATION])
def test_a_bag_and_a_cine_of_the_same_frames_give_the_same_xrays(bag, frames, tmp_path, intensity) -> None:
    cine = write_cine(tmp_path / "cine.dcm", frames)
    of_bag = list(read_recording(bag, RecordingSource(intensity=intensity)))
    of_cine = list(read_recording(cine, RecordingSource(camera=CAMERA, intensity=intensity)))
    assert [frame.number for frame in of_bag] == [frame.number for frame in of_cine] == [0, 1, 2]
    for a, b, pixels in zip(of_bag, of_cine, frames, strict=True):
        for image in (a.xray(), b.xray()):
            assert np.array_equal(image.pixels.numpy(), pixels.astype(np.float32)) and image.mask.all()
            assert image.intrinsics == CAMERA and image.intensity is intensity
        assert a.file is None and b.file == cine


def test_the_storage_file_of_a_bag_is_read_as_a_bag(bag: Path) -> None:
    assert [frame.stamp_ns for frame in read_recording(next(bag.glob("*.db3")))] == list(STAMPS)


@pytest.mark.parametrize(
    ("tags", "times_ms"),
    [
        ({"FrameTime": 40.0}, (0, 40, 80)),
        ({"FrameTime": 40.0, "FrameTimeVector": [0.0, 30.0, 50.0]}, (0, 30, 80)),
        ({"FrameTimeVector": [7.0, 30.0, 50.0]}, (0, 30, 80)),
        ({"FrameTime": 40.0, "FrameTimeVector": [0.0, 0.0, 50.0]}, (0, 40, 80)),
        ({"FrameTime": 40.0, "FrameTimeVector": [0.0, 50.0]}, (0, 40, 80)),
        ({"FrameTime": 0.0, "CineRate": 25}, (0, 40, 80)),
        ({}, (0, 1000 / 15, 2000 / 15)),
    ],
)
def test_the_stamps_of_a_cine_are_its_nominal_times_from_zero(frames, tmp_path, tags, times_ms) -> None:
    cine = read_recording(write_cine(tmp_path / "cine.dcm", frames, **tags))
    assert [frame.stamp_ns for frame in cine] == [round(1e6 * time) for time in times_ms]


def test_a_single_xray_and_the_pages_of_a_tiff_are_recordings(frames, tmp_path) -> None:
    (single,) = read_recording(
        write_cine(tmp_path / "single.dcm", frames[:1], FrameTimeVector=[0.0]), RecordingSource(camera=CAMERA)
    )
    assert (single.number, single.stamp_ns) == (0, 0) and np.array_equal(single.xray().pixels.numpy(), frames[0])
    pages = [Image.fromarray(frame) for frame in frames]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    second = list(read_recording(tmp_path / "pages.tif", RecordingSource(camera=CAMERA)))[1]
    assert second.stamp_ns == 66_666_667 and np.array_equal(second.xray().pixels.numpy(), frames[1])


def test_frames_are_read_on_request_and_a_damaged_one_does_not_affect_the_others(frames, tmp_path) -> None:
    bag_frames = [BagFrame(stamp, f, CAMERA) for stamp, f in zip(STAMPS, frames, strict=True)]
    write_bag(tmp_path / "bag", [bag_frames[0], replace(bag_frames[1], pixels=frames[1, :9]), bag_frames[2]])
    first, second, third = read_recording(tmp_path / "bag")
    with pytest.raises(InputError, match=r"30 x 9 pixels.*30 x 20"):
        second.xray()
    assert [np.array_equal(frame.xray().pixels.numpy(), frames[n]) for n, frame in ((0, first), (2, third))] == [True, True]
    cine = write_cine(tmp_path / "cine.dcm", frames)
    (frame, *_) = read_recording(cine)
    with pytest.raises(InputError, match=r"no geometry .*give a camera\.json"):
        frame.xray()
    write_cine(cine, frames[::-1], DistanceSourceToDetector=1000.0, ImagerPixelSpacing=[0.4, 0.5])
    assert np.array_equal(frame.xray().pixels.numpy(), frames[2]) and frame.xray().intrinsics.fx == 2000


def test_wrong_input_is_rejected_at_once(bag, frames, tmp_path) -> None:
    cine = write_cine(tmp_path / "cine.dcm", frames)
    (tmp_path / "notes.txt").write_text("not a recording")
    (tmp_path / "empty").mkdir()
    for path, source, sentence in (
        (cine, RecordingSource(image_topic="/carm/image_raw"), "cine.dcm is not a bag.*no topics"),
        (cine, RecordingSource(camera_info_topic="/carm/camera_info"), "cine.dcm is not a bag.*no topics"),
        (cine, RecordingSource(camera_info=CameraInfoChoice.LATEST), "cine.dcm is not a bag and has no CameraInfo"),
        (cine, RecordingSource(camera_matrix=CameraMatrix.P), "cine.dcm is not a bag and has no CameraInfo"),
        (bag, RecordingSource(image_topic="/other"), "no topic /other; it has: /carm/camera_info, /carm/image_raw"),
        (tmp_path / "absent.dcm", RecordingSource(), "no recording .* at absent.dcm"),
        (tmp_path / "notes.txt", RecordingSource(), "notes.txt is neither"),
        (tmp_path / "empty", RecordingSource(), "empty is not a bag: it holds no .db3"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_recording(path, source)


@pytest.mark.parametrize(("key", "values"), [("stamp_ns", STAMPS), ("frame", (0, 1, 2))])
def test_true_poses_are_found_by_stamp_or_by_number(bag, tmp_path, key, values) -> None:
    pose = torch.eye(4, dtype=torch.float64)
    pose[2, 3] = 700.0
    rows = [{key: values[2], "camera_from_patient": pose.tolist()}, {key: values[0], "camera_from_patient": None}]
    (tmp_path / "truth.json").write_text(json.dumps({"unit": "mm", "frames": rows}))
    poses = [read_truth(tmp_path / "truth.json").pose_of(frame) for frame in read_recording(bag)]
    assert poses[:2] == [None, None] and torch.equal(poses[2].matrix(), pose)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"frame": 0, "camera_from_patient": EYE}, {"stamp_ns": 1, "camera_from_patient": EYE}], "needs 'frame'"),
        ([{"frame": 0, "camera_from_patient": EYE}] * 2, "the frame 0 twice"),
        ([{"frame": True, "camera_from_patient": EYE}], "needs 'frame'"),
        ([{"frame": 1, "camera_from_patient": EYE[:3]}], "the pose at 1"),
        ([{"camera_from_patient": EYE}], "needs 'stamp_ns'"),
        ({}, "list"),
    ],
)
def test_a_malformed_truth_is_rejected(tmp_path, rows, sentence) -> None:
    (tmp_path / "truth.json").write_text(json.dumps({"unit": "mm", "frames": rows}))
    with pytest.raises(InputError, match=sentence):
        read_truth(tmp_path / "truth.json")
