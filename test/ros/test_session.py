"""What configure loads: every reason to refuse is one sentence that names the parameter or the file."""

import json

import pytest
from helpers.ros_bench import block_ct

from fluoro_reg.errors import InputError
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.ros import session
from fluoro_reg.ros.options import CTOptions, InitialOptions, NodeOptions

POSE = {"camera_from_patient": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 800], [0, 0, 0, 1]], "unit": "mm"}


@pytest.fixture
def ct(monkeypatch, tmp_path):
    """A CT that needs no reader; notes which series was asked for."""
    asked = []

    def read_ct(path, series):
        asked.append(series)
        return block_ct()

    monkeypatch.setattr(session, "read_ct", read_ct)
    return asked


def load(ct_path="somewhere", series="", initial="", **registration):
    options = NodeOptions(ct=CTOptions(ct_path, series), initial=InitialOptions(str(initial)))
    said = []
    return session.load_session(options, RegistrationOptions(**registration), said.append), said


def test_a_session_has_the_ct_and_the_start_and_says_what_was_loaded(ct, tmp_path):
    file = tmp_path / "pose.json"
    file.write_text(json.dumps(POSE))
    loaded, said = load(series="2", initial=file)
    assert ct == ["2"]
    assert loaded.tracker.initial_pose.matrix().tolist() == POSE["camera_from_patient"]
    assert said[0].startswith("CT of 16x16x16 voxels, 2x2x2 mm")
    assert "somewhere" not in "".join(said)


def test_without_a_start_the_tracker_waits_for_one(ct):
    loaded, _ = load()
    assert loaded.tracker.initial_pose is None
    assert ct == [None]


def test_no_ct_is_refused_with_the_name_of_the_parameter():
    with pytest.raises(InputError, match=r"the parameter ct\.path is empty"):
        load(ct_path="")


def test_a_ct_that_is_not_there_is_refused_without_its_folder(tmp_path):
    with pytest.raises(InputError, match="there is no CT at 'no_ct'") as refusal:
        load(ct_path=str(tmp_path / "no_ct"))
    assert str(tmp_path) not in str(refusal.value)


def test_a_malformed_pose_is_refused(ct, tmp_path):
    file = tmp_path / "pose.json"
    file.write_text(json.dumps({"camera_from_patient": [[1, 2], [3, 4]], "unit": "mm"}))
    with pytest.raises(InputError, match=r"pose\.json: 'camera_from_patient' must be four rows"):
        load(initial=file)


def test_an_unknown_method_is_refused(ct):
    with pytest.raises(InputError, match="there is no method 'magic'; choose one of"):
        load(method="magic")
