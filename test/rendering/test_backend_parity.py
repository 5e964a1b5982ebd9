"""All entries of RENDERERS compared with the float64 reference, and the reference's Jacobian with finite differences."""

import importlib.machinery
import importlib.util
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.rendering_scenes import CAMERA, GRIDS, VIEWS, Scene, grid, noise_volume, pose_towards
from torch import Tensor

from fluoro_reg import rendering
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.rendering import (
    RENDERERS,
    AbstractRenderer,
    NumbaRenderer,
    TorchRenderer,
    make_renderer,
)
from fluoro_reg.rendering.backends.numba.kernels import march_rows
from fluoro_reg.rendering.rays import rays_of_views, twist_tangents


def project(renderer: AbstractRenderer, *view: Any) -> Tensor:
    return rendering.project(renderer, *view).cpu()


def project_with_jacobian(renderer: AbstractRenderer, *view: Any) -> tuple[Tensor, Tensor]:
    image, jacobian = rendering.project_with_jacobian(renderer, *view)
    return image.cpu(), jacobian.cpu()


def largest_error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference over all dimensions but the last, relative to the largest value; maximum over channels."""
    difference = (actual.double() - expected).flatten(0, -2).abs().amax(0)
    return float((difference / expected.flatten(0, -2).abs().amax(0).clamp_min(1e-12)).max())


def test_image_and_jacobian_equal_the_float64_reference(backend: type[AbstractRenderer], scene: Scene) -> None:
    reference = TorchRenderer(scene.volume, dtype=torch.float64)
    expected = project_with_jacobian(reference, scene.camera_from_patient, CAMERA, scene.pivot)
    image, jacobian = project_with_jacobian(backend(scene.volume), scene.camera_from_patient, CAMERA, scene.pivot)
    assert image.dtype == jacobian.dtype == torch.float32
    assert expected[0].max() > 0.2
    assert largest_error(image[..., None], expected[0][..., None]) < 1e-5
    assert largest_error(jacobian, expected[1]) < 1e-4
    torch.testing.assert_close(project(backend(scene.volume), scene.camera_from_patient, CAMERA), image, rtol=0, atol=1e-6)


def test_moments_equal_the_float64_reference(backend: type[AbstractRenderer], scene: Scene) -> None:
    rays = rays_of_views(scene.volume, scene.camera_from_patient, CAMERA)
    moments = backend(scene.volume).moments(rays).cpu()
    assert largest_error(moments, TorchRenderer(scene.volume, dtype=torch.float64).moments(rays)) < 1e-3


def test_the_jacobian_of_the_kernel_equals_the_one_from_moments(backend: type[AbstractRenderer], scene: Scene) -> None:
    rays = rays_of_views(scene.volume, scene.camera_from_patient, CAMERA)
    tangents = twist_tangents(scene.volume, scene.camera_from_patient, CAMERA, scene.pivot)
    renderer = backend(scene.volume)
    direct = renderer.jacobian(rays, tangents).cpu()
    assert largest_error(direct, AbstractRenderer.jacobian(renderer, rays, tangents).cpu().double()) < 1e-4


def test_the_reference_jacobian_equals_finite_differences(scene: Scene) -> None:
    renderer = TorchRenderer(scene.volume, dtype=torch.float64)
    image, jacobian = project_with_jacobian(renderer, scene.camera_from_patient, CAMERA, scene.pivot)
    for parameter in range(6):
        step = torch.zeros(6, dtype=torch.float64)
        step[parameter] = 1e-6
        plus, minus = (
            project(renderer, retract(scene.camera_from_patient, sign * step, scene.pivot), CAMERA) for sign in (1, -1)
        )
        forward, backward = (plus - image) / 1e-6, (image - minus) / 1e-6
        scale = jacobian[..., parameter].abs().max()
        smooth = (forward - backward).abs() < 1e-4 * scale  # where a sample crosses a voxel face, there are two derivatives
        assert smooth.double().mean() > 0.97
        error = (jacobian[..., parameter] - (forward + backward) / 2).abs()[smooth].max()
        assert error < 1e-5 * scale


@pytest.mark.parametrize("view", ["along k", "diagonal"])
def test_sums_of_products_equal_those_of_the_reference_images(backend: type[AbstractRenderer], view: str) -> None:
    volume = noise_volume(*grid(GRIDS["sheared"]))
    poses = RigidTransform.stack([pose_towards(volume, VIEWS[view]), pose_towards(volume, VIEWS["along i"])])
    rays, tangents = rays_of_views(volume, poses, CAMERA), twist_tangents(volume, poses, CAMERA, volume.centre_patient)
    noise = torch.rand(3, 17, 21, generator=torch.Generator().manual_seed(2))
    fixed, weight = noise[:1], (noise[1:] - 0.3).clamp_min(0)
    gram = backend(volume).gram(rays, tangents, fixed, weight).cpu()
    reference = TorchRenderer(volume, dtype=torch.float64).jacobian(rays, tangents)
    ones = torch.ones(2, 17, 21, 1, dtype=torch.float64)
    x = torch.cat([ones, fixed.double()[..., None] * ones, reference], dim=-1)
    expected = torch.einsum("bhw,bhwi,bhwj->bij", weight.double(), x, x)
    assert gram.shape == (2, 9, 9)
    scale = expected.diagonal(dim1=-2, dim2=-1).sqrt()
    assert float(((gram - expected).abs() / (scale[:, :, None] * scale[:, None, :])).max()) < 1e-4


def test_given_march_axes_are_used(backend: type[AbstractRenderer]) -> None:
    volume = noise_volume(*grid(GRIDS["cubic"]))
    rays = rays_of_views(volume, pose_towards(volume, VIEWS["at the change of axis"]), CAMERA)
    reference, renderer = TorchRenderer(volume, dtype=torch.float64), backend(volume)
    images = []
    for axis in (1, 2):
        fixed_axis = replace(rays, axes=torch.tensor([axis]))
        images.append(renderer.integrals(fixed_axis).cpu())
        assert largest_error(images[-1][..., None], reference.integrals(fixed_axis)[..., None]) < 1e-5
    assert largest_error(images[0][..., None], images[1].double()[..., None]) > 1e-3


@pytest.mark.parametrize("view", VIEWS)
def test_the_image_of_a_crop_is_the_crop_of_the_image(backend: type[AbstractRenderer], view: str) -> None:
    volume = noise_volume(*grid(GRIDS["sheared"]))
    pose, renderer = pose_towards(volume, VIEWS[view]), backend(volume)
    whole, jacobian = project_with_jacobian(renderer, pose, CAMERA, volume.centre_patient)
    part, part_jacobian = project_with_jacobian(renderer, pose, CAMERA.cropped(12, 3, 7, 9), volume.centre_patient)
    tolerance = 2e-5 if backend is TorchRenderer else 1e-6  # the reference rounds geometry to its dtype
    torch.testing.assert_close(part, whole[3:12, 12:19], rtol=0, atol=tolerance)
    assert largest_error(part_jacobian, jacobian[3:12, 12:19].double()) < 1e-3


@pytest.mark.parametrize("view", ["along k", "along j", "along i"])
def test_patches_of_rays_are_crops_of_the_images(backend: type[AbstractRenderer], view: str) -> None:
    volume = noise_volume(*grid(GRIDS["anisotropic"]))
    poses = RigidTransform.stack([pose_towards(volume, VIEWS[view]), pose_towards(volume, VIEWS["diagonal"])])
    rays = rays_of_views(volume, poses, CAMERA)
    corners = torch.tensor([[[0, 0], [7, 3], [15, 12]], [[2, 11], [3, 1], [13, 5]]])
    patches = backend(volume).moments(rays.patches(corners, height=5, width=6)).cpu()
    whole = TorchRenderer(volume, dtype=torch.float64).moments(rays)
    assert patches.shape == (6, 5, 6, 7)
    for n, (u, v) in enumerate(corners.reshape(-1, 2).tolist()):
        assert largest_error(patches[n], whole[n // 3, v : v + 5, u : u + 6]) < 1e-4


def test_a_batch_equals_its_views_rendered_one_by_one(backend: type[AbstractRenderer]) -> None:
    volume = noise_volume(*grid(GRIDS["anisotropic"]))
    renderer, poses = backend(volume), [pose_towards(volume, rotation) for rotation in VIEWS.values()]
    stacked = RigidTransform.stack(poses)
    batch = RigidTransform(stacked.rotation.reshape(2, 3, 3, 3), stacked.translation.reshape(2, 3, 3))
    image, jacobian = project_with_jacobian(renderer, batch, CAMERA, volume.centre_patient)
    assert image.shape == (2, 3, 17, 21)
    assert jacobian.shape == (2, 3, 17, 21, 6)
    for n, pose in enumerate(poses):
        one, one_jacobian = project_with_jacobian(renderer, pose, CAMERA, volume.centre_patient)
        torch.testing.assert_close(image[n // 3, n % 3], one, rtol=0, atol=1e-6)
        assert largest_error(jacobian[n // 3, n % 3], one_jacobian.double()) < 1e-4


@pytest.mark.parametrize("depth", [0.0, 8.0])
@pytest.mark.parametrize("view", VIEWS)
def test_a_source_within_the_volume_sees_only_what_is_in_front_of_it(
    backend: type[AbstractRenderer], view: str, depth: float
) -> None:
    volume = noise_volume(*grid(GRIDS["sheared"]))
    pose = pose_towards(volume, VIEWS[view], depth)
    wide = CameraIntrinsics(15, 12, 9.0, 9.0, 7.0, 5.5)  # 80 degrees: rays across and within the planes
    expected = project_with_jacobian(TorchRenderer(volume, dtype=torch.float64), pose, wide, volume.centre_patient)
    image, jacobian = project_with_jacobian(backend(volume), pose, wide, volume.centre_patient)
    assert expected[0].max() > 0.1
    assert torch.isfinite(image).all()
    assert torch.isfinite(jacobian).all()
    assert largest_error(image[..., None], expected[0][..., None]) < 1e-4


def test_a_volume_behind_the_source_or_beside_the_beam_is_not_in_the_image(backend: type[AbstractRenderer]) -> None:
    volume = noise_volume(*grid(GRIDS["oblique"]))
    behind = pose_towards(volume, VIEWS["diagonal"], depth_mm=-300.0)
    beside = RigidTransform(behind.rotation, behind.translation + torch.tensor([500.0, 0.0, 700.0], dtype=torch.float64))
    for pose in (behind, beside):
        image, jacobian = project_with_jacobian(backend(volume), pose, CAMERA, volume.centre_patient)
        assert not image.any()
        assert not jacobian.any()


def test_a_ray_within_a_march_plane_is_a_miss_and_not_nan(backend: type[AbstractRenderer]) -> None:
    volume = CTVolume(torch.full((5, 5, 5), 0.02), torch.eye(4, dtype=torch.float64))
    pose = RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor([-2.0, -2.0, -2.0], dtype=torch.float64))
    camera = CameraIntrinsics(3, 3, 1e-9, 1e-9, 1.0, 1.0)  # the central ray is along k, the others within planes of constant k
    image, jacobian = project_with_jacobian(backend(volume), pose, camera, volume.centre_patient)
    assert torch.isfinite(image).all()
    assert torch.isfinite(jacobian).all()
    assert image[1, 1] > 0
    assert image[0, 0] == 0


def test_a_volume_of_air_gives_zeros(backend: type[AbstractRenderer]) -> None:
    volume = CTVolume(torch.zeros(4, 5, 6), torch.eye(4, dtype=torch.float64))
    image, jacobian = project_with_jacobian(
        backend(volume), pose_towards(volume, (0.2, 0.1, 0.0)), CAMERA, volume.centre_patient
    )
    assert not image.any()
    assert not jacobian.any()


def test_air_around_the_body_changes_nothing() -> None:
    shape, patient_from_voxel = grid(GRIDS["sheared"])
    body = noise_volume(shape, patient_from_voxel)
    wider = patient_from_voxel.clone()
    wider[:3, 3] = body.points_patient(torch.tensor([-4.0, -2.0, -7.0], dtype=torch.float64))
    padded = CTVolume(torch.nn.functional.pad(body.attenuation, (4, 4, 2, 2, 7, 7)), wider)
    pose = pose_towards(body, VIEWS["along j"])
    torch.testing.assert_close(
        project(NumbaRenderer(padded), pose, CAMERA), project(NumbaRenderer(body), pose, CAMERA), rtol=0, atol=1e-6
    )


def test_the_kernel_is_compiled_for_one_signature_only(sheared_scene: Scene) -> None:
    renderer = NumbaRenderer(sheared_scene.volume)
    project(renderer, sheared_scene.camera_from_patient, CAMERA)
    batch = RigidTransform.stack([sheared_scene.camera_from_patient] * 3)
    project_with_jacobian(renderer, batch, CAMERA, sheared_scene.pivot)
    renderer.moments(rays_of_views(sheared_scene.volume, batch, CAMERA))
    assert len(march_rows.signatures) == 1


def test_a_warmed_up_renderer_renders_the_same(backend: type[AbstractRenderer], sheared_scene: Scene) -> None:
    warm, cold = backend(sheared_scene.volume), backend(sheared_scene.volume)
    warm.warm_up()
    expected = project(cold, sheared_scene.camera_from_patient, CAMERA)
    assert torch.equal(project(warm, sheared_scene.camera_from_patient, CAMERA), expected)


def test_the_renderer_has_the_requested_capabilities(sheared_scene: Scene) -> None:
    assert isinstance(make_renderer(sheared_scene.volume, "cpu", double_backward=True), TorchRenderer)
    assert isinstance(make_renderer(sheared_scene.volume, "cpu", volume_gradient=True), TorchRenderer)
    for kind in RENDERERS.values():
        assert set(kind.capabilities.devices) <= {"cpu", "cuda"}
        assert kind.capabilities.jacobian_in_kernel != kind.capabilities.double_backward


@pytest.mark.parametrize(
    ("cuda", "triton", "expected"), [(True, True, "cuda"), (True, False, "cpu"), (False, True, "cpu"), (False, False, "cpu")]
)
def test_auto_is_cuda_with_a_cuda_device_and_triton_and_else_the_cpu(
    cuda: bool, triton: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    find_spec = importlib.util.find_spec
    found = {"triton": importlib.machinery.ModuleSpec("triton", None) if triton else None}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: found[name] if name in found else find_spec(name, *rest)
    )
    assert rendering.resolve_device("auto") == expected
    assert rendering.resolve_device("cpu") == "cpu"


def test_auto_does_not_import_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "triton", None)  # an import of triton would fail
    assert rendering.resolve_device("auto") == "cpu"


def test_a_device_has_a_renderer_or_a_clear_error(sheared_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_renderer(sheared_scene.volume, "cpu"), NumbaRenderer)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert isinstance(make_renderer(sheared_scene.volume), NumbaRenderer)
    with pytest.raises(ValueError, match="no CUDA device was found; use --device cpu"):
        make_renderer(sheared_scene.volume, "cuda")
    with pytest.raises(ValueError, match="must be one of cpu, cuda, auto, got 'gpu'"):
        make_renderer(sheared_scene.volume, "gpu")
