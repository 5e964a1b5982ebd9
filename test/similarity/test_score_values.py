"""Scores compared with the statistics of numpy and scipy, explicit loops and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from scipy.interpolate import BSpline

from fluoro_reg.similarity import GMNCC, SSD, GradientNCC, MultiscaleNCC, MutualInformation, PatchGradientNCC, PatchNCC
from fluoro_reg.similarity.mutual_information import equal_mass_bins, joint_histogram, spline_positions
from fluoro_reg.similarity.windows import sliding_sums

PLAIN = float("inf")


@pytest.fixture
def images():
    """Return a moving and a fixed image that are similar, and weights with a hole; numpy, float64."""
    rng = np.random.default_rng(5)
    noise = ndimage.uniform_filter(rng.normal(size=(2, 26, 30)), size=(0, 3, 3))
    weight = rng.uniform(0.5, 1.5, size=(26, 30))
    weight[4:9, 3:12] = 0
    return noise[0] + 4, noise[0] + 0.6 * noise[1], weight


def score_of(similarity, moving, fixed, weight):
    return float(similarity.score(*(torch.from_numpy(np.ascontiguousarray(x))[None] for x in (moving, fixed, weight))))


def correlation(moving, fixed, weight):
    covariance = np.cov(moving.ravel(), fixed.ravel(), aweights=weight.ravel())
    return covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1])


def windows(size, *images):
    height, width = images[0].shape
    for v in range(height - size + 1):
        for u in range(width - size + 1):
            yield [image[v : v + size, u : u + size] for image in images]


@pytest.mark.parametrize(
    "similarity", [MultiscaleNCC(patches=(0,)), PatchNCC(patch=0, floor=0.0), SSD(robust_scale=PLAIN, floor=0.0)], ids=repr
)
def test_over_the_whole_image_the_score_is_the_weighted_correlation_coefficient(similarity, images):
    assert score_of(similarity, *images) == pytest.approx(correlation(*images), abs=1e-8)
    assert score_of(similarity, *images[:2], np.ones((26, 30))) == pytest.approx(
        np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1], abs=1e-8
    )


def test_gradient_ncc_is_the_joint_correlation_of_both_gradient_components(images):
    moving, fixed, weight = images
    both = [np.stack([ndimage.sobel(x, axis, mode="nearest") for axis in (1, 0)]) for x in (moving, fixed)]
    expected = correlation(*both, np.stack([weight, weight]))
    assert score_of(GradientNCC(clip=1.0, floor=0.0), *images) == pytest.approx(expected, abs=1e-8)


def test_windows_are_averaged_by_weight_and_barely_usable_ones_are_ignored(images):
    size = 7
    rows = [(correlation(*w), w[2].mean()) for w in windows(size, *images) if (w[2] > 0).mean() >= 0.5]
    assert len(rows) < (26 - size + 1) * (30 - size + 1)
    expected = sum(c * window_weight for c, window_weight in rows) / sum(window_weight for _, window_weight in rows)
    assert score_of(MultiscaleNCC(patches=(size,), minimum_fraction=0.5, floor=1e-14), *images) == pytest.approx(
        expected, abs=1e-6
    )


def test_multiscale_is_the_mean_over_the_sizes(images):
    parts = [score_of(MultiscaleNCC(patches=(size,)), *images) for size in (0, 5, 9)]
    assert score_of(MultiscaleNCC(patches=(0, 5, 9)), *images) == pytest.approx(sum(parts) / 3)
    assert score_of(MultiscaleNCC(patches=(4000,)), *images) == pytest.approx(parts[0], abs=1e-3)  # no larger than the image


def test_a_flat_part_of_the_xray_does_not_lower_a_perfect_score(images):
    fixed = images[1].copy()
    fixed[:, 12:] = 2.0
    assert score_of(MultiscaleNCC(), fixed, fixed, images[2]) == pytest.approx(1.0, abs=0.02)
    assert score_of(PatchGradientNCC(), fixed, fixed, images[2]) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("by_variance", [True, False])
def test_patch_gradient_ncc_equals_a_loop_over_windows_of_each_gradient(images, by_variance):
    size, sigma = 7, 1.3
    moving, fixed, weight = images
    usable = (weight > 0).astype(float)

    def smooth(x):
        options = {"sigma": sigma, "mode": "constant", "truncate": 12.0}
        return ndimage.gaussian_filter(x * usable, **options) / ndimage.gaussian_filter(usable, **options)

    expected = []
    for axis in (1, 0):
        slopes = [ndimage.sobel(smooth(x), axis, mode="nearest") for x in (moving, fixed)]
        rows = [
            (correlation(*w), w[2].mean(), np.cov(w[1].ravel(), aweights=w[2].ravel(), ddof=0))
            for w in windows(size, *slopes, weight)
            if (w[2] > 0).mean() >= 0.3
        ]
        importance = [window_weight * (variance if by_variance else 1) for _, window_weight, variance in rows]
        expected.append(np.average([c for c, _, _ in rows], weights=importance))
    similarity = PatchGradientNCC(patch=size, smoothing_px=sigma, variance_weights=by_variance, floor=1e-14)
    assert score_of(similarity, *images) == pytest.approx(np.mean(expected), abs=1e-6)


def test_without_smoothing_plain_gradients_are_compared(images):
    uniform_weight = np.ones_like(images[2])
    slopes = [[ndimage.sobel(x, axis, mode="nearest") for x in images[:2]] for axis in (1, 0)]
    expected = np.mean([np.mean([np.corrcoef(m.ravel(), f.ravel())[0, 1] for m, f in windows(9, *pair)]) for pair in slopes])
    similarity = PatchGradientNCC(patch=9, smoothing_px=0.0, variance_weights=False, floor=1e-14)
    assert score_of(similarity, *images[:2], uniform_weight) == pytest.approx(expected, abs=1e-6)


def test_gmncc_mixes_grey_values_and_gradients(images):
    grey = score_of(MultiscaleNCC(patches=(0, 9)), *images)
    edges = score_of(PatchGradientNCC(patch=11, smoothing_px=0.0, variance_weights=False), *images)
    assert abs(grey - edges) > 0.01
    assert score_of(GMNCC(), *images) == pytest.approx((grey + edges) / 2)
    assert score_of(GMNCC(grey=0.25), *images) == pytest.approx(0.25 * grey + 0.75 * edges)


def test_ssd_penalises_a_tool_by_its_area_and_not_by_its_contrast(images):
    moving, _, _ = images
    uniform_weight = np.ones_like(moving)
    tool = np.zeros_like(moving)
    tool[10:12, 8:14] = 1.0
    robust = [score_of(SSD(), moving + strength * tool, moving, uniform_weight) for strength in (2.0, 4.0)]
    plain = [score_of(SSD(robust_scale=PLAIN), moving + strength * tool, moving, uniform_weight) for strength in (2.0, 4.0)]
    assert robust[1] > 0.8 > plain[1]
    assert robust[0] - robust[1] < 0.5 * (plain[0] - plain[1])


def test_ssd_equals_a_loop_over_pixels(images):
    moving, fixed, weight = images

    def standard(x):
        mean = np.average(x, weights=weight)
        return (x - mean) / math.sqrt(np.average((x - mean) ** 2, weights=weight))

    total = 0.0
    for m, f, w in zip(standard(moving).flat, standard(fixed).flat, weight.flat, strict=True):
        squared = (m - f) ** 2
        total += w * squared * 3.0 / (squared + 3.0)
    assert score_of(SSD(robust_scale=3.0, floor=0.0), *images) == pytest.approx(1 - total / weight.sum() / 2, abs=1e-9)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 11, 21])
def test_sliding_sums_equal_convolutions_with_ones(size):
    values = np.random.default_rng(0).normal(size=30)
    sums = sliding_sums(torch.from_numpy(values)[None], 1, size)
    np.testing.assert_allclose(sums[0], np.convolve(values, np.ones(size), mode="valid"), atol=1e-12)


def test_mutual_information_of_gaussians_matches_the_closed_form():
    rng = np.random.default_rng(2)
    for rho in (0.0, 0.5, 0.8, -0.8):
        x = rng.normal(size=(250, 250))
        y = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=x.shape)
        bins = 32
        nats = score_of(MutualInformation(bins=bins), y, x, np.ones_like(x)) * math.log(bins)
        assert nats == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.04)


def test_mutual_information_is_close_to_that_of_a_plain_histogram(images):
    rng = np.random.default_rng(4)
    fixed = ndimage.gaussian_filter(rng.normal(size=(200, 200)), 3)
    moving = np.cos(20 * fixed) + 0.2 * rng.normal(size=fixed.shape)  # almost no correlation
    bins = 16
    rows = np.floor(bins * (stats.rankdata(fixed) - 0.5) / fixed.size)
    counts, _, _ = np.histogram2d(rows.ravel(), moving.ravel(), bins=bins)
    row_entropy, column_entropy = stats.entropy(counts.sum(1)), stats.entropy(counts.sum(0))
    expected = (row_entropy + column_entropy - stats.entropy(counts.ravel())) / row_entropy
    assert expected > 0.2
    assert abs(np.corrcoef(moving.ravel(), fixed.ravel())[0, 1]) < 0.3
    assert score_of(MutualInformation(bins=bins), moving, fixed, np.ones_like(fixed)) == pytest.approx(expected, abs=0.06)


def test_the_joint_histogram_equals_a_loop_over_pixels_and_basis_splines(images):
    moving, _, weight = (torch.from_numpy(x).flatten()[None] for x in images)
    weight, bins = weight / weight.sum(), 9
    rows = torch.arange(moving.shape[1])[None] % bins
    position = spline_positions(moving, weight, bins)
    expected = np.zeros((bins, bins))
    for row, x, w in zip(rows[0].tolist(), position[0].tolist(), weight[0].tolist(), strict=True):
        for column in range(bins):
            knots = column + np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
            if knots[0] <= x < knots[-1]:
                expected[row, column] += w * float(BSpline.basis_element(knots)(x))
    np.testing.assert_allclose(joint_histogram(rows, position, weight, bins)[0], expected, atol=1e-12)
    assert expected.sum() == pytest.approx(1.0)


def test_bins_of_the_xray_have_equal_mass_and_never_split_equal_values():
    rng = np.random.default_rng(7)
    values = torch.from_numpy(rng.gamma(1.0, size=(1, 4000)))
    weight = torch.from_numpy(rng.uniform(size=(1, 4000)))
    rows = equal_mass_bins(values, weight, 8)
    mass = torch.zeros(8, dtype=torch.float64).index_add(0, rows[0], weight[0])
    torch.testing.assert_close(mass / weight.sum(), torch.full((8,), 0.125, dtype=torch.float64), atol=2e-3, rtol=0)
    coarse = (values * 2).round()
    binned = equal_mass_bins(coarse, weight, 8)
    assert all(len(binned[coarse == value].unique()) == 1 for value in coarse.unique())


def test_mutual_information_is_invariant_to_a_monotone_change_of_the_xray(images):
    moving, fixed, weight = images
    remapped = np.exp(3 * fixed)
    similarity = MutualInformation()
    assert score_of(similarity, moving, remapped, weight) == score_of(similarity, moving, fixed, weight)
    ncc = MultiscaleNCC()
    assert abs(score_of(ncc, moving, remapped, weight) - score_of(ncc, moving, fixed, weight)) > 0.02
