"""The spherical encoder: shapes, attention, positional encoding, and derivatives of all kinds that are used."""

import pytest
import torch

from fluoro_reg.learned.forward_mode import value_and_forward_derivatives
from fluoro_reg.learned.spherical_encoder import AttentionBlock, LayerNorm, SphericalEncoder, positional_encoding


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80)])
def test_features_are_an_eighth_of_the_image_and_give_one_embedding(height, width):
    encoder, images = SphericalEncoder(embedding_size=16), torch.randn(2, 1, height, width)
    assert encoder.features(images).shape == (2, 64, height // 8, width // 8)
    assert encoder(images).shape == (2, 16)


def test_a_change_in_a_corner_reaches_every_cell():
    torch.manual_seed(3)
    images = torch.randn(1, 1, 64, 64)
    changed = images.clone()
    changed[..., :8, :8] += 2.0
    encoder = SphericalEncoder()
    with torch.no_grad():
        difference = (encoder.features(changed) - encoder.features(images)).norm(dim=1)[0]
    assert float(difference.min()) > 1e-4
    assert float(difference[0, 0]) > 5 * float(difference[-1, -1])


def test_an_embedding_does_not_depend_on_the_rest_of_the_batch():
    images, encoder = torch.randn(3, 1, 32, 32), SphericalEncoder().double()
    together = encoder(images.double())
    torch.testing.assert_close(together[1:2], encoder(images.double()[1:2]))


def test_attention_agrees_with_torch():
    block = AttentionBlock(16, heads=4).double()
    reference = torch.nn.MultiheadAttention(16, 4, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        reference.in_proj_weight.copy_(block.qkv.weight)
        reference.in_proj_bias.copy_(block.qkv.bias)
        reference.out_proj.weight.copy_(block.proj.weight)
        reference.out_proj.bias.copy_(block.proj.bias)
    tokens = torch.randn(2, 6, 16, dtype=torch.float64)
    torch.testing.assert_close(block.attention(tokens), reference(tokens, tokens, tokens)[0])


def test_positions_differ_and_those_of_neighbours_are_similar():
    encodings = positional_encoding(64, 8, 16).flatten(1).mT
    distance = torch.cdist(encodings, encodings) + 100 * torch.eye(len(encodings))
    assert float(distance.min()) > 0.5
    torch.testing.assert_close(encodings.norm(dim=-1), torch.full((128,), 32**0.5))
    assert float(distance[0, 1]) < float(distance[0, 2]) < float(distance[0, 4])


def test_forward_mode_agrees_with_finite_differences_and_with_backward_mode_twice():
    encoder = SphericalEncoder(embedding_size=4, width=8, heads=2, layers=1).double()
    images, tangents = torch.randn(1, 1, 16, 16, dtype=torch.float64), torch.randn(3, 1, 1, 16, 16, dtype=torch.float64)
    derivatives = torch.func.vmap(lambda tangent: torch.func.jvp(encoder, (images,), (tangent,))[1])(tangents)
    h = 1e-5
    differences = torch.stack([(encoder(images + h * t) - encoder(images - h * t)) / (2 * h) for t in tangents])
    torch.testing.assert_close(derivatives, differences, atol=1e-7, rtol=1e-6)
    small = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: encoder(x).square().sum(), small)


def test_layer_normalisation_agrees_with_torch():
    ours, theirs, tokens = LayerNorm(8), torch.nn.LayerNorm(8), torch.randn(2, 6, 8)
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.arange(8.0))
            norm.bias.copy_(torch.arange(8.0) - 3)
    torch.testing.assert_close(ours(tokens), theirs(tokens))


def test_weight_gradients_of_forward_derivatives_agree_with_finite_differences():
    """For all weights at once; torch's own layer normalisation fails here."""
    torch.manual_seed(2)
    encoder = SphericalEncoder(embedding_size=4, width=8, heads=2, layers=2).double()
    images, tangents = torch.randn(2, 1, 16, 16, dtype=torch.float64), torch.randn(2, 1, 16, 16, 3, dtype=torch.float64)
    probe, weights = torch.randn(2, 4, 3, dtype=torch.float64), list(encoder.parameters())[:-1]  # the last bias is a constant
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
