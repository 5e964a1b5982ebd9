"""The opposite view: mirror images of parallel rays, its own inverse, and the covariance against finite differences."""

import pytest
import torch

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract, se3
from fluoro_reg.networks.opposite_view import is_opposite_view, opposite_view, opposite_view_covariance, opposite_view_where
from fluoro_reg.rendering import make_renderer, project

PIVOT = torch.tensor([12.0, -30.0, 400.0], dtype=torch.float64)
TWIST = torch.tensor([8.0, -5.0, 12.0, 0.2, 0.3, -0.1], dtype=torch.float64)


def oblique() -> RigidTransform:
    return retract(view_pose(PIVOT, 25.0, 10.0, 7.0, 700.0), TWIST, PIVOT)


def test_the_image_is_mirrored_where_rays_are_parallel(volume):
    """With a source 50 m away rays are nearly parallel."""
    pose = retract(view_pose(volume.centre_patient, 25.0, 10.0, 7.0, 50_000.0), TWIST, volume.centre_patient)
    camera = CameraIntrinsics(64, 64, 20_000.0, 20_000.0, 31.5, 31.5)
    renderer = make_renderer(volume, "cpu")
    image, opposite = (project(renderer, p, camera) for p in (pose, opposite_view(pose, volume.centre_patient)))
    assert float((opposite.flip(-1) - image).abs().mean()) < 0.005 * float(image.abs().mean())
    assert float((opposite - image).abs().mean()) > 0.1 * float(image.abs().mean())


@pytest.mark.parametrize("primary_deg", [0.0, 20.0, -35.0])
def test_the_opposite_of_a_frontal_view_is_the_view_from_the_back(primary_deg):
    """The source is on the other side of the pivot, which stays at its place in the image, and the head is still up."""
    opposite = opposite_view(view_pose(PIVOT, primary_deg, 0.0, 0.0, 700.0), PIVOT)
    expected = view_pose(PIVOT, 180.0 + primary_deg, 0.0, 0.0, 700.0)
    torch.testing.assert_close(opposite.matrix(), expected.matrix(), atol=1e-9, rtol=0)


def test_the_opposite_of_the_opposite_view_is_the_view_itself():
    twice = opposite_view(opposite_view(oblique(), PIVOT), PIVOT)
    torch.testing.assert_close(twice.matrix(), oblique().matrix(), atol=1e-9, rtol=0)
    assert float(torch.linalg.det(opposite_view(oblique(), PIVOT).rotation)) == pytest.approx(1)


def test_the_covariance_agrees_with_finite_differences():
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    opposite, size = opposite_view(oblique(), PIVOT), 1e-6
    steps = size * torch.eye(6, dtype=torch.float64)
    moved = (opposite_view(retract(oblique(), step, PIVOT), PIVOT) for step in steps)
    change = torch.stack([se3.local(opposite, pose, PIVOT) / size for pose in moved], dim=-1)
    expected = change @ root @ root.mT @ change.mT
    torch.testing.assert_close(opposite_view_covariance(oblique(), root @ root.mT), expected, atol=1e-4, rtol=1e-4)


def test_only_the_selected_poses_are_replaced():
    poses = RigidTransform.stack([oblique(), opposite_view(oblique(), PIVOT)])
    opposite = is_opposite_view(poses, view_pose(PIVOT, 0.0, 0.0, 0.0, 700.0))
    assert opposite.tolist() == [False, True]
    same_side = opposite_view_where(opposite, poses, PIVOT)
    torch.testing.assert_close(same_side.matrix()[1], same_side.matrix()[0], atol=1e-9, rtol=0)
    torch.testing.assert_close(same_side.matrix()[0], oblique().matrix())
