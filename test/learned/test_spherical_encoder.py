"""The encoder with attention: shapes, what each cell knows, and that it can be differentiated every way it is used."""

import pytest
import torch

from fluoro_reg.learned.forward_mode import value_and_forward_derivatives
from fluoro_reg.learned.spherical_encoder import AttentionBlock, CellNorm, SphericalEncoder, positions


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80)])
def test_cells_are_an_eighth_as_fine_and_become_one_row_of_numbers(height, width):
    encoder, images = SphericalEncoder(numbers=16), torch.randn(2, 1, height, width)
    assert encoder.attended(images).shape == (2, 64, height // 8, width // 8)
    assert encoder(images).shape == (2, 16)


def test_every_cell_hears_of_a_change_in_a_corner():
    torch.manual_seed(3)
    images = torch.randn(1, 1, 64, 64)
    changed = images.clone()
    changed[..., :8, :8] += 2.0
    encoder = SphericalEncoder()
    with torch.no_grad():
        difference = (encoder.attended(changed) - encoder.attended(images)).norm(dim=1)[0]
    assert float(difference.min()) > 1e-4
    assert float(difference[0, 0]) > 5 * float(difference[-1, -1])


def test_images_of_a_batch_do_not_hear_of_each_other():
    images, encoder = torch.randn(3, 1, 32, 32), SphericalEncoder().double()
    together = encoder(images.double())
    torch.testing.assert_close(together[1:2], encoder(images.double()[1:2]))


def test_attention_is_torchs():
    block = AttentionBlock(16, heads=4).double()
    reference = torch.nn.MultiheadAttention(16, 4, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        reference.in_proj_weight.copy_(block.asked.weight)
        reference.in_proj_bias.copy_(block.asked.bias)
        reference.out_proj.weight.copy_(block.answered.weight)
        reference.out_proj.bias.copy_(block.answered.bias)
    tokens = torch.randn(2, 6, 16, dtype=torch.float64)
    torch.testing.assert_close(block.answered(block._heard(tokens)), reference(tokens, tokens, tokens)[0])


def test_no_two_cells_have_one_position_and_neighbours_are_alike():
    places = positions(64, 8, 16).flatten(1).mT
    distance = torch.cdist(places, places) + 100 * torch.eye(len(places))
    assert float(distance.min()) > 0.5
    torch.testing.assert_close(places.norm(dim=-1), torch.full((128,), 32**0.5))
    assert float(distance[0, 1]) < float(distance[0, 2]) < float(distance[0, 4])


def test_forward_mode_agrees_with_finite_differences_and_with_backward_mode_twice():
    encoder = SphericalEncoder(numbers=4, width=8, heads=2, layers=1).double()
    images, tangents = torch.randn(1, 1, 16, 16, dtype=torch.float64), torch.randn(3, 1, 1, 16, 16, dtype=torch.float64)
    value_and_forward_derivatives = torch.func.vmap(lambda tangent: torch.func.jvp(encoder, (images,), (tangent,))[1])(tangents)
    h = 1e-5
    differences = torch.stack([(encoder(images + h * t) - encoder(images - h * t)) / (2 * h) for t in tangents])
    torch.testing.assert_close(value_and_forward_derivatives, differences, atol=1e-7, rtol=1e-6)
    small = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: encoder(x).square().sum(), small)


def test_normalisation_of_a_cell_is_torchs():
    ours, theirs, tokens = CellNorm(8), torch.nn.LayerNorm(8), torch.randn(2, 6, 8)
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.arange(8.0))
            norm.bias.copy_(torch.arange(8.0) - 3)
    torch.testing.assert_close(ours(tokens), theirs(tokens))


def test_what_forward_derivatives_teach_the_weights_agrees_with_finite_differences():
    """Of all weights at once; torch's own layer normalisation fails here."""
    torch.manual_seed(2)
    encoder = SphericalEncoder(numbers=4, width=8, heads=2, layers=2).double()
    images, tangents = torch.randn(2, 1, 16, 16, dtype=torch.float64), torch.randn(2, 1, 16, 16, 3, dtype=torch.float64)
    probe, weights = torch.randn(2, 4, 3, dtype=torch.float64), list(encoder.parameters())[:-1]  # no derivative has a constant
    directions = [torch.randn_like(weight) for weight in weights]

    def value() -> torch.Tensor:
        return (value_and_forward_derivatives(encoder, images, tangents)[1] * probe).sum()

    found = sum(float((g * d).sum()) for g, d in zip(torch.autograd.grad(value(), weights), directions, strict=True))
    values, h = [], 1e-6
    with torch.no_grad():
        for sign in (1, -2):
            for weight, direction in zip(weights, directions, strict=True):
                weight += sign * h * direction
            values.append(float(value()))
    assert found == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5)
