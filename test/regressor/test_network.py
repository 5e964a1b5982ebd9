"""Backbones by one contract, the input's standardisation, and the doubt that does not disturb the pose."""

import pytest
import torch

from fluoro_reg.errors import InputError
from fluoro_reg.networks.image_input import LIMIT, network_input
from fluoro_reg.regressor import BACKBONES, PoseRegressor, RegressorOptions
from fluoro_reg.regressor import backbones as backbones_module
from fluoro_reg.regressor.network import camera_twist


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_keeps_its_contract(name, reference):
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
    torch.testing.assert_close(alone.factor, estimate.factor[1:], rtol=1e-3, atol=1e-4)  # nobody else's statistics
    estimate.camera_from_patient.translation.sum().backward()
    assert any(float(p.grad.abs().max()) > 0 for p in network.backbone.parameters() if p.grad is not None)


def test_the_small_network_fits_into_a_repository(reference):
    network = PoseRegressor(RegressorOptions(), reference)
    assert 2 * sum(p.numel() for p in network.parameters()) < 8e6  # bytes in float16


def test_without_monai_its_networks_are_refused_with_a_sentence(reference, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "monai.networks", None)
    with pytest.raises(InputError, match=r"pip install 'fluoro_reg\[training\]'"):
        backbones_module.BACKBONES["monai-resnet18"]()


def test_the_doubt_sends_nothing_to_the_backbone(network, reference):
    estimate = network(torch.randn(2, 1, 32, 32))
    estimate.factor.square().sum().backward()
    assert all(p.grad is None for p in network.backbone.parameters())
    assert float(network.factor_numbers.weight.grad.abs().max()) > 0


def test_an_untrained_network_doubts_by_a_quarter_of_the_field(reference):
    network = PoseRegressor(RegressorOptions(image_px=32), reference).eval()
    torch.nn.init.zeros_(network.factor_numbers.weight)
    factor = network(torch.randn(1, 1, 32, 32)).factor[0]
    sd = torch.linalg.inv(factor @ factor.mT).diagonal().sqrt()
    torch.testing.assert_close(sd, torch.tensor([reference.half_field_mm / 4] * 3 + [0.2] * 3))


@torch.no_grad()
def test_the_input_knows_no_gain_no_offset_and_no_tool():
    torch.manual_seed(0)
    image, mask = torch.randn(1, 16, 16), torch.ones(1, 16, 16, dtype=torch.bool)
    plain = network_input(image, mask)
    torch.testing.assert_close(network_input(7 * image - 3, mask), plain, atol=1e-4, rtol=0)
    assert float(plain.mean()) == pytest.approx(0, abs=0.3) and float(plain.std()) == pytest.approx(1, abs=0.3)
    tool = image.clone()
    tool[0, 0] = 50.0
    seen = network_input(tool, mask)
    assert float(seen.max()) <= LIMIT
    assert float(seen[0, 0, 1:].std()) > 0.5  # not squeezed into nothing


def test_masked_pixels_are_the_median_and_have_no_say():
    torch.manual_seed(0)
    image, mask = torch.randn(1, 16, 16), torch.ones(1, 16, 16, dtype=torch.bool)
    mask[0, :, :5] = False
    other = torch.where(mask, image, torch.tensor(float("nan")))
    torch.testing.assert_close(network_input(other, mask), network_input(image, mask))
    assert float(network_input(image, mask)[0, 0, :, :5].abs().max()) == 0
    assert torch.isfinite(network_input(image, torch.zeros_like(mask))).all()


def test_a_pose_is_no_further_from_itself_than_nothing(network, reference):
    pose = network(torch.randn(3, 1, 32, 32)).camera_from_patient
    assert camera_twist(pose, pose, reference.pivot.float()).abs().max().item() < 1e-3
