"""Fusion of accepted poses: information adds up in the patient's axes, and a patient who moves is noticed."""

import math
from dataclasses import replace

import pytest
import torch

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.geometry import RigidTransform, retract, se3
from fluoro_reg.registration import Outcome, RegistrationResult
from fluoro_reg.registration.assessment.covariance import ros_covariance
from fluoro_reg.registration.fusion import MAXIMUM_VIEWS, SAME_VIEW_DEG, PatientFusion

PIVOT = torch.tensor([20.0, -30.0, 900.0], dtype=torch.float64)
SD = torch.tensor([0.1, 0.1, 3.0, 0.002, 0.002, 0.001], dtype=torch.float64)  # camera axes, mm and rad; depth is weak
ANCHOR_FROM_PATIENT = se3.exp(torch.tensor([50.0, 80.0, -20.0, 0.3, -0.2, 0.5], dtype=torch.float64))


def measured(primary_deg, error=None, moved=None, sd=SD) -> tuple[RigidTransform, RegistrationResult]:
    """The camera in the anchor and an accepted result, with an error in units of its standard deviations (camera axes)."""
    camera_from_patient = view_pose(PIVOT, primary_deg, 0.0, 0.0, 700.0)
    anchor_from_camera = ANCHOR_FROM_PATIENT @ camera_from_patient.inverse()
    if moved is not None:
        camera_from_patient = retract(camera_from_patient, moved, PIVOT)
    axes = torch.block_diag(camera_from_patient.rotation, camera_from_patient.rotation)  # camera from patient
    covariance = axes.T @ sd.square().diag() @ axes
    twist = torch.zeros(6, dtype=torch.float64) if error is None else axes.T @ (error * sd)
    pose = retract(camera_from_patient, twist, PIVOT)
    return anchor_from_camera, RegistrationResult(
        Outcome.CONVERGED, "", "m", camera_from_patient=pose, covariance=ros_covariance(covariance, pose, PIVOT)
    )


def error_mm(fused) -> float:
    return float((fused.anchor_from_patient.apply(PIVOT[None]) - ANCHOR_FROM_PATIENT.apply(PIVOT[None])).norm())


def errors(n: int) -> torch.Tensor:
    return torch.randn(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_one_view_is_itself():
    anchor_from_camera, result = measured(20.0, errors(1)[0])
    fused = PatientFusion(PIVOT).add(anchor_from_camera, result)
    torch.testing.assert_close(fused.anchor_from_patient.matrix(), (anchor_from_camera @ result.camera_from_patient).matrix())
    assert (fused.views, fused.spread_deg, fused.began_anew) == (1, 0.0, False)


def test_five_views_over_60_degrees_know_depth_better_than_one_by_far():
    fusion = PatientFusion(PIVOT)
    centre = ANCHOR_FROM_PATIENT.apply(PIVOT[None])
    views = [measured(primary, error) for primary, error in zip((-30, -15, 0, 15, 30), errors(5), strict=True)]
    alone = [float((camera @ r.camera_from_patient).apply(PIVOT[None]).sub(centre).norm()) for camera, r in views]
    fused = [fusion.add(*view) for view in views][-1]
    assert error_mm(fused) < sum(alone) / 5 / 5
    assert fused.views == 5
    assert fused.spread_deg == pytest.approx(60.0, abs=0.5)
    assert math.sqrt(float(fused.covariance[:3, :3].trace())) < 0.5 * math.sqrt(float(views[0][1].covariance[:3, :3].trace()))


def test_the_error_is_within_the_covariance():
    """Squared Mahalanobis distances of many fusions have the mean of a chi-squared distribution of six dimensions."""
    distances, draws = [], errors(200 * 3).reshape(200, 3, 6)
    for draw in draws:
        fusion = PatientFusion(PIVOT)
        fused = [fusion.add(*measured(primary, error)) for primary, error in zip((-20, 0, 20), draw, strict=True)][-1]
        if not fused.began_anew:
            twist = se3.local(ANCHOR_FROM_PATIENT, fused.anchor_from_patient, PIVOT)
            _, information = fusion.mean()
            distances.append(float(twist @ information @ twist))
    assert 5.3 < sum(distances) / len(distances) < 6.7


def test_frames_from_one_angle_are_one_view():
    fusion = PatientFusion(PIVOT)
    fusion.add(*measured(0.0, errors(1)[0]))
    _, alone = fusion.mean()
    again = [fusion.add(*measured(0.5 * SAME_VIEW_DEG, error)) for error in errors(10)][-1]
    assert again.views == 1
    torch.testing.assert_close(torch.linalg.eigvalsh(fusion.mean()[1]), torch.linalg.eigvalsh(alone), rtol=1e-3, atol=0.0)


def test_the_oldest_view_is_dropped():
    fusion = PatientFusion(PIVOT)
    fused = [fusion.add(*measured(5.0 * n)) for n in range(MAXIMUM_VIEWS + 3)][-1]
    assert fused.views == MAXIMUM_VIEWS


@pytest.mark.parametrize("moved", [(5, 0, 0), (0, 5, 0), (0, 0, 5), (3, 3, 3)])
def test_a_patient_who_moves_by_5_mm_is_noticed_within_two_frames_from_other_angles(moved):
    fusion = PatientFusion(PIVOT)
    for primary, error in zip((-30, -15, 0, 15, 30), errors(5), strict=True):
        assert not fusion.add(*measured(primary, error)).began_anew
    twist = torch.tensor([*moved, 0, 0, 0], dtype=torch.float64)
    after = [fusion.add(*measured(primary, moved=twist)) for primary in (20.0, -20.0)]
    assert any(fused.began_anew for fused in after)
    assert after[-1].views <= 2


def test_the_uncertainty_of_the_anchor_is_part_of_every_view():
    anchor_from_camera, result = measured(0.0)
    certain, uncertain = (PatientFusion(PIVOT, sd).add(anchor_from_camera, result) for sd in ((0.0, 0.0), (2.0, 0.0)))
    added = (uncertain.covariance - certain.covariance)[:3, :3]
    torch.testing.assert_close(added, 4.0 * torch.eye(3, dtype=torch.float64), rtol=0.0, atol=0.05)


def test_a_reset_forgets():
    fusion = PatientFusion(PIVOT)
    fusion.add(*measured(0.0))
    fusion.reset()
    assert fusion.add(*measured(30.0)).views == 1


@pytest.mark.parametrize("change", [{"outcome": Outcome.REJECTED_POSE}, {"covariance": None}, {"camera_from_patient": None}])
def test_what_was_not_accepted_is_not_fused(change):
    anchor_from_camera, result = measured(0.0)
    with pytest.raises(ValueError, match="accepted pose with a covariance"):
        PatientFusion(PIVOT).add(anchor_from_camera, replace(result, **change))
