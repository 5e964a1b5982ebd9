"""The search finds a shift that was put there."""

import pytest
import torch

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.method import SearchOptions
from fluoro_reg.registration.stages.objective import ObjectModel, PoseObjective
from fluoro_reg.registration.stages.scales import CoarseRenderers, ImageScales, box_corners
from fluoro_reg.registration.stages.search import best_shifts, search
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.xray.image import Intensity, XrayImage


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-5, 4)])
def test_a_shift_of_the_moving_image_is_found_with_its_sign(shift):
    generator = torch.Generator().manual_seed(0)
    reach = 6
    wide = torch.nn.functional.avg_pool2d(torch.randn(1, 1, 48, 56, generator=generator), 3, stride=1, padding=1)[:, 0]
    du, dv = shift
    fixed = wide[:, reach - dv : 48 - reach - dv, reach - du : 56 - reach - du]  # content moved by (du, dv)
    usable = torch.ones_like(fixed)
    usable[:, :6] = 0
    correlation, found = best_shifts(fixed, usable, wide, torch.ones_like(wide), reach)
    assert found[0].tolist() == [du, dv]
    assert correlation[0] > 0.85


def test_masked_clutter_does_not_mislead():
    generator = torch.Generator().manual_seed(1)
    wide = torch.nn.functional.avg_pool2d(torch.randn(1, 1, 48, 48, generator=generator), 3, stride=1, padding=1)[:, 0]
    fixed = wide[:, 4:44, 4:44].clone()
    usable = torch.ones_like(fixed)
    fixed[:, :, 20:26] += 50.0
    usable[:, :, 18:28] = 0
    assert best_shifts(fixed, usable, wide, torch.ones_like(wide), 4)[1][0].tolist() == [0, 0]


def test_shifts_of_non_square_pixels_are_converted_to_millimetres(world):
    camera = world.camera.resized(128, 64)
    pixels = project(make_renderer(world.volume, "cpu"), world.truth, camera)
    image = XrayImage(pixels, camera, Intensity.ATTENUATION, torch.ones(pixels.shape, dtype=torch.bool))
    start = RigidTransform(world.truth.rotation, world.truth.translation - torch.tensor([19.0, 25.5, 0.0], dtype=torch.float64))
    renderers, pivot = CoarseRenderers(world.volume, "cpu"), world.volume.centre_patient
    scales = ImageScales(image, start, renderers, box_corners(world.volume, renderers.extent), ObjectModel(pivot, "full", 0.0))
    objective = PoseObjective(scales.scale(64, None), scales.model, GradientNCC())
    found = search(objective, start, SearchOptions(out_of_plane_deg=(0.0,), in_plane_deg=(0.0,)))
    torch.testing.assert_close(found.poses.translation[0], world.truth.translation, atol=4.0, rtol=0)
