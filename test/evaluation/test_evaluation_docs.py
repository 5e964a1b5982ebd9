"""The pages on evaluation against the program: every figure is explained, every named column exists, links are valid."""

import re

from helpers.documentation import DOCS, page
from helpers.evaluation_cases import record

from fluoro_reg.evaluation.comparison import CAPTURE_OPTIONS, DEFAULT_BANDS_MM, summarise_methods
from fluoro_reg.evaluation.metrics import ProjectionErrors, TargetErrors
from fluoro_reg.evaluation.report.files import summary_row
from fluoro_reg.evaluation.report.page import read_template
from fluoro_reg.evaluation.statistics import BootstrapOptions, CaptureOptions

FIGURES, HOW_TO = page("reference/figures.md"), page("how-to/evaluate.md")
PAGE = FIGURES + HOW_TO


def test_every_figure_is_explained():
    figures = [*TargetErrors.__slots__, *ProjectionErrors.__slots__, "double_geodesic_mm"]
    assert [name for name in figures if f"`{name}`" not in PAGE] == []


def test_every_named_column_exists():
    (line,) = summarise_methods([record("a")])
    columns = set(summary_row(line)) | set(TargetErrors.__slots__) | set(ProjectionErrors.__slots__) | {"double_geodesic_mm"}
    named = {name for row in re.findall(r"^\|[^|]*\|([^|]*)\|", FIGURES, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert len(named) > 15 and named <= columns


def test_numbers_agree_with_the_program():
    assert f"{CAPTURE_OPTIONS.bin_mm:g} mm wide" in PAGE and f"under {CAPTURE_OPTIONS.fewest_starts} in a bin" in PAGE
    assert CaptureOptions().share == 0.95 and CAPTURE_OPTIONS.success_mm == 2.0 and "in which 95 % end within 2 mm" in PAGE
    assert f"{BootstrapOptions().resamples} resamples" in PAGE
    *limits, last = (f"{edge:g}" for edge in DEFAULT_BANDS_MM[:-1])
    assert f"limits at {', '.join(limits)} and {last} mm" in PAGE
    definitions = read_template("fluoro_reg.evaluation.report", "comparison.html")
    assert f"in bins of {CAPTURE_OPTIONS.bin_mm:g} mm with {CAPTURE_OPTIONS.fewest_starts} initial poses or more" in definitions


def test_links_point_to_existing_pages():
    for folder, text in (("reference", FIGURES), ("how-to", HOW_TO)):
        targets = re.findall(r"\]\(([^)#]+)", text)
        assert targets and [target for target in targets if not (DOCS / folder / target).exists()] == []
