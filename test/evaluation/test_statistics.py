"""Statistics over many registrations: counts by hand, intervals against scipy and the binomial distribution."""

import math

import numpy as np
import pytest
from scipy import stats

from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.statistics import (
    BootstrapOptions,
    CaptureOptions,
    Trial,
    capture_range,
    count_verdicts,
    percentiles,
    success_rate,
)

NO_POSE = math.inf
ERRORS = np.random.default_rng(3).gamma(2.0, 1.5, 80)


def trials(*mtre_and_verdict: tuple[float, bool]) -> list[Trial]:
    return [Trial(15.0, mtre_mm, accepted) for mtre_mm, accepted in mtre_and_verdict]


def starts(*bins: tuple[float, int, int]) -> list[Trial]:
    """Return trials from bins, each given as (initial mTRE, number of trials, number of successes)."""
    return [Trial(at, 0.5 if n < good else 30.0, True) for at, count, good in bins for n in range(count)]


def test_successes_are_counted_regardless_of_the_verdict() -> None:
    some = trials((0.4, True), (1.0, False), (1.7, True), (9.0, True), (NO_POSE, False))
    assert [success_rate(some, limit) for limit in (1, 2, 10)] == [0.4, 0.6, 0.8]


def test_gross_errors_are_counted_by_verdict() -> None:
    some = trials((0.4, True), (2.0, False), (5.0, False), (10.0, True), (10.1, True), (40.0, False), (NO_POSE, False))
    counted = count_verdicts(some)
    assert (counted.trials, counted.accepted) == (7, 3)
    assert (counted.gross_accepted, counted.gross_rejected, counted.false_rejects) == (1, 2, 1)
    counted = count_verdicts(some, gross_mm=4.0, correct_mm=0.1)
    assert (counted.gross_accepted, counted.gross_rejected, counted.false_rejects) == (2, 3, 0)


def test_percentiles_are_interpolated_linearly() -> None:
    median, quartile, tail = percentiles(np.array([4.0, 1.0, 2.0, 3.0]))
    assert (median.percent, median.value) == (50, 2.5)
    assert quartile.value == 3.25
    assert tail.value == pytest.approx(3.85)
    every = [0.0, 2.5, 33.3, 50.0, 95.0, 100.0]
    assert [p.value for p in percentiles(ERRORS, every)] == pytest.approx(np.percentile(ERRORS, every))


def test_the_confidence_interval_agrees_with_scipys_bootstrap() -> None:
    options = BootstrapOptions(resamples=6000, confidence=0.9)
    for percent in (50.0, 95.0):
        (ours,) = percentiles(ERRORS, [percent], options)
        theirs = stats.bootstrap(
            (ERRORS,),
            lambda x, axis, percent=percent: np.percentile(x, percent, axis=axis),
            n_resamples=6000,
            confidence_level=0.9,
            method="percentile",
            rng=np.random.default_rng(7),
        ).confidence_interval
        assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=0.1), pytest.approx(theirs.high, abs=0.1))


def test_the_interval_of_the_median_is_close_to_that_of_the_binomial_distribution() -> None:
    """The distribution-free interval of a median lies between the order statistics at quantiles of the binomial."""
    (median,) = percentiles(ERRORS, [50.0], BootstrapOptions(resamples=4000))
    low, high = stats.binom.interval(0.95, len(ERRORS), 0.5)
    ordered = np.sort(ERRORS)
    assert ordered[int(low) - 2] <= median.low <= ordered[int(low) + 1]
    assert ordered[int(high) - 2] <= median.high <= ordered[int(high) + 1]


def test_a_seed_gives_the_same_interval_again() -> None:
    first, second, other = (percentiles(ERRORS, options=BootstrapOptions(seed=seed)) for seed in (1, 1, 2))
    assert first == second != other
    assert [p.value for p in first] == [p.value for p in other]


def test_registrations_without_a_pose_are_included_in_the_percentiles() -> None:
    median, quartile, tail = percentiles(np.array([1.0, 2.0, 3.0, NO_POSE, NO_POSE]))
    assert (median.value, quartile.value, tail.value) == (3, math.inf, math.inf)
    assert median.low <= 2 and median.high == math.inf and tail.low <= 3 and tail.high == math.inf


def test_the_capture_range_ends_at_the_first_bin_that_fails() -> None:
    """19 of 20 are 95 % and sufficient, 18 are not; successes in later bins do not count."""
    found = capture_range(starts((0.5, 20, 20), (1.0, 20, 19), (2.9, 20, 18), (3.1, 20, 20)))
    assert (found.mm, found.ended_by) == (2.0, "failures")
    assert [(b.low_mm, b.high_mm, b.starts, b.successes) for b in found.bins] == [
        (0, 1, 20, 20),
        (1, 2, 20, 19),
        (2, 3, 20, 18),
        (3, 4, 20, 20),
    ]


def test_a_gap_or_a_bin_with_few_trials_ends_the_capture_range() -> None:
    found = capture_range(starts((0.5, 10, 10), (2.5, 10, 10)))
    assert (found.mm, found.ended_by, found.bins[1].starts) == (1.0, "too few starts", 0)
    found = capture_range(starts((0.5, 10, 10), (1.5, 9, 9), (2.5, 10, 10)))
    assert (found.mm, found.ended_by) == (1.0, "too few starts")
    found = capture_range(starts((0.5, 10, 10), (1.5, 9, 9)), CaptureOptions(fewest_starts=9))
    assert (found.mm, found.ended_by) == (2.0, "the last start")


def test_empty_bins_below_the_first_trial_do_not_end_the_capture_range() -> None:
    found = capture_range(starts((12, 15, 15), (17, 15, 15), (22, 15, 9)), CaptureOptions(bin_mm=5.0))
    assert (found.mm, found.ended_by, found.bins[0].low_mm) == (20.0, "failures", 10.0)
    assert capture_range(starts((12, 15, 9)), CaptureOptions(bin_mm=5.0)).mm == 0
    assert capture_range(starts((12, 3, 3)), CaptureOptions(bin_mm=5.0)).mm == 0


def test_options_define_a_success() -> None:
    some = [Trial(3.0, 1.5, False)] * 10
    assert capture_range(some).mm == 4
    assert capture_range(some, CaptureOptions(success_mm=1.0)).mm == 0


def test_missing_or_unknown_errors_are_rejected() -> None:
    with pytest.raises(InputError, match="no registrations to summarise"):
        success_rate([], 1.0)
    with pytest.raises(InputError, match="no registrations to summarise"):
        capture_range([])
    with pytest.raises(InputError, match="finite initial mTRE of every trial"):
        capture_range([Trial(math.inf, 1.0, True)])
    for errors in ([], [1.0, math.nan]):
        with pytest.raises(InputError, match="no NaN"):
            percentiles(np.array(errors))
