"""The quadrature against oracles that share no code with it: closed forms, and the exact integral of the trilinear field."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers.rendering_scenes import CAMERA, GRIDS, VIEWS, grid, looking, lumpy
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
    """Source and unit directions in the patient, from the pinhole's definition."""
    u, v = torch.meshgrid(torch.arange(camera.width), torch.arange(camera.height), indexing="xy")
    direction = torch.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, torch.ones(u.shape)], dim=-1).double()
    inverse = pose.inverse()
    return inverse.translation, torch.nn.functional.normalize(direction @ inverse.rotation.mT, dim=-1)


@pytest.mark.parametrize("linear", GRIDS.values(), ids=GRIDS.keys())
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_through_two_faces_of_a_homogeneous_block_it_is_the_path_length(
    backend: type[AbstractRenderer], linear: list, axis: int
) -> None:
    _, patient_from_voxel = grid(linear)
    sizes = [60, 60, 60]
    sizes[axis] = 9
    volume = CTVolume(torch.full(sizes[::-1], 0.03), patient_from_voxel)
    along = patient_from_voxel[:3, axis] / torch.linalg.vector_norm(patient_from_voxel[:3, axis])
    pose = looking_along(volume, along)
    _, direction = camera_rays(pose, NARROW)
    normal = torch.linalg.inv(patient_from_voxel[:3, :3])[axis]  # planes of constant index are 1 / |normal| mm apart
    expected = 0.03 * 9 / (direction @ normal).abs()
    torch.testing.assert_close(project(backend(volume), pose, NARROW).double(), expected, rtol=2e-6, atol=0)


def looking_along(volume: CTVolume, along: Tensor) -> RigidTransform:
    """A pose 400 mm before the volume's centre, whose optical axis is nearly `along`."""
    tilted = torch.nn.functional.normalize(along + torch.tensor([0.02, -0.03, 0.025], dtype=torch.float64), dim=0)
    helper = torch.eye(3, dtype=torch.float64)[tilted.abs().argmin()]
    x = torch.nn.functional.normalize(torch.linalg.cross(helper, tilted), dim=0)
    rotation = torch.stack([x, torch.linalg.cross(tilted, x), tilted])
    return RigidTransform(rotation, torch.tensor([0.3, 0.2, 400.0], dtype=torch.float64) - rotation @ volume.centre_patient)


