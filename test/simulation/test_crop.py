"""Cropped CTs: voxels keep their patient coordinates and HU, the X-ray shows more, and points and poses fit the crop."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fluoro_reg.carm.aim import axis_along_body, default_aim_point, voxel_coordinates
from fluoro_reg.config import from_mapping
from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.formats.cases import RegistrationCase, read_case
from fluoro_reg.simulation.body import body_box
from fluoro_reg.simulation.cases import CaseOptions, simulate_cases
from fluoro_reg.simulation.crop import contains, crop_ct
from fluoro_reg.simulation.ray_sampling import crop_to_body, water_and_bone_thickness_mm

pytest.importorskip("nibabel", reason="needs the extra 'datasets'")

PARTS = ("spine-field", "narrow-field", "bone")
BONE = float(attenuation_from_hu(np.array([200.0], np.float32))[0])


@pytest.fixture(scope="module", params=PARTS)
def cropped(
    request: pytest.FixtureRequest, phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[RegistrationCase], CTVolume]:
    """The name of a crop, two cases, and their CT as a reader sees it."""
    folder = tmp_path_factory.mktemp("out") / request.param
    options = CaseOptions(count=2, size_px=64, variants=("standard",), crop=request.param, seed=2)
    cases = [read_case(case) for case in simulate_cases(phantom_folder, folder, options)]
    assert {case.ct.resolve() for case in cases} == {(folder / f"ct_{request.param}.nii.gz").resolve()}
    return request.param, cases, read_ct(cases[0].ct)


def test_a_patient_position_has_the_same_attenuation_in_both_cts(
    cropped: tuple[str, list[RegistrationCase], CTVolume], phantom: CTVolume
) -> None:
    name, _, part = cropped
    ijk = torch.stack([torch.randint(n, (3000,)) for n in part.shape_ijk], dim=-1)
    points = part.points_patient(ijk.double())
    whole = torch.stack([voxel_coordinates(phantom, point) for point in points])
    assert (whole - whole.round()).abs().max() < 1e-3, "voxels lie on the grid of the whole CT"
    i, j, k = whole.round().long().unbind(-1)
    expected = phantom.attenuation[k, j, i]
    if name == "bone":
        expected = torch.where(expected >= BONE, expected, 0.0)
        assert (expected > 0).sum() > 20
    ours = part.attenuation[ijk[:, 2], ijk[:, 1], ijk[:, 0]]
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
    assert len(expected.unique()) > 20


def test_crops_have_their_sizes(cropped: tuple[str, list[RegistrationCase], CTVolume], phantom: CTVolume) -> None:
    name, _, part = cropped
    size_mm = [n * voxel for n, voxel in zip(part.shape_ijk, part.voxel_size_mm, strict=True)]
    low, high = body_box(phantom)
    if name == "spine-field":
        assert size_mm == [pytest.approx(mm, abs=4) for mm in (124, 124, 100)]
        assert torch.linalg.vector_norm(part.centre_patient - default_aim_point(phantom)) < 15, "around the skeleton's middle"
    elif name == "narrow-field":
        assert size_mm[:2] == [pytest.approx(mm, abs=20) for mm in ((high - low)[:2] / 2).tolist()]
        assert part.shape_ijk[2] == phantom.shape_ijk[2]
        assert (part.centre_patient - (low + high) / 2)[:2].abs().max() < 6
    else:
        bone = part.attenuation > 0
        assert bone.any() and bool((part.attenuation[bone] >= BONE - 1e-6).all())
        assert all(bone.any(dim=d).any(dim=e).numpy()[[0, -1]].all() for d, e in ((1, 1), (0, 1), (0, 0))), "tight"


def test_landmarks_and_start_poses_fit_the_crop(
    cropped: tuple[str, list[RegistrationCase], CTVolume],
) -> None:
    """Landmarks lie in the crop, and the initial pose still shows the crop's centre."""
    _, cases, part = cropped
    for case in cases:
        assert contains(part, case.landmarks_patient).all() and len(case.landmarks_patient) >= 4
        i, j, k = torch.stack([voxel_coordinates(part, point) for point in case.landmarks_patient]).round().long().unbind(-1)
        assert (part.attenuation[k, j, i] >= BONE).all(), "they are bone of the crop"
        assert case.initial is not None
        for pose in (case.truth, case.initial):
            centre = case.intrinsics.project(pose.apply(part.centre_patient[None]))
            assert ((centre > 0) & (centre < 63)).all()


