"""The compiled search for peaks of evidence against the same in torch."""

import numpy as np
import pytest
import torch

from fluoro_reg.registration.stages.view_kernels import find_peaks

REACH, PEAKS, SIDE, LOW = 2, 3, 31, 16


def correlations(seed: int, every: int) -> list[torch.Tensor]:
    """Product, overlap and energies over shifts, of which a part has too little overlap; rows are longer than needed."""
    generator = torch.Generator().manual_seed(seed)
    product = 4.0 * torch.randn(5, SIDE, 40, generator=generator)
    height, width = (LOW, 20) if every == 2 else (SIDE, 40)
    overlap, fixed, moving = (100.0 * torch.rand(5, height, width, generator=generator) for _ in range(3))
    return [product, overlap, fixed, moving]


def expected_peaks(sums: list[torch.Tensor], given: int, least: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    product, lows = sums[0][..., :SIDE].double(), torch.stack(sums[1:])[..., :given].double()
    overlap, fixed, moving = torch.nn.functional.interpolate(lows, size=(SIDE, SIDE), mode="bilinear", align_corners=True)
    r2 = (product.clamp_min(0).square() / (fixed * moving).clamp_min(1e-12)).clamp_max(0.998)
    evidence = -0.5 * overlap * torch.log1p(-r2)
    for support, limit in zip((overlap, fixed, moving), least, strict=True):
        evidence = evidence * (support >= limit[:, None, None])
    highest = torch.nn.functional.max_pool2d(evidence[:, None], 2 * REACH + 1, stride=1, padding=REACH)[:, 0]
    best, index = (evidence * (evidence == highest)).flatten(1).topk(PEAKS)
    return best, torch.stack([index % SIDE, index // SIDE], dim=-1)


@pytest.mark.parametrize("every", [1, 2])
def test_peaks_are_those_of_the_evidence(every: int) -> None:
    given = LOW if every == 2 else SIDE
    for seed in range(20):
        sums = correlations(seed, every)
        least = torch.stack([one[..., :given].amax((1, 2)) for one in sums[1:]]) * torch.tensor([0.25, 0.1, 0.1])[:, None]
        best, pixel = np.empty((5, PEAKS), np.float32), np.empty((5, PEAKS, 2), np.float32)
        find_peaks(*(one.numpy() for one in sums), every, least.numpy(), SIDE, REACH, best, pixel)
        evidence, where = expected_peaks(sums, given, least)
        torch.testing.assert_close(torch.from_numpy(best).double(), evidence, rtol=1e-4, atol=1e-6)
        assert torch.equal(torch.from_numpy(pixel).long(), where)


def test_a_view_without_evidence_has_no_peaks() -> None:
    sums = [torch.zeros(2, SIDE, SIDE) for _ in range(4)]
    best, pixel = np.full((2, PEAKS), 7, np.float32), np.full((2, PEAKS, 2), 7, np.float32)
    find_peaks(*(one.numpy() for one in sums), 1, np.zeros((3, 2), np.float32), SIDE, REACH, best, pixel)
    assert not best.any()
    assert not pixel.any()
