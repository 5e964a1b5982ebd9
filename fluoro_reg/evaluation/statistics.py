"""Statistics over many registrations: success rates, gross failures, percentiles with confidence intervals and capture range.

A registration without a pose has an infinite error. It counts as a failure and is included in the percentiles. For users of
poses, the most important number is how often a method accepts a wrong pose, so gross failures are counted separately by
verdict. The capture range follows E. B. van de Kraats et al., IEEE TMI 24(9), 2005. Confidence intervals use the percentile
bootstrap (B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13) with a fixed seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from fluoro_reg.config import option
from fluoro_reg.errors import InputError

TOO_FEW_STARTS = "too few starts"  # one of the reasons that end a capture range


@dataclass(frozen=True, slots=True)
class Trial:
    """One registration: mTRE of its initial pose and of its result (mm; infinite without a pose), and its verdict."""

    start_mtre_mm: float
    mtre_mm: float
    accepted: bool


@dataclass(frozen=True, slots=True)
class VerdictCounts:
    """Counts of verdicts among `trials` registrations, `accepted` of which were accepted.

    `gross_accepted` poses are grossly wrong and accepted, the dangerous case. `gross_rejected` registrations are grossly wrong
    or have no pose, and are rejected. `false_rejects` are correct and rejected. Errors between correct and gross are in none of
    these.
    """

    trials: int
    accepted: int
    gross_accepted: int
    gross_rejected: int
    false_rejects: int


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile of errors with its confidence interval."""

    percent: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CaptureBin:
    """The number of initial poses with an mTRE in [low_mm, high_mm), and the number of successes among them."""

    low_mm: float
    high_mm: float
    starts: int
    successes: int


@dataclass(frozen=True, slots=True)
class CaptureRange:
    """The initial mTRE up to which a method is reliable, the bins that it was computed from, and the reason that ended it."""

    mm: float
    bins: tuple[CaptureBin, ...]
    ended_by: str


@dataclass(frozen=True, slots=True)
class BootstrapOptions:
    """Options of the confidence interval of a percentile."""

    resamples: int = option(2000, "number of samples drawn with replacement", minimum=100, maximum=1000000)
    confidence: float = option(0.95, "fraction of the resamples within the interval", minimum=0.5, maximum=0.999)
    seed: int = option(0, "seed; the same seed gives the same interval", minimum=0)


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """Options of the capture range."""

    bin_mm: float = option(1.0, "width of a bin of initial mTRE", unit="mm", minimum=0.01, maximum=100)
    success_mm: float = option(2.0, "maximum mTRE of a success", unit="mm", minimum=0)
    share: float = option(0.95, "minimum fraction of successes in a reliable bin", minimum=0, maximum=1)
    fewest_starts: int = option(10, "minimum number of initial poses in a reliable bin", minimum=1)


def success_rate(trials: Sequence[Trial], within_mm: float) -> float:
    """Return the fraction of trials with an mTRE of at most `within_mm` (usually 1, 2 or 10 mm), regardless of the verdict.

    Raises:
        InputError: There are no trials.
    """
    return float(np.mean(_errors(trials) <= within_mm))


def count_verdicts(trials: Sequence[Trial], gross_mm: float = 10.0, correct_mm: float = 2.0) -> VerdictCounts:
    """Count verdicts; an mTRE above `gross_mm` is a gross error, and one of at most `correct_mm` is correct."""
    gross = [trial for trial in trials if trial.mtre_mm > gross_mm]
    return VerdictCounts(
        trials=len(trials),
        accepted=sum(trial.accepted for trial in trials),
        gross_accepted=sum(trial.accepted for trial in gross),
        gross_rejected=sum(not trial.accepted for trial in gross),
        false_rejects=sum(trial.mtre_mm <= correct_mm and not trial.accepted for trial in trials),
    )


def percentiles(
    errors: Float[np.ndarray, "n"], percents: Sequence[float] = (50.0, 75.0, 95.0), options: BootstrapOptions | None = None
) -> tuple[Percentile, ...]:
    """Return percentiles of errors, interpolated linearly between order statistics, with confidence intervals.

    A percentile is infinite if it falls on trials without a pose.

    Raises:
        InputError: There are no errors, or one is NaN.
    """
    if not len(errors) or np.isnan(errors).any():
        raise InputError("percentiles need at least one error and no NaN; give an infinite error for a missing pose")
    options = options or BootstrapOptions()
    generator = np.random.default_rng(options.seed)
    values = _percentiles(errors, percents)
    resampled = _percentiles(generator.choice(errors, (options.resamples, len(errors))), percents)
    tail = 50 * (1 - options.confidence)
    intervals = _percentiles(resampled.T, (tail, 100 - tail))
    return tuple(
        Percentile(float(percent), float(value), float(low), float(high))
        for percent, value, (low, high) in zip(percents, values, intervals, strict=True)
    )


def capture_range(trials: Sequence[Trial], options: CaptureOptions | None = None) -> CaptureRange:
    """Return the capture range: the lower edge of the first unreliable bin of initial mTRE, in increasing order.

    A bin is reliable if it has at least `fewest_starts` initial poses and a sufficient fraction of them succeed. A bin with
    fewer initial poses, or none, therefore ends the range. Only the empty bins below the smallest initial mTRE are skipped,
    because nothing was measured there. If the first bin is unreliable, the range is 0. If all bins are reliable, the range is
    the upper edge of the last bin, and the true range may be larger. The bins of the result run from the smallest initial mTRE
    to the largest, including gaps.

    Raises:
        InputError: There are no trials, or an initial mTRE is not finite.
    """
    options = options or CaptureOptions()
    errors, starts = _errors(trials), np.array([trial.start_mtre_mm for trial in trials])
    if not np.isfinite(starts).all():
        raise InputError("a capture range needs a finite initial mTRE of every trial; leave out cases without an initial pose")
    numbers = np.floor(starts / options.bin_mm).astype(int)
    bins = tuple(
        CaptureBin(
            low_mm=number * options.bin_mm,
            high_mm=(number + 1) * options.bin_mm,
            starts=int(np.sum(numbers == number)),
            successes=int(np.sum((numbers == number) & (errors <= options.success_mm))),
        )
        for number in range(numbers.min(), numbers.max() + 1)
    )
    for n, entry in enumerate(bins):
        reliable = entry.starts >= options.fewest_starts and entry.successes >= options.share * entry.starts
        if not reliable:
            why = "failures" if entry.starts >= options.fewest_starts else TOO_FEW_STARTS
            return CaptureRange(entry.low_mm if n else 0.0, bins, why)
    return CaptureRange(bins[-1].high_mm, bins, "the last start")


def _errors(trials: Sequence[Trial]) -> Float[np.ndarray, "n"]:
    if not trials:
        raise InputError("there are no registrations to summarise; give at least one case")
    return np.array([trial.mtre_mm for trial in trials])


def _percentiles(values: Float[np.ndarray, "*batch n"], percents: Sequence[float]) -> Float[np.ndarray, "*batch percents"]:
    """Return percentiles along the last axis."""
    ordered = np.sort(values, axis=-1)
    position = np.round(np.asarray(percents) / 100 * (values.shape[-1] - 1), 9)
    below, above = ordered[..., np.floor(position).astype(int)], ordered[..., np.ceil(position).astype(int)]
    with np.errstate(invalid="ignore"):  # infinity minus infinity, where the result is not used
        return np.where(below == above, below, below + position % 1 * (above - below))
