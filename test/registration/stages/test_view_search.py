"""The search of all views: the pose of an X-ray is among the first hypotheses, wherever the C-arm stands."""

import math
from dataclasses import replace

import pytest
import torch

from fluoro_reg.carm.range import CarmRange, load_range
from fluoro_reg.carm.view_grid import ViewGrid, view_grid
from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.config import from_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.registration.candidates import CandidateMaker
from fluoro_reg.registration.likeliest import likeliest
from fluoro_reg.registration.stages import view_search
from fluoro_reg.registration.stages.initial_poses import InitialPoses
from fluoro_reg.registration.stages.objective import PoseObjective
from fluoro_reg.registration.stages.solver import Solver
from fluoro_reg.registration.stages.view_search import QUICK, THOROUGH, Effort, ViewSearch
from fluoro_reg.registration.stages.view_templates import best_shifts, make_templates, rotated
from fluoro_reg.registration.view_run import Clock, Request
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess


@pytest.fixture(scope="module")
def registrar(world):
    return Registrar(world.volume)


FEW = Effort(32, 700)  # comparisons: steps are longer than 20 degrees


def found(world, registrar, search: ViewSearch, pose: RigidTransform, effort: Effort = QUICK) -> RigidTransform:
    return search.find(registrar.readings.whole, preprocess(world.xray(pose=pose), PreprocessOptions()), effort=effort)


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


@pytest.mark.parametrize(("roi", "atol"), [("full", 0.06), ("moving-support", 0.03)])
def test_evidence_over_all_shifts_is_that_of_each_shift(world, registrar, roi, atol):
    """Over every shift, the correlation is that of images rendered there; every pixel is the one that it is said to be.

    Energies that are known at every second shift change a correlation by a few hundredths.
    """
    whole = replace(registrar.readings.whole, model=replace(registrar.readings.whole.model, roi=roi))
    scales = whole.scales(preprocess(world.xray(), PreprocessOptions()), world.truth)
    scale = scales.from_afar(32)
    grid = ViewGrid(RigidTransform.stack([world.truth, view_pose(world.volume.centre_patient, 20.0, 5.0, 0.0, 700.0)]), (0.0,))
    templates = make_templates(scale, whole.model, whole.corners_patient, grid)
    poses, evidence = best_shifts(templates, *rotated(scale, 0.0), scale.intrinsics)
    objective = PoseObjective(scale, whole.model, GradientNCC())
    at = objective.evaluate(poses)
    overlap = objective.weight(at).flatten(1).sum(-1)
    similarity = GradientNCC().score(at.moving, scale.fixed, objective.weight(at)).clamp(0.0, 0.999)
    implied = (1 - torch.exp(-2 * evidence / overlap)).clamp_min(0.0).sqrt()
    found = evidence > 0.2 * evidence.max()
    assert found[0] and int(found.sum()) >= 2
    torch.testing.assert_close(implied[found], similarity[found], rtol=0.0, atol=atol)


def test_a_wide_range_takes_longer_steps_and_a_thorough_search_shorter_ones(registrar):
    whole, carm = registrar.readings.whole, load_range("any")
    search = ViewSearch(carm, registrar.metric)
    assert search._grid(whole, carm, 128, QUICK).n_comparisons <= QUICK.comparisons
    assert search._grid(whole, carm, 256, QUICK).n_comparisons <= QUICK.comparisons / 4
    assert search._grid(whole, carm, 128, FEW).n_comparisons <= FEW.comparisons
    assert search._grid(whole, carm, 128, THOROUGH).step_deg < search._grid(whole, carm, 128, QUICK).step_deg


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


def test_templates_of_a_thorough_search_are_the_first_to_go(world, registrar, monkeypatch):
    search = ViewSearch(load_range("ap"), registrar.metric)
    found(world, registrar, search, world.truth)
    quick = next(iter(search._kept.values()))
    monkeypatch.setattr(view_search, "MAXIMUM_BYTES", quick.n_bytes)
    poses = found(world, registrar, search, world.truth, THOROUGH)
    assert nearest_mm(world, poses, world.truth) < 12.0, "it is used though it is not kept"
    assert list(search._kept.values()) == [quick]


def test_a_thorough_search_has_more_pixels(world, registrar):
    search = ViewSearch(load_range("ap"), registrar.metric)
    lengths = []
    for effort in (QUICK, THOROUGH):
        found(world, registrar, search, world.truth, effort)
        lengths.append({one.length for one in search._kept.values()})
    assert max(lengths[1]) > 1.3 * max(lengths[0])


def test_the_memory_of_templates_is_told(world, registrar, caplog):
    with caplog.at_level("INFO", logger="fluoro_reg"):
        found(world, registrar, ViewSearch(load_range("ap"), registrar.metric), world.truth)
    assert "views of the whole CT, 10 deg apart" in caplog.text and " MB" in caplog.text


