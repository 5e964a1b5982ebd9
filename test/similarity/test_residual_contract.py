"""The contract of all similarities that Levenberg-Marquardt can use."""

import pytest
import torch

from fluoro_reg.similarity import NCC, RESIDUAL_SIMILARITIES, SSD, GradientNCC, PatchNCC

VARIANTS = {
    "gradient-ncc": GradientNCC(),
    "gradient-ncc plain": GradientNCC(robust_scale=float("inf"), clip=1.0),
    "patch-ncc": PatchNCC(patch=8),
    "ncc": NCC(),
    "one patch": PatchNCC(patch=0, robust_scale=float("inf")),
    "ssd": SSD(),
    "ssd plain": SSD(robust_scale=float("inf")),
}
PLAIN = ["gradient-ncc plain", "ncc", "one patch", "ssd plain"]


@pytest.fixture(params=VARIANTS, ids=str)
def similarity(request):
    return VARIANTS[request.param]


@pytest.fixture
def images():
    """Return smooth random images: two moving ones, their Jacobian, a fixed one, and weights with holes, float64."""
    g = torch.Generator().manual_seed(3)
    noise = torch.randn(9, 1, 24, 32, generator=g, dtype=torch.float64)
    smooth = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)[:, 0]
    jacobian = torch.stack([smooth[3:9], smooth[3:9].flip(0)]).movedim(1, -1)
    weight = (torch.rand(2, 24, 32, generator=g) > 0.2).double()
    return smooth[:2], jacobian, smooth[2:3], weight


def test_every_residual_similarity_is_tested():
    assert set(RESIDUAL_SIMILARITIES.values()) == {type(s) for s in VARIANTS.values()}


def test_equal_images_have_zero_cost_whatever_their_brightness_and_contrast(similarity, images):
    moving, _, _, weight = images
    assert similarity.cost(3 * moving + 5, moving[:1], weight)[0] == pytest.approx(0.0, abs=0.02)
    assert similarity.cost(moving, moving[:1], weight)[1] > 0.1


def test_the_cost_is_the_same_with_and_without_the_jacobian(similarity, images):
    moving, jacobian, fixed, weight = images
    system = similarity.normal_equations(moving, jacobian, fixed, weight)
    torch.testing.assert_close(system.cost, similarity.cost(moving, fixed, weight))


def test_the_gradient_is_half_the_derivative_of_the_cost(similarity, images):
    moving, jacobian, fixed, weight = images
    system = similarity.normal_equations(moving, jacobian, fixed, weight)
    for k in range(6):
        h = 1e-5
        up = similarity.cost(moving + h * jacobian[..., k], fixed, weight)
        down = similarity.cost(moving - h * jacobian[..., k], fixed, weight)
        torch.testing.assert_close(2 * system.gradient[:, k], (up - down) / (2 * h), atol=1e-7, rtol=1e-4)


def test_without_robust_weights_the_hessian_is_the_curvature_of_the_cost(images):
    moving, jacobian, _, weight = images
    for similarity in (VARIANTS[name] for name in PLAIN):
        # the residuals are zero, so the Gauss-Newton Hessian is exact
        system = similarity.normal_equations(moving[:1], jacobian[:1], moving[:1], weight[:1])
        h = 1e-3
        for k in range(6):
            moved = moving[:1] + h * jacobian[:1, ..., k]
            curvature = similarity.cost(moved, moving[:1], weight[:1]) / h**2
            torch.testing.assert_close(system.hessian[:, k, k], curvature, rtol=2e-2, atol=1e-9)


def test_a_batch_equals_a_loop(similarity, images):
    moving, jacobian, fixed, weight = images
    weight = weight[:1].expand(2, -1, -1)
    together = similarity.normal_equations(moving, jacobian, fixed, weight)
    for b in range(2):
        single = similarity.normal_equations(moving[b : b + 1], jacobian[b : b + 1], fixed, weight[b : b + 1])
        torch.testing.assert_close(together.hessian[b], single.hessian[0])
        torch.testing.assert_close(together.gradient[b], single.gradient[0])


def test_pixels_without_weight_have_no_influence(images):
    moving, _, fixed, weight = images
    weight = weight.clone()
    weight[:, :8] = 0
    clutter = fixed.clone()
    clutter[:, :6] += 100 * torch.rand(6, 32, dtype=torch.float64)  # the gradient reads one pixel further
    for similarity in VARIANTS.values():
        torch.testing.assert_close(similarity.cost(moving, clutter, weight), similarity.cost(moving, fixed, weight))


def test_flat_images_and_empty_weights_give_finite_numbers(similarity, images):
    moving, jacobian, fixed, weight = images
    for m, f, w in (
        (torch.zeros_like(moving), fixed, weight),
        (moving, torch.ones_like(fixed), weight),
        (moving, fixed, 0 * weight),
    ):
        system = similarity.normal_equations(m, jacobian, f, w)
        assert all(torch.isfinite(x).all() for x in (system.cost, system.gradient, system.hessian))


def test_robust_weights_ignore_a_tool_that_affects_plain_ones(images):
    moving, _, _, weight = images
    fixed = moving[:1].clone()
    fixed[:, 10:12, 8:12] += 8.0  # 2 % of the gradients, a hundred times the others
    shifted = torch.roll(moving[:1], 1, dims=2)
    robust, plain = VARIANTS["gradient-ncc"], VARIANTS["gradient-ncc plain"]

    def contrast(s):
        aligned, misaligned = s.cost(moving[:1], fixed, weight[:1]), s.cost(shifted, fixed, weight[:1])
        return float(misaligned / aligned)

    assert contrast(robust) - 1 > 10 * (contrast(plain) - 1)


def test_sums_of_products_give_the_normal_equations_of_the_images(images):
    moving, jacobian, fixed, weight = images
    x = torch.cat([torch.ones_like(moving)[..., None], fixed.expand_as(moving)[..., None], moving[..., None], jacobian], dim=-1)
    gram = torch.einsum("bhw,bhwi,bhwj->bij", weight, x, x)
    expected, system = NCC().normal_equations(moving, jacobian, fixed, weight), NCC().normal_equations_from_gram(gram)
    torch.testing.assert_close(system.cost, expected.cost)
    torch.testing.assert_close(system.gradient, expected.gradient)
    torch.testing.assert_close(system.hessian, expected.hessian)


def test_sums_over_nothing_are_not_nan():
    system = NCC().normal_equations_from_gram(torch.zeros(1, 9, 9, dtype=torch.float64))
    assert all(torch.isfinite(part).all() for part in (system.cost, system.gradient, system.hessian))


@pytest.mark.parametrize("robust_scale", [4.0, float("inf")])
def test_the_compiled_normal_equations_of_gradients_are_those_of_torch(images, robust_scale):
    """Single precision is compiled; double precision is not. The weights reach the border, where edges are replicated."""
    similarity, (moving, jacobian, fixed, weight) = GradientNCC(robust_scale=robust_scale), images
    compiled = similarity.normal_equations(moving.float(), jacobian.float(), fixed.float(), weight.float())
    exact = similarity.normal_equations(moving, jacobian, fixed, weight)
    for name in ("cost", "gradient", "hessian"):
        expected = getattr(exact, name)
        torch.testing.assert_close(
            getattr(compiled, name).double(), expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-4
        )
