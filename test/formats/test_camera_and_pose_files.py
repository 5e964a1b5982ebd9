"""camera.json and pose.json: exact round trips, and a clear error for each kind of problem."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fluoro_reg.errors import InputError
from fluoro_reg.formats.cameras import read_camera, write_camera
from fluoro_reg.formats.landmarks import read_landmarks
from fluoro_reg.formats.poses import read_pose, write_pose
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, so3

CAMERA = {"width": 256, "height": 200, "k": [1020.0, 0, 127.5, 0, 1000.0, 99.5, 0, 0, 1], "source_to_detector_mm": 1020.0}
POSE = {"camera_from_patient": [[1, 0, 0, 5], [0, 0, -1, 6], [0, 1, 0, 700], [0, 0, 0, 1]], "unit": "mm"}


def write_file(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_the_documented_camera_is_read(tmp_path: Path) -> None:
    expected = CameraIntrinsics(256, 200, 1020.0, 1000.0, 127.5, 99.5, 1020.0)
    assert read_camera(write_file(tmp_path, "camera.json", CAMERA)) == expected


@pytest.mark.parametrize("distance", [1020.25, None])
def test_a_camera_survives_a_round_trip(tmp_path: Path, distance: float | None) -> None:
    camera = CameraIntrinsics(640, 480, 1234.5678901234567, 1100.1, 319.25, -7.5, distance)
    write_camera(tmp_path / "camera.json", camera)
    assert read_camera(tmp_path / "camera.json") == camera


def test_the_source_to_detector_distance_is_optional(tmp_path: Path) -> None:
    content = {key: value for key, value in CAMERA.items() if key != "source_to_detector_mm"}
    assert read_camera(write_file(tmp_path, "camera.json", content)).source_to_detector_mm is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"width": 256.5}, "width"),
        ({"width": True}, "width"),
        ({"height": -4}, "height"),
        ({"height": None}, "height"),
        ({"k": [1, 2, 3]}, "'k'"),
        ({"k": [[1020, 0, 1], [0, 1020, 1], [0, 0, 1]]}, "'k'"),
        ({"k": ["1020", 0, 1, 0, 1020, 1, 0, 0, 1]}, "'k'"),
        ({"k": [0, 0, 127.5, 0, 1020, 127.5, 0, 0, 1]}, "focal"),
        ({"k": [float("nan"), 0, 127.5, 0, 1020, 127.5, 0, 0, 1]}, "finite"),
        ({"k": [1020, 3, 127.5, 0, 1020, 127.5, 0, 0, 1]}, "skew"),
        ({"k": [10**400, 0, 127.5, 0, 1020, 127.5, 0, 0, 1]}, "camera.json"),
        ({"source_to_detector_mm": 0}, "source_to_detector_mm"),
        ({"source_to_detector_mm": "1 m"}, "source_to_detector_mm"),
    ],
)
def test_the_error_for_a_malformed_camera_names_the_entry(tmp_path: Path, change: dict, sentence: str) -> None:
    path = write_file(tmp_path, "camera.json", {**CAMERA, **change})
    with pytest.raises(InputError, match=sentence) as caught:
        read_camera(path)
    assert str(caught.value).startswith("camera.json") and str(tmp_path) not in str(caught.value)


def test_a_pose_survives_a_round_trip(tmp_path: Path) -> None:
    rotation = so3.exp(torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64))
    pose = RigidTransform(rotation, torch.tensor([1 / 3, -700.123456789, 1e-9], dtype=torch.float64))
    write_pose(tmp_path / "pose.json", pose)
    torch.testing.assert_close(read_pose(tmp_path / "pose.json").matrix(), pose.matrix(), rtol=0, atol=1e-13)


def test_the_output_of_register_is_a_pose_file(tmp_path: Path) -> None:
    path = write_file(tmp_path, "result.json", {"accepted": True, **POSE, "similarity": 0.9})
    assert read_pose(path).translation.tolist() == [5.0, 6.0, 700.0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"unit": "m"}, '"m"'),
        ({"unit": None}, "null"),
        ({"camera_from_patient": None}, "four rows"),
        ({"camera_from_patient": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}, "four rows"),
        ({"camera_from_patient": [*POSE["camera_from_patient"][:3], [0, 0, 0, "1"]]}, "four numbers"),
        ({"camera_from_patient": [[1, 0, 0, float("inf")], *POSE["camera_from_patient"][1:]]}, "infinite"),
        ({"camera_from_patient": [[-1, 0, 0, 5], *POSE["camera_from_patient"][1:]]}, "reflection"),
        ({"camera_from_patient": [[2, 0, 0, 5], *POSE["camera_from_patient"][1:]]}, "not rigid"),
        ({"camera_from_patient": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 6, 7, 1]]}, "transposed"),
    ],
)
def test_the_error_for_a_malformed_pose_gives_the_reason(tmp_path: Path, change: dict, sentence: str) -> None:
    path = write_file(tmp_path, "initial.json", {**POSE, **change})
    with pytest.raises(InputError, match=sentence) as caught:
        read_pose(path)
    assert "initial.json" in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_a_pose_file_without_a_matrix_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks 'camera_from_patient'"):
        read_pose(write_file(tmp_path, "pose.json", {"unit": "mm"}))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("{", "line 1"), ("", "line 1"), ("[1, 2]", "a list"), ("3", "a number"), ("[" * 100000, "not valid JSON")],
)
def test_a_file_that_is_not_a_json_object_is_rejected(tmp_path: Path, content: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_pose(write_file(tmp_path, "pose.json", content))


def test_a_binary_or_missing_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "pose.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not text"):
        read_pose(tmp_path / "pose.json")
    with pytest.raises(InputError, match=r"cannot read none.json: No such file"):
        read_pose(tmp_path / "none.json")


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_pose(tmp_path / "pose.json", RigidTransform(torch.eye(3).double(), torch.full((3,), torch.nan).double()))


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_whole_number_that_no_float_holds_is_infinite(tmp_path, digits):
    path = tmp_path / "landmarks.json"
    path.write_text('{"points_patient_mm": [[' + "1" * digits + ", 0, 0]]}")
    with pytest.raises(InputError, match="contains NaN or infinite coordinates"):
        read_landmarks(path)
