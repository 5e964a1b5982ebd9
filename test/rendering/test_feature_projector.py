"""The compiled projection of features against the one that autograd differentiates, and against its own transpose."""

import pytest
import torch
from helpers.rendering_scenes import CAMERA, Scene

from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.rendering import project_features, project_features_with_jacobian
from fluoro_reg.rendering.features.projector import _Projection, _Transposed, _views

SAMPLES = 200


@pytest.fixture
def poses(sheared_scene: Scene) -> RigidTransform:
    twists = 0.05 * torch.randn(2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    twists[:, :3] *= 100
    return retract(RigidTransform.stack([sheared_scene.camera_from_patient] * 2), twists, sheared_scene.pivot)


@pytest.fixture
def features(sheared_scene: Scene) -> torch.Tensor:
    """Two channels that fade towards the sides of the box, where samples come and go."""
    attenuation = sheared_scene.volume.attenuation
    fade = torch.ones_like(attenuation)
    for axis, size in enumerate(attenuation.shape):
        shape = [1, 1, 1]
        shape[axis] = size
        fade = fade * torch.sin(torch.pi * (torch.arange(size) + 0.5) / size).square().reshape(shape)
    return torch.stack([attenuation * fade, (1 - attenuation) * fade])


def test_image_and_derivatives_are_those_of_autograd(sheared_scene, poses, features):
    scene, twist = sheared_scene, torch.zeros(2, 6, dtype=torch.float64)

    def exact(twist: torch.Tensor) -> torch.Tensor:
        return project_features(features.double(), scene.volume, retract(poses, twist, scene.pivot), CAMERA, SAMPLES)

    both = _Projection.apply(features, _views(scene.volume, poses, CAMERA, scene.pivot), SAMPLES)
    torch.testing.assert_close(both[:, 0].double(), exact(twist), rtol=1e-4, atol=1e-4)
    for number in range(6):
        direction = torch.eye(6, dtype=torch.float64)[number].expand(2, 6).contiguous()
        _, expected = torch.func.jvp(exact, (twist,), (direction,))
        assert expected.abs().max() > 0
        assert (both[:, 1 + number] - expected).abs().max() < 0.02 * expected.abs().max()


def test_the_transpose_is_the_transpose(sheared_scene, poses, features):
    scene = sheared_scene
    views = _views(scene.volume, poses, CAMERA, scene.pivot)
    image = _Projection.apply(features, views, 30)
    probe = torch.randn(image.shape)
    back = _Transposed.apply(probe, views, 30, (*(size + 2 for size in features.shape[1:]), 2))
    assert float((image.double() * probe).sum()) == pytest.approx(float((features.double() * back).sum()), rel=1e-4)


def test_a_gradient_of_the_derivatives_reaches_the_features(sheared_scene, poses):
    """What a twist does to a value, by the features, against autograd all the way, where all that differs is how samples follow
    the box.
    """
    scene, generator = sheared_scene, torch.Generator().manual_seed(2)
    inner = torch.zeros(1, *scene.volume.attenuation.shape)
    inner[:, 2:-2, 2:-2, 2:-2] = 1
    noise, fixed = (torch.rand(shape, generator=generator) for shape in (inner.shape, (2, 1, CAMERA.height, CAMERA.width)))

    def by_autograd(features: torch.Tensor) -> torch.Tensor:
        twist = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
        image = project_features(features, scene.volume, retract(poses, twist, scene.pivot), CAMERA, 4 * SAMPLES)
        return torch.autograd.grad((image - fixed).square().mean(), twist, create_graph=True)[0]

    def forwards(features: torch.Tensor) -> torch.Tensor:
        image, jacobian = project_features_with_jacobian(features, scene.volume, poses, CAMERA, 4 * SAMPLES, scene.pivot)
        return 2 * torch.einsum("bchw,bchwk->bk", image - fixed, jacobian) / image.numel()

    found = []
    for slope_of in (by_autograd, forwards):
        features = (inner * noise).requires_grad_()
        slope = slope_of(features)
        (by_features,) = torch.autograd.grad((slope * torch.tensor([1.0] * 3 + [30.0] * 3)).sum(), features)
        found.append((slope.detach(), by_features * inner))
    for exact, ours in zip(*found, strict=True):
        assert (exact - ours).norm() < 0.03 * exact.norm()


def test_float64_and_other_devices_go_the_way_of_autograd(sheared_scene, poses, features):
    scene, h = sheared_scene, 1e-4
    found, jacobian = project_features_with_jacobian(features.double(), scene.volume, poses, CAMERA, 12, scene.pivot)

    def image(twist: torch.Tensor) -> torch.Tensor:
        return project_features(features.double(), scene.volume, retract(poses, twist, scene.pivot), CAMERA, 12)

    torch.testing.assert_close(found, image(torch.zeros(2, 6, dtype=torch.float64)))
    for number in range(6):
        step = h * torch.eye(6, dtype=torch.float64)[number].expand(2, 6)
        difference = (image(step) - image(-step)) / (2 * h)
        assert (jacobian[..., number] - difference).abs().mean() < 1e-3 * difference.abs().max()
