"""The quadrature compared with independent oracles: closed forms, and the exact integral of the trilinear field."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers.rendering_scenes import CAMERA, GRIDS, VIEWS, grid, noise_volume, pose_towards
from torch import Tensor

from fluoro_reg import rendering
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering import AbstractRenderer
from fluoro_reg.rendering.rays import rays_of_views

NARROW = CameraIntrinsics(9, 7, 900.0, 800.0, 4.2, 3.1)


def project(renderer: AbstractRenderer, *view: Any) -> Tensor:
    return rendering.project(renderer, *view).cpu()


def project_with_jacobian(renderer: AbstractRenderer, *view: Any) -> tuple[Tensor, Tensor]:
    image, jacobian = rendering.project_with_jacobian(renderer, *view)
    return image.cpu(), jacobian.cpu()


def camera_rays(pose: RigidTransform, camera: CameraIntrinsics) -> tuple[Tensor, Tensor]:
    """Return the source and unit directions in the patient, from the definition of the pinhole camera."""
    u, v = torch.meshgrid(torch.arange(camera.width), torch.arange(camera.height), indexing="xy")
    direction = torch.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, torch.ones(u.shape)], dim=-1).double()
    inverse = pose.inverse()
    return inverse.translation, torch.nn.functional.normalize(direction @ inverse.rotation.mT, dim=-1)


@pytest.mark.parametrize("linear", GRIDS.values(), ids=GRIDS.keys())
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_integral_through_a_homogeneous_block_is_its_path_length(
    backend: type[AbstractRenderer], linear: list, axis: int
) -> None:
    _, patient_from_voxel = grid(linear)
    sizes = [60, 60, 60]
    sizes[axis] = 9
    volume = CTVolume(torch.full(sizes[::-1], 0.03), patient_from_voxel)
    along = patient_from_voxel[:3, axis] / torch.linalg.vector_norm(patient_from_voxel[:3, axis])
    pose = pose_looking_along(volume, along)
    _, direction = camera_rays(pose, NARROW)
    normal = torch.linalg.inv(patient_from_voxel[:3, :3])[axis]  # planes of constant index are 1 / |normal| mm apart
    expected = 0.03 * 9 / (direction @ normal).abs()
    torch.testing.assert_close(project(backend(volume), pose, NARROW).double(), expected, rtol=2e-6, atol=0)


def pose_looking_along(volume: CTVolume, along: Tensor) -> RigidTransform:
    """Return a pose with the volume's centre at 400 mm and an optical axis that is nearly `along`."""
    tilted = torch.nn.functional.normalize(along + torch.tensor([0.02, -0.03, 0.025], dtype=torch.float64), dim=0)
    helper = torch.eye(3, dtype=torch.float64)[tilted.abs().argmin()]
    x = torch.nn.functional.normalize(torch.linalg.cross(helper, tilted), dim=0)
    rotation = torch.stack([x, torch.linalg.cross(tilted, x), tilted])
    return RigidTransform(rotation, torch.tensor([0.3, 0.2, 400.0], dtype=torch.float64) - rotation @ volume.centre_patient)


