"""The search of all views: the pose of an X-ray is among the first hypotheses, wherever the C-arm stands."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.carm.range import CarmRange, load_range
from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.registration import Registrar
from fluoro_reg.registration.stages import view_search
from fluoro_reg.registration.stages.view_search import ViewSearch
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess


@pytest.fixture(scope="module")
def registrar(world):
    return Registrar(world.volume)


def found(world, registrar, search: ViewSearch, pose: RigidTransform) -> RigidTransform:
    return search.find(registrar.readings.whole, preprocess(world.xray(pose=pose), PreprocessOptions()))


def nearest_mm(world, poses: RigidTransform, truth: RigidTransform) -> float:
    errors = [target_registration_errors(poses[k], truth, world.landmarks_patient) for k in range(len(poses.translation))]
    return min(error.in_plane_mm for error in errors)


def shifted(pose: RigidTransform, x_mm: float, y_mm: float) -> RigidTransform:
    return RigidTransform(pose.rotation, pose.translation + torch.tensor([x_mm, y_mm, 0.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("primary", "secondary", "roll", "distance", "x_mm", "y_mm"),
    [
        (0.0, 0.0, 0.0, 700.0, 0.0, 0.0),
        (37.0, -13.0, 6.0, 640.0, 25.0, -15.0),
        (-44.0, 16.0, -8.0, 800.0, -30.0, 20.0),
        (180.0, 4.0, 3.0, 730.0, 10.0, 30.0),
    ],
)
def test_the_pose_is_among_the_hypotheses(world, registrar, primary, secondary, roll, distance, x_mm, y_mm):
    truth = shifted(view_pose(world.volume.centre_patient, primary, secondary, roll, distance), x_mm, y_mm)
    search = ViewSearch(load_range("ap-pa"), registrar.metric)
    assert nearest_mm(world, found(world, registrar, search, truth), truth) < 12.0


def test_an_image_turned_by_any_angle_is_found_where_the_range_includes_it(world, registrar):
    truth = view_pose(world.volume.centre_patient, 70.0, 35.0, 155.0, 700.0)
    carm = CarmRange(views=("AP",), primary_deg=(50.0, 90.0), secondary_deg=(20.0, 50.0), roll_deg=(-180.0, 180.0))
    search = ViewSearch(carm, registrar.metric)
    assert nearest_mm(world, found(world, registrar, search, truth), truth) < 15.0


def test_a_view_on_the_grid_is_found_exactly(world, registrar):
    """Rotation, shift and signs: the best hypothesis for a template's own view is that view."""
    search = ViewSearch(load_range("ap-pa"), registrar.metric)
    found(world, registrar, search, world.truth)
    templates = next(iter(search._kept.values()))
    for row in (3, 100):
        back = so3.exp(torch.tensor([0.0, 0.0, torch.deg2rad(torch.tensor(templates.grid.roll_deg[1]))], dtype=torch.float64))
        pose = templates.grid.camera_from_patient[row]
        truth = RigidTransform(back @ pose.rotation, (back @ pose.translation[:, None]).squeeze(-1))
        first = found(world, registrar, search, truth)[0]
        assert target_registration_errors(first, truth, world.landmarks_patient).mtre_mm < 3.0


def test_a_wide_range_takes_longer_steps(world, registrar, monkeypatch):
    whole, carm = registrar.readings.whole, load_range("any")
    assert view_search._grid(whole, carm, 128).n_comparisons <= view_search.MAXIMUM_COMPARISONS
    assert view_search._grid(whole, carm, 256).n_comparisons <= view_search.MAXIMUM_COMPARISONS / 4
    monkeypatch.setattr(view_search, "MAXIMUM_COMPARISONS", 2000)
    assert view_search._grid(whole, carm, 128).n_comparisons <= 2000


def test_templates_are_made_once_for_a_camera_and_kept_within_bounds(world, registrar, monkeypatch):
    search = ViewSearch(load_range("ap"), registrar.metric)
    found(world, registrar, search, world.truth)
    first = next(iter(search._kept.values()))
    found(world, registrar, search, world.truth)
    assert next(iter(search._kept.values())) is first and len(search._kept) == 1
    monkeypatch.setattr(view_search, "MAXIMUM_BYTES", first.n_bytes)
    other = replace(world, camera=replace(world.camera, cx=world.camera.cx + 4.0))
    found(other, registrar, search, world.truth)
    assert next(iter(search._kept.values())) is not first and len(search._kept) == 1