def test_the_x_ray_shows_the_whole_patient(cropped: tuple[str, list[RegistrationCase], CTVolume], phantom: CTVolume) -> None:
    _, cases, part = cropped
    case = cases[0]
    whole, of_part = (sum(water_and_bone_thickness_mm(crop_to_body(v), case.truth, case.intrinsics)) for v in (phantom, part))
    image = np.asarray(Image.open(case.image)).astype(float)
    shown = (image > 2000) & (image < 60000)
    lacking = shown & (whole - of_part > 40)
    assert lacking.mean() > 0.3
    assert np.corrcoef(whole[lacking], -np.log(image[lacking]))[0, 1] > 0.7


def test_a_rotated_and_sheared_ct_is_cropped_along_its_own_axes() -> None:
    hu = np.full((50, 60, 70), -1000, np.float32)
    hu[2:48, 5:55, 6:64] = 40
    hu[20:30, 25:35, 30:40] = 900
    affine = np.array([[0.0, 0.3, 4.0, 5.0], [-4.0, 0.0, 0.0, 60.0], [0.0, 4.0, 0.2, -30.0], [0, 0, 0, 1]])
    volume = volume_from_hu(hu, affine)
    assert axis_along_body(volume) == 1
    middle = volume.points_patient(torch.tensor([35.0, 30.0, 25.0], dtype=torch.float64))
    part = crop_ct(volume, "spine-field", middle)
    assert [round(n * mm) for n, mm in zip(part.shape_ijk, part.voxel_size_mm, strict=True)] == [124, 100, 124]
    inside = torch.tensor([[3.0, 4.0, 5.0]], dtype=torch.float64)
    point = part.points_patient(inside)[0]
    i, j, k = voxel_coordinates(volume, point).round().long().tolist()
    assert part.attenuation[5, 4, 3] == volume.attenuation[k, j, i]
    narrow = crop_ct(volume, "narrow-field", middle)
    assert narrow.shape_ijk == (29, 60, 23), "half of 58 and of 46 voxels, and the whole length"


def test_a_crop_near_the_end_of_the_ct_is_moved_inside() -> None:
    volume = volume_from_hu(np.full((60, 60, 60), 40, np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))
    part = crop_ct(volume, "spine-field", torch.zeros(3, dtype=torch.float64))
    assert part.shape_ijk == (31, 31, 25) and part.points_patient(torch.zeros(1, 3).double()).abs().max() == 0


def test_without_a_crop_the_ct_itself_is_registered(phantom_folder: Path, tmp_path: Path) -> None:
    cases = simulate_cases(phantom_folder, tmp_path / "out", CaseOptions(count=1, size_px=32, variants=("standard",)))
    assert read_case(cases[0]).ct.resolve() == phantom_folder.resolve()
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_variants_can_be_combined_with_a_crop(phantom_folder: Path, tmp_path: Path) -> None:
    variants = ("leaking", "couch", "attenuation", "truncated")
    options = CaseOptions(count=4, size_px=32, variants=variants, crop="narrow-field")
    cases = [read_case(folder) for folder in simulate_cases(phantom_folder, tmp_path / "out", options)]
    assert [case.variant for case in cases] == list(variants)
    whole, short = read_ct(cases[0].ct), read_ct(cases[3].ct)
    assert short.shape_ijk[:2] == whole.shape_ijk[:2] and short.shape_ijk[2] < whole.shape_ijk[2]


def test_landmarks_outside_the_crop_and_unknown_crops_are_rejected(
    phantom_folder: Path, phantom: CTVolume, tmp_path: Path
) -> None:
    points = default_aim_point(phantom) + torch.tensor([[0.0, 0, 0], [150, 0, 0], [0, 0, 10], [5, 0, 0]]).double()
    options = CaseOptions(count=1, size_px=32, crop="spine-field")
    with pytest.raises(InputError, match="1 of the given landmarks"):
        simulate_cases(phantom_folder, tmp_path / "out", options, points)
    assert not list((tmp_path / "out").glob("*")), "nothing is written"
    with pytest.raises(InputError, match="spine-field, narrow-field, bone"):
        from_mapping(CaseOptions, {"crop": "half"})


def test_a_ct_without_bone_has_no_bone_crop() -> None:
    volume = volume_from_hu(np.full((10, 10, 10), 40, np.float32), np.eye(4))
    with pytest.raises(InputError, match="leaves nothing"):
        crop_ct(volume, "bone", torch.zeros(3, dtype=torch.float64))
