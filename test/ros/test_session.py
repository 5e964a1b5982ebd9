"""Loading the CT and the initial pose; each error is one sentence that names the parameter or the file."""

import json
import sys

import nibabel
import numpy as np
import pytest
import torch
from helpers.ros_bench import block_ct

from fluoro_reg.errors import InputError
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.registration.bodies.tracker import BodiesTracker
from fluoro_reg.registration.options import TrackingOptions
from fluoro_reg.ros import session
from fluoro_reg.ros.options import (
    BodiesOptions,
    CTOptions,
    FrameOptions,
    InitialOptions,
    LabelsOptions,
    NodeOptions,
    TfOptions,
)

POSE = {"camera_from_patient": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 800], [0, 0, 0, 1]], "unit": "mm"}


@pytest.fixture
def ct(monkeypatch, tmp_path):
    """Replace the reader; the list holds the requested series."""
    requested = []

    def read_ct(path, series):
        requested.append(series)
        return block_ct()

    monkeypatch.setattr(session, "read_ct", read_ct)
    return requested


def load(ct_path="somewhere", series="", initial="", **registration):
    options = NodeOptions(ct=CTOptions(ct_path, series), initial=InitialOptions(str(initial)))
    log = []
    return session.load_session(options, RegistrationOptions(**registration), log.append), log


def test_a_session_has_the_ct_and_the_initial_pose_and_logs_what_was_loaded(ct, tmp_path):
    file = tmp_path / "pose.json"
    file.write_text(json.dumps(POSE))
    loaded, log = load(series="2", initial=file)
    assert ct == ["2"]
    assert loaded.tracker.initial_pose.matrix().tolist() == POSE["camera_from_patient"]
    assert log[0].startswith("CT of 16x16x16 voxels, 2x2x2 mm")
    assert "somewhere" not in "".join(log)


def test_without_an_initial_pose_the_tracker_has_none(ct):
    loaded, _ = load()
    assert loaded.tracker.initial_pose is None
    assert ct == [None]


def test_an_empty_ct_path_is_an_error_that_names_the_parameter():
    with pytest.raises(InputError, match=r"the parameter ct\.path is empty"):
        load(ct_path="")


def test_a_missing_ct_is_an_error_that_does_not_quote_its_folder(tmp_path):
    with pytest.raises(InputError, match="there is no CT at 'no_ct'") as error:
        load(ct_path=str(tmp_path / "no_ct"))
    assert str(tmp_path) not in str(error.value)


def test_a_malformed_pose_is_an_error(ct, tmp_path):
    file = tmp_path / "pose.json"
    file.write_text(json.dumps({"camera_from_patient": [[1, 2], [3, 4]], "unit": "mm"}))
    with pytest.raises(InputError, match=r"pose\.json: 'camera_from_patient' must be four rows"):
        load(initial=file)


def test_a_method_may_be_a_file(ct, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("description: coarse\nstages: [{object_px: 64}]\n")
    loaded, _ = load(method=str(file))
    assert loaded.tracker.registrar.method.name == "mine"


def test_an_unknown_method_is_an_error(ct):
    with pytest.raises(InputError, match="there is no method 'magic'; choose one of"):
        load(method="magic")


BODIES = "reference: pelvis\nbodies:\n  pelvis: {}\n  L5: {labels: [1]}\n"


def load_bodies(tmp_path, content=BODIES, labels="", frames=None, tf=None, **registration):
    path = tmp_path / "bodies.yaml"
    path.write_text(content)
    options = NodeOptions(
        ct=CTOptions("somewhere"),
        bodies=BodiesOptions(str(path)),
        labels=LabelsOptions(str(labels)),
        frames=frames or FrameOptions(),
        tf=tf or TfOptions(),
    )
    return session.load_session(options, RegistrationOptions(**registration), print)


@pytest.fixture
def labels(tmp_path):
    """A segmentation in which half of the block is L5."""
    block = block_ct()
    numbers = torch.zeros(block.attenuation.shape, dtype=torch.int16)
    numbers[4:12, 4:12, 4:8] = 1
    ras_from_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    image = nibabel.Nifti1Image(numbers.numpy().transpose(2, 1, 0), ras_from_lps @ block.patient_from_voxel.numpy())
    nibabel.save(image, tmp_path / "labels.nii")
    return tmp_path / "labels.nii"


def test_a_session_with_bodies_tracks_each_of_them(ct, tmp_path, labels):
    loaded = load_bodies(tmp_path, labels=labels)
    assert isinstance(loaded.tracker, BodiesTracker)
    assert [(body.name, body.frame) for body in loaded.bodies] == [("pelvis", "pelvis"), ("L5", "L5")]


def test_without_bodies_a_segmentation_is_refused(ct):
    options = NodeOptions(ct=CTOptions("somewhere"), labels=LabelsOptions("labels.nii"))
    with pytest.raises(InputError, match=r"labels\.path belongs to bodies\.path"):
        session.load_session(options, RegistrationOptions(), print)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"tf": TfOptions(mode="anchored", fuse=True)}, r"tf\.fuse takes the patient to lie still, but the bodies"),
        (
            {"frames": FrameOptions(patient="torso")},
            "'torso', but in bodies.path the frame of the reference pelvis is 'pelvis'",
        ),
        ({"frames": FrameOptions(camera="L5")}, "the frame of L5 is 'L5', as is frames.camera"),
        ({"frames": FrameOptions(anchor="pelvis")}, "the frame of pelvis is 'pelvis', as is frames.anchor"),
        ({"content": BODIES.replace("pelvis: {}", "pelvis: {frame: /p}")}, "'/p', but names of frames begin without a slash"),
        ({"content": BODIES.replace("[1]", "[2]")}, "the body L5 has no voxels"),
        ({"labels": ""}, r"bodies\.path makes bodies of labels; set labels\.path"),
        ({"tracking": TrackingOptions(pose="filtered")}, r"tracking\.pose is filtered, but poses of several bodies"),
    ],
)
def test_what_bodies_exclude_is_refused_in_one_sentence(ct, tmp_path, labels, given, sentence):
    with pytest.raises(InputError, match=sentence):
        load_bodies(tmp_path, **{"labels": labels, **given})


def test_the_reference_may_keep_the_name_of_the_patient(ct, tmp_path, labels):
    content = BODIES.replace("pelvis: {}", "pelvis: {frame: torso}")
    assert load_bodies(tmp_path, content, labels, FrameOptions(patient="torso")).bodies[0].frame == "torso"


def test_a_missing_opencv_is_reported_when_the_node_is_configured(ct, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    load()
    options = NodeOptions(ct=CTOptions("somewhere"), undistort=True)
    with pytest.raises(InputError, match=r"fluoro_reg\[opencv\]"):
        session.load_session(options, RegistrationOptions(), print)
