"""Cases in which bones have moved: the motions stay within their ranges, and the files hold the true poses."""

import json
import math

import nibabel
import numpy as np
import pytest
import torch

from fluoro_reg.cli.main import main
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.formats.bags import read_bag_body_truth, read_bag_truth
from fluoro_reg.formats.bodies import bodies_from_mapping
from fluoro_reg.formats.body_truth import read_body_truths
from fluoro_reg.formats.cases import read_case
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.simulation.body_motion import BodyScene
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_labels

BODIES = {
    "reference": "pelvis",
    "bodies": {
        "pelvis": {"labels": [25, 77, 78]},
        "L5": {"labels": [27], "motion": {"mm": 2, "deg": 5}},
        "L4": {"labels": [28], "joint": {"parent": "L5"}, "motion": {"mm": 0, "deg": 0}},
    },
}


def segmentation(path):
    labels = phantom_labels(PhantomOptions(spacing_mm=(4.0, 4.0, 4.0)))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ labels.patient_from_voxel.numpy()
    nibabel.save(nibabel.Nifti1Image(labels.labels.numpy().transpose(2, 1, 0), affine), path)
    return path


def test_motions_stay_within_their_ranges_and_children_follow(phantom):
    labels = phantom_labels(PhantomOptions(spacing_mm=(4.0, 4.0, 4.0)))
    generator = torch.Generator().manual_seed(4)
    scene = BodyScene.of(bodies_from_mapping(BODIES, "bodies.yaml"), labels, phantom, generator)
    centre, view = scene.points["L5"].mean(0), RigidTransform.identity()
    turns, shifts = [], []
    for _ in range(50):
        moved = scene.draw(view, generator)
        assert torch.allclose(moved["L4"].matrix(), moved["L5"].matrix(), atol=1e-9), "L4 hangs on L5 and does not move"
        turns.append(math.degrees(float(so3.angle(moved["L5"].rotation))))
        shifts.append(float((moved["L5"].apply(centre[None])[0] - centre).norm()))
    assert 3.0 < max(turns) <= 5.0 + 1e-6 and 1.0 < max(shifts) <= 2.0 + 1e-6


def test_simulate_writes_the_true_pose_of_every_body(phantom_folder, tmp_path):
    labels = segmentation(tmp_path / "seg.nii.gz")
    (tmp_path / "bodies.yaml").write_text(json.dumps(BODIES))
    arguments = ["--ct", phantom_folder, "--bodies", tmp_path / "bodies.yaml", "--labels", labels, "--out", tmp_path / "cases"]
    assert main(["simulate", *map(str, arguments), "--cases", "2", "--size", "64", "--json"]) == 0
    case = read_case(tmp_path / "cases" / "case_001")
    assert case.bodies.samefile(tmp_path / "bodies.yaml") and case.labels.samefile(labels)
    truths = read_body_truths(case.folder / "bodies.json")
    assert set(truths) == {"pelvis", "L5", "L4"}
    assert torch.allclose(truths["pelvis"].camera_from_patient.matrix(), case.truth.matrix())
    moved = truths["L5"].camera_from_patient.matrix() - case.truth.matrix()
    assert 0 < float(moved[:3, :3].abs().max()) < 0.1
    attenuation = read_ct(case.ct)
    inside = (case.landmarks_patient - attenuation.centre_patient).abs().max()
    assert float(inside) < 250, "landmarks are points of the reference"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bodies", "bodies.yaml"], "give the segmentation with --labels SEG"),
        (["--bodies", "bodies.yaml", "--labels", "seg.nii.gz", "--crop", "bone"], "leave --crop out"),
    ],
)
def test_what_cannot_be_simulated_with_bodies_is_refused(phantom_folder, tmp_path, capfd, arguments, sentence):
    segmentation(tmp_path / "seg.nii.gz")
    (tmp_path / "bodies.yaml").write_text(json.dumps(BODIES))
    located = [str(tmp_path / value) if "." in value else value for value in arguments]
    assert main(["simulate", "--ct", str(phantom_folder), "--out", str(tmp_path / "cases"), *located]) == 2
    assert sentence in " ".join(capfd.readouterr().err.split())


def test_a_recording_of_moving_bodies_holds_their_true_poses(phantom_folder, tmp_path):
    labels = segmentation(tmp_path / "seg.nii.gz")
    (tmp_path / "bodies.yaml").write_text(json.dumps(BODIES))
    arguments = ["--ct", phantom_folder, "--bodies", tmp_path / "bodies.yaml", "--labels", labels, "--out", tmp_path / "run"]
    more = ["--bag", "--frames", "4", "--size", "64", "--set", "blank=[2]"]
    assert main(["simulate", *map(str, [*arguments, *more]), "--json"]) == 0
    truth, bodies = read_bag_truth(tmp_path / "run" / "truth.json"), read_bag_body_truth(tmp_path / "run" / "truth.json")
    assert list(truth) == list(bodies)
    assert [set(poses) for poses in bodies.values()] == [{"L5", "L4"}, {"L5", "L4"}, set(), {"L5", "L4"}]
    turns = []
    for stamp, poses in bodies.items():
        if poses:
            relative = truth[stamp].inverse() @ poses["L5"]
            turns.append(math.degrees(float(so3.angle(relative.rotation))))
            assert torch.allclose(poses["L4"].matrix(), poses["L5"].matrix(), atol=1e-9)
    assert 0 < min(turns) < max(turns) <= 5.0 + 1e-6
    assert turns[0] == max(turns) and turns[1] == pytest.approx(turns[2])  # to and fro once in four frames
