"""Summaries of methods: every figure of a comparison table, for all cases and for groups of cases.

A case without a pose counts in every figure with an infinite error, so that a method does not gain by giving up. Cases are
grouped by their CT, the band of their initial mTRE and their variant. Cases that name no band are assigned to default bands.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from fluoro_reg.evaluation.records import EvaluationRecord
from fluoro_reg.evaluation.statistics import (
    CaptureOptions,
    CaptureRange,
    Percentile,
    VerdictCounts,
    capture_range,
    count_verdicts,
    percentiles,
    success_rate,
)

SUCCESS_MM = (1.0, 2.0, 10.0)
PERCENTS = (50.0, 75.0, 95.0)
GROSS_MM, CORRECT_MM = 10.0, 2.0
CAPTURE_OPTIONS = CaptureOptions(bin_mm=5.0)  # a band holds tens of initial poses, not thousands
DEFAULT_BANDS_MM = (0.0, 5.0, 10.0, 25.0, 60.0, math.inf)
MEDIAN_ERRORS = ("in_plane_mm", "depth_mm", "mpd_mm", "mrpd_mm", "mrpe_mm", "diffpose_scaled_mrpe", "double_geodesic_mm")


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """One row of a table: the results of a method over `records` registrations.

    Attributes:
        method: Name of the method.
        records: Number of registrations.
        failures: Number of registrations that failed with an error.
        success: Fractions of registrations within each of `SUCCESS_MM`.
        mtre: Percentiles of the mTRE with their confidence intervals.
        medians: Medians of the other errors by name, NaN if unknown.
        verdicts: Counts of correct and wrong verdicts.
        capture: The capture range, None without initial poses.
        seconds: Median time of a registration, s. The first registration of each process counts only if there are no others.
        renders: Median number of rendered images.
    """

    method: str
    records: int
    failures: int
    success: tuple[float, ...]
    mtre: tuple[Percentile, ...]
    medians: dict[str, float]
    verdicts: VerdictCounts
    capture: CaptureRange | None
    seconds: float
    renders: float


@dataclass(frozen=True, slots=True)
class Group:
    """Cases of one CT, band and variant; an empty string or None stands for all."""

    ct: str = ""
    band_mm: tuple[float, float] | None = None
    variant: str = ""

    @property
    def title(self) -> str:
        """The heading of the group's table."""
        parts = [self.ct, "" if self.band_mm is None else f"initial mTRE {format_band(self.band_mm)}", self.variant]
        return ", ".join(part for part in parts if part) or "all cases"

    def select(self, records: Iterable[EvaluationRecord]) -> list[EvaluationRecord]:
        """Return the records that belong to the group."""
        return [
            record
            for record in records
            if self.ct in ("", record.ct)
            and self.variant in ("", record.variant)
            and self.band_mm in (None, initial_error_band(record))
        ]


def summarise_method(method: str, records: Sequence[EvaluationRecord]) -> MethodSummary:
    """Summarise the records of one method, of which there must be at least one."""
    trials = [record.trial for record in records]
    with_initial_pose = [trial for trial in trials if math.isfinite(trial.start_mtre_mm)]
    completed = [record for record in records if not record.failed]
    timed = [record for record in completed if record.warm] or completed
    return MethodSummary(
        method=method,
        records=len(records),
        failures=len(records) - len(completed),
        success=tuple(success_rate(trials, within) for within in SUCCESS_MM),
        mtre=percentiles(np.array([trial.mtre_mm for trial in trials]), PERCENTS),
        medians={name: _median([record.error(name) for record in records]) for name in MEDIAN_ERRORS},
        verdicts=count_verdicts(trials, GROSS_MM, CORRECT_MM),
        capture=capture_range(with_initial_pose, CAPTURE_OPTIONS) if with_initial_pose else None,
        seconds=_median([record.seconds for record in timed if record.seconds is not None]),
        renders=_median([record.n_renders for record in completed]),
    )


def summarise_methods(records: Sequence[EvaluationRecord]) -> list[MethodSummary]:
    """Return one summary per method, in the order in which the methods first appear."""
    methods = dict.fromkeys(record.method for record in records)
    return [summarise_method(method, [record for record in records if record.method == method]) for method in methods]


def find_groups(records: Sequence[EvaluationRecord]) -> tuple[list[Group], list[Group]]:
    """Return the groups that divide the cases, none of them empty.

    Returns:
        The groups by a single property (band, CT or variant), and the groups by all three together. A property by which all
        cases agree makes no groups.
    """
    cts = list(dict.fromkeys(record.ct for record in records if record.ct))
    bands = sorted({band for record in records if (band := initial_error_band(record)) is not None})
    variants = list(dict.fromkeys(record.variant for record in records if record.variant))
    single = [
        *(Group(band_mm=band) for band in bands if len(bands) > 1),
        *(Group(ct=ct) for ct in cts if len(cts) > 1),
        *(Group(variant=variant) for variant in variants if len(variants) > 1),
    ]
    divided = [values for values in (cts, bands, variants) if len(values) > 1]
    if len(divided) < 2:
        return single, []
    crossed = product(
        cts if len(cts) > 1 else [""], bands if len(bands) > 1 else [None], variants if len(variants) > 1 else [""]
    )
    cells = [Group(ct, band, variant) for ct, band, variant in crossed]
    return single, [cell for cell in cells if cell.select(records)]


def initial_error_band(record: EvaluationRecord) -> tuple[float, float] | None:
    """Return the band of mTRE (low, high) that the case names, or the default band of its initial pose, or None without one."""
    if record.start_band_mm is not None or record.start_mtre_mm is None:
        return record.start_band_mm
    n = next(n for n, high in enumerate(DEFAULT_BANDS_MM[1:]) if record.start_mtre_mm < high)
    return DEFAULT_BANDS_MM[n], DEFAULT_BANDS_MM[n + 1]


def format_band(band_mm: tuple[float, float]) -> str:
    """Return the band as text, such as `10 to 25 mm`."""
    low, high = band_mm
    return f"{low:g} to {high:g} mm" if math.isfinite(high) else f"over {low:g} mm"


def _median(values: Sequence[float]) -> float:
    """Return the median, or NaN if there are no values or one is NaN; infinite values are allowed."""
    return float(np.median(values)) if len(values) and not np.isnan(values).any() else math.nan
