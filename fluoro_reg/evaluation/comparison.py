"""Methods side by side: every figure of a table, for all cases and for groups of them.

A case without a pose counts in every figure, with an infinite error: a method must not gain by giving up. Groups are what
cases say of themselves: the CT, the band of the start's mTRE, the variant. Cases that name no band fall into the usual ones.
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
    Verdicts,
    capture_range,
    percentiles,
    success_rate,
    verdicts,
)

SUCCESS_MM = (1.0, 2.0, 10.0)
PERCENTS = (50.0, 75.0, 95.0)
GROSS_MM, RIGHT_MM = 10.0, 2.0
CAPTURE = CaptureOptions(bin_mm=5.0)  # evaluations have tens of starts in a band and not thousands
USUAL_BANDS_MM = (0.0, 5.0, 10.0, 25.0, 60.0, math.inf)
MEDIANS = ("in_plane_mm", "depth_mm", "mpd_mm", "mrpd_mm", "mrpe_mm", "diffpose_scaled_mrpe", "double_geodesic_mm")


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """One line of a table: what `records` registrations of a method came to.

    `success` are shares of registrations within each of `SUCCESS_MM`, `mtre` the percentiles of all mTRE with their intervals,
    `medians` those of other figures by name (NaN where they cannot be told). `capture` is None without starts. `seconds` and
    `renders` are medians over registrations that ran, seconds without each process's first where there are others.
    """

    method: str
    records: int
    failures: int
    success: tuple[float, ...]
    mtre: tuple[Percentile, ...]
    medians: dict[str, float]
    verdicts: Verdicts
    capture: CaptureRange | None
    seconds: float
    renders: float


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that have something in common; an empty text, or None, stands for all."""

    ct: str = ""
    band_mm: tuple[float, float] | None = None
    variant: str = ""

    @property
    def title(self) -> str:
        """As a heading."""
        parts = [self.ct, "" if self.band_mm is None else f"starts {band_text(self.band_mm)}", self.variant]
        return ", ".join(part for part in parts if part) or "all cases"

    def of(self, records: Iterable[EvaluationRecord]) -> list[EvaluationRecord]:
        """Those records that belong to it."""
        return [
            record
            for record in records
            if self.ct in ("", record.ct) and self.variant in ("", record.variant) and self.band_mm in (None, band_of(record))
        ]


def summarise(method: str, records: Sequence[EvaluationRecord]) -> MethodSummary:
    """The line of one method from its records, of which there is at least one."""
    trials = [record.trial for record in records]
    begun = [trial for trial in trials if math.isfinite(trial.start_mtre_mm)]
    ran = [record for record in records if not record.failed]
    timed = [record for record in ran if record.warm] or ran
    return MethodSummary(
        method=method,
        records=len(records),
        failures=len(records) - len(ran),
        success=tuple(success_rate(trials, within) for within in SUCCESS_MM),
        mtre=percentiles(np.array([trial.mtre_mm for trial in trials]), PERCENTS),
        medians={name: _median([record.figure(name) for record in records]) for name in MEDIANS},
        verdicts=verdicts(trials, GROSS_MM, RIGHT_MM),
        capture=capture_range(begun, CAPTURE) if begun else None,
        seconds=_median([record.seconds for record in timed if record.seconds is not None]),
        renders=_median([record.n_renders for record in ran]),
    )


def compare(records: Sequence[EvaluationRecord]) -> list[MethodSummary]:
    """A line a method, in the records' order of methods."""
    methods = dict.fromkeys(record.method for record in records)
    return [summarise(method, [record for record in records if record.method == method]) for method in methods]


def groups(records: Sequence[EvaluationRecord]) -> tuple[list[Group], list[Group]]:
    """(by band, by CT and by variant; by all three), each only where it divides the cases, and none that is empty."""
    cts = list(dict.fromkeys(record.ct for record in records if record.ct))
    bands = sorted({band for record in records if (band := band_of(record)) is not None})
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
    return single, [cell for cell in cells if cell.of(records)]


def band_of(record: EvaluationRecord) -> tuple[float, float] | None:
    """The case's own band, else the usual one in which its start lies; None without a start."""
    if record.start_band_mm is not None or record.start_mtre_mm is None:
        return record.start_band_mm
    n = next(n for n, high in enumerate(USUAL_BANDS_MM[1:]) if record.start_mtre_mm < high)
    return USUAL_BANDS_MM[n], USUAL_BANDS_MM[n + 1]


def band_text(band_mm: tuple[float, float]) -> str:
    """`10 to 25 mm`."""
    low, high = band_mm
    return f"{low:g} to {high:g} mm" if math.isfinite(high) else f"over {low:g} mm"


def _median(values: Sequence[float]) -> float:
    """NaN of nothing, or where one cannot be told; an infinite value is a value."""
    return float(np.median(values)) if len(values) and not np.isnan(values).any() else math.nan
