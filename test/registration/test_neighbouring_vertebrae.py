"""Without an initial pose, vertebrae that look alike are not mistaken for each other: the level is right, or left open."""

import pytest
import torch
from helpers.periodic_spine import PITCH_MM, make_spine

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.config import from_mapping
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Outcome, Registrar, RegistrationOptions, RegistrationResult
from fluoro_reg.registration.stages.ncc_refiner import NCCRefiners
from fluoro_reg.registration.stages.rivals import with_shifted_rivals
from fluoro_reg.registration.stages.solver import Solver
from fluoro_reg.xray.preprocessing.preprocess import preprocess_readings

VIEWS = ((0, 0, 0), (20, -8, 4), (-31, 11, -6))  # primary, secondary, roll, deg
NEAR_MM = 5.0  # far less than a level


@pytest.fixture(scope="module", params=[0.0, 0.01], ids=["equal", "similar"])
def spine(request):
    """A spine of equal vertebrae, and one whose vertebrae grow by 1 % from level to level; with a registrar of its CT."""
    spine = make_spine(request.param)
    options = from_mapping(RegistrationOptions, {"initial": {"view": "ap"}})
    return spine, Registrar(spine.ct, options), request.param


def displacement_mm(registrar: Registrar, pose: RigidTransform, truth: RigidTransform) -> float:
    return registrar.displacement_mm(pose, truth)


def rivals_mm(registrar: Registrar, result: RegistrationResult, truth: RigidTransform) -> list[float]:
    """How far the pose and every alternative are from the truth."""
    assert result.camera_from_patient is not None
    poses = [result.camera_from_patient, *(other.camera_from_patient for other in result.alternatives)]
    return [displacement_mm(registrar, pose, truth) for pose in poses]


@pytest.mark.parametrize("angles", VIEWS)
def test_the_level_is_right_or_ambiguous_with_the_right_one_among_the_rivals(spine, angles):
    scene, registrar, variation = spine
    truth = view_pose(scene.ct.centre_patient + torch.tensor([5.0, -4.0, 12.0]), *angles, 700.0)
    result = registrar.register(scene.xray(truth))
    distances = rivals_mm(registrar, result, truth)
    if result.accepted:
        assert distances[0] < NEAR_MM
    else:
        assert result.outcome is Outcome.AMBIGUOUS, result.reason
        assert min(distances) < NEAR_MM
    assert any(0.7 * PITCH_MM < distance < 1.3 * PITCH_MM for distance in distances), "a neighbouring level is reported"
    if variation == 0:
        assert not result.accepted, "nothing in the image tells equal vertebrae apart"


def test_the_ends_of_a_cut_ct_do_not_pull_a_pose_away(spine):
    """Where the CT ends, the rendered image has an edge that the X-ray has not; a gradient must not read it."""
    scene, registrar, _ = spine
    truth = view_pose(scene.ct.centre_patient + torch.tensor([5.0, -4.0, 12.0]), *VIEWS[2], 700.0)
    local = Registrar(scene.ct, method="lm-local")
    result = local.register(scene.xray(truth), truth)
    assert displacement_mm(registrar, result.camera_from_patient, truth) < 1.5


def test_shifts_of_a_pose_at_a_wrong_level_lead_to_the_right_one(spine):
    scene, registrar, _ = spine
    truth = view_pose(scene.ct.centre_patient, *VIEWS[1], 700.0)
    along = truth.rotation @ torch.tensor([0.0, 0.0, PITCH_MM], dtype=torch.float64)
    wrong = RigidTransform(truth.rotation, truth.translation + along)
    (prepared,) = preprocess_readings(scene.xray(truth), registrar.options.preprocess)
    reading = registrar.readings.whole
    solver = Solver(
        reading.scales(prepared, wrong), reading.model, registrar.metric, NCCRefiners(reading.model.pivot), None, 4.0
    )
    poses = with_shifted_rivals(solver, RigidTransform.stack([wrong]))
    distances = [displacement_mm(registrar, poses[k], truth) for k in range(len(poses.translation))]
    assert distances[0] > 0.8 * PITCH_MM
    assert min(distances[1:]) < 10.0, "as near as half a pixel and the change of perspective allow"
