"""Case folders: round trips, and errors that name the file or entry."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fluoro_reg.carm.view_pose import ap_pose, view_pose
from fluoro_reg.carm.views import carm_camera
from fluoro_reg.errors import InputError
from fluoro_reg.formats.cases import RegistrationCase, default_ct_name, find_cases, read_case, write_case
from fluoro_reg.xray.image import Intensity

POINTS = torch.tensor([[1.5, -2.25, 1 / 3], [0.0, 10.0, -400.0]], dtype=torch.float64)


@pytest.fixture
def case(tmp_path: Path) -> RegistrationCase:
    ct = tmp_path / "scans" / "ct"
    ct.mkdir(parents=True)
    folder = tmp_path / "cases" / "case_000"
    case = RegistrationCase(
        folder=folder,
        ct=ct,
        image=folder / "image.png",
        intensity=Intensity.TRANSMITTED,
        intrinsics=carm_camera(64),
        initial=ap_pose(POINTS[1], 650.0),
        truth=view_pose(POINTS[1], 12.0, 3.0, -2.0, 700.0),
        landmarks_patient=POINTS,
    )
    write_case(case, np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16)
    return case


def test_a_case_survives_a_round_trip(case: RegistrationCase) -> None:
    read = read_case(case.folder)
    assert read.name == "case_000" and read.intrinsics == case.intrinsics and read.intensity is Intensity.TRANSMITTED
    assert read.ct.resolve() == case.ct.resolve() and read.image == case.image
    assert torch.equal(read.landmarks_patient, POINTS)
    assert read.initial is not None and case.initial is not None
    torch.testing.assert_close(read.truth.matrix(), case.truth.matrix(), rtol=0, atol=1e-12)
    torch.testing.assert_close(read.initial.matrix(), case.initial.matrix(), rtol=0, atol=1e-12)


def test_the_files_are_the_documented_ones(case: RegistrationCase) -> None:
    names = {path.name for path in case.folder.iterdir()}
    assert names == {"image.png", "camera.json", "initial.json", "truth.json", "landmarks.json", "case.json"}
    content = json.loads((case.folder / "case.json").read_text())
    assert content == {"ct": "../../scans/ct", "image": "image.png", "intensity": "transmitted"}
    pixels = np.asarray(Image.open(case.image))
    assert pixels.dtype == np.uint16 and pixels[63, 63] == 4095 * 16


def test_a_ct_inside_the_case_needs_no_entry(case: RegistrationCase) -> None:
    (case.folder / "ct").mkdir()
    (case.folder / "case.json").write_text('{"image": "image.png"}')
    read = read_case(case.folder)
    assert read.ct == case.folder / "ct" and read.intensity is Intensity.AUTO


def test_the_labels_of_a_case_survive_a_round_trip(case: RegistrationCase) -> None:
    labelled = replace(case, ct_name="knee", variant="noisy", start_band_mm=(5.0, 10.0))
    write_case(labelled, np.zeros((64, 64), np.uint16))
    content = json.loads((case.folder / "case.json").read_text())
    assert (content["ct_name"], content["variant"], content["start_band_mm"]) == ("knee", "noisy", [5.0, 10.0])
    read = read_case(case.folder)
    assert (read.ct_name, read.variant, read.start_band_mm) == ("knee", "noisy", (5.0, 10.0))


@pytest.mark.parametrize(("name", "expected"), [("hip.nii.gz", "hip"), ("hip.2.mha", "hip.2"), ("scan.2020", "scan.2020")])
def test_a_ct_without_a_name_is_named_after_its_file_or_folder(tmp_path: Path, name: str, expected: str) -> None:
    if name == "scan.2020":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).touch()
    assert default_ct_name(tmp_path / name) == expected


def test_a_case_without_an_initial_pose_has_none(case: RegistrationCase) -> None:
    (case.folder / "initial.json").unlink()
    assert read_case(case.folder).initial is None


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("case.json", {"ct": "../nothing", "image": "image.png"}, "nothing, does not exist"),
        ("case.json", {"ct": "../../scans/ct"}, "path of its image in 'image'"),
        ("case.json", {"ct": 3, "image": "image.png"}, "path of its ct in 'ct'"),
        (
            "case.json",
            {"ct": "../../scans/ct", "image": "image.png", "intensity": "negative"},
            "transmitted, attenuation, auto",
        ),
        ("case.json", {"ct": "../../scans/ct", "image": "image.png", "variant": 3}, "'variant' must be a string"),
        ("case.json", {"ct": "../../scans/ct", "image": "image.png", "start_band_mm": [5]}, "'start_band_mm' must be"),
        ("landmarks.json", {"points_patient_mm": []}, "list of"),
        ("landmarks.json", {"points": [[1, 2, 3]]}, "points_patient_mm"),
        ("landmarks.json", {"points_patient_mm": [[1, 2]]}, "points_patient_mm"),
        ("landmarks.json", {"points_patient_mm": [[1, 2, True]]}, "points_patient_mm"),
        ("landmarks.json", {"points_patient_mm": [[1, 2, float("nan")]]}, "NaN"),
        ("truth.json", {"camera_from_patient": [[1]], "unit": "mm"}, "truth.json"),
    ],
)
def test_the_error_for_a_malformed_case_names_the_file_or_entry(
    case: RegistrationCase, file: str, content: dict, sentence: str
) -> None:
    (case.folder / file).write_text(json.dumps(content))
    with pytest.raises(InputError, match=sentence):
        read_case(case.folder)


@pytest.mark.parametrize("file", ["case.json", "camera.json", "truth.json", "landmarks.json"])
def test_the_error_for_a_missing_file_names_it(case: RegistrationCase, file: str) -> None:
    (case.folder / file).unlink()
    with pytest.raises(InputError, match=f"cannot read {file}"):
        read_case(case.folder)


def test_cases_are_found_in_order_and_a_case_folder_is_itself_found(case: RegistrationCase) -> None:
    root = case.folder.parent
    for name in ("case_010", "case_002"):
        (root / name).mkdir()
        (root / name / "case.json").write_text("{}")
    (root / "notes").mkdir()
    assert [path.name for path in find_cases(root)] == ["case_000", "case_002", "case_010"]
    assert find_cases(case.folder) == [case.folder]
    with pytest.raises(InputError, match=r"there is no case folder .* in notes"):
        find_cases(root / "notes")


def test_cases_are_found_in_nested_folders(case: RegistrationCase) -> None:
    assert find_cases(case.folder.parents[1]) == [case.folder]
