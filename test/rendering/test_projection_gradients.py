"""Autograd through `project`: pose and intrinsics with every backend; volume and second derivatives where supported."""

import pytest
import torch
from helpers.rendering_scenes import CAMERA, GRIDS, VIEWS, Scene, grid, noise_volume, pose_towards
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.rendering import AbstractRenderer, TorchRenderer, project, project_with_jacobian

TINY = CameraIntrinsics(3, 2, 60.0, 55.0, 1.1, 0.4)


def weighted_sum(image: Tensor) -> Tensor:
    """Return a loss that depends on every pixel."""
    phase = torch.linspace(-1, 2, image.numel(), dtype=image.dtype, device=image.device)
    return (image * phase.reshape(image.shape).cos()).sum()


def gradients(renderer: AbstractRenderer, scene: Scene) -> tuple[Tensor, Tensor]:
    """Return the gradients of the loss with respect to a twist of the pose and to K."""
    twist = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    k = CAMERA.matrix().requires_grad_()
    loss = weighted_sum(project(renderer, retract(scene.camera_from_patient, twist, scene.pivot), CAMERA, k))
    return torch.autograd.grad(loss, (twist, k))


def test_gradients_of_pose_and_intrinsics_equal_those_of_the_reference(backend: type[AbstractRenderer], scene: Scene) -> None:
    grad_twist, grad_k = gradients(backend(scene.volume), scene)
    expected_twist, expected_k = gradients(TorchRenderer(scene.volume, dtype=torch.float64), scene)
    assert expected_twist.abs().min() > 0
    torch.testing.assert_close(grad_twist[:3], expected_twist[:3], rtol=0, atol=1e-3 * float(expected_twist[:3].abs().max()))
    torch.testing.assert_close(grad_twist[3:], expected_twist[3:], rtol=0, atol=1e-3 * float(expected_twist[3:].abs().max()))
    torch.testing.assert_close(grad_k, expected_k, rtol=1e-3, atol=1e-3 * float(expected_k[:2].abs().max()))


def test_a_gradient_is_the_jacobian_summed_over_the_image(backend: type[AbstractRenderer], scene: Scene) -> None:
    renderer = backend(scene.volume)
    image, jacobian = project_with_jacobian(renderer, scene.camera_from_patient, CAMERA, scene.pivot)
    image = image.clone().requires_grad_()
    (weight,) = torch.autograd.grad(weighted_sum(image), image)
    summed = (weight[..., None] * jacobian).sum(dim=(0, 1)).cpu().double()
    grad_twist, _ = gradients(renderer, scene)
    torch.testing.assert_close(grad_twist, summed, rtol=1e-3, atol=1e-3 * float(summed[:3].abs().max()))


def test_every_pose_of_a_batch_has_its_own_gradient(backend: type[AbstractRenderer], sheared_scene: Scene) -> None:
    renderer = backend(sheared_scene.volume)
    twists = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    pose = retract(RigidTransform.stack([sheared_scene.camera_from_patient] * 2), twists, sheared_scene.pivot)
    image = project(renderer, pose, CAMERA)
    (grad_twist,) = torch.autograd.grad(weighted_sum(image[0]) + 3 * weighted_sum(image[1]), twists)
    torch.testing.assert_close(grad_twist[1], 3 * grad_twist[0], rtol=1e-4, atol=1e-4)


def test_without_gradients_no_graph_is_kept(backend: type[AbstractRenderer], sheared_scene: Scene) -> None:
    assert not project(backend(sheared_scene.volume), sheared_scene.camera_from_patient, CAMERA).requires_grad


def test_the_reference_passes_gradcheck_once_and_twice() -> None:
    shape, patient_from_voxel = grid(GRIDS["sheared"], (5, 4, 6))
    pose = pose_towards(noise_volume(shape, patient_from_voxel), VIEWS["diagonal"], depth_mm=40.0)

    def image(attenuation: Tensor, twist: Tensor, k: Tensor) -> Tensor:
        renderer = TorchRenderer(CTVolume(attenuation, patient_from_voxel), dtype=torch.float64)
        return project(renderer, retract(pose, twist, renderer.volume.centre_patient), TINY, k)

    attenuation = torch.rand(*shape[::-1], dtype=torch.float64, requires_grad=True)
    twist = torch.full((6,), 0.01, dtype=torch.float64, requires_grad=True)
    k = TINY.matrix().requires_grad_()
    assert float(image(attenuation, twist, k).detach().min()) > 1
    assert torch.autograd.gradcheck(image, (attenuation, twist, k), eps=1e-7, atol=1e-4, rtol=1e-4)
    assert torch.autograd.gradgradcheck(image, (attenuation, twist, k), eps=1e-7, atol=1e-3, rtol=1e-3)


def test_second_derivatives_are_computed_or_rejected(backend: type[AbstractRenderer], sheared_scene: Scene) -> None:
    twist = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    pose = retract(sheared_scene.camera_from_patient, twist, sheared_scene.pivot)
    loss = weighted_sum(project(backend(sheared_scene.volume), pose, CAMERA))
    if backend.capabilities.double_backward:
        (grad_twist,) = torch.autograd.grad(loss, twist, create_graph=True)
        (curvature,) = torch.autograd.grad(grad_twist.sum(), twist)
        assert curvature.abs().max() > 0
    else:
        with pytest.raises(RuntimeError, match="cannot be differentiated twice; use the torch renderer"):
            torch.autograd.grad(loss, twist, create_graph=True)


def test_a_gradient_of_the_volume_is_computed_or_rejected(backend: type[AbstractRenderer], sheared_scene: Scene) -> None:
    volume = sheared_scene.volume
    trainable = CTVolume(volume.attenuation.clone().requires_grad_(), volume.patient_from_voxel)
    if backend.capabilities.volume_gradient:
        weighted_sum(project(backend(trainable), sheared_scene.camera_from_patient, CAMERA)).backward()
        assert trainable.attenuation.grad is not None
        assert trainable.attenuation.grad.abs().max() > 0
    else:
        with pytest.raises(InputError, match="no gradient with respect to the volume"):
            backend(trainable)


def test_a_volume_that_requires_a_gradient_later_is_rejected_too(backend: type[AbstractRenderer], sheared_scene: Scene) -> None:
    volume = CTVolume(sheared_scene.volume.attenuation.clone(), sheared_scene.volume.patient_from_voxel)
    renderer = backend(volume)
    volume.attenuation.requires_grad_()
    if not backend.capabilities.volume_gradient:
        with pytest.raises(InputError, match="no gradient with respect to the volume"):
            project(renderer, sheared_scene.camera_from_patient, CAMERA)
