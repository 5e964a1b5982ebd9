"""Export of Ljubljana: the vessel points must lie on vessels, in the volume and in both views."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("h5py", reason="needs the extra 'datasets'")
import h5py
from helpers.dataset_files import VESSEL_SIZES, VESSEL_SPACING, write_ljubljana

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.datasets import LjubljanaOptions, cases_from_ljubljana
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.cases import RegistrationCase, find_cases, read_case
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import read_xray

OPTIONS = LjubljanaOptions(subjects=("subject01",))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ljubljana") / "small.h5"
    write_ljubljana(path, left_handed=False)
    return path


@pytest.fixture(scope="module", params=["rotation", "reflection"])
def cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RegistrationCase]:
    """It is not known whether the published extrinsics are rotations, so reflections must be read too."""
    folder = tmp_path_factory.mktemp("exported")
    write_ljubljana(folder / "small.h5", left_handed=request.param == "reflection")
    cases_from_ljubljana(folder / "small.h5", folder / "cases", OPTIONS)
    return {case.name.split("_")[1]: case for case in map(read_case, find_cases(folder / "cases"))}


def pixels(case: RegistrationCase) -> np.ndarray:
    return np.asarray(Image.open(case.image)).astype(float)


def test_both_views_are_cases_with_their_own_cameras(cases: dict[str, RegistrationCase]) -> None:
    assert set(cases) == {"ap", "lat"}
    for name, case in cases.items():
        assert (case.intrinsics.height, case.intrinsics.width) == VESSEL_SIZES[name]
        assert case.intrinsics.source_to_detector_mm == pytest.approx(1250)
        assert case.intrinsics.fx == pytest.approx(1250 / VESSEL_SPACING[0])
        assert torch.linalg.det(case.truth.rotation).item() == pytest.approx(1)
        assert case.initial is not None
        assert 10 <= target_registration_errors(case.initial, case.truth, case.landmarks_patient).mtre_mm <= 25
    assert read_xray(cases["ap"].image, cases["ap"].intrinsics, cases["ap"].intensity).intensity is Intensity.ATTENUATION


@pytest.mark.parametrize("view", ["ap", "lat"])
def test_points_lie_on_vessels(cases: dict[str, RegistrationCase], view: str) -> None:
    """In the CT every point is in a vessel voxel; in the image the points are bright and bright pixels are near points."""
    case = cases[view]
    ct = read_ct(case.ct)
    homogeneous = torch.cat([case.landmarks_patient, torch.ones(len(case.landmarks_patient), 1).double()], dim=1)
    i, j, k = (homogeneous @ torch.linalg.inv(ct.patient_from_voxel).T)[:, :3].round().long().T
    assert (ct.attenuation[k, j, i] > 0).all() and (ct.attenuation == 0).float().mean() > 0.9

    image, at = pixels(case), case.intrinsics.project(case.truth.apply(case.landmarks_patient)).numpy()
    column, row = at.round().astype(int).T
    assert np.percentile(image[row, column], 5) > 0.2 * image.max()
    bright = np.argwhere(image > 0.3 * image.max())[:, ::-1]
    distance = np.linalg.norm(bright[:, None] - at[None], axis=2).min(axis=1)
    assert distance.max() < 4


@pytest.mark.parametrize("view", ["ap", "lat"])
def test_the_ct_rendered_at_the_true_pose_matches_the_image(cases: dict[str, RegistrationCase], view: str) -> None:
    case = cases[view]
    renderer = make_renderer(read_ct(case.ct), "cpu")
    assert case.initial is not None
    at_truth, at_initial = (project(renderer, pose, case.intrinsics).squeeze().numpy() for pose in (case.truth, case.initial))
    image = pixels(case)
    assert np.corrcoef(at_truth.ravel(), image.ravel())[0, 1] > 0.999
    assert np.corrcoef(at_initial.ravel(), image.ravel())[0, 1] < 0.8
    assert np.corrcoef(at_truth[:, ::-1].ravel(), image.ravel())[0, 1] < 0.8
    assert image[at_truth == 0].max() <= 0.01 * image.max()  # the background is 0


def test_bright_residues_become_background(file: Path, tmp_path: Path) -> None:
    with_residue = tmp_path / "residue.h5"
    with_residue.write_bytes(file.read_bytes())
    with h5py.File(with_residue, "a") as data:
        data["subject01/proj-ap/pixels"][:8, :8] = 1.4
    (case,) = cases_from_ljubljana(with_residue, tmp_path / "out", LjubljanaOptions(("subject01",), ("ap",)))
    image = pixels(read_case(case))
    assert image[:8, -8:].max() == 0 and image.max() == 65535  # mirrored, since the extrinsic is a rotation


@pytest.mark.parametrize(
    "missing",
    [
        "subject01",
        "subject01/points",
        "subject01/volume",
        "subject01/volume/pixels",
        "subject01/volume/spacing",
        "subject01/proj-ap",
        "subject01/proj-ap/pixels",
        "subject01/proj-ap/extrinsic",
        "subject01/proj-ap/col-spacing",
    ],
)
def test_a_missing_group_or_dataset_is_named_with_its_file(file: Path, tmp_path: Path, missing: str) -> None:
    broken = tmp_path / "broken.h5"
    broken.write_bytes(file.read_bytes())
    with h5py.File(broken, "a") as data:
        del data[missing]
    with pytest.raises(InputError, match=rf"^'broken\.h5' lacks the (group|dataset) /{missing};"):
        cases_from_ljubljana(broken, tmp_path / "out", OPTIONS)


def test_a_volume_with_a_reversed_first_axis_is_rejected(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    other.write_bytes(file.read_bytes())
    with h5py.File(other, "a") as data:
        data["subject01/volume/pixels"][...] = data["subject01/volume/pixels"][()][::-1]
    with pytest.raises(InputError, match="points of subject01 do not lie on the vessels"):
        cases_from_ljubljana(other, tmp_path / "out", OPTIONS)
