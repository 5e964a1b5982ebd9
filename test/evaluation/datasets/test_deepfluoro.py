"""Export of DeepFluoro: landmarks, spots in the images and the rendered CT must agree in the frames of this package."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("h5py", reason="needs the extra 'datasets'")
import h5py
from helpers.dataset_files import COLUMNS, EXTRINSIC, HARDNESS, NAMES, ROWS, SOURCE_TO_DETECTOR, SPOTS, write_deepfluoro

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.datasets import DeepFluoroOptions, InitialPoseOptions, cases_from_deepfluoro
from fluoro_reg.evaluation.datasets.projective import convert_view
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.cases import RegistrationCase, find_cases, read_case
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.rendering import make_renderer, project

BORDER = 4
OPTIONS = DeepFluoroOptions(specimens=("17-1882",), border_px=BORDER)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("deepfluoro") / "small.h5"
    write_deepfluoro(path)
    return path


@pytest.fixture(scope="module")
def cases(file: Path) -> dict[str, RegistrationCase]:
    out = file.parent / "cases"
    cases_from_deepfluoro(file, out, OPTIONS)
    return {case.name.split("_")[1]: case for case in map(read_case, find_cases(out))}


def attenuation(case: RegistrationCase) -> np.ndarray:
    return -np.log(np.maximum(np.asarray(Image.open(case.image)).astype(float), 1) / 65535)


def rendered(case: RegistrationCase, pose: RigidTransform) -> np.ndarray:
    return project(make_renderer(read_ct(case.ct), "cpu"), pose, case.intrinsics).squeeze().numpy()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_every_view_is_exported_as_a_case(cases: dict[str, RegistrationCase]) -> None:
    assert set(cases) == set(SPOTS)
    case = cases["000"]
    assert (case.intrinsics.width, case.intrinsics.height) == (COLUMNS - 2 * BORDER, ROWS - 2 * BORDER)
    assert case.intrinsics.source_to_detector_mm == pytest.approx(SOURCE_TO_DETECTOR, rel=1e-6)
    assert case.intrinsics.fx == pytest.approx(SOURCE_TO_DETECTOR / 2.9) and case.intensity.value == "transmitted"
    assert len(case.landmarks_patient) == len(NAMES)
    assert case.ct.resolve() == cases["003"].ct.resolve()


@pytest.mark.parametrize("view", SPOTS)
def test_landmarks_project_to_their_spots(cases: dict[str, RegistrationCase], view: str) -> None:
    """In the exported image, rotated or not, the spot lies where the true pose projects its landmark."""
    case = cases[view]
    point = case.landmarks_patient[sorted(NAMES).index(SPOTS[view])]
    u, v = case.intrinsics.project(case.truth.apply(point[None]))[0].tolist()
    added = attenuation(case) - HARDNESS * rendered(case, case.truth)
    weight = np.clip(added - np.median(added) - 0.1, 0, None)
    row, column = np.mgrid[: case.intrinsics.height, : case.intrinsics.width]
    assert weight.max() > 0.3
    assert (np.sum(column * weight) / weight.sum(), np.sum(row * weight) / weight.sum()) == pytest.approx((u, v), abs=0.1)


@pytest.mark.parametrize("view", SPOTS)
def test_the_ct_rendered_at_the_true_pose_matches_the_image(cases: dict[str, RegistrationCase], view: str) -> None:
    case = cases[view]
    image, at_truth = attenuation(case), rendered(case, case.truth)
    assert correlation(at_truth, image) > 0.99
    assert case.initial is not None
    assert correlation(rendered(case, case.initial), image) < 0.98
    assert correlation(at_truth[:, ::-1], image) < 0.9 and correlation(at_truth[::-1], image) < 0.9


def test_upside_down_images_are_rotated_head_up(cases: dict[str, RegistrationCase]) -> None:
    """The direction to the patient's head is up in the image: v decreases."""
    for case in cases.values():
        middle = case.landmarks_patient.mean(0)
        head = middle + torch.tensor([0, 0, 50.0], dtype=torch.float64)
        v = case.intrinsics.project(case.truth.apply(torch.stack([middle, head])))[:, 1]
        assert v[1] < v[0] - 50 / 3.1


