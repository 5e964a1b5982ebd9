"""The compiled projection of features compared with autograd, and with its own transpose."""

import pytest
import torch
from helpers.rendering_scenes import CAMERA, Scene

from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.rendering import project_features, project_features_with_jacobian
from fluoro_reg.rendering.features.projector import _Projection, _ProjectionTranspose, _views

SAMPLES = 200


@pytest.fixture
def poses(sheared_scene: Scene) -> RigidTransform:
    twists = 0.05 * torch.randn(2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    twists[:, :3] *= 100
    return retract(RigidTransform.stack([sheared_scene.camera_from_patient] * 2), twists, sheared_scene.pivot)


@pytest.fixture
def features(sheared_scene: Scene) -> torch.Tensor:
    """Return two channels that fade towards the sides of the box, where samples enter and leave."""
    attenuation = sheared_scene.volume.attenuation
    fade = torch.ones_like(attenuation)
    for axis, size in enumerate(attenuation.shape):
        shape = [1, 1, 1]
        shape[axis] = size
        fade = fade * torch.sin(torch.pi * (torch.arange(size) + 0.5) / size).square().reshape(shape)
    return torch.stack([attenuation * fade, (1 - attenuation) * fade])


def test_image_and_derivatives_equal_those_of_autograd(sheared_scene, poses, features):
    scene, twist = sheared_scene, torch.zeros(2, 6, dtype=torch.float64)

    def exact(twist: torch.Tensor) -> torch.Tensor:
        return project_features(features.double(), scene.volume, retract(poses, twist, scene.pivot), CAMERA, SAMPLES)

    image_and_jacobian = _Projection.apply(features, _views(scene.volume, poses, CAMERA, scene.pivot), SAMPLES)
    torch.testing.assert_close(image_and_jacobian[:, 0].double(), exact(twist), rtol=1e-4, atol=1e-4)
    for parameter in range(6):
        direction = torch.eye(6, dtype=torch.float64)[parameter].expand(2, 6).contiguous()
        _, expected = torch.func.jvp(exact, (twist,), (direction,))
        assert expected.abs().max() > 0
        assert (image_and_jacobian[:, 1 + parameter] - expected).abs().max() < 0.02 * expected.abs().max()


def test_the_transpose_has_the_same_inner_products(sheared_scene, poses, features):
    scene = sheared_scene
    views = _views(scene.volume, poses, CAMERA, scene.pivot)
    image = _Projection.apply(features, views, 30)
    probe = torch.randn(image.shape)
    back = _ProjectionTranspose.apply(probe, views, 30, (*(size + 2 for size in features.shape[1:]), 2))
    assert float((image.double() * probe).sum()) == pytest.approx(float((features.double() * back).sum()), rel=1e-4)


def test_a_gradient_of_the_derivatives_reaches_the_features(sheared_scene, poses):
    """Compare the derivative of a value's gradient, with respect to the features, with autograd all the way.

    The two differ only in how samples follow the box.
    """
    scene, generator = sheared_scene, torch.Generator().manual_seed(2)
    inner = torch.zeros(1, *scene.volume.attenuation.shape)
    inner[:, 2:-2, 2:-2, 2:-2] = 1
    noise, fixed = (torch.rand(shape, generator=generator) for shape in (inner.shape, (2, 1, CAMERA.height, CAMERA.width)))

    def by_autograd(features: torch.Tensor) -> torch.Tensor:
        twist = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
        image = project_features(features, scene.volume, retract(poses, twist, scene.pivot), CAMERA, 4 * SAMPLES)
        return torch.autograd.grad((image - fixed).square().mean(), twist, create_graph=True)[0]

    def compiled(features: torch.Tensor) -> torch.Tensor:
        image, jacobian = project_features_with_jacobian(features, scene.volume, poses, CAMERA, 4 * SAMPLES, scene.pivot)
        return 2 * torch.einsum("bchw,bchwk->bk", image - fixed, jacobian) / image.numel()

    results = []
    for gradient_by in (by_autograd, compiled):
        features = (inner * noise).requires_grad_()
        gradient = gradient_by(features)
        (by_features,) = torch.autograd.grad((gradient * torch.tensor([1.0] * 3 + [30.0] * 3)).sum(), features)
        results.append((gradient.detach(), by_features * inner))
    for exact, ours in zip(*results, strict=True):
        assert (exact - ours).norm() < 0.03 * exact.norm()


def test_float64_features_take_the_autograd_path(sheared_scene, poses, features):
    scene, h = sheared_scene, 1e-4
    results, jacobian = project_features_with_jacobian(features.double(), scene.volume, poses, CAMERA, 12, scene.pivot)

    def image(twist: torch.Tensor) -> torch.Tensor:
        return project_features(features.double(), scene.volume, retract(poses, twist, scene.pivot), CAMERA, 12)

    torch.testing.assert_close(results, image(torch.zeros(2, 6, dtype=torch.float64)))
    for parameter in range(6):
        step = h * torch.eye(6, dtype=torch.float64)[parameter].expand(2, 6)
        difference = (image(step) - image(-step)) / (2 * h)
        assert (jacobian[..., parameter] - difference).abs().mean() < 1e-3 * difference.abs().max()
