"""The grid of views: every view of a range has a neighbour on it."""

import math

import pytest
import torch
from helpers.registration_world import bony_volume

from fluoro_reg.carm.aim import aim_points
from fluoro_reg.carm.range import load_range, range_names
from fluoro_reg.carm.view_grid import DISTANCE_RATIO, count_comparisons, view_grid
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import so3

STEP_DEG = 15.0


@pytest.mark.parametrize("name", ["ap-pa", "lateral-left", "around", "any"])
def test_every_view_of_a_range_is_near_one_of_the_grid(name: str) -> None:
    volume, carm = bony_volume(), load_range(name)
    grid = view_grid(volume, carm, STEP_DEG)
    directions = grid.camera_from_patient.rotation[:, 2]  # of the optical axis, in patient axes
    views = carm.sample(volume.centre_patient, 300, torch.Generator().manual_seed(5))
    nearest = torch.rad2deg(torch.acos((views.rotation[:, 2] @ directions.mT).amax(-1).clamp(max=1.0)))
    assert float(nearest.max()) < STEP_DEG * math.sqrt(0.5) + 0.5, "half a cell's diagonal"
    distances = grid.camera_from_patient.apply(aim_points(volume)[:1])[:, 0, 2]
    ratio = views.apply(volume.centre_patient[None])[:, 0, 2:] / distances
    assert float(ratio.log().abs().amin(-1).max()) < 0.5 * math.log(DISTANCE_RATIO) + 0.05, "the aim is up to 35 mm off"


def test_every_view_from_any_direction_has_a_near_rotation() -> None:
    volume, carm = bony_volume(), load_range("any")
    grid = view_grid(volume, carm, STEP_DEG)
    turns = so3.exp(torch.tensor([[0.0, 0.0, math.radians(roll)] for roll in grid.roll_deg], dtype=torch.float64))
    rotations = (turns[:, None] @ grid.camera_from_patient.rotation[None]).reshape(-1, 3, 3)
    random = torch.linalg.qr(torch.randn(50, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)).Q
    random = random * torch.linalg.det(random)[:, None, None]
    angles = [float(so3.angle(rotations @ one.mT).min()) for one in random]
    assert math.degrees(max(angles)) < STEP_DEG


def test_aims_cover_a_long_ct_and_lie_in_the_middle_of_a_short_one() -> None:
    short = bony_volume()
    assert aim_points(short).shape == (1, 3)
    long = CTVolume(short.attenuation.repeat(4, 1, 1), short.patient_from_voxel)
    heights = aim_points(long)[:, 2]
    assert len(heights) > 3 and float(heights.diff().max()) <= 80.0 + 1e-6
    low, high = (float(long.patient_from_voxel[2, 3]) + 4.0 * k for k in (0, long.shape_ijk[2] - 1))
    assert float(heights.min()) - low < 150.0 and high - float(heights.max()) < 150.0


def test_every_installed_range_can_be_read_and_an_unknown_one_is_refused() -> None:
    assert {"ap", "pa", "ap-pa", "lateral-left", "lateral-right", "around", "any"} <= set(range_names())
    for name in range_names():
        load_range(name)
    with pytest.raises(InputError, match="there is no range of views 'oblique'; choose one of any, ap"):
        load_range("oblique")


@pytest.mark.parametrize("name", range_names())
def test_comparisons_are_counted_without_a_grid(name: str) -> None:
    volume, carm = bony_volume(), load_range(name)
    assert count_comparisons(len(aim_points(volume)), carm, 20.0) == view_grid(volume, carm, 20.0).n_comparisons