def test_published_numbers_of_the_original_file() -> None:
    """Left femoral head and left femur pose of 17-1882, view 000, with proj-params as printed in public issues.

    The landmark lies 753.9 mm in front of the source and projects to (1405.3, 1118.7), in the mirrored image to 1535 - 1405.3.
    """
    k = np.array([[-5257.732, 0, 767.5], [0, -5257.732, 767.5], [0, 0, 1]])
    cam_to_volume = np.array(
        [
            [0.16417126, -0.137650, 0.9767806, -124.5839],
            [-0.016588, -0.990461, -0.136789, 191.90346],
            [0.9862925, 0.0062534, -0.164888, -848.7315],
            [0, 0, 0, 1],
        ]
    )
    pixels = np.zeros((1536, 1536), np.float32)
    view = convert_view(pixels, k, EXTRINSIC @ np.linalg.inv(cam_to_volume), (0.194, 0.194), "view 000")
    at = view.camera_from_patient.apply(torch.tensor([[93.2263, 37.9197, -941.5]], dtype=torch.float64))
    assert at[0, 2].item() == pytest.approx(753.9, abs=0.05)
    assert view.intrinsics.project(at)[0].tolist() == pytest.approx([1535 - 1405.3, 1118.7], abs=0.1)
    assert view.intrinsics.source_to_detector_mm == pytest.approx(1020.0, abs=1e-3)


def test_focal_lengths_of_different_signs_are_rejected() -> None:
    with pytest.raises(InputError, match=r"focal lengths of view 1 must have the same sign, got -300\.0 and 310\.0 px"):
        convert_view(np.zeros((4, 5), np.float32), np.diag([-300.0, 310, 1]), np.eye(4), (1.0, 1.0), "view 1")


def test_initial_poses_lie_in_their_band_and_do_not_depend_on_what_else_is_exported(
    file: Path, cases: dict[str, RegistrationCase], tmp_path: Path
) -> None:
    for case in cases.values():
        assert case.initial is not None
        assert 10 <= target_registration_errors(case.initial, case.truth, case.landmarks_patient).mtre_mm <= 25
    written = cases_from_deepfluoro(file, tmp_path / "some", DeepFluoroOptions(("17-1882",), doubtful=False, border_px=BORDER))
    assert [case.name for case in written] == ["17-1882_000", "17-1882_002"]
    again, other = read_case(written[1]), cases["002"]
    assert again.initial is not None and other.initial is not None
    torch.testing.assert_close(again.initial.matrix(), other.initial.matrix(), rtol=0, atol=0)
    start = InitialPoseOptions(start_mm=(3.0, 4.0), seed=5)
    (first, *_) = cases_from_deepfluoro(file, tmp_path / "near", DeepFluoroOptions(("17-1882",), border_px=0, start=start))
    near = read_case(first)
    assert near.initial is not None
    assert 3 <= target_registration_errors(near.initial, near.truth, near.landmarks_patient).mtre_mm <= 4


def test_the_ct_keeps_its_position_and_femurs_can_be_removed(
    file: Path, cases: dict[str, RegistrationCase], tmp_path: Path
) -> None:
    with_femurs = read_ct(cases["000"].ct)
    options = DeepFluoroOptions(("17-1882",), femurs=False, border_px=0)
    without = read_ct(read_case(cases_from_deepfluoro(file, tmp_path / "out", options)[0]).ct)
    with h5py.File(file) as data:
        hu, labels = data["17-1882/vol/pixels"][()], data["17-1882/vol-seg/image/pixels"][()]
        origin = data["17-1882/vol/origin"][()].ravel()
    assert with_femurs.patient_from_voxel[:3, 3].numpy() == pytest.approx(origin, abs=1e-4)
    assert with_femurs.hu_range == (max(hu.min(), -1024), hu.max())
    changed = (with_femurs.attenuation != without.attenuation).numpy()
    assert changed.any() and not changed[~np.isin(labels, (5, 6))].any()
    assert np.ptp(without.attenuation.numpy()[np.isin(labels, (5, 6))]) == 0


