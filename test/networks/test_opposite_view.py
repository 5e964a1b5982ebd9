"""From behind: an orthographic camera sees the mirror image; the map is its own inverse; errors go where steps go."""

import pytest
import torch

from fluoro_reg.carm.pose_sampling import view_pose
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract, se3
from fluoro_reg.networks.opposite_view import is_opposite_view, opposite_view, opposite_view_covariance, opposite_view_where
from fluoro_reg.rendering import make_renderer, project

PIVOT = torch.tensor([12.0, -30.0, 400.0], dtype=torch.float64)
TWIST = torch.tensor([8.0, -5.0, 12.0, 0.2, 0.3, -0.1], dtype=torch.float64)


def oblique() -> RigidTransform:
    return retract(view_pose(PIVOT, 25.0, 10.0, 7.0, 700.0), TWIST, PIVOT)


def test_without_perspective_it_sees_the_mirror_image(volume):
    """A source 50 m away stands for parallel rays."""
    pose = retract(view_pose(volume.centre_patient, 25.0, 10.0, 7.0, 50_000.0), TWIST, volume.centre_patient)
    camera = CameraIntrinsics(64, 64, 20_000.0, 20_000.0, 31.5, 31.5)
    renderer = make_renderer(volume, "cpu")
    seen, behind = (project(renderer, p, camera) for p in (pose, opposite_view(pose, volume.centre_patient)))
    assert float((behind.flip(-1) - seen).abs().mean()) < 0.005 * float(seen.abs().mean())
    assert float((behind - seen).abs().mean()) > 0.1 * float(seen.abs().mean())


@pytest.mark.parametrize("primary_deg", [0.0, 20.0, -35.0])
def test_of_a_frontal_view_it_is_the_view_from_the_back(primary_deg):
    """The source on the other side of the pivot, which stays where it is in the image, the head still up."""
    behind = opposite_view(view_pose(PIVOT, primary_deg, 0.0, 0.0, 700.0), PIVOT)
    expected = view_pose(PIVOT, 180.0 + primary_deg, 0.0, 0.0, 700.0)
    torch.testing.assert_close(behind.matrix(), expected.matrix(), atol=1e-9, rtol=0)


def test_twice_it_is_the_view_itself():
    twice = opposite_view(opposite_view(oblique(), PIVOT), PIVOT)
    torch.testing.assert_close(twice.matrix(), oblique().matrix(), atol=1e-9, rtol=0)
    assert float(torch.linalg.det(opposite_view(oblique(), PIVOT).rotation)) == pytest.approx(1)


def test_a_covariance_goes_where_steps_go():
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    behind, size = opposite_view(oblique(), PIVOT), 1e-6
    steps = size * torch.eye(6, dtype=torch.float64)
    moved = (opposite_view(retract(oblique(), step, PIVOT), PIVOT) for step in steps)
    change = torch.stack([se3.local(behind, pose, PIVOT) / size for pose in moved], dim=-1)
    expected = change @ root @ root.mT @ change.mT
    torch.testing.assert_close(opposite_view_covariance(oblique(), root @ root.mT), expected, atol=1e-4, rtol=1e-4)


def test_only_those_marked_are_turned():
    poses = RigidTransform.stack([oblique(), opposite_view(oblique(), PIVOT)])
    behind = is_opposite_view(poses, view_pose(PIVOT, 0.0, 0.0, 0.0, 700.0))
    assert behind.tolist() == [False, True]
    folded = opposite_view_where(behind, poses, PIVOT)
    torch.testing.assert_close(folded.matrix()[1], folded.matrix()[0], atol=1e-9, rtol=0)
    torch.testing.assert_close(folded.matrix()[0], oblique().matrix())
