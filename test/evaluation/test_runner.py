"""The runner: errors are those of the metrics, failures are records, and a continued run computes only missing records."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.evaluation_cases import METHODS, without_times

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation import worker as worker_module
from fluoro_reg.evaluation.engines.local import SerialEngine
from fluoro_reg.evaluation.plan import plan_cases
from fluoro_reg.evaluation.records import EvaluationRecord
from fluoro_reg.evaluation.run_folder import folder_lock
from fluoro_reg.evaluation.runner import EvaluationResult, evaluate, read_evaluation
from fluoro_reg.evaluation.worker import WorkerSettings
from fluoro_reg.formats.cases import read_case
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.regressor.checkpoint import save_regressor
from fluoro_reg.regressor.network import PoseRegressor, RegressorOptions
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import read_xray

SETTINGS = WorkerSettings(RegistrationOptions(seed=3))


def run(
    cases: Path, folder: Path, methods: list[str] = METHODS[:1], settings: WorkerSettings = SETTINGS, **options
) -> EvaluationResult:
    return evaluate(folder, plan_cases([cases], options.get("limit")), methods, settings, SerialEngine())


@pytest.fixture
def cases(small_cases: Path, tmp_path: Path) -> Path:
    """A copy of the cases that tests may modify."""
    for folder in small_cases.iterdir():
        shutil.copytree(folder, tmp_path / "cases" / folder.name)
        content = json.loads((folder / "case.json").read_text())
        content["ct"] = str((folder / content["ct"]).resolve())
        (tmp_path / "cases" / folder.name / "case.json").write_text(json.dumps(content))
    return tmp_path / "cases"


def test_a_record_equals_a_registration_by_hand(cases: Path, tmp_path: Path) -> None:
    (record,) = run(cases, tmp_path / "out", limit=1).records
    case = read_case(cases / "case_000")
    options = replace(SETTINGS.registration, method="lm-local", seed=record.seed)
    result = Registrar(read_ct(case.ct), options).register(read_xray(case.image, case.intrinsics, case.intensity), case.initial)
    assert result.camera_from_patient is not None and result.accepted and record.accepted
    found, truth = (pose.apply(case.landmarks_patient) for pose in (result.camera_from_patient, case.truth))
    assert record.errors["mtre_mm"] == pytest.approx((found - truth).norm(dim=1).mean().item(), abs=1e-9)
    assert record.errors["depth_mm"] == pytest.approx((found - truth)[:, 2].abs().mean().item(), abs=1e-9)
    assert torch.allclose(torch.tensor(record.camera_from_patient, dtype=torch.float64), result.camera_from_patient.matrix())
    assert set(record.errors) >= {
        "in_plane_mm",
        "mpd_mm",
        "mrpd_mm",
        "diffpose_scaled_mrpe",
        "double_geodesic_mm",
        "rotation_deg",
    }
    assert 3 <= record.start_mtre_mm <= 6 and record.start_band_mm == (3.0, 6.0) and record.variant == "standard"
    assert (record.n_renders, record.warm) == (result.n_renders, False)


def test_the_record_of_a_broken_case_states_the_error(cases: Path, tmp_path: Path) -> None:
    (cases / "case_000" / "truth.json").write_text("{")
    (cases / "case_001" / "image.png").write_bytes(b"not an image")
    (cases / "case_002" / "initial.json").unlink()
    records = run(cases, tmp_path / "out").records
    assert [(record.outcome, record.accepted) for record in records[:3]] == [("failed", False)] * 3
    assert "initial.json" in records[2].reason
    assert "truth.json" in records[0].reason and "image.png" in records[1].reason
    assert records[1].variant == "noisy" and records[1].start_mtre_mm is not None, "the readable properties are recorded"
    assert records[3].accepted, "the others are registered"


def test_an_unexpected_exception_is_recorded_without_its_message(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("patient Smith")

    monkeypatch.setattr(worker_module, "read_xray", fail)
    (record,) = run(cases, tmp_path / "out", limit=1).records
    assert record.failed and "ZeroDivisionError in test_runner.py" in record.reason and "Smith" not in record.reason


def test_without_detector_distance_there_are_only_3d_errors(cases: Path, tmp_path: Path) -> None:
    camera = cases / "case_000" / "camera.json"
    camera.write_text(json.dumps({**json.loads(camera.read_text()), "source_to_detector_mm": None}))
    (record,) = run(cases, tmp_path / "out", limit=1).records
    assert {"mtre_mm", "depth_mm"} <= set(record.errors) and "mpd_mm" not in record.errors


def test_a_given_intensity_overrides_that_of_the_cases(cases: Path, tmp_path: Path) -> None:
    assert [record.intensity for record in run(cases, tmp_path / "one", limit=1).records] == ["transmitted"]
    inverted = replace(SETTINGS, intensity=Intensity.ATTENUATION)
    assert [record.intensity for record in run(cases, tmp_path / "two", settings=inverted, limit=1).records] == ["attenuation"]


def test_methods_and_cases_can_be_added_without_computing_anything_twice(cases: Path, tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    assert run(cases, tmp_path / "out", limit=2).computed == 2
    before = (tmp_path / "out" / "records.jsonl").read_bytes()
    more = evaluate(
        tmp_path / "out",
        plan_cases([cases]),
        METHODS,
        SETTINGS,
        SerialEngine(),
        lambda done, total: reported.append((done, total)),
    )
    assert more.computed == 6 and reported == [(done, 8) for done in range(2, 9)]
    assert (tmp_path / "out" / "records.jsonl").read_bytes().startswith(before)
    assert run(cases, tmp_path / "out", METHODS).computed == 0
    assert [record.key for record in more.records] == [(f"cases/case_00{n}", method) for n in range(4) for method in METHODS]
    at_once = run(cases, tmp_path / "at_once", METHODS)
    assert without_times(tmp_path / "out" / "records.jsonl") == without_times(tmp_path / "at_once" / "records.jsonl")
    assert len(more.run.machines) == len(at_once.run.machines) == 1


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (WorkerSettings(RegistrationOptions(seed=4)), "seed 3, now it is 4"),
        (WorkerSettings(RegistrationOptions(seed=3, roi="box")), "roi auto, now it is box"),
        (replace(SETTINGS, intensity=Intensity.AUTO), "intensity None, now it is auto"),
    ],
)
def test_other_settings_are_rejected(cases: Path, tmp_path: Path, settings: WorkerSettings, what: str) -> None:
    run(cases, tmp_path / "out", limit=1)
    with pytest.raises(InputError, match=what):
        run(cases, tmp_path / "out", settings=settings, limit=1)


def test_a_changed_case_or_method_is_rejected(cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(cases, tmp_path / "out", limit=1)
    content = json.loads((tmp_path / "out" / "run.json").read_text())
    assert content["methods"]["lm-local"]["stages"][0]["similarity"]["type"] == "GradientNCC"
    content["methods"]["lm-local"]["stages"][0]["similarity"]["type"] = "PatchNCC"
    (tmp_path / "out" / "run.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="method lm-local has changed"):
        run(cases, tmp_path / "out", limit=1)
    run(cases, tmp_path / "two", limit=1)
    shutil.copy(cases / "case_001" / "initial.json", cases / "case_000" / "initial.json")
    with pytest.raises(InputError, match="cases/case_000 has changed"):
        run(cases, tmp_path / "two", limit=1)


def test_weights_replace_initial_poses_and_are_identified_by_content(cases: Path, tmp_path: Path) -> None:
    case, weights = read_case(cases / "case_000"), tmp_path / "weights.safetensors"
    volume = read_ct(case.ct)
    (cases / "case_000" / "initial.json").unlink()

    def save(notes: dict) -> None:
        torch.manual_seed(1)
        network = PoseRegressor(RegressorOptions(), ReferenceView(case.truth, volume.centre_patient, case.intrinsics))
        save_regressor(weights, network, volume.fingerprint, notes)

    save({})
    settings = WorkerSettings(RegistrationOptions(seed=3, model=str(weights)))
    (record,) = run(cases, tmp_path / "out", ["regressor-lm"], settings, limit=1).records
    assert record.outcome not in ("failed", "no_start") and record.camera_from_patient is not None
    content = (tmp_path / "out" / "run.json").read_text()
    assert "weights.safetensors, SHA-256" in content and str(tmp_path) not in content
    save({"trained": "again"})
    with pytest.raises(InputError, match=r"computed with model weights\.safetensors"):
        run(cases, tmp_path / "out", ["regressor-lm"], settings, limit=1)
    with pytest.raises(InputError, match="needs weights"):
        run(cases, tmp_path / "two", ["regressor-lm"], limit=1)


def test_methods_get_either_weights_or_an_initial_pose(cases: Path, tmp_path: Path) -> None:
    """Weights do not affect methods that need an initial pose, and the initial pose does not affect methods with weights."""
    case, weights = read_case(cases / "case_000"), tmp_path / "weights.safetensors"
    volume = read_ct(case.ct)
    torch.manual_seed(1)
    network = PoseRegressor(RegressorOptions(), ReferenceView(case.truth, volume.centre_patient, case.intrinsics))
    save_regressor(weights, network, volume.fingerprint, {})
    both = WorkerSettings(RegistrationOptions(seed=3, model=str(weights)))
    given, predicted = run(cases, tmp_path / "both", ["lm-gradient-ncc", "regressor-lm"], both, limit=1).records
    (alone,) = run(cases, tmp_path / "alone", ["lm-gradient-ncc"], limit=1).records
    assert (given.camera_from_patient, given.n_renders) == (alone.camera_from_patient, alone.n_renders)
    (cases / "case_000" / "initial.json").unlink()
    (again,) = run(cases, tmp_path / "again", ["regressor-lm"], both, limit=1).records
    assert (predicted.camera_from_patient, predicted.n_renders) == (again.camera_from_patient, again.n_renders)


def test_folders_with_other_content_are_left_unchanged(cases: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "records.jsonl").write_text("x")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"program": "another"}')
    for name, what in (
        ("mine", "thesis.tex"),
        ("file", "is a file"),
        ("records", "without run.json"),
        ("run", "not written by"),
    ):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InputError, match=what):
            run(cases, tmp_path / name, limit=1)
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(InputError, match="cannot write into out"):
        run(cases, tmp_path / "file" / "out", limit=1)


def test_two_runs_cannot_write_the_same_folder(cases: Path, tmp_path: Path) -> None:
    with folder_lock(tmp_path / "out"), pytest.raises(InputError, match="another evaluation is running"):
        run(cases, tmp_path / "out", limit=1)
    assert run(cases, tmp_path / "out", limit=1).computed == 1


def test_a_report_needs_records(cases: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no evaluation in out"):
        read_evaluation(tmp_path / "out")
    computed = run(cases, tmp_path / "out", limit=1)
    again = read_evaluation(tmp_path / "out")
    assert again.records == [EvaluationRecord.from_line(record.to_line()) for record in computed.records]
    assert (
        again.run == computed.run and again.run.case_folder(tmp_path / "out", "cases/case_000").resolve() == cases / "case_000"
    )
    (tmp_path / "out" / "records.jsonl").write_bytes(b"")
    with pytest.raises(InputError, match="no records yet"):
        read_evaluation(tmp_path / "out")