def test_progress_is_reported(file: Path, tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    cases_from_deepfluoro(file, tmp_path / "out", OPTIONS, lambda done, total: reported.append((done, total)))
    assert reported == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    "missing",
    [
        "proj-params",
        "proj-params/intrinsic",
        "proj-params/extrinsic",
        "proj-params/num-cols",
        "17-1882",
        "17-1882/vol",
        "17-1882/vol/pixels",
        "17-1882/vol/origin",
        "17-1882/vol-landmarks",
        "17-1882/projections",
        "17-1882/projections/002/image/pixels",
        "17-1882/projections/002/gt-poses/cam-to-pelvis-vol",
        "17-1882/projections/002/gt-landmarks",
        "17-1882/projections/002/rot-180-for-up",
    ],
)
def test_a_missing_group_or_dataset_is_named_with_its_file(file: Path, tmp_path: Path, missing: str) -> None:
    broken = tmp_path / "broken.h5"
    broken.write_bytes(file.read_bytes())
    with h5py.File(broken, "a") as data:
        del data[missing]
    with pytest.raises(InputError, match=rf"^'broken\.h5' lacks the (group|dataset) /{missing}[/;]"):
        cases_from_deepfluoro(broken, tmp_path / "out", OPTIONS)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("proj-params/intrinsic", np.eye(4), "proj-params/intrinsic in 'wrong.h5' must be 3 x 3, got 4 x 4"),
        ("proj-params/num-rows", ROWS + 1, "image/pixels in 'wrong.h5' must be 105 x 112"),
        ("17-1882/vol/spacing", "one", "must be 3, got a single number"),
        ("17-1882/vol-landmarks/FH-l", np.array([1, 2, np.nan]), "FH-l in 'wrong.h5' holds NaN"),
        ("17-1882/projections/000/rot-180-for-up", "yes", "must hold numbers"),
        (
            "17-1882/projections/000/gt-poses/cam-to-pelvis-vol",
            EXTRINSIC,
            "landmarks project .* px away from those of view 17-1882/000",
        ),
        ("17-1882/projections/000/gt-landmarks", {"XX": [1.0, 2.0]}, "view 17-1882/000 has no annotation of"),
    ],
)
def test_a_file_with_another_layout_is_rejected(file: Path, tmp_path: Path, name: str, value: object, what: str) -> None:
    wrong = tmp_path / "wrong.h5"
    wrong.write_bytes(file.read_bytes())
    with h5py.File(wrong, "a") as data:
        del data[name]
        if isinstance(value, dict):
            for key, number in value.items():
                data[f"{name}/{key}"] = number
        else:
            data[name] = value
    with pytest.raises(InputError, match=what):
        cases_from_deepfluoro(wrong, tmp_path / "out", OPTIONS)


def test_missing_files_and_other_formats_are_rejected(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file 'nothing\.h5'"):
        cases_from_deepfluoro(tmp_path / "nothing.h5", tmp_path / "out", OPTIONS)
    truncated = tmp_path / "cut.h5"
    truncated.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=r"'cut\.h5' is not an HDF5 file or is incomplete"):
        cases_from_deepfluoro(truncated, tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()


def test_unusable_folders_and_options_are_rejected(file: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(InputError, match="is not empty"):
        cases_from_deepfluoro(file, tmp_path, OPTIONS)
    with pytest.raises(InputError, match="a border of 52 px leaves no pixels of a 112 x 104 image"):
        cases_from_deepfluoro(file, tmp_path / "out", DeepFluoroOptions(("17-1882",), border_px=52))
    reversed_band = DeepFluoroOptions(("17-1882",), border_px=0, start=InitialPoseOptions(start_mm=(9.0, 3.0)))
    with pytest.raises(InputError, match="low <= high"):
        cases_from_deepfluoro(file, tmp_path / "other", reversed_band)


def test_missing_optional_dependencies_are_named(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("nibabel", "h5py"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(InputError, match=rf"needs {module}; run pip install \"fluoro_reg\[datasets\]\""):
            cases_from_deepfluoro(file, tmp_path / module, OPTIONS)


def test_grey_values_keep_their_proportions(cases: dict[str, RegistrationCase]) -> None:
    """The logarithm of the image is the CT's attenuation up to a constant and the quantisation of 16 bits."""
    case = cases["000"]
    difference = attenuation(case) - HARDNESS * rendered(case, case.truth)
    assert np.asarray(Image.open(case.image)).max() == 65535
    assert np.percentile(np.abs(difference - np.median(difference)), 90) < 0.01
