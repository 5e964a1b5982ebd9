"""Mutual information: how well the rendered grey values predict those of the X-ray, whatever function connects the two.

The joint histogram is smooth in the rendered image, so that autograd can follow it: a cubic B-spline spreads every pixel over
four bins between the minimum and maximum of that image. The X-ray's pixels fall into bins of equal mass, by rank. A monotone
change of the X-ray (gamma, a look-up table, a missing logarithm) therefore has no effect, and a few extreme values of a tool or
a collimator cannot compress all others into one bin.

Sources: Viola and Wells, "Alignment by maximization of mutual information", IJCV 24(2), 1997; Mattes et al., "PET-CT image
registration in the chest using free-form deformations", IEEE TMI 22(1), 2003 (spline for the moving image, plain bins for the
fixed); Thevenaz and Unser, "Optimization of mutual information for multiresolution image registration", IEEE TIP 9(12), 2000.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.similarity.residual import normalise_weights
from fluoro_reg.similarity.similarity import AbstractSimilarity, Image, Images

EPSILON = 1e-12  # instead of zero in logarithms and denominators


@dataclass(frozen=True, slots=True)
class MutualInformation(AbstractSimilarity):
    """The fraction of the X-ray's entropy that the rendered image explains.

    It is 0 if nothing is explained; the blur of the spline keeps it below 1. An exact negative explains as much as a copy.
    """

    bins: int = option(32, "bins of each image's histogram", minimum=6, maximum=512)

    def score(self, moving: Images, fixed: Image, weight: Images) -> Float[Tensor, "batch"]:
        w = normalise_weights(weight.flatten(1))
        fixed_bins = equal_mass_bins(fixed.flatten(1).expand_as(w), w, self.bins)
        joint = joint_histogram(fixed_bins, spline_positions(moving.flatten(1), w, self.bins), w, self.bins)
        by_fixed, by_moving = entropy(joint.sum(2)), entropy(joint.sum(1))
        information = by_fixed + by_moving - entropy(joint.flatten(1))
        return information / by_fixed.clamp_min(EPSILON)


def equal_mass_bins(values: Float[Tensor, "batch n"], weight: Float[Tensor, "batch n"], bins: int) -> Int[Tensor, "batch n"]:
    """Return the bin of every value, between quantiles of the weights; equal values have the same bin."""
    sorted_values, order = values.sort(dim=-1)
    mass = weight.double().gather(-1, order).cumsum(-1)
    levels = torch.arange(1, bins, dtype=torch.float64, device=values.device) / bins * mass[:, -1:]
    edges = sorted_values.gather(-1, torch.searchsorted(mass, levels).clamp_max(values.shape[1] - 1))
    return torch.searchsorted(edges, values.contiguous())


def spline_positions(values: Float[Tensor, "batch n"], weight: Float[Tensor, "batch n"], bins: int) -> Float[Tensor, "batch n"]:
    """Map values to the axis of bin centres, the minimum to 1 and the maximum to bins - 2, so that four bins surround each."""
    used = weight > 0
    inside = torch.where(used, values, (weight * values).sum(-1, keepdim=True))
    low, high = inside.amin(-1, keepdim=True), inside.amax(-1, keepdim=True)
    return 1 + (bins - 3) * (inside - low) / (high - low).clamp_min(EPSILON)


def joint_histogram(
    fixed_bins: Int[Tensor, "batch n"], positions: Float[Tensor, "batch n"], weight: Float[Tensor, "batch n"], bins: int
) -> Float[Tensor, "batch bins bins"]:
    """Sum the weights by bin of the fixed image and, spread by a cubic B-spline, by bin of the moving image."""
    first = positions.detach().floor()
    u = positions - first
    spline_weights = ((1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3)
    histogram = positions.new_zeros(weight.shape[0], bins * bins)
    for k, spline_weight in enumerate(spline_weights):
        column = (first.long() + k - 1).clamp_max(bins - 1)
        histogram = histogram.scatter_add(1, fixed_bins * bins + column, weight * spline_weight / 6)
    return histogram.unflatten(1, (bins, bins))


def entropy(probabilities: Float[Tensor, "batch *cells"]) -> Float[Tensor, "batch"]:
    """Return Shannon's entropy, nats."""
    p = probabilities.flatten(1)
    return -(p * p.clamp_min(EPSILON).log()).sum(-1)
