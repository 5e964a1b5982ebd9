"""Evaluation of cases with bodies: every body has errors of its own, in the records, the output and a table."""

import csv
import json

import nibabel
import numpy as np

from fluoro_reg.cli.main import main
from fluoro_reg.evaluation.bodies import summarise_bodies
from fluoro_reg.evaluation.records import EvaluationRecord, read_records
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_labels

BODIES = {
    "reference": "pelvis",
    "bodies": {
        "pelvis": {"labels": [25, 77, 78]},
        "L5": {"labels": [27], "joint": {"sd_mm": 2, "sd_deg": 3}, "motion": {"mm": 1, "deg": 2}},
    },
}


def test_every_body_of_a_case_has_errors_of_its_own(phantom_folder, tmp_path, capfd):
    labels = phantom_labels(PhantomOptions(spacing_mm=(4.0, 4.0, 4.0)))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ labels.patient_from_voxel.numpy()
    nibabel.save(nibabel.Nifti1Image(labels.labels.numpy().transpose(2, 1, 0), affine), tmp_path / "seg.nii.gz")
    (tmp_path / "bodies.yaml").write_text(json.dumps(BODIES))
    files = ["--bodies", str(tmp_path / "bodies.yaml"), "--labels", str(tmp_path / "seg.nii.gz")]
    cases = str(tmp_path / "cases")
    assert main(["simulate", "--ct", str(phantom_folder), *files, "--out", cases, "--cases", "1", "--size", "192"]) == 0
    capfd.readouterr()
    out = tmp_path / "out"
    assert main(["evaluate", "--cases", cases, "--method", "lm-local", "--out", str(out), "--workers", "1", "--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert [(row["method"], row["body"]) for row in answer["bodies"]] == [("lm-local", "pelvis"), ("lm-local", "L5")]
    (record,) = read_records(out / "records.jsonl")
    assert record.bodies["pelvis"]["errors"]["mtre_mm"] < 2.0
    assert record.bodies["L5"]["errors"]["in_plane_mm"] < 2.0
    assert "relative_rotation_deg" in record.bodies["L5"]["errors"]
    assert "relative_rotation_deg" not in record.bodies["pelvis"]["errors"]
    with (out / "bodies.csv").open() as file:
        assert [row["body"] for row in csv.DictReader(file)] == ["pelvis", "L5"]


def record(**bodies):
    return EvaluationRecord("case", "lm", "ct", "", None, 0, True, "converged", "", bodies=bodies)


def test_the_summary_counts_wrong_accepted_bodies_and_bodies_without_errors():
    def entry(accepted, **errors):
        return {"accepted": accepted, "outcome": "", "reason": "", "errors": errors}

    right = {"in_plane_mm": 0.4, "mtre_mm": 1.0}
    wrong = {"in_plane_mm": 9.0, "mtre_mm": 9.5}
    records = [record(L5=entry(True, **right)), record(L5=entry(True, **wrong)), record(L5=entry(False))]
    (row,) = summarise_bodies(records)
    assert (row["n"], row["measured"], row["accepted"], row["gross_accepted"]) == (3, 2, 2, 1)
    assert row["in_plane_within_1_mm"] == 0.5 and row["median_relative_rotation_deg"] is None
    assert summarise_bodies([record()]) == []