@pytest.mark.parametrize("linear", GRIDS.values(), ids=GRIDS.keys())
def test_of_a_linear_field_the_integral_and_its_translations_are_exact(backend: type[AbstractRenderer], linear: list) -> None:
    """mu = c + g . x in patient mm: I is mu at the path's middle times its length; dI/dv = -g times that length."""
    shape, patient_from_voxel = grid(linear, (60, 60, 8))
    indices = torch.stack(torch.meshgrid(*(torch.arange(n) for n in reversed(shape)), indexing="ij")[::-1], dim=-1).double()
    places = indices @ patient_from_voxel[:3, :3].T + patient_from_voxel[:3, 3]
    slope = torch.tensor([2e-4, -3e-4, 1e-4], dtype=torch.float64)
    middle = CTVolume(torch.zeros(shape[::-1]), patient_from_voxel).centre_patient
    volume = CTVolume((0.05 + (places - middle) @ slope).float(), patient_from_voxel)
    along = patient_from_voxel[:3, 2] / torch.linalg.vector_norm(patient_from_voxel[:3, 2])
    pose = looking_along(volume, along)
    source, direction = camera_rays(pose, NARROW)
    inverse = torch.linalg.inv(patient_from_voxel)[2]
    rate, start = direction @ inverse[:3], inverse[:3] @ source + inverse[3]
    length, midway = shape[2] / rate.abs(), ((shape[2] - 1) / 2 - start) / rate
    value = 0.05 + (source + midway[..., None] * direction - middle) @ slope
    image, jacobian = project_with_jacobian(backend(volume), pose, NARROW, middle)
    torch.testing.assert_close(image.double(), value * length, rtol=1e-5, atol=0)
    # a translation moves the block's faces along the ray too: its integrand there enters
    faces = [0.05 + (source + ((k - start) / rate)[..., None] * direction - middle) @ slope for k in (-0.5, shape[2] - 0.5)]
    first, last = faces if float(rate.mean()) > 0 else faces[::-1]
    moved = (last - first)[..., None] * inverse[:3] / rate.abs()[..., None] * torch.sign(rate)[..., None]
    expected = moved - slope * length[..., None]
    torch.testing.assert_close(jacobian[..., :3].double(), expected, rtol=0, atol=2e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("linear", GRIDS.values(), ids=GRIDS.keys())
@pytest.mark.parametrize("view", VIEWS)
def test_a_gaussian_blob_and_its_derivatives_have_their_closed_forms(
    backend: type[AbstractRenderer], linear: list, view: str
) -> None:
    """A blob of width s at c: I = s sqrt(2 pi) exp(-r^2 / 2 s^2), r the distance of the ray from c; it knows no grid."""
    volume, centre, sigma = blob(linear)
    pose, camera = looking(volume, VIEWS[view]), CAMERA.binned(2)
    pivot = centre + torch.tensor([35.0, -20.0, 28.0], dtype=torch.float64)

    def closed_form(twist: Tensor) -> Tensor:
        source, direction = camera_rays(pose, camera)
        moved = centre + twist[:3] + torch.linalg.cross(twist[3:], centre - pivot)  # first order suffices
        along = direction @ (moved - source)
        squared = (moved - source).square().sum() - along**2
        return 0.05 * sigma * math.sqrt(2 * math.pi) * torch.exp(-squared / (2 * sigma**2))

    still = torch.zeros(6, dtype=torch.float64)
    expected, truth = closed_form(still), torch.autograd.functional.jacobian(closed_form, still)
    image, jacobian = project_with_jacobian(backend(volume), pose, camera, pivot)
    assert float((image - expected).abs().max() / expected.max()) < 0.03  # interpolation widens the blob a little
    scale = truth.square().mean(dim=(0, 1)).sqrt()
    error = (jacobian.double() - truth).square().mean(dim=(0, 1)).sqrt()
    assert error[:3].max() < 0.12 * scale[:3].max()  # the gradient of a trilinear field has steps
    assert error[3:].max() < 0.12 * scale[3:].max()
    agreement = (jacobian * truth).sum(dim=(0, 1)) / truth.square().sum(dim=(0, 1))
    told = scale > 0.2 * torch.stack([scale[:3].max(), scale[3:].max()]).repeat_interleave(3)
    torch.testing.assert_close(agreement[told], torch.ones_like(agreement[told]), rtol=0, atol=0.06)


def blob(linear: list) -> tuple[CTVolume, Tensor, float]:
    """A Gaussian of height 0.05 in the middle of a grid that holds four of its widths to each side; its centre and width."""
    steps = torch.tensor(linear, dtype=torch.float64)
    sigma = 3.2 * float(torch.linalg.vector_norm(steps, dim=0).max())
    thickness = 1 / torch.linalg.vector_norm(torch.linalg.inv(steps), dim=1)  # of a slab between two planes of the grid
    sizes = [math.ceil(8 * sigma / float(t)) for t in thickness]
    _, patient_from_voxel = grid(linear)
    indices = torch.stack(torch.meshgrid(*(torch.arange(n) for n in sizes), indexing="ij"), dim=-1).double()
    places = (indices @ steps.T + patient_from_voxel[:3, 3]).permute(2, 1, 0, 3)
    centre = places.mean(dim=(0, 1, 2)) + torch.tensor([0.3, -0.2, 0.4], dtype=torch.float64)
    attenuation = 0.05 * torch.exp(-(places - centre).square().sum(-1) / (2 * sigma**2))
    return CTVolume(attenuation.float(), patient_from_voxel), centre, sigma


@pytest.mark.parametrize("view", VIEWS)
def test_it_is_close_to_the_exact_integral_of_the_trilinear_field(backend: type[AbstractRenderer], view: str) -> None:
    volume = lumpy(*grid(GRIDS["oblique"], (40, 40, 40)))
    pose, camera = looking(volume, VIEWS[view]), CAMERA.binned(3)
    rays = rays_of_views(volume, pose, camera)
    linear, exact = volume.patient_from_voxel[:3, :3], torch.empty(camera.height, camera.width, dtype=torch.float64)
    for v, u in itertools.product(range(camera.height), range(camera.width)):
        direction = rays.direction_from_pixel[0] @ torch.tensor([u, v, 1.0], dtype=torch.float64)
        in_voxels = exact_integral(volume.attenuation.double().numpy(), rays.source[0].numpy(), direction.numpy())
        exact[v, u] = in_voxels * torch.linalg.vector_norm(linear @ direction)
    error = project(backend(volume), pose, camera).double() - exact
    assert float(error.square().mean().sqrt() / exact.max()) < 5e-4


def exact_integral(voxels: np.ndarray, source: np.ndarray, direction: np.ndarray) -> float:
    """Within a cell the trilinear field is a cubic along the ray: two Gauss points a cell integrate it exactly."""
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
    place = source + t[:, None] * direction + 2
    corner = np.floor(place).astype(int)
    share = place - corner
    value = np.zeros(len(t))
    for step in itertools.product((0, 1), repeat=3):
        weight = np.prod([share[:, a] if step[a] else 1 - share[:, a] for a in range(3)], axis=0)
        value += weight * padded[corner[:, 2] + step[2], corner[:, 1] + step[1], corner[:, 0] + step[0]]
    return value
