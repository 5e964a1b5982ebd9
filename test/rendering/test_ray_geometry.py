"""Rays compared with the pinhole camera of the package, and their tangents with finite differences."""

import pytest
import torch
from helpers.rendering_scenes import CAMERA, GRIDS, VIEWS, Scene, grid, noise_volume, pose_towards

from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.rendering.rays import ViewGeometry, march_axes, rays_of_views, twist_tangents


def test_the_ray_of_a_points_pixel_reaches_the_point_at_its_depth(scene: Scene) -> None:
    voxel = torch.tensor([[2.0, 3.5, 1.25], [15.0, 11.0, 9.0]], dtype=torch.float64)
    in_camera = scene.camera_from_patient.apply(scene.volume.points_patient(voxel))
    pixel = torch.nn.functional.pad(CAMERA.project(in_camera), (0, 1), value=1.0)
    rays = rays_of_views(scene.volume, scene.camera_from_patient, CAMERA)
    reached = rays.source[0] + in_camera[:, 2:] * (pixel @ rays.direction_from_pixel[0].T)
    torch.testing.assert_close(reached, voxel, rtol=0, atol=1e-9)


def test_a_tensor_of_intrinsics_gives_the_same_rays_as_the_numbers(sheared_scene: Scene) -> None:
    by_numbers = rays_of_views(sheared_scene.volume, sheared_scene.camera_from_patient, CAMERA)
    by_tensor = rays_of_views(sheared_scene.volume, sheared_scene.camera_from_patient, CAMERA, CAMERA.matrix())
    torch.testing.assert_close(by_tensor.direction_from_pixel, by_numbers.direction_from_pixel)


def test_tangents_equal_finite_differences_of_the_rays(scene: Scene) -> None:
    tangents = twist_tangents(scene.volume, scene.camera_from_patient, CAMERA, scene.pivot)
    for parameter in range(6):
        step = torch.zeros(6, dtype=torch.float64)
        step[parameter] = 1e-5
        plus, minus = (
            rays_of_views(scene.volume, retract(scene.camera_from_patient, sign * step, scene.pivot), CAMERA)
            for sign in (1, -1)
        )
        source_difference = (plus.source - minus.source) / 2e-5
        direction_difference = (plus.direction_from_pixel - minus.direction_from_pixel) / 2e-5
        torch.testing.assert_close(tangents.source[:, parameter], source_difference, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(tangents.direction_from_pixel[:, parameter], direction_difference, rtol=1e-6, atol=1e-6)


def test_compiled_rays_are_those_of_torch(sheared_scene: Scene) -> None:
    """A pose that needs a gradient is computed by torch."""
    pose, pivot = sheared_scene.camera_from_patient, sheared_scene.pivot
    by_torch = RigidTransform(pose.rotation.clone().requires_grad_(), pose.translation)
    geometry = ViewGeometry.from_volume(sheared_scene.volume, CAMERA)
    rays, expected = geometry.rays(pose), geometry.rays(by_torch)
    tangents, expected_tangents = geometry.twist_tangents(pose, pivot), geometry.twist_tangents(by_torch, pivot)
    assert expected.source.requires_grad
    for compiled, reference in ((rays, expected), (tangents, expected_tangents)):
        assert not compiled.source.requires_grad
        torch.testing.assert_close(compiled.source, reference.source.detach(), rtol=1e-12, atol=1e-10)
        torch.testing.assert_close(
            compiled.direction_from_pixel, reference.direction_from_pixel.detach(), rtol=1e-12, atol=1e-10
        )


@pytest.mark.parametrize(("view", "axis"), [("along i", 0), ("along j", 1), ("along k", 2), ("opposite", 2)])
def test_the_march_axis_is_the_viewing_direction(view: str, axis: int) -> None:
    volume = noise_volume(*grid(GRIDS["cubic"]))
    rays = rays_of_views(volume, pose_towards(volume, VIEWS[view]), CAMERA)
    assert march_axes(rays, volume.shape_ijk) == [axis]


def test_a_source_in_the_volume_marches_along_the_central_ray() -> None:
    volume = noise_volume(*grid(GRIDS["cubic"]))
    rays = rays_of_views(volume, pose_towards(volume, VIEWS["along i"], depth_mm=0.0), CAMERA)
    assert march_axes(rays, volume.shape_ijk) == [0]


def test_batch_dimensions_are_flattened(sheared_scene: Scene) -> None:
    pose = sheared_scene.camera_from_patient
    batch = RigidTransform(pose.rotation.expand(2, 3, 3, 3), pose.translation.expand(2, 3, 3))
    rays = rays_of_views(sheared_scene.volume, batch, CAMERA)
    assert rays.source.shape == (6, 3)
    assert rays.direction_from_pixel.shape == (6, 3, 3)
