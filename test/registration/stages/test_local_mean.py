"""Values relative to their local mean: what changes over long distances, as soft tissue does, has no say."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.registration import Registrar
from fluoro_reg.registration.stages.local_mean import local_mean
from fluoro_reg.registration.stages.object_model import bone_model_of
from fluoro_reg.registration.stages.objective import PoseObjective
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess


@pytest.fixture(scope="module")
def scale(world):
    whole = Registrar(world.volume).readings.whole
    return whole.scales(preprocess(world.xray(), PreprocessOptions()), world.truth).scale(32, None, coarse=True)


def test_the_mean_is_that_of_a_square_cut_at_the_edges():
    image = torch.arange(35.0).reshape(1, 5, 7)
    mean = local_mean(image, 1)
    assert float(mean[0, 2, 3]) == pytest.approx(float(image[0, 1:4, 2:5].mean()))
    assert float(mean[0, 0, 0]) == pytest.approx(float(image[0, :2, :2].mean()))


@pytest.mark.parametrize("reach", [0, 1, 4, 9])  # the last is wider than the image
@pytest.mark.parametrize("channels", [(), (6,)])
def test_the_mean_is_that_of_a_double_loop_for_every_channel(reach, channels):
    values = torch.rand(2, 5, 7, *channels, generator=torch.Generator().manual_seed(reach)) + 100.0
    mean = local_mean(values, reach)
    for v in range(5):
        for u in range(7):
            square = values[:, max(v - reach, 0) : v + reach + 1, max(u - reach, 0) : u + reach + 1]
            torch.testing.assert_close(mean[:, v, u], square.double().mean((1, 2)).float())


def test_values_without_channels_or_images_have_no_means():
    assert local_mean(torch.zeros(2, 3, 4, 0), 1).shape == (2, 3, 4, 0)
    assert local_mean(torch.zeros(0, 3, 4), 1).shape == (0, 3, 4)


def test_a_slope_over_the_x_ray_is_gone_where_all_around_is_usable(scale):
    slope = torch.linspace(0.0, 5.0, scale.fixed.shape[-1]).expand_as(scale.fixed)
    plain, sloped = scale.locally(3), replace(scale, fixed=scale.fixed + slope).locally(3)
    inside = (slice(None), slice(5, -5), slice(5, -5))
    assert float((plain.fixed - sloped.fixed)[inside].abs().max()) < 1e-4
    assert scale.locally(0) is scale


def test_pixels_that_are_not_usable_do_not_count(scale):
    usable = scale.usable.clone()
    usable[:, :, :8] = 0.0
    spoiled = replace(scale, usable=usable, fixed=torch.where(usable > 0, scale.fixed, torch.tensor(1e3)))
    clean = replace(scale, usable=usable)
    difference = (spoiled.locally(3).fixed - clean.locally(3).fixed) * usable
    assert float(difference.abs().max()) < 1e-3


def test_rendered_images_and_their_derivatives_are_relative_too(world, scale):
    model = Registrar(world.volume).readings.whole.model
    poses = world.truth.__class__.stack([world.truth])
    plain = PoseObjective(scale, model, GradientNCC()).evaluate(poses)
    local = PoseObjective(scale.locally(3), model, GradientNCC()).evaluate(poses)
    torch.testing.assert_close(local.moving, plain.moving - local_mean(plain.moving, 3))
    torch.testing.assert_close(local.jacobian[..., 4], plain.jacobian[..., 4] - local_mean(plain.jacobian[..., 4], 3))


def test_bone_alone_is_compared_locally_from_afar_and_a_whole_ct_is_not(world):
    whole = Registrar(world.volume).readings.whole
    scales = whole.scales(preprocess(world.xray(), PreprocessOptions()), world.truth)
    assert scales.from_afar(32).local_px == 0
    bone = replace(scales, model=bone_model_of(whole.model))
    assert bone.from_afar(64).local_px > bone.from_afar(32).local_px > 1
