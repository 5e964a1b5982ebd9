"""Projections of features compared with scipy's interpolation, the renderer and finite differences; rays that miss."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers.rendering_scenes import CAMERA, Scene, grid, noise_volume, pose_towards
from scipy.ndimage import map_coordinates

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.rendering import TorchRenderer, project, project_features


def box(size: int = 6, voxel_mm: float = 2.0):
    """Return a volume of ones about the patient's origin."""
    shape, patient_from_voxel = grid([[voxel_mm, 0, 0], [0, voxel_mm, 0], [0, 0, voxel_mm]], (size,) * 3)
    patient_from_voxel[:3, 3] = -voxel_mm * (size - 1) / 2
    return dataclasses.replace(noise_volume(shape, patient_from_voxel), attenuation=torch.ones(shape))


def pose_along_k(depth_mm: float = 300.0) -> RigidTransform:
    """Return a pose that looks along the voxels' k axis at the patient's origin."""
    return RigidTransform(torch.eye(3, dtype=torch.float64)[None], torch.tensor([[0.0, 0.0, depth_mm]], dtype=torch.float64))


def one_pixel(cx: float = 0.0) -> CameraIntrinsics:
    return CameraIntrinsics(1, 1, 1000.0, 1000.0, cx, 0.0)


def test_it_equals_scipys_linear_interpolation_summed_along_the_ray(scene: Scene):
    """Rays and their lengths in mm are computed from the matrices in numpy, with 8000 points over 800 mm."""
    volume, pose = scene.volume, scene.camera_from_patient
    found = project_features(volume.attenuation[None].double(), volume, RigidTransform.stack([pose]), CAMERA, 400)
    voxel_from_camera = np.linalg.inv(pose.matrix().numpy() @ volume.patient_from_voxel.numpy())
    for u, v in ((3, 4), (12, 9), (19, 15)):
        ray = np.array([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, 1.0])
        depth = (np.arange(8000) + 0.5) / 8000 * 800
        points = voxel_from_camera @ np.concatenate([depth * ray[:, None], np.ones((1, 8000))])
        values = map_coordinates(volume.attenuation.double().numpy(), points[2::-1], order=1, mode="grid-constant")
        expected = values.sum() * 800 / 8000 * np.linalg.norm(ray)
        assert float(found[0, 0, v, u]) == pytest.approx(expected, rel=3e-3, abs=1e-4)


def test_it_agrees_with_the_renderer(scene: Scene):
    """The renderer's samples lie in the planes of the grid, which is another quadrature of the same rays."""
    volume, pose = scene.volume, RigidTransform.stack([scene.camera_from_patient])
    found = project_features(volume.attenuation[None].double(), volume, pose, CAMERA, 200)[0, 0]
    rendered = project(TorchRenderer(volume, dtype=torch.float64), pose, CAMERA)[0]
    assert (found - rendered).abs().max() < 0.05 * rendered.max()
    assert (found - rendered).square().mean().sqrt() < 0.01 * rendered.max()


def test_channels_and_poses_are_projected_independently_and_in_float32(sheared_scene: Scene):
    volume, pose = sheared_scene.volume, sheared_scene.camera_from_patient
    features = torch.stack([volume.attenuation, 2 * volume.attenuation.flip(0)])
    poses = RigidTransform.stack([pose, retract(pose, torch.full((6,), 0.05, dtype=torch.float64), sheared_scene.pivot)])
    images = project_features(features, volume, poses, CAMERA, 32)
    assert images.shape == (2, 2, CAMERA.height, CAMERA.width) and images.dtype == torch.float32
    for n in range(2):
        for channel in range(2):
            alone = project_features(features[channel, None].double(), volume, poses[n : n + 1], CAMERA, 32)[0, 0]
            torch.testing.assert_close(images[n, channel].double(), alone, rtol=1e-4, atol=1e-5)


def test_first_and_second_derivatives_of_pose_and_volume_agree_with_finite_differences():
    shape, patient_from_voxel = grid([[40.0, 0, 0], [0, 40.0, 9.0], [0, 0, 50.0]], (3, 2, 3))
    volume = noise_volume(shape, patient_from_voxel)
    camera, pose = CameraIntrinsics(3, 2, 30.0, 28.0, 1.1, 0.4), pose_towards(volume, (0.4, 0.3, 0.2), 600.0)
    features = torch.rand(2, *reversed(shape), dtype=torch.float64, requires_grad=True)
    twist = torch.tensor([[1.0, -2.0, 3.0, 0.01, 0.02, -0.03]], dtype=torch.float64, requires_grad=True)

    def image(twist: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        moved = retract(RigidTransform.stack([pose]), twist, volume.centre_patient)
        return project_features(features, volume, moved, camera, 5)

    assert image(twist, features).abs().min() > 0
    assert torch.autograd.gradcheck(image, (twist, features), eps=1e-6, atol=1e-6)
    assert torch.autograd.gradgradcheck(image, (twist, features), eps=1e-6, atol=1e-6)


def test_the_chord_of_a_box_is_exact_along_its_faces():
    """The ray is parallel to two slabs and within both.

    The volume is one over 6 voxels and falls to zero within one on each side.
    """
    found = project_features(torch.ones(1, 6, 6, 6, dtype=torch.float64), box(), pose_along_k(), one_pixel(), 700)
    assert float(found) == pytest.approx(2.0 * 6, rel=1e-5)


@pytest.mark.parametrize(
    "pose",
    [
        RigidTransform(torch.eye(3, dtype=torch.float64)[None], torch.tensor([[50.0, 0.0, 300.0]], dtype=torch.float64)),
        pose_along_k(-300.0),  # behind the source
    ],
)
def test_a_ray_that_misses_is_zero_with_zero_gradients(pose):
    """The first ray is parallel to slabs and outside one of them."""
    volume, features = box(), torch.ones(1, 6, 6, 6, dtype=torch.float64, requires_grad=True)
    twist = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    image = project_features(features, volume, retract(pose, twist, volume.centre_patient), one_pixel(), 8)
    (gradient,) = torch.autograd.grad(image.sum(), twist, create_graph=True)
    by_features, by_twist = torch.autograd.grad(gradient.sum() + image.sum(), (features, twist))
    assert all(torch.equal(x, torch.zeros_like(x)) for x in (image, gradient, by_features, by_twist))


def test_a_source_within_the_volume_sees_what_is_in_front_of_it():
    found = project_features(torch.ones(1, 6, 6, 6, dtype=torch.float64), box(), pose_along_k(0.0), one_pixel(), 700)
    assert float(found) == pytest.approx(2.0 * 3, rel=1e-3)
