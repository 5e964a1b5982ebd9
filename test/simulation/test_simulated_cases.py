"""Simulated cases and bags: initial poses, targets and images agree with the true poses, and a seed reproduces them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.config import from_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.bags import read_bag_truth, read_frames
from fluoro_reg.formats.cameras import read_camera
from fluoro_reg.formats.cases import find_cases, read_case
from fluoro_reg.formats.landmarks import read_landmarks
from fluoro_reg.formats.poses import read_pose
from fluoro_reg.simulation.bags import BagOptions, SimulatedBag, simulate_bag
from fluoro_reg.simulation.cases import CaseOptions, simulate_cases
from fluoro_reg.simulation.ray_sampling import crop_to_body, water_and_bone_thickness_mm
from fluoro_reg.simulation.variants import VARIANTS
from fluoro_reg.xray.camera_info import intrinsics_from_message
from fluoro_reg.xray.encodings import pixels_from_message

CASES = CaseOptions(count=6, size_px=64, variants=tuple(VARIANTS), seed=3)
CINE = BagOptions(frames=6, blank=(2, 4), size_px=48, seed=1)


@pytest.fixture(scope="module")
def cases(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return simulate_cases(phantom_folder, tmp_path_factory.mktemp("out") / "cases", CASES)


@pytest.fixture(scope="module")
def cine(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SimulatedBag:
    return simulate_bag(phantom_folder, tmp_path_factory.mktemp("out") / "cine", CINE)


def test_initial_poses_lie_in_their_band_and_differ(cases: list[Path]) -> None:
    errors = []
    for folder in cases:
        case = read_case(folder)
        assert case.initial is not None
        errors.append(target_registration_errors(case.initial, case.truth, case.landmarks_patient).mtre_mm)
    assert all(10 <= error <= 25 for error in errors) and max(errors) - min(errors) > 3


def test_targets_are_bone_inside_the_image(cases: list[Path], phantom: CTVolume) -> None:
    for folder in cases:
        case = read_case(folder)
        pixels = case.intrinsics.project(case.truth.apply(case.landmarks_patient))
        assert ((pixels >= 0) & (pixels <= 63)).all() and len(pixels) >= 4
        affine = phantom.patient_from_voxel
        ijk = torch.linalg.solve(affine[:3, :3], (case.landmarks_patient - affine[:3, 3]).T).round().long()
        assert (phantom.attenuation[ijk[2], ijk[1], ijk[0]] > 0.025).all()


def test_images_show_the_true_pose_and_not_the_initial_pose(cases: list[Path], phantom: CTVolume) -> None:
    """An image correlates with the thickness at the true pose more than with that at the initial pose."""
    volume = crop_to_body(phantom)
    for folder in cases[:4]:
        case = read_case(folder)
        image = np.asarray(Image.open(case.image)).astype(float)
        assert image.shape == (64, 64) and image.dtype == np.float64 and case.initial is not None
        used = (image > 3000) & (image < 60000)
        correlations = []
        for pose in (case.truth, case.initial):
            water, bone = water_and_bone_thickness_mm(volume, pose, case.intrinsics)
            correlations.append(np.corrcoef((water + 2 * bone)[used], -np.log(image[used]))[0, 1])
        assert correlations[0] > 0.8 and correlations[0] > correlations[1] + 0.01


def test_the_same_seed_makes_the_same_cases(cases: list[Path], phantom_folder: Path, tmp_path: Path) -> None:
    again = simulate_cases(phantom_folder, tmp_path / "cases", CASES)
    for one, other in zip(cases, again, strict=True):
        assert (one / "image.png").read_bytes() == (other / "image.png").read_bytes()
        assert (one / "initial.json").read_bytes() == (other / "initial.json").read_bytes()


def test_given_landmarks_are_used_and_progress_is_reported(phantom_folder: Path, phantom: CTVolume, tmp_path: Path) -> None:
    points = phantom.centre_patient + torch.tensor([[0.0, 0, 0], [30, 0, 20], [-25, 10, -20]], dtype=torch.float64)
    reported: list[tuple[int, int]] = []
    options = from_mapping(CaseOptions, {"count": 2, "size_px": 32, "start_mm": [[5, 5]], "variants": ["instruments"]})
    simulate_cases(phantom_folder, tmp_path / "out", options, points, lambda done, total: reported.append((done, total)))
    assert reported == [(1, 2), (2, 2)]
    for folder in find_cases(tmp_path / "out"):
        case = read_case(folder)
        assert case.initial is not None and torch.equal(case.landmarks_patient, points)
        assert target_registration_errors(case.initial, case.truth, points).mtre_mm == pytest.approx(5, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"start_mm": [[25, 10]]}, "low <= high"),
        ({"start_mm": []}, "at least one band"),
        ({"start_mm": [5, 10]}, "must be a list"),
        ({"variants": []}, "at least one"),
        ({"variants": ["blurry"]}, "one of"),
    ],
)
def test_unusable_options_are_rejected(change: dict, what: str, phantom_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=what):
        simulate_cases(phantom_folder, tmp_path / "out", from_mapping(CaseOptions, change))


def test_a_folder_that_is_not_empty_is_left_unchanged(phantom_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="is not empty"):
        simulate_cases(phantom_folder, tmp_path, CASES)
    with pytest.raises(InputError, match="is not empty"):
        simulate_bag(phantom_folder, tmp_path / "mine.txt", CINE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_bag_has_frames_with_camera_and_true_pose(cine: SimulatedBag) -> None:
    truth, camera = read_bag_truth(cine.truth), read_camera(cine.camera)
    frames = list(read_frames(cine.bag))
    assert [stamp for stamp, _, _ in frames] == list(truth)
    assert list(truth)[:2] == [1_700_000_000_000_000_000, 1_700_000_000_066_666_667], "15 Hz"
    assert [pose is None for pose in truth.values()] == [False, False, True, False, True, False]
    for _, image, info in frames:
        assert image.header.frame_id == info.header.frame_id == "carm_xray_optical_frame"
        assert intrinsics_from_message(info).k == camera.k and pixels_from_message(image).shape == (48, 48)


def test_blank_frames_are_uniformly_dark_or_bright(cine: SimulatedBag) -> None:
    pixels = [pixels_from_message(image) / 65535 for _, image, _ in read_frames(cine.bag)]
    assert pixels[2].max() < 0.05, "beam off"
    assert pixels[4].min() > 0.25 and pixels[4].max() < 0.6, "open beam"
    assert all(frame.max() - frame.min() > 0.4 for n, frame in enumerate(pixels) if n not in CINE.blank)


def test_the_cine_moves_and_its_initial_pose_is_near_its_first_frame(cine: SimulatedBag, phantom: CTVolume) -> None:
    poses = [pose for pose in read_bag_truth(cine.truth).values() if pose is not None]
    points = read_landmarks(cine.landmarks)
    assert target_registration_errors(read_pose(cine.initial), poses[0], points).mtre_mm == pytest.approx(10, abs=1e-6)
    assert target_registration_errors(poses[-1], poses[0], points).mtre_mm > 0.5
    head_up = ap_pose(phantom.centre_patient, 700.0).rotation
    torch.testing.assert_close(poses[0].rotation, head_up)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"unit": "m", "frames": []}', "unit"),
        ('{"unit": "mm"}', "frames"),
        ('{"unit": "mm", "frames": [{"stamp_ns": 1.5, "camera_from_patient": null}]}', "whole ns"),
        ('{"unit": "mm", "frames": [{"stamp_ns": 1}]}', "camera_from_patient"),
        ('{"unit": "mm", "frames": [{"stamp_ns": 7, "camera_from_patient": [[1]]}]}', "the pose at 7"),
    ],
)
def test_a_malformed_truth_file_is_rejected(content: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(content)
    with pytest.raises(InputError, match=what):
        read_bag_truth(tmp_path / "truth.json")


def test_bands_and_variants_are_crossed_and_recorded(phantom_folder: Path, tmp_path: Path) -> None:
    bands, variants = [[5, 10], [10, 25], [25, 60]], ["standard", "noisy"]
    options = from_mapping(CaseOptions, {"count": 7, "size_px": 32, "start_mm": bands, "variants": variants})
    cases = [read_case(folder) for folder in simulate_cases(phantom_folder, tmp_path / "out", options)]
    recorded = [(case.variant, case.start_band_mm) for case in cases]
    assert recorded[:6] == [(variant, tuple(band)) for variant in variants for band in bands] and recorded[6] == recorded[0]
    assert {case.ct_name for case in cases} == {"ct"}
    for case in cases:
        assert case.initial is not None and case.start_band_mm is not None
        error = target_registration_errors(case.initial, case.truth, case.landmarks_patient).mtre_mm
        assert case.start_band_mm[0] <= error <= case.start_band_mm[1]


@pytest.mark.data
@pytest.mark.parametrize("name", ["abdomen_pelvis_3mm", "abdomen_pelvis_5mm_dicom"])
def test_images_of_real_cts_are_filled_by_the_patient(name: str, data_folder: Path, tmp_path: Path) -> None:
    simulate_cases(data_folder / "ct" / name, tmp_path / "cases", CaseOptions(count=4, size_px=96, seed=1))
    for folder in find_cases(tmp_path / "cases"):
        image = np.asarray(Image.open(folder / "image.png"))
        assert np.mean(image == 65535) < 0.25, "little open beam: the field stays away from the ends of the CT"
        assert len(np.unique(image >> 6)) > 150, "a full range of greys"
