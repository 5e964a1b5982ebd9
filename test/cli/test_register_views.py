"""`fluoro-reg register --second-view`, or `--view` with a file: one pose of several X-rays.

Errors are found before the CT is read.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.cameras import write_camera
from fluoro_reg.formats.poses import read_pose
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.rendering.overlay import bone_volume, pose_lines

ANGLE_DEG = 75.0
CAMERA = CameraIntrinsics(width=160, height=120, fx=430.0, fy=430.0, cx=79.5, cy=59.5)  # not the size of the first X-ray


@dataclass(frozen=True)
class Second:
    """The files of a second X-ray, and its true pose."""

    file: Path
    camera_from_first: np.ndarray
    pose: RigidTransform

    def changed(self, folder: Path, change: dict[str, object]) -> Path:
        """Write view.json with other values into `folder`; None leaves a key out."""
        files = {"image": str(self.file.parent / "side.npy"), "camera": str(self.file.parent / "side_camera.json")}
        content = {**json.loads(self.file.read_text()), **files, **change}
        path = folder / "lateral.json"
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
        return path


@pytest.fixture(scope="module")
def second(view, tmp_path_factory) -> Second:
    """A view with the patient rotated by 75 degrees about the long axis through the CT's centre, without the product's code."""
    folder = tmp_path_factory.mktemp("second")
    volume = read_ct(view.ct)
    centre, angle = volume.centre_patient.numpy(), math.radians(ANGLE_DEG)
    rotation, to_centre, from_centre = np.eye(4), np.eye(4), np.eye(4)
    rotation[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    from_centre[:3, 3], to_centre[:3, 3] = centre, -centre
    first = np.array(json.loads(view.pose.read_text())["camera_from_patient"])
    side = first @ from_centre @ rotation @ to_centre
    camera_from_first = side @ np.linalg.inv(first)
    pose = RigidTransform.from_matrix(side)
    np.save(folder / "side.npy", project(make_renderer(volume, "cpu"), pose, CAMERA).numpy())
    write_camera(folder / "side_camera.json", CAMERA)
    content = {"image": "side.npy", "camera": "side_camera.json", "unit": "mm", "camera_from_first": camera_from_first.tolist()}
    (folder / "side.json").write_text(json.dumps(content))
    return Second(folder / "side.json", camera_from_first, pose)


@pytest.fixture(scope="module")
def initial(view, tmp_path_factory) -> Path:
    """An initial pose with an error of 8 mm and 2 degrees, most of it in depth."""
    angle = math.radians(2)
    step = np.eye(4)
    step[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    step[:3, 3] = [3, -2, 7]
    pose = step @ np.array(json.loads(view.pose.read_text())["camera_from_patient"])
    path = tmp_path_factory.mktemp("initial") / "initial.json"
    path.write_text(json.dumps({"camera_from_patient": pose.tolist(), "unit": "mm"}))
    return path


def errors(answer: dict, truth: Path, points_patient: torch.Tensor):
    return target_registration_errors(
        RigidTransform.from_matrix(answer["camera_from_patient"]), read_pose(truth), points_patient
    )


def points_around_centre(view) -> torch.Tensor:
    """Points at 50 mm from the CT's centre, in patient mm."""
    return read_ct(view.ct).centre_patient + 50 * torch.cat([torch.eye(3), -torch.eye(3)]).double()


def test_two_views_give_the_pose_of_the_first_camera_in_the_same_json(cli, view, second, initial):
    alone = cli("register", *view.arguments(initial=initial), "--json").json()
    finished = cli("register", *view.arguments(initial=initial), "--view", second.file, "--json")
    assert finished.status == 0, finished
    answer = finished.json()
    assert list(answer) == list(alone)
    assert {key: type(value) for key, value in answer.items()} == {key: type(value) for key, value in alone.items()}
    assert (answer["accepted"], answer["method"]) == (True, "lm-gradient-ncc")
    assert np.allclose(answer["initial_camera_from_patient"], read_pose(initial).matrix())
    assert errors(answer, view.pose, points_around_centre(view)).mtre_mm < 0.5
    local = cli("register", *view.arguments(initial=initial), "--view", second.file, "--method", "lm-local", "--json").json()
    assert (local["accepted"], local["method"]) == (True, "lm-local")
    assert local["n_renders"] < answer["n_renders"], "the method determines how each view is searched"


def test_the_text_names_the_views_and_the_one_that_rejects(cli, view, second, tmp_path):
    finished = cli("register", *view.arguments(), "--second-view", second.file)
    assert finished.status == 0
    for text in ("ACCEPTED", "2, registered together", "view 1: image.npy", "view 2: side.json, rotated by 75.0 deg"):
        assert text in finished.out
    np.save(tmp_path / "blank.npy", np.full((120, 160), 7.0, dtype=np.float32))
    blank = second.changed(tmp_path, {"image": "blank.npy"})
    finished = cli("register", *view.arguments(), "--view", second.file, "--view", blank)
    assert finished.status == 1
    assert "REJECTED" in finished.out
    assert "3, registered together" in finished.out
    assert "reason" in finished.out and "view 3: the image" in finished.out


