"""Truncated CTs: the voxels keep their positions, the file reproduces the HU, and the cut runs across the body."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fluoro_reg.carm.aim import aim_point, bone_points, voxel_coordinates
from fluoro_reg.carm.dimensions import FIELD_MM
from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.formats.cases import read_case
from fluoro_reg.simulation.cases import CaseOptions, simulate_cases
from fluoro_reg.simulation.ray_sampling import crop_to_body, water_and_bone_thickness_mm
from fluoro_reg.simulation.truncation import KEPT_FRACTION, hu_from_attenuation, truncate_ct

pytest.importorskip("nibabel", reason="needs the extra 'datasets'")


def test_hu_are_recovered_from_attenuation() -> None:
    hu = np.array([-950, -900, -850, -20, 0, 99, 100, 101, 1500, 12000], np.float32)
    assert hu_from_attenuation(attenuation_from_hu(hu)) == pytest.approx(hu, abs=0.02)
    assert hu_from_attenuation(attenuation_from_hu(np.array([-1024, -3024], np.float32))).tolist() == [-950, -950]


def test_slices_around_the_aim_keep_their_positions(phantom: CTVolume) -> None:
    aim = aim_point(phantom, bone_points(phantom, 500, torch.Generator().manual_seed(0)))
    part = truncate_ct(phantom, aim)
    kept = part.shape_ijk[2]
    assert part.shape_ijk[:2] == phantom.shape_ijk[:2]
    assert kept * phantom.voxel_size_mm[2] == pytest.approx(KEPT_FRACTION * min(FIELD_MM, phantom.shape_ijk[2] * 4.0), abs=4)
    point = part.points_patient(torch.tensor([10.0, 12.0, 3.0], dtype=torch.float64))
    i, j, k = voxel_coordinates(phantom, point).round().int().tolist()
    assert (i, j) == (10, 12) and torch.equal(part.attenuation[3], phantom.attenuation[k])
    assert float((part.centre_patient - aim)[2].abs()) <= 4


def test_a_truncated_case_shows_anatomy_that_its_ct_lacks(phantom_folder: Path, phantom: CTVolume, tmp_path: Path) -> None:
    options = CaseOptions(count=1, size_px=64, variants=("truncated",))
    case = read_case(simulate_cases(phantom_folder, tmp_path / "cases", options)[0])
    part = read_ct(case.ct)
    assert (case.ct_name, case.variant) == ("ct", "truncated")
    ends = part.points_patient(torch.tensor([[0.0, 0, -0.5], [0, 0, part.shape_ijk[2] - 0.5]], dtype=torch.float64))[:, 2]
    targets = case.landmarks_patient[:, 2]
    assert ends.min() <= targets.min() and targets.max() <= ends.max()
    shown, in_ct = (
        sum(water_and_bone_thickness_mm(crop_to_body(volume), case.truth, case.intrinsics)) for volume in (phantom, part)
    )
    beyond = (in_ct == 0) & (shown > 30)
    image = np.asarray(Image.open(case.image)).astype(float)
    assert beyond.mean() > 0.1, "the field is larger than the part"
    assert np.corrcoef(shown[beyond], -np.log(image[beyond]))[0, 1] > 0.5, "the image shows the body there"
