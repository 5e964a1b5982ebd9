"""docs/evaluation.md against the program: every figure is explained, every one that is named exists, links lead on."""

import re
from pathlib import Path

from helpers.evaluation_cases import record

from fluoro_reg.evaluation.comparison import CAPTURE, USUAL_BANDS_MM, compare
from fluoro_reg.evaluation.metrics import ProjectionErrors, TargetErrors
from fluoro_reg.evaluation.report.files import summary_row
from fluoro_reg.evaluation.report.page import template
from fluoro_reg.evaluation.statistics import BootstrapOptions, CaptureOptions

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "evaluation.md").read_text(encoding="utf-8")


def test_every_figure_is_explained():
    figures = [*TargetErrors.__slots__, *ProjectionErrors.__slots__, "double_geodesic_mm"]
    assert [name for name in figures if f"`{name}`" not in PAGE] == []


def test_columns_that_are_named_exist():
    (line,) = compare([record("a")])
    columns = set(summary_row(line)) | set(TargetErrors.__slots__) | set(ProjectionErrors.__slots__) | {"double_geodesic_mm"}
    section = PAGE[PAGE.index("## Figures") : PAGE.index("## Long runs")]
    named = {name for row in re.findall(r"^\|[^|]*\|([^|]*)\|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert len(named) > 15 and named <= columns


def test_numbers_are_those_of_the_program():
    assert f"{CAPTURE.bin_mm:g} mm wide" in PAGE and f"under {CAPTURE.fewest_starts} in a bin" in PAGE
    assert CaptureOptions().share == 0.95 and CAPTURE.success_mm == 2.0 and "of which 95 % end within 2 mm" in PAGE
    assert f"{BootstrapOptions().resamples} resamples" in PAGE
    assert "-".join(f"{edge:g}" for edge in USUAL_BANDS_MM[:-1]) in PAGE
    meanings = template("fluoro_reg.evaluation.report", "comparison.html")
    assert f"in bins of {CAPTURE.bin_mm:g} mm with {CAPTURE.fewest_starts} starts or more" in meanings


def test_links_lead_to_pages():
    targets = re.findall(r"\]\(([^)#]+)", PAGE)
    assert targets and [target for target in targets if not (DOCS / target).exists()] == []