def test_a_view_between_those_of_a_coarse_grid_is_approached(world, registrar):
    """With so few comparisons, the nearest view of the grid is further away than the refinement reaches."""
    carm = load_range("any")
    step_deg = ViewSearch(carm, registrar.metric)._grid(registrar.readings.whole, carm, 128, FEW).step_deg
    assert step_deg > 2 * view_search.STEP_DEG
    for angles in ((37.0, 28.0, 100.0, 640.0), (160.0, -33.0, -70.0, 800.0)):
        truth = view_pose(world.volume.centre_patient, *angles)
        near = nearest_mm(world, found(world, registrar, ViewSearch(carm, registrar.metric), truth, FEW), truth)
        assert near < 5.0


def cut_along_the_body(volume: CTVolume) -> CTVolume:
    """A short piece of the body, so that all rays of a view from the feet leave it through its ends."""
    return replace(volume, attenuation=volume.attenuation[8:37].contiguous())


def test_where_views_along_the_body_are_searched_bone_alone_is_a_reading(world):
    registrar = Registrar(cut_along_the_body(world.volume), from_mapping(RegistrationOptions, {"initial": {"view": "any"}}))
    prepared = preprocess(world.xray(), PreprocessOptions())
    maker = registrar._candidates
    made = list(maker.make(prepared, InitialPoses([]), Request(None), registrar.method.stages, search_views=True))
    assert [one.reading.rpartition("; ")[2] for one in made] == ["whole CT", "bone"]
    again = maker.make(prepared, InitialPoses([]), Request(None, readings=(made[1].reading,)), registrar.method.stages, True)
    assert [one.reading for one in again] == [made[1].reading], "a decoy is read as the X-ray was"


@pytest.mark.parametrize(("certain", "tried"), [(0.5, ["whole CT"]), (0.999, ["whole CT", "bone"])])
def test_no_reading_is_tried_beyond_a_whole_ct_that_explains_the_image_with_certainty(world, certain, tried):
    registrar = Registrar(world.volume, from_mapping(RegistrationOptions, {"initial": {"view": "ap"}}))
    maker = replace(registrar._candidates, view_search=ViewSearch(load_range("any"), registrar.metric))
    view = view_pose(world.volume.centre_patient, 0.0, 0.0, 0.0, 700.0)
    prepared, stages = preprocess(world.xray(pose=view), PreprocessOptions()), registrar.method.stages
    candidates = maker.all([prepared], [InitialPoses([])], Request(None), stages, search_views=True)
    likely = likeliest(candidates, None, stages, certain, Clock())
    assert [one.reading.rpartition("; ")[2] for one in likely.candidates] == tried


def test_grids_are_kept_within_bounds(world, registrar, monkeypatch):
    """X-rays whose headers state other angles are searched in other ranges."""
    monkeypatch.setattr(view_search, "MAXIMUM_GRIDS", 2)
    search = ViewSearch(load_range("ap"), registrar.metric)
    for primary_deg in (5.0, 10.0, 15.0):
        search._grid(registrar.readings.whole, replace(search.carm, primary_deg=(-primary_deg, primary_deg)), 128, QUICK)
    assert len(search._grids) == 2


def test_templates_of_another_grid_are_others(world, registrar):
    """The camera at which bone is compared again may be that at which other X-rays are compared first."""
    whole, carm = registrar.readings.whole, load_range("ap")
    search = ViewSearch(carm, registrar.metric)
    scale = whole.scales(preprocess(world.xray(), PreprocessOptions()), world.truth).from_afar(32)
    grids = [view_grid(world.volume, carm, step_deg) for step_deg in (10.0, 30.0)]
    assert [search.templates(whole, scale, carm, grid).grid for grid in grids] == grids


@pytest.mark.parametrize(
    ("given", "thorough", "efforts"), [(False, True, {QUICK, THOROUGH}), (False, False, {QUICK}), (True, True, {QUICK})]
)
def test_only_a_search_from_nothing_becomes_thorough(world, monkeypatch, given, thorough, efforts):
    """Here no pose ever stands out; an initial pose of a method that searches views nevertheless says where to look."""
    registrar, made = Registrar(world.volume, method="global-lm"), set()
    make = CandidateMaker.make

    def counted(*arguments):
        made.add(arguments[-1])
        return make(*arguments)

    monkeypatch.setattr(CandidateMaker, "make", counted)
    monkeypatch.setattr(Solver, "similarity", lambda *poses: 0.0)
    monkeypatch.setattr(Solver, "evidence_of_rival", lambda *poses: math.inf)
    result = registrar.register(world.xray(), world.truth if given else None, thorough=thorough)
    assert result.camera_from_patient is not None and {one for one in made if isinstance(one, Effort)} == efforts