def test_the_overlay_shows_all_views_side_by_side(cli, view, second, tmp_path):
    finished = cli("register", *view.arguments(), "--view", second.file, "--overlay", tmp_path / "overlay.png", "--json")
    assert finished.status == 0
    with Image.open(tmp_path / "overlay.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (128, 128 + 8 + 160, 3)
    side = pixels[:120, 136:]
    green = side[..., 1] - side[..., 0] > 60
    lines = pose_lines(make_renderer(bone_volume(read_ct(view.ct)), "cpu"), second.pose, CAMERA) > 0.5
    assert green.sum() > 100
    assert (green & lines).sum() > 0.9 * lines.sum()
    assert not pixels[:, 128:136].any() and not pixels[120:, 136:].any()


def test_a_second_view_reduces_the_depth_error(cli, view, tmp_path):
    """Simulated with other physics than the renderer's. A second X-ray does not change the first one."""
    kind = ("--cases", 1, "--size", 128, "--set", "oblique_fraction=0", "--json")
    for name, more in (("pair", ("--set", "second_view_deg=60")), ("single", ())):
        assert cli("simulate", "--ct", view.ct, "--out", tmp_path / name, *kind, *more).status == 0
    case, single = tmp_path / "pair" / "case_000", tmp_path / "single" / "case_000"
    assert (case / "image.png").read_bytes() == (single / "image.png").read_bytes()
    assert not (single / "view.json").exists()
    rotation = np.array(json.loads((case / "view.json").read_text())["camera_from_first"])[:3, :3]
    assert math.degrees(math.acos((np.trace(rotation) - 1) / 2)) == pytest.approx(60)
    files = {"image": case / "image.png", "camera": case / "camera.json", "initial": case / "initial.json"}
    points = torch.tensor(json.loads((case / "landmarks.json").read_text())["points_patient_mm"]).double()
    depth_mm = []
    for more in ((), ("--view", case / "view.json")):
        finished = cli("register", *view.arguments(**files), *more, "--intensity", "transmitted", "--json")
        assert finished.status == 0, finished
        depth_mm.append(errors(finished.json(), case / "truth.json", points).depth_mm)
    assert depth_mm[1] < depth_mm[0] / 2


IDENTITY = np.eye(4).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "lateral.json: missing image"),
        ({"image": "absent.png"}, "lateral.json: cannot read absent.png"),
        ({"image": 5.5}, "cannot read 5.5"),
        ({"image": ["side.npy"]}, "'image' must be of type str"),
        ({"camera": None}, "lateral.json: side.npy has no geometry"),
        ({"camera": "absent.json"}, "lateral.json: cannot read absent.json"),
        ({"camera_from_first": None}, "lateral.json lacks 'camera_from_first'"),
        ({"camera_from_first": IDENTITY[:3]}, "'camera_from_first' must be four rows"),
        ({"camera_from_first": np.diag([2.0, 2, 2, 1]).tolist()}, "'camera_from_first' in lateral.json is not rigid"),
        ({"camera_from_first": np.diag([1.0, 1, -1, 1]).tolist()}, "reflection"),
        ({"camera_from_first": np.diag([1.0, 1, float("nan"), 1]).tolist()}, "NaN"),
        ({"camera_from_first": [[10**400, 0, 0, 0], *IDENTITY[1:]]}, "infinite"),
        ({"camera_from_first": np.eye(4)[::-1].tolist()}, "last row"),
        ({"unit": None}, 'lateral.json must contain "unit": "mm"'),
        ({"unit": "m"}, 'lateral.json must contain "unit": "mm", got "m"'),
        ({"intensity": "dark"}, "'intensity' must be one of transmitted, attenuation, auto"),
        ({"frame": -1}, "'frame' must lie in 0"),
        ({"frame": 1.5}, "'frame' must be of type int"),
        ({"frame": 4}, "lateral.json: "),
        ({"fram": 1}, "unknown key 'fram'; did you mean 'frame'?"),
    ],
)
def test_an_unusable_view_file_is_an_error_before_the_ct_is_read(cli, view, second, tmp_path, change, message):
    wrong = second.changed(tmp_path, change)
    finished = cli("register", *view.arguments(ct=tmp_path / "no_ct"), "--view", wrong, "--json")
    assert (finished.status, finished.out, finished.err.count("\n")) == (2, "", 1)
    assert message in finished.err
    assert str(tmp_path) not in finished.err


@pytest.mark.parametrize(("content", "message"), [("{", "lateral.json is not valid JSON"), ("[]", "object")])
def test_a_view_file_that_is_not_a_json_object_is_an_error(cli, view, tmp_path, content, message):
    (tmp_path / "lateral.json").write_text(content)
    finished = cli("register", *view.arguments(ct=tmp_path / "no_ct"), "--view", tmp_path / "lateral.json")
    assert (finished.status, finished.out, finished.err.count("\n")) == (2, "", 1)
    assert message in finished.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "w.safetensors"], "with --second-view leave --model out"),
        (["--set", "model=w.safetensors"], "with --second-view leave --model out"),
        (["--method", "regressor-lm"], "the method regressor-lm predicts the initial pose from a single X-ray"),
        (["--method", "diffpose"], "with --second-view choose another method"),
    ],
)
def test_weights_that_predict_an_initial_pose_are_an_error(cli, view, second, tmp_path, arguments, message):
    finished = cli("register", *view.arguments(ct=tmp_path / "no_ct"), "--view", second.file, *arguments)
    assert (finished.status, finished.out, finished.err.count("\n")) == (2, "", 1)
    assert message in finished.err


def test_without_an_initial_pose_the_first_view_is_searched(cli, view, second):
    finished = cli("register", *view.arguments(initial=None), "--second-view", second.file, "--json")
    assert finished.status == 0, finished
    answer = finished.json()
    assert (answer["start"], answer["start_detail"]) == ("range", "the views ap-pa")
    assert errors(answer, view.pose, points_around_centre(view)).mtre_mm < 0.5
