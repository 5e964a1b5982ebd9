"""What many registrations say of a method: successes, gross failures, percentiles with their uncertainty, capture range.

A registration that gives no pose has an infinite error: it fails, and it may not vanish from a percentile. What matters most to
those who rely on poses is not how often a method is right, but how often it says it is right and is not: gross failures are
therefore told apart by verdict. Capture range after E. B. van de Kraats et al., IEEE TMI 24(9), 2005; intervals by the
percentile bootstrap (B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13), seeded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from fluoro_reg.config import option
from fluoro_reg.errors import InputError

TOO_FEW_STARTS = "too few starts"  # what may end a capture range


@dataclass(frozen=True, slots=True)
class Trial:
    """One registration held against its truth: mTRE of its start and of its answer (mm; infinite without one), its verdict."""

    start_mtre_mm: float
    mtre_mm: float
    accepted: bool


@dataclass(frozen=True, slots=True)
class Verdicts:
    """How often the verdict was wrong, among `trials`, `accepted` of which were accepted.

    `gross_accepted`: grossly wrong and accepted, the dangerous ones. `gross_rejected`: grossly wrong or without a pose, and
    rejected. `false_rejects`: right, and rejected. What lies between right and gross is none of these.
    """

    trials: int
    accepted: int
    gross_accepted: int
    gross_rejected: int
    false_rejects: int


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile of errors, with the interval in which that of another such sample would lie."""

    percent: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class StartBin:
    """Starts whose mTRE lies in [low_mm, high_mm), and how many of them ended in success."""

    low_mm: float
    high_mm: float
    starts: int
    successes: int


@dataclass(frozen=True, slots=True)
class CaptureRange:
    """The distance up to which starts can be relied on, the bins that show it, and what ended it."""

    mm: float
    bins: tuple[StartBin, ...]
    ended_by: str


@dataclass(frozen=True, slots=True)
class BootstrapOptions:
    """How the uncertainty of a percentile is told."""

    resamples: int = option(2000, "samples drawn with replacement", minimum=100, maximum=1000000)
    confidence: float = option(0.95, "share of resamples within the interval", minimum=0.5, maximum=0.999)
    seed: int = option(0, "gives the same interval again", minimum=0)


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """What makes a bin of starts one to rely on."""

    bin_mm: float = option(1.0, "width of a bin of starts", unit="mm", minimum=0.01, maximum=100)
    success_mm: float = option(2.0, "mTRE up to which a registration is a success", unit="mm", minimum=0)
    share: float = option(0.95, "share of successes that a bin must reach", minimum=0, maximum=1)
    fewest_starts: int = option(10, "starts without which a bin proves nothing", minimum=1)


def success_rate(trials: Sequence[Trial], within_mm: float) -> float:
    """The share of trials whose mTRE is at most `within_mm`, whatever their verdict; usual are 1, 2 and 10 mm.

    Raises:
        InputError: there is no trial.
    """
    return float(np.mean(_errors(trials) <= within_mm))


def verdicts(trials: Sequence[Trial], gross_mm: float = 10.0, right_mm: float = 2.0) -> Verdicts:
    """Counts of wrong verdicts: gross is an mTRE of more than `gross_mm`, right is one of at most `right_mm`."""
    gross = [trial for trial in trials if trial.mtre_mm > gross_mm]
    return Verdicts(
        trials=len(trials),
        accepted=sum(trial.accepted for trial in trials),
        gross_accepted=sum(trial.accepted for trial in gross),
        gross_rejected=sum(not trial.accepted for trial in gross),
        false_rejects=sum(trial.mtre_mm <= right_mm and not trial.accepted for trial in trials),
    )


def percentiles(
    errors: Float[np.ndarray, "n"], percents: Sequence[float] = (50.0, 75.0, 95.0), options: BootstrapOptions | None = None
) -> tuple[Percentile, ...]:
    """Percentiles of errors (linear between order statistics; infinite where they reach trials without a pose).

    Raises:
        InputError: there is no error, or one is NaN.
    """
    if not len(errors) or np.isnan(errors).any():
        raise InputError("percentiles need at least one error and no NaN; an error that could not be told is infinite")
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
    """The lower edge of the first bin of starts, from near to far, that cannot be relied on.

    A bin can be relied on when enough of its starts succeed. One with fewer than `fewest_starts` proves nothing either way, and
    an empty one less, so that the range ends before it; only the empty bins nearer than every start are passed over, for they
    were not asked about. When the first bin fails already the range is 0; when none does, it is the far edge of the last, and
    the true range may be larger. `bins` runs from the first start to the last, gaps included.

    Raises:
        InputError: there is no trial, or a start whose error is not finite.
    """
    options = options or CaptureOptions()
    errors, starts = _errors(trials), np.array([trial.start_mtre_mm for trial in trials])
    if not np.isfinite(starts).all():
        raise InputError("a capture range needs the error of every start; leave out cases without a start")
    numbers = np.floor(starts / options.bin_mm).astype(int)
    bins = tuple(
        StartBin(
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
        raise InputError("there is no registration to judge; give at least one case")
    return np.array([trial.mtre_mm for trial in trials])


def _percentiles(values: Float[np.ndarray, "*batch n"], percents: Sequence[float]) -> Float[np.ndarray, "*batch percents"]:
    """Along the last axis."""
    ordered = np.sort(values, axis=-1)
    position = np.round(np.asarray(percents) / 100 * (values.shape[-1] - 1), 9)
    below, above = ordered[..., np.floor(position).astype(int)], ordered[..., np.ceil(position).astype(int)]
    with np.errstate(invalid="ignore"):  # infinity minus infinity, where no step is to be taken
        return np.where(below == above, below, below + position % 1 * (above - below))
