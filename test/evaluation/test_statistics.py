"""Statistics of many registrations: counts by hand, intervals against scipy and against the binomial law."""

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
    percentiles,
    success_rate,
    verdicts,
)

NO_POSE = math.inf
ERRORS = np.random.default_rng(3).gamma(2.0, 1.5, 80)


def trials(*mtre_and_verdict: tuple[float, bool]) -> list[Trial]:
    return [Trial(15.0, mtre_mm, accepted) for mtre_mm, accepted in mtre_and_verdict]


def starts(*bins: tuple[float, int, int]) -> list[Trial]:
    """For every bin a start that lies in it, how many of these, and how many of those succeed."""
    return [Trial(at, 0.5 if n < good else 30.0, True) for at, count, good in bins for n in range(count)]


def test_a_success_is_within_the_limit_whatever_the_verdict() -> None:
    some = trials((0.4, True), (1.0, False), (1.7, True), (9.0, True), (NO_POSE, False))
    assert [success_rate(some, limit) for limit in (1, 2, 10)] == [0.4, 0.6, 0.8]


def test_verdicts_tell_dangerous_failures_from_caught_ones() -> None:
    some = trials((0.4, True), (2.0, False), (5.0, False), (10.0, True), (10.1, True), (40.0, False), (NO_POSE, False))
    counted = verdicts(some)
    assert (counted.trials, counted.accepted) == (7, 3)
    assert (counted.gross_accepted, counted.gross_rejected, counted.false_rejects) == (1, 2, 1)
    counted = verdicts(some, gross_mm=4.0, right_mm=0.1)
    assert (counted.gross_accepted, counted.gross_rejected, counted.false_rejects) == (2, 3, 0)


def test_percentiles_lie_linearly_between_the_errors() -> None:
    median, quartile, tail = percentiles(np.array([4.0, 1.0, 2.0, 3.0]))
    assert (median.percent, median.value) == (50, 2.5)
    assert quartile.value == 3.25
    assert tail.value == pytest.approx(3.85)
    every = [0.0, 2.5, 33.3, 50.0, 95.0, 100.0]
    assert [p.value for p in percentiles(ERRORS, every)] == pytest.approx(np.percentile(ERRORS, every))


def test_the_interval_is_that_of_another_bootstrap() -> None:
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


def test_the_medians_interval_is_nearly_that_of_the_binomial_law() -> None:
    """The distribution-free interval of a median runs between the order statistics at the binomial's quantiles."""
    (median,) = percentiles(ERRORS, [50.0], BootstrapOptions(resamples=4000))
    low, high = stats.binom.interval(0.95, len(ERRORS), 0.5)
    ordered = np.sort(ERRORS)
    assert ordered[int(low) - 2] <= median.low <= ordered[int(low) + 1]
    assert ordered[int(high) - 2] <= median.high <= ordered[int(high) + 1]


def test_a_seed_gives_the_same_interval_again() -> None:
    first, second, other = (percentiles(ERRORS, options=BootstrapOptions(seed=seed)) for seed in (1, 1, 2))
    assert first == second != other
    assert [p.value for p in first] == [p.value for p in other]


def test_registrations_without_a_pose_stay_in_the_percentiles() -> None:
    median, quartile, tail = percentiles(np.array([1.0, 2.0, 3.0, NO_POSE, NO_POSE]))
    assert (median.value, quartile.value, tail.value) == (3, math.inf, math.inf)
    assert median.low <= 2 and median.high == math.inf and tail.low <= 3 and tail.high == math.inf


def test_the_capture_range_ends_at_the_first_bin_that_fails() -> None:
    """19 of 20 are 95 % and enough; 18 are not; and what succeeds further out is luck."""
    found = capture_range(starts((0.5, 20, 20), (1.0, 20, 19), (2.9, 20, 18), (3.1, 20, 20)))
    assert (found.mm, found.ended_by) == (2.0, "failures")
    assert [(b.low_mm, b.high_mm, b.starts, b.successes) for b in found.bins] == [
        (0, 1, 20, 20),
        (1, 2, 20, 19),
        (2, 3, 20, 18),
        (3, 4, 20, 20),
    ]


def test_a_gap_and_a_thin_bin_end_the_capture_range() -> None:
    found = capture_range(starts((0.5, 10, 10), (2.5, 10, 10)))
    assert (found.mm, found.ended_by, found.bins[1].starts) == (1.0, "too few starts", 0)
    found = capture_range(starts((0.5, 10, 10), (1.5, 9, 9), (2.5, 10, 10)))
    assert (found.mm, found.ended_by) == (1.0, "too few starts")
    found = capture_range(starts((0.5, 10, 10), (1.5, 9, 9)), CaptureOptions(fewest_starts=9))
    assert (found.mm, found.ended_by) == (2.0, "the last start")


def test_starts_from_a_band_are_not_held_against_nearer_bins() -> None:
    found = capture_range(starts((12, 15, 15), (17, 15, 15), (22, 15, 9)), CaptureOptions(bin_mm=5.0))
    assert (found.mm, found.ended_by, found.bins[0].low_mm) == (20.0, "failures", 10.0)
    assert capture_range(starts((12, 15, 9)), CaptureOptions(bin_mm=5.0)).mm == 0
    assert capture_range(starts((12, 3, 3)), CaptureOptions(bin_mm=5.0)).mm == 0


def test_a_success_is_what_the_options_say() -> None:
    some = [Trial(3.0, 1.5, False)] * 10
    assert capture_range(some).mm == 4
    assert capture_range(some, CaptureOptions(success_mm=1.0)).mm == 0


def test_nothing_to_judge_is_refused() -> None:
    with pytest.raises(InputError, match="no registration to judge"):
        success_rate([], 1.0)
    with pytest.raises(InputError, match="no registration to judge"):
        capture_range([])
    with pytest.raises(InputError, match="error of every start"):
        capture_range([Trial(math.inf, 1.0, True)])
    for errors in ([], [1.0, math.nan]):
        with pytest.raises(InputError, match="no NaN"):
            percentiles(np.array(errors))
