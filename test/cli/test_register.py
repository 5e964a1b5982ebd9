"""`fluoro-reg register` end to end on a small phantom: output and exit status."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from fluoro_reg.formats.poses import read_pose

KEYS = {
    *("accepted", "outcome", "reason", "method", "camera_from_patient", "initial_camera_from_patient", "unit", "similarity"),
    *("alternatives", "covariance", "n_renders", "elapsed_s", "device"),
}


@pytest.fixture(scope="module")
def initial(view, tmp_path_factory):
    """An initial pose with an error of 6 mm and 2 degrees."""
    pose = json.loads(view.pose.read_text())
    angle = math.radians(2)
    step = np.eye(4)
    step[:3, :3] = [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    step[:3, 3] = [4, -4, 2]
    path = tmp_path_factory.mktemp("initial") / "initial.json"
    path.write_text(json.dumps({**pose, "camera_from_patient": (step @ pose["camera_from_patient"]).tolist()}))
    return path


def test_the_accepted_result_is_a_pose_file(cli, view, initial, tmp_path):
    finished = cli("register", *view.arguments(initial=initial), "--json", "--device", "cpu")
    assert finished.status == 0, finished
    answer = finished.json()
    assert set(answer) >= KEYS
    assert (answer["accepted"], answer["outcome"], answer["unit"], answer["device"]) == (True, "converged", "mm", "cpu")
    assert len(answer["covariance"]) == 36
    decisions = {"intensity": "attenuation", "field": "whole image", "ct": "whole CT", "roi": "full"}
    assert decisions.items() <= answer["readings"].items() and isinstance(answer["readings"]["ct_cut"], bool)
    (tmp_path / "found.json").write_text(finished.out)
    found, truth = read_pose(tmp_path / "found.json"), read_pose(view.pose)
    assert np.allclose(answer["initial_camera_from_patient"], read_pose(initial).matrix().numpy())
    difference = (found.inverse() @ truth).matrix().numpy()
    assert np.abs(difference[:3, :3] - np.eye(3)).max() < math.radians(0.5)


def test_without_an_initial_pose_the_views_of_a_range_are_searched(cli, view):
    finished = cli("register", *view.arguments(initial=None), "--view", "ap", "--json")
    answer, truth = finished.json(), read_pose(view.pose)
    assert (finished.status, answer["accepted"]) == (0, True), answer["reason"]
    difference = np.array(answer["camera_from_patient"]) @ truth.inverse().matrix().numpy()
    assert np.abs(difference[:3, :3] - np.eye(3)).max() < math.radians(0.5)
    assert finished.json()["initial_camera_from_patient"] is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--view", "oblique"], "there is no range of views 'oblique'; choose one of any, ap"),
        (["--view", "ap", "--view", "any"], "only one range of views can be searched, got ap, any"),
        (["--range", "absent.yaml"], "absent.yaml"),
        (["--view", "ap", "--range", "absent.yaml"], "only one range of views"),
        (["--set", "initial.view=oblique"], "there is no range of views 'oblique'"),
    ],
)
def test_an_unknown_range_of_views_is_an_error(cli, view, arguments, message):
    finished = cli("register", *view.arguments(initial=None), *arguments)
    assert (finished.status, finished.out) == (2, "")
    assert message in finished.err


def test_the_text_shows_the_verdict_and_the_motion(cli, view, initial):
    finished = cli("register", *view.arguments(initial=initial))
    assert finished.status == 0
    assert "ACCEPTED" in finished.out
    assert "deg" in finished.out
    assert "mm in the image plane" in finished.out


def test_a_rejected_image_gives_status_1_and_a_reason(cli, view, tmp_path):
    blank = tmp_path / "blank.npy"
    np.save(blank, np.full((128, 128), 7.0, dtype=np.float32))
    finished = cli("register", *view.arguments(image=blank), "--json")
    answer = finished.json()
    assert finished.status == 1
    assert not answer["accepted"]
    assert answer["outcome"] == "rejected_image"
    assert answer["reason"]


def test_a_rejected_pose_is_still_printed(cli, view):
    finished = cli(
        "register", *view.arguments(), "--set", "gate.maximum_sd_mm=0.1", "--set", "gate.minimum_similarity=1.0", "--json"
    )
    assert finished.status == 1
    assert finished.json()["camera_from_patient"] is not None


def test_named_options_reach_the_registration(cli, view):
    finished = cli("register", *view.arguments(), "--method", "lm-local", "--roi", "box", "--saturation", "off", "--json")
    assert finished.json()["method"] == "lm-local"


def test_the_overlay_has_coloured_edges(cli, view, tmp_path):
    finished = cli("register", *view.arguments(), "--overlay", tmp_path / "overlay.png", "--json")
    assert finished.status == 0
    with Image.open(tmp_path / "overlay.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert np.ptp(pixels, axis=2).max() > 50, "the projected edges are coloured"


def test_a_method_may_be_a_file(cli, view, initial, tmp_path):
    method = tmp_path / "mine.yaml"
    method.write_text("description: coarse\nsearch: {keep: 0}\nstages: [{object_px: 64}]\n")
    answer = cli("register", *view.arguments(initial=initial), "--json", "--method", method).json()
    assert (answer["method"], answer["outcome"]) == ("mine", "converged")
    method.write_text("stages: []\n")
    refused = cli("register", *view.arguments(initial=initial), "--method", method)
    assert (refused.status, refused.out) == (2, "")
    assert "mine.yaml needs 'stages'" in refused.err


def test_a_distorted_camera_is_refused_until_undistort_is_given(cli, view, tmp_path):
    camera = json.loads(view.camera.read_text())
    distorted = tmp_path / "camera.json"
    distorted.write_text(json.dumps({**camera, "distortion_model": "plumb_bob", "d": [0.02, 0.0, 0.0, 0.0, 0.0]}))
    refused = cli("register", *view.arguments(camera=distorted))
    assert refused.status == 2 and "--undistort" in refused.err
    finished = cli("register", *view.arguments(camera=distorted), "--undistort", "--json")
    assert finished.status in (0, 1) and finished.json()["camera_from_patient"]
    assert finished.json()["camera_from_patient"] != cli("register", *view.arguments(), "--json").json()["camera_from_patient"]
    drr = cli("render", "--ct", view.ct, "--camera", distorted, "--pose", view.pose, "--out", tmp_path / "drr.png")
    assert drr.status == 0 and "distortion, which is not rendered" in drr.err
