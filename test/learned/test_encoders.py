"""The image encoder: size of the embedding, independence of the batch, and second derivatives."""

import pytest
import torch

from fluoro_reg.learned import ImageEncoder


@pytest.mark.parametrize("size", [(64, 64), (40, 52), (9, 9)])
def test_images_of_any_size_have_embeddings_of_one_size(size):
    assert ImageEncoder(3, (8, 8, 12), embedding_size=5)(torch.randn(2, 3, *size)).shape == (2, 5)


def test_an_embedding_does_not_depend_on_the_rest_of_the_batch():
    """With statistics over the batch, the value of a pose would depend on the other poses."""
    encoder, images = ImageEncoder(1, (8, 8), embedding_size=4), torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]), atol=1e-5, rtol=1e-5)


def test_first_and_second_derivatives_agree_with_finite_differences():
    encoder = ImageEncoder(1, (4,), embedding_size=2).double()
    images = torch.randn(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)

    def value(x: torch.Tensor) -> torch.Tensor:
        return encoder(x).square().mean(1)

    assert torch.autograd.gradcheck(value, (images,))
    assert torch.autograd.gradgradcheck(value, (images,))


def test_the_second_derivative_is_not_zero():
    """ReLU and maxima before a linear layer would make it zero."""
    encoder, images = ImageEncoder(1, (4,), embedding_size=2).double(), torch.randn(1, 1, 8, 8, dtype=torch.float64)
    images.requires_grad_()
    (slope,) = torch.autograd.grad(encoder(images).sum(), images, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.square().sum(), images)
    assert curvature.abs().max() > 1e-6
