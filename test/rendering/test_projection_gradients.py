"""Autograd through `project`: to the pose and the intrinsics with every backend, to the volume and twice where promised."""

import pytest
import torch
from helpers.rendering_scenes import CAMERA, GRIDS, VIEWS, Scene, grid, looking, lumpy
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.rendering import AbstractRenderer, TorchRenderer, project, project_with_jacobian

TINY = CameraIntrinsics(3, 2, 60.0, 55.0, 1.1, 0.4)


def weighted(image: Tensor) -> Tensor:
    """A loss that no pixel is left out of."""
    phase = torch.linspace(-1, 2, image.numel(), dtype=image.dtype, device=image.device)
    return (image * phase.reshape(image.shape).cos()).sum()


def gradients(renderer: AbstractRenderer, scene: Scene) -> tuple[Tensor, Tensor]:
    """Of the loss to a twist of the pose and to K."""
    twist = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    k = CAMERA.matrix().requires_grad_()
    loss = weighted(project(renderer, retract(scene.camera_from_patient, twist, scene.pivot), CAMERA, k))
    return torch.autograd.grad(loss, (twist, k))


def test_pose_and_intrinsics_get_the_gradients_of_the_reference(backend: type[AbstractRenderer], scene: Scene) -> None:
    by_twist, by_k = gradients(backend(scene.volume), scene)
    expected_twist, expected_k = gradients(TorchRenderer(scene.volume, dtype=torch.float64), scene)
    assert expected_twist.abs().min() > 0
    torch.testing.assert_close(by_twist[:3], expected_twist[:3], rtol=0, atol=1e-3 * float(expected_twist[:3].abs().max()))
    torch.testing.assert_close(by_twist[3:], expected_twist[3:], rtol=0, atol=1e-3 * float(expected_twist[3:].abs().max()))
    torch.testing.assert_close(by_k, expected_k, rtol=1e-3, atol=1e-3 * float(expected_k[:2].abs().max()))


def test_a_gradient_is_the_jacobian_summed_over_the_image(backend: type[AbstractRenderer], scene: Scene) -> None:
    renderer = backend(scene.volume)
    image, jacobian = project_with_jacobian(renderer, scene.camera_from_patient, CAMERA, scene.pivot)
    image = image.clone().requires_grad_()
    (weight,) = torch.autograd.grad(weighted(image), image)
    summed = (weight[..., None] * jacobian).sum(dim=(0, 1)).cpu().double()
    by_twist, _ = gradients(renderer, scene)
    torch.testing.assert_close(by_twist, summed, rtol=1e-3, atol=1e-3 * float(summed[:3].abs().max()))


def test_a_batch_of_poses_gets_a_gradient_each(backend: type[AbstractRenderer], sheared_scene: Scene) -> None:
    renderer = backend(sheared_scene.volume)
    twists = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    pose = retract(RigidTransform.stack([sheared_scene.camera_from_patient] * 2), twists, sheared_scene.pivot)
    image = project(renderer, pose, CAMERA)
    (by_twist,) = torch.autograd.grad(weighted(image[0]) + 3 * weighted(image[1]), twists)
    torch.testing.assert_close(by_twist[1], 3 * by_twist[0], rtol=1e-4, atol=1e-4)


def test_without_gradients_no_graph_is_kept(backend: type[AbstractRenderer], sheared_scene: Scene) -> None:
    assert not project(backend(sheared_scene.volume), sheared_scene.camera_from_patient, CAMERA).requires_grad


def test_the_reference_passes_gradcheck_once_and_twice() -> None:
    shape, patient_from_voxel = grid(GRIDS["sheared"], (5, 4, 6))
    pose = looking(lumpy(shape, patient_from_voxel), VIEWS["diagonal"], depth_mm=40.0)

    def image(attenuation: Tensor, twist: Tensor, k: Tensor) -> Tensor:
        renderer = TorchRenderer(CTVolume(attenuation, patient_from_voxel), dtype=torch.float64)
        return project(renderer, retract(pose, twist, renderer.volume.centre_patient), TINY, k)

    attenuation = torch.rand(*shape[::-1], dtype=torch.float64, requires_grad=True)
    twist = torch.full((6,), 0.01, dtype=torch.float64, requires_grad=True)
    k = TINY.matrix().requires_grad_()
    assert float(image(attenuation, twist, k).detach().min()) > 1
    assert torch.autograd.gradcheck(image, (attenuation, twist, k), eps=1e-7, atol=1e-4, rtol=1e-4)
    assert torch.autograd.gradgradcheck(image, (attenuation, twist, k), eps=1e-7, atol=1e-3, rtol=1e-3)


def test_second_derivatives_are_given_or_refused(backend: type[AbstractRenderer], sheared_scene: Scene) -> None:
    twist = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    pose = retract(sheared_scene.camera_from_patient, twist, sheared_scene.pivot)
    loss = weighted(project(backend(sheared_scene.volume), pose, CAMERA))
    if backend.capabilities.double_backward:
        (by_twist,) = torch.autograd.grad(loss, twist, create_graph=True)
        (curvature,) = torch.autograd.grad(by_twist.sum(), twist)
        assert curvature.abs().max() > 0
    else:
        with pytest.raises(RuntimeError, match="cannot be differentiated twice; use the torch renderer"):
            torch.autograd.grad(loss, twist, create_graph=True)


def test_a_gradient_to_the_volume_is_given_or_refused(backend: type[AbstractRenderer], sheared_scene: Scene) -> None:
    volume = sheared_scene.volume
    learned = CTVolume(volume.attenuation.clone().requires_grad_(), volume.patient_from_voxel)
    if backend.capabilities.volume_gradient:
        weighted(project(backend(learned), sheared_scene.camera_from_patient, CAMERA)).backward()
        assert learned.attenuation.grad is not None
        assert learned.attenuation.grad.abs().max() > 0
    else:
        with pytest.raises(InputError, match="no gradient to the volume"):
            backend(learned)


def test_a_volume_that_learns_later_is_refused_too(backend: type[AbstractRenderer], sheared_scene: Scene) -> None:
    volume = CTVolume(sheared_scene.volume.attenuation.clone(), sheared_scene.volume.patient_from_voxel)
    renderer = backend(volume)
    volume.attenuation.requires_grad_()
    if not backend.capabilities.volume_gradient:
        with pytest.raises(InputError, match="no gradient to the volume"):
            project(renderer, sheared_scene.camera_from_patient, CAMERA)