@pytest.mark.parametrize("linear", GRIDS.values(), ids=GRIDS.keys())
def test_integral_and_translation_derivatives_of_a_linear_field_are_exact(
    backend: type[AbstractRenderer], linear: list
) -> None:
    """mu = c + g . x in patient mm: I is mu at the path's middle times its length; dI/dv = -g times that length."""
    shape, patient_from_voxel = grid(linear, (60, 60, 8))
    indices = torch.stack(torch.meshgrid(*(torch.arange(n) for n in reversed(shape)), indexing="ij")[::-1], dim=-1).double()
    points = indices @ patient_from_voxel[:3, :3].T + patient_from_voxel[:3, 3]
    slope = torch.tensor([2e-4, -3e-4, 1e-4], dtype=torch.float64)
    middle = CTVolume(torch.zeros(shape[::-1]), patient_from_voxel).centre_patient
    volume = CTVolume((0.05 + (points - middle) @ slope).float(), patient_from_voxel)
    along = patient_from_voxel[:3, 2] / torch.linalg.vector_norm(patient_from_voxel[:3, 2])
    pose = pose_looking_along(volume, along)
    source, direction = camera_rays(pose, NARROW)
    inverse = torch.linalg.inv(patient_from_voxel)[2]
    rate, start = direction @ inverse[:3], inverse[:3] @ source + inverse[3]
    length, midpoint = shape[2] / rate.abs(), ((shape[2] - 1) / 2 - start) / rate
    value = 0.05 + (source + midpoint[..., None] * direction - middle) @ slope
    image, jacobian = project_with_jacobian(backend(volume), pose, NARROW, middle)
    torch.testing.assert_close(image.double(), value * length, rtol=1e-5, atol=0)
    # a translation also moves the block's faces along the ray, so the integrand at the faces contributes
    faces = [0.05 + (source + ((k - start) / rate)[..., None] * direction - middle) @ slope for k in (-0.5, shape[2] - 0.5)]
    first, last = faces if float(rate.mean()) > 0 else faces[::-1]
    moved = (last - first)[..., None] * inverse[:3] / rate.abs()[..., None] * torch.sign(rate)[..., None]
    expected = moved - slope * length[..., None]
    torch.testing.assert_close(jacobian[..., :3].double(), expected, rtol=0, atol=2e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("linear", GRIDS.values(), ids=GRIDS.keys())
@pytest.mark.parametrize("view", VIEWS)
def test_a_gaussian_blob_and_its_derivatives_match_their_closed_forms(
    backend: type[AbstractRenderer], linear: list, view: str
) -> None:
    """For a blob of width s at c, I = s sqrt(2 pi) exp(-r^2 / 2 s^2), where r is the distance of the ray from c."""
    volume, centre, sigma = blob(linear)
    pose, camera = pose_towards(volume, VIEWS[view]), CAMERA.binned(2)
    pivot = centre + torch.tensor([35.0, -20.0, 28.0], dtype=torch.float64)

    def closed_form(twist: Tensor) -> Tensor:
        source, direction = camera_rays(pose, camera)
        moved = centre + twist[:3] + torch.linalg.cross(twist[3:], centre - pivot)  # first order suffices
        along = direction @ (moved - source)
        squared = (moved - source).square().sum() - along**2
        return 0.05 * sigma * math.sqrt(2 * math.pi) * torch.exp(-squared / (2 * sigma**2))

    no_twist = torch.zeros(6, dtype=torch.float64)
    expected, expected_jacobian = closed_form(no_twist), torch.autograd.functional.jacobian(closed_form, no_twist)
    image, jacobian = project_with_jacobian(backend(volume), pose, camera, pivot)
    assert float((image - expected).abs().max() / expected.max()) < 0.03  # interpolation widens the blob a little
    scale = expected_jacobian.square().mean(dim=(0, 1)).sqrt()
    error = (jacobian.double() - expected_jacobian).square().mean(dim=(0, 1)).sqrt()
    assert error[:3].max() < 0.12 * scale[:3].max()  # the gradient of a trilinear field has steps
    assert error[3:].max() < 0.12 * scale[3:].max()
    agreement = (jacobian * expected_jacobian).sum(dim=(0, 1)) / expected_jacobian.square().sum(dim=(0, 1))
    significant = scale > 0.2 * torch.stack([scale[:3].max(), scale[3:].max()]).repeat_interleave(3)
    torch.testing.assert_close(agreement[significant], torch.ones_like(agreement[significant]), rtol=0, atol=0.06)


def blob(linear: list) -> tuple[CTVolume, Tensor, float]:
    """Return a Gaussian of height 0.05, its centre and its width.

    It is in the middle of a grid that extends four widths to each side.
    """
    steps = torch.tensor(linear, dtype=torch.float64)
    sigma = 3.2 * float(torch.linalg.vector_norm(steps, dim=0).max())
    thickness = 1 / torch.linalg.vector_norm(torch.linalg.inv(steps), dim=1)  # of a slab between two planes of the grid
    sizes = [math.ceil(8 * sigma / float(t)) for t in thickness]
    _, patient_from_voxel = grid(linear)
    indices = torch.stack(torch.meshgrid(*(torch.arange(n) for n in sizes), indexing="ij"), dim=-1).double()
    points = (indices @ steps.T + patient_from_voxel[:3, 3]).permute(2, 1, 0, 3)
    centre = points.mean(dim=(0, 1, 2)) + torch.tensor([0.3, -0.2, 0.4], dtype=torch.float64)
    attenuation = 0.05 * torch.exp(-(points - centre).square().sum(-1) / (2 * sigma**2))
    return CTVolume(attenuation.float(), patient_from_voxel), centre, sigma


@pytest.mark.parametrize("view", VIEWS)
def test_the_image_is_close_to_the_exact_integral_of_the_trilinear_field(backend: type[AbstractRenderer], view: str) -> None:
    volume = noise_volume(*grid(GRIDS["oblique"], (40, 40, 40)))
    pose, camera = pose_towards(volume, VIEWS[view]), CAMERA.binned(3)
    rays = rays_of_views(volume, pose, camera)
    linear, exact = volume.patient_from_voxel[:3, :3], torch.empty(camera.height, camera.width, dtype=torch.float64)
    for v, u in itertools.product(range(camera.height), range(camera.width)):
        direction = rays.direction_from_pixel[0] @ torch.tensor([u, v, 1.0], dtype=torch.float64)
        in_voxels = exact_integral(volume.attenuation.double().numpy(), rays.source[0].numpy(), direction.numpy())
        exact[v, u] = in_voxels * torch.linalg.vector_norm(linear @ direction)
    error = project(backend(volume), pose, camera).double() - exact
    assert float(error.square().mean().sqrt() / exact.max()) < 5e-4


def exact_integral(voxels: np.ndarray, source: np.ndarray, direction: np.ndarray) -> float:
    """Integrate with two Gauss points per cell, which is exact: within a cell the trilinear field is a cubic along the ray."""
    crossings = [(np.arange(-1, n + 1) - source[axis]) / direction[axis] for axis, n in enumerate(voxels.shape[::-1])]
    low, high = max(c.min() for c in crossings), min(c.max() for c in crossings)
    if not high > low:
        return 0.0
    bounds = np.unique(np.clip(np.concatenate(crossings), low, high))
    middle, half = (bounds[1:] + bounds[:-1]) / 2, (bounds[1:] - bounds[:-1]) / 2
    return sum(
        float((half * trilinear(voxels, source, direction, middle + side * half / math.sqrt(3))).sum()) for side in (-1, 1)
    )


def trilinear(voxels: np.ndarray, source: np.ndarray, direction: np.ndarray, t: np.ndarray) -> np.ndarray:
    padded = np.pad(voxels, 2)
    position = source + t[:, None] * direction + 2
    corner = np.floor(position).astype(int)
    fraction = position - corner
    value = np.zeros(len(t))
    for step in itertools.product((0, 1), repeat=3):
        weight = np.prod([fraction[:, a] if step[a] else 1 - fraction[:, a] for a in range(3)], axis=0)
        value += weight * padded[corner[:, 2] + step[2], corner[:, 1] + step[1], corner[:, 0] + step[0]]
    return value
