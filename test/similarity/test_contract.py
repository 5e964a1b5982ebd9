"""The contract of the scores of all similarities."""

from dataclasses import dataclass

import pytest
import torch

from fluoro_reg.similarity import SIMILARITIES


@dataclass(frozen=True)
class Contract:
    """The properties of one similarity.

    `perfect` is the minimum score of identical images, `reach` how far beyond the weights pixels are read, and `signed` whether
    a negative scores low.
    """

    perfect: float = 0.98
    reach: int = 0
    signed: bool = True


CONTRACTS = {
    "gmncc": Contract(reach=1),
    "gradient-ncc": Contract(perfect=0.95, reach=1),  # edges of the X-ray are clipped, those of the CT are not
    "multiscale-ncc": Contract(),
    "mutual-information": Contract(perfect=0.5, signed=False),
    "ncc": Contract(),
    "patch-gradient-ncc": Contract(),
    "patch-ncc": Contract(),
    "ssd": Contract(),
}
HEIGHT, WIDTH = 40, 48


@pytest.fixture(params=SIMILARITIES)
def name(request):
    return request.param


@pytest.fixture
def similarity(name):
    return SIMILARITIES[name]()


@pytest.fixture
def images():
    """Return three smooth random moving images, a fixed one that resembles the first, and weights with holes, float64."""
    g = torch.Generator().manual_seed(3)
    noise = torch.randn(4, 1, HEIGHT, WIDTH, generator=g, dtype=torch.float64)
    smooth = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)[:, 0] + 2
    weight = 0.5 + torch.rand(3, HEIGHT, WIDTH, generator=g, dtype=torch.float64)
    weight[:, :7] = 0
    weight[1, 20:26, 10:15] = 0
    return smooth[:3], smooth[:1] + 0.3 * (smooth[3:] - 2), weight


def test_every_similarity_has_a_contract():
    assert set(CONTRACTS) == set(SIMILARITIES)


def test_nothing_beats_identity(similarity, name, images):
    moving, _, weight = images
    one_weight = weight[:1]
    best = float(similarity.score(moving[:1], moving[:1], one_weight))
    assert CONTRACTS[name].perfect <= best <= 1 + 1e-9
    shifts = [(dy, dx) for dy in (-2, 0, 2) for dx in (-2, 0, 2) if (dy, dx) != (0, 0)]
    others = torch.cat([torch.roll(moving[:1], shift, dims=(1, 2)) for shift in shifts] + [moving[1:]])
    scores = similarity.score(others, moving[:1], one_weight.expand(len(others), -1, -1))
    assert float(scores.max()) < best - 0.05


def test_a_similar_image_scores_above_an_unrelated_one_and_that_above_a_negative(similarity, name, images):
    moving, fixed, weight = images
    similar, unrelated, _ = similarity.score(moving, fixed, weight[:1].expand(3, -1, -1)).tolist()
    negative = float(similarity.score(-moving[:1], fixed, weight[:1]))
    assert similar > unrelated + 0.1
    if CONTRACTS[name].signed:
        assert unrelated > negative + 0.1
    else:
        assert negative == pytest.approx(similar, abs=0.01)


def test_gain_and_offset_of_either_image_do_not_matter(similarity, images):
    moving, fixed, weight = images
    expected = similarity.score(moving, fixed, weight)
    torch.testing.assert_close(similarity.score(3 * moving - 5, fixed, weight), expected, atol=4e-3, rtol=0)
    torch.testing.assert_close(similarity.score(moving, 3 * fixed - 5, weight), expected, atol=4e-3, rtol=0)


def test_a_batch_equals_a_loop(similarity, images):
    moving, fixed, weight = images
    together = similarity.score(moving, fixed, weight)
    one_by_one = [similarity.score(moving[b : b + 1], fixed, weight[b : b + 1]) for b in range(3)]
    if type(similarity) is SIMILARITIES["gradient-ncc"]:  # the clipping limit depends on the pixels that any pose uses
        torch.testing.assert_close(together, torch.cat(one_by_one), atol=1e-3, rtol=0)
    else:
        torch.testing.assert_close(together, torch.cat(one_by_one))


def test_pixels_without_weight_have_no_influence(similarity, name, images):
    moving, fixed, weight = images
    reach = CONTRACTS[name].reach
    is_read = torch.nn.functional.max_pool2d(weight[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0] > 0
    clutter = 100 * torch.rand(weight.shape, dtype=torch.float64)
    read_by_any = is_read.any(0, keepdim=True)
    assert (~is_read).sum() > 3 * 5 * WIDTH
    with_clutter = similarity.score(torch.where(is_read, moving, clutter), torch.where(read_by_any, fixed, clutter[:1]), weight)
    torch.testing.assert_close(with_clutter, similarity.score(moving, fixed, weight))


def test_autograd_follows_the_score_to_the_moving_image(similarity, images):
    moving, fixed, weight = images
    moving = moving.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda m: similarity.score(m, fixed, weight), moving, fast_mode=True, atol=1e-7)
    (gradient,) = torch.autograd.grad(similarity.score(moving, fixed, weight).sum(), moving)
    assert (gradient.flatten(1).norm(dim=1) > 1e-4).all()


def test_blank_images_and_empty_weights_give_finite_numbers_and_gradients(similarity, images):
    moving, fixed, weight = images
    for m, f, w in (
        (torch.zeros_like(moving), fixed, weight),
        (moving, torch.ones_like(fixed), weight),
        (moving, fixed, 0 * weight),
    ):
        leaf = m.clone().requires_grad_()
        score = similarity.score(leaf, f, w)
        (gradient,) = torch.autograd.grad(score.sum(), leaf)
        assert torch.isfinite(score).all()
        assert torch.isfinite(gradient).all()
    assert score.abs().max() == 0


def test_single_precision_suffices_far_from_zero(similarity, images):
    moving, fixed, weight = images
    double = similarity.score(moving + 20, fixed + 20, weight)
    single = similarity.score((moving + 20).float(), (fixed + 20).float(), weight.float())
    torch.testing.assert_close(single.double(), double, atol=1e-3, rtol=0)
