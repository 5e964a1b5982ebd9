"""C-arm views against what a radiologist sees, and initial poses with the requested error."""

import math

import pytest
import torch

from fluoro_reg.carm.pose_sampling import perturb_to_mtre, smooth_motion
from fluoro_reg.carm.view_pose import ap_pose, view_pose
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform, se3

CENTRE = torch.tensor([12.0, -140.0, -380.0], dtype=torch.float64)
LEFT, BACK, HEAD = torch.eye(3, dtype=torch.float64)


def apply(pose: RigidTransform, *points: torch.Tensor) -> torch.Tensor:
    return pose.apply(torch.stack(points))


def focal_spot(pose: RigidTransform) -> torch.Tensor:
    """Return the focal spot relative to the centre, in patient mm."""
    return pose.inverse().translation - CENTRE


def random_points(n: int = 50) -> torch.Tensor:
    return CENTRE + 60 * torch.randn(n, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_ap_view_is_oriented_as_a_radiologist_displays_it() -> None:
    pose = ap_pose(CENTRE, 700.0)
    centre, left, back, head = apply(pose, CENTRE, CENTRE + 10 * LEFT, CENTRE + 10 * BACK, CENTRE + 10 * HEAD)
    assert centre.tolist() == pytest.approx([0, 0, 700])
    assert left.tolist() == pytest.approx([10, 0, 700]), "the patient's left is on the right of the image"
    assert head.tolist() == pytest.approx([0, -10, 700]), "the head is at the top"
    assert back.tolist() == pytest.approx([0, 0, 710]), "the back is farther from the focal spot"


@pytest.mark.parametrize(
    ("angles", "direction"),
    [
        ((0, 0, 0), -BACK),
        ((90, 0, 0), LEFT),
        ((-90, 0, 0), -LEFT),
        ((0, 90, 0), HEAD),
        ((45, 0, 0), (LEFT - BACK) / math.sqrt(2)),
        ((0, -30, 0), -math.cos(math.pi / 6) * BACK - 0.5 * HEAD),
        ((0, 0, 77), -BACK),
    ],
)
def test_angles_move_the_focal_spot_in_the_documented_direction(angles: tuple[int, int, int], direction: torch.Tensor) -> None:
    pose = view_pose(CENTRE, *(float(angle) for angle in angles), source_to_object_mm=650.0)
    torch.testing.assert_close(focal_spot(pose), 650.0 * direction, rtol=0, atol=1e-9)
    torch.testing.assert_close(pose.apply(CENTRE[None])[0], torch.tensor([0, 0, 650.0], dtype=torch.float64))


def test_a_positive_roll_rotates_the_image_clockwise() -> None:
    head = apply(view_pose(CENTRE, 0.0, 0.0, 90.0, 700.0), CENTRE + 10 * HEAD)[0]
    assert head.tolist() == pytest.approx([10, 0, 700]), "what was at the top is now on the right"


@pytest.mark.parametrize("distance", [0.0, -700.0, math.nan, math.inf])
def test_an_impossible_source_distance_is_rejected(distance: float) -> None:
    with pytest.raises(InputError, match="distance"):
        ap_pose(CENTRE, distance)


@pytest.mark.parametrize("mtre", [0.0, 1e-3, 3.0, 25.0, 120.0])
@pytest.mark.parametrize("seed", range(4))
def test_an_initial_pose_has_exactly_the_requested_error(mtre: float, seed: int) -> None:
    truth, points = view_pose(CENTRE, 20.0, -5.0, 3.0, 700.0), random_points()
    initial = perturb_to_mtre(truth, points, mtre, CENTRE + 30, torch.Generator().manual_seed(seed))
    error = (initial.matrix()[:3] - truth.matrix()[:3]) @ torch.cat([points, torch.ones(len(points), 1)], dim=1).T
    assert error.norm(dim=0).mean().item() == pytest.approx(mtre, abs=1e-9)
    torch.testing.assert_close(initial.rotation @ initial.rotation.mT, torch.eye(3).double())


def test_errors_of_initial_poses_have_all_directions_and_include_rotations() -> None:
    truth, generator = ap_pose(CENTRE, 700.0), torch.Generator().manual_seed(5)
    initial_poses = [perturb_to_mtre(truth, random_points(), 15.0, CENTRE, generator) for _ in range(200)]
    twists = torch.stack([se3.log(truth.inverse() @ initial) for initial in initial_poses])
    at_centre = torch.stack([se3.exp(twist).apply(CENTRE[None])[0] - CENTRE for twist in twists])
    assert (at_centre.abs().mean(0) > 4).all() and (at_centre.mean(0).abs() < 2).all()
    angles_deg = torch.rad2deg(twists[:, 3:].norm(dim=1))
    assert 4 < angles_deg.median() < 9 and angles_deg.max() < 30


def test_the_same_seed_gives_the_same_pose_and_another_seed_another_pose() -> None:
    truth = ap_pose(CENTRE, 700.0)
    first, again, other = (
        perturb_to_mtre(truth, random_points(), 9.0, CENTRE, torch.Generator().manual_seed(s)) for s in (3, 3, 4)
    )
    assert torch.equal(first.matrix(), again.matrix()) and not torch.allclose(first.matrix(), other.matrix())


@pytest.mark.parametrize("mtre", [-1.0, math.nan, math.inf])
def test_an_impossible_error_is_rejected(mtre: float) -> None:
    with pytest.raises(InputError, match="zero or more"):
        perturb_to_mtre(ap_pose(CENTRE, 700.0), random_points(), mtre, CENTRE, torch.Generator())


def test_a_cine_starts_at_its_pose_and_moves_smoothly_within_its_bounds() -> None:
    first = ap_pose(CENTRE, 700.0)
    poses = smooth_motion(first, 60, CENTRE, (12.0, math.radians(5)), torch.Generator().manual_seed(2))
    torch.testing.assert_close(poses[0].matrix(), first.matrix())
    twists = torch.stack([se3.local(first, poses[n], CENTRE) for n in range(60)])
    assert twists[:, :3].norm(dim=1).max().item() == pytest.approx(12.0, abs=1e-6)
    assert twists[:, 3:].norm(dim=1).max().item() == pytest.approx(math.radians(5), abs=1e-6)
    steps = twists.diff(dim=0)
    assert steps[:, :3].norm(dim=1).max() < 2.5, "no jumps"
    assert steps.diff(dim=0)[:, :3].norm(dim=1).max() < 0.5, "no jerks"
