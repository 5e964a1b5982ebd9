"""The demo end to end, with a node, a player and a listener as real processes; and its errors."""

import importlib.util
import json

import pytest
import yaml

SUMMARY = {
    *("frames", "accepted", "rejected", "median_mtre_mm", "max_mtre_mm", "median_latency_s", "p99_latency_s"),
    *("tf_received", "device"),
}

needs_ros = pytest.mark.skipif(
    importlib.util.find_spec("rclpy") is None, reason="no ROS 2: scripts/bootstrap.sh installs it as wheels, or source one"
)


@pytest.mark.ros
@pytest.mark.slow
@needs_ros
def test_the_node_predicts_the_initial_pose_of_the_default_phantom(cli, tmp_path):
    """The package has weights for the default phantom, so that the node needs only the CT."""
    out = tmp_path / "demo"
    run = cli("demo", "--out", out, "--frames", "6", "--json")
    assert run.status == 0, run.err
    assert (run.json()["accepted"], run.json()["rejected"]) == (3, 3)
    parameters = yaml.safe_load((out / "node.yaml").read_text())["registration_node"]["ros__parameters"]
    assert parameters["model"] == "phantom_regressor.safetensors" and "initial.path" not in parameters
    assert "registration_node without an initial pose" in run.err
    assert "predicted from the image, with an mTRE of" in (out / "report.html").read_text()


@pytest.mark.ros
@pytest.mark.slow
@needs_ros
def test_the_demo_end_to_end(cli, tmp_path):
    out = tmp_path / "demo"
    run = cli("demo", "--out", out, "--frames", "6", "--json", "--set", "phantom.spacing_mm=[3.0,3.0,3.0]")
    assert run.status == 0, run.err
    content = run.json()
    assert set(content) == SUMMARY
    assert content == json.loads((out / "summary.json").read_text())
    assert (content["frames"], content["accepted"], content["rejected"], content["tf_received"]) == (6, 3, 3, 3)
    assert content["median_mtre_mm"] < 1
    assert content["device"] == "cpu"
    truth = json.loads((out / "recording" / "truth.json").read_text())["frames"]
    frames = json.loads((out / "frames.json").read_text())["frames"]
    assert [frame["stamp_ns"] for frame in frames] == [frame["stamp_ns"] for frame in truth]
    for frame, true in zip(frames, truth, strict=True):
        assert frame["accepted"] == (true["camera_from_patient"] is not None)
        assert frame["reason"]
    assert run.err.count("accepted") == 3 + 1  # one line for each accepted frame, and the summary
    report = (out / "report.html").read_text()
    assert "The patient is on tf2: 3 of 6 frames registered, 3 blank frames rejected" in report
    settings = yaml.safe_load((out / "configuration.yaml").read_text())
    assert settings["recording"]["frames"] == 6
    assert "given, with an mTRE of 10.0 mm" in report
    assert str(tmp_path) not in report + (out / "node.yaml").read_text() + (out / "demo.json").read_text()


@pytest.mark.ros
@pytest.mark.slow
@needs_ros
def test_every_bone_has_a_frame_of_its_own(cli, tmp_path):
    out = tmp_path / "demo"
    run = cli("demo", "--out", out, "--frames", "6", "--json", "--bodies", "--set", "phantom.spacing_mm=[3.0,3.0,3.0]")
    assert run.status == 0, run.err
    bodies = run.json()["bodies"]
    assert list(bodies) == ["pelvis", "femur_left", "femur_right", "L5"]
    for name, body in bodies.items():
        assert body["accepted"] == body["tf_received"] > 0, name
        assert body["max_in_plane_mm"] < 1.0, name
    assert "Bones that move on their own" in (out / "report.html").read_text()


@needs_ros
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "registration.method=best"], "there is no method 'best'"),
        (["--set", "recording.blank=[0]"], "recording.blank must not contain frame 0"),
        (["--set", "registration.gate.minimum_similarty=0.2"], "did you mean"),
        (["--frames", "3"], "--frames"),
    ],
)
def test_unusable_settings_are_an_error_before_any_work(cli, tmp_path, arguments, message):
    run = cli("demo", "--out", tmp_path / "demo", *arguments)
    assert (run.status, run.out) == (2, "")
    assert message in run.err
    assert not (tmp_path / "demo").exists()


@needs_ros
@pytest.mark.parametrize("name", ["thesis.txt", "report.html"])
def test_a_folder_with_other_files_is_not_touched(cli, tmp_path, name):
    (tmp_path / name).write_text("mine")
    run = cli("demo", "--out", tmp_path)
    assert (run.status, run.out) == (2, "")
    assert "contains files that no demo wrote" in run.err
    assert (tmp_path / name).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_earlier_demo_is_replaced(tmp_path):
    from fluoro_reg.demo.files import prepare_folder
    from fluoro_reg.demo.scene import DemoOptions

    prepare_folder(tmp_path, DemoOptions())
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "slice_0001.dcm").write_bytes(b"old")
    (tmp_path / "report.html").write_text("old")
    prepare_folder(tmp_path, DemoOptions())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["configuration.yaml", "demo.json"]


def test_without_ros_the_error_says_how_to_install_it(cli, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "rclpy" else found(name, *rest))
    run = cli("demo", "--out", tmp_path / "demo")
    assert (run.status, run.out) == (2, "")
    assert "this Python has no rclpy; run 'bash scripts/demo.sh'" in run.err
