"""The contract of backbones, standardisation of the input, and an uncertainty that does not affect the pose."""

import pytest
import torch

from fluoro_reg.errors import InputError
from fluoro_reg.networks.image_input import LIMIT, standardise
from fluoro_reg.regressor import BACKBONES, PoseRegressor, RegressorOptions
from fluoro_reg.regressor import backbones as backbones_module
from fluoro_reg.regressor.network import camera_twist


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_fulfils_the_contract(name, reference):
    if name.startswith("monai"):
        pytest.importorskip("monai")
    network = PoseRegressor(RegressorOptions(backbone=name, image_px=32), reference)
    assert not [module for module in network.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    images = torch.randn(2, 1, 32, 32)
    network.eval()
    estimate = network(images)
    assert estimate.camera_from_patient.rotation.shape == (2, 3, 3) and estimate.factor.shape == (2, 6, 6)
    factor = estimate.factor.detach()
    assert (factor.diagonal(dim1=-2, dim2=-1) > 0).all() and float(factor.triu(1).abs().max()) == 0
    alone = network(images[1:])
    torch.testing.assert_close(alone.factor, estimate.factor[1:], rtol=1e-3, atol=1e-4)  # no statistics over the batch
    estimate.camera_from_patient.translation.sum().backward()
    assert any(float(p.grad.abs().max()) > 0 for p in network.backbone.parameters() if p.grad is not None)


def test_the_small_network_is_small_enough_for_a_repository(reference):
    network = PoseRegressor(RegressorOptions(), reference)
    assert 2 * sum(p.numel() for p in network.parameters()) < 8e6  # bytes in float16


def test_without_monai_its_networks_are_refused_with_advice(reference, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "monai.networks", None)
    with pytest.raises(InputError, match=r"pip install 'fluoro_reg\[training\]'"):
        backbones_module.BACKBONES["monai-resnet18"]()


def test_the_uncertainty_sends_no_gradient_to_the_backbone(network, reference):
    estimate = network(torch.randn(2, 1, 32, 32))
    estimate.factor.square().sum().backward()
    assert all(p.grad is None for p in network.backbone.parameters())
    assert float(network.factor_numbers.weight.grad.abs().max()) > 0


def test_the_initial_uncertainty_is_a_quarter_of_half_the_field_of_view(reference):
    network = PoseRegressor(RegressorOptions(image_px=32), reference).eval()
    torch.nn.init.zeros_(network.factor_numbers.weight)
    factor = network(torch.randn(1, 1, 32, 32)).factor[0]
    sd = torch.linalg.inv(factor @ factor.mT).diagonal().sqrt()
    torch.testing.assert_close(sd, torch.tensor([reference.half_field_of_view_mm / 4] * 3 + [0.2] * 3))


@torch.no_grad()
def test_the_input_is_independent_of_gain_offset_and_tools():
    torch.manual_seed(0)
    image, mask = torch.randn(1, 16, 16), torch.ones(1, 16, 16, dtype=torch.bool)
    plain = standardise(image, mask)
    torch.testing.assert_close(standardise(7 * image - 3, mask), plain, atol=1e-4, rtol=0)
    assert float(plain.mean()) == pytest.approx(0, abs=0.3) and float(plain.std()) == pytest.approx(1, abs=0.3)
    tool = image.clone()
    tool[0, 0] = 50.0
    standardised = standardise(tool, mask)
    assert float(standardised.max()) <= LIMIT
    assert float(standardised[0, 0, 1:].std()) > 0.5  # the contrast of the rest is kept


def test_masked_pixels_become_the_median_and_have_no_influence():
    torch.manual_seed(0)
    image, mask = torch.randn(1, 16, 16), torch.ones(1, 16, 16, dtype=torch.bool)
    mask[0, :, :5] = False
    other = torch.where(mask, image, torch.tensor(float("nan")))
    torch.testing.assert_close(standardise(other, mask), standardise(image, mask))
    assert float(standardise(image, mask)[0, 0, :, :5].abs().max()) == 0
    assert torch.isfinite(standardise(image, torch.zeros_like(mask))).all()


def test_the_twist_from_a_pose_to_itself_is_zero(network, reference):
    pose = network(torch.randn(3, 1, 32, 32)).camera_from_patient
    assert camera_twist(pose, pose, reference.pivot.float()).abs().max().item() < 1e-3
