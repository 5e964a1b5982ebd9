"""The report of an evaluation: it is self-contained, escapes variable text, and shows the numbers of the records."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers.evaluation_cases import record
from PIL import Image

from fluoro_reg.evaluation.records import EvaluationRecord
from fluoro_reg.evaluation.report.comparison import ComparisonReport, comparison_html
from fluoro_reg.evaluation.report.plots import group_by_method
from fluoro_reg.evaluation.report.worst_cases import WorstCase, render_worst_cases, worst_records
from fluoro_reg.evaluation.run_folder import Run
from fluoro_reg.formats.cases import read_case

HOSTILE = 'no </script><script>alert("x")</script> & <b>'
RECORDS = [
    record("cases/a", mtre_mm=0.5),
    record("cases/b", mtre_mm=12.0, n_renders=30),
    record("cases/c", mtre_mm=None, accepted=False, outcome="failed", reason=HOSTILE),
    record("cases/a", "lm-patch-ncc", mtre_mm=0.25),
    record("cases/b", "lm-patch-ncc", mtre_mm=3.0, accepted=False, reason=HOSTILE),
]


def report(records: list[EvaluationRecord], worst_cases: dict | None = None) -> str:
    registration = {"seed": 11, "device": "cpu", "gate": {"minimum_similarity": 0.4}}
    run = Run(
        settings={"version": "0", "intensity": None, "registration": registration},
        methods={name: {"description": HOSTILE, "stages": [{"object_px": 32}]} for name in group_by_method(records)},
        cases=dict.fromkeys(("cases/a", "cases/b", "cases/c"), ("..", "digest")),
        machines=({"torch": "2.0 <x>", "processor": "one"},),
    )
    return comparison_html(ComparisonReport(run, records, worst_cases or {}))


class Page(HTMLParser):
    """The tables as rows of text, and the tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag in ("br", "small") and self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += " "

    def handle_data(self, text: str) -> None:
        if self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += text


def test_the_page_is_self_contained() -> None:
    page = report(RECORDS)
    assert "http:" not in page and "https:" not in page and "@import" not in page and "<script" not in page
    for tag, attributes in Page(page).tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert all(attributes.get(name, "#").startswith(("data:", "#")) for name in ("src", "href", "xlink:href"))
    assert HOSTILE not in page and "2.0 <x>" not in page and "2.0 &lt;x&gt;" in page


def test_the_table_shows_the_numbers_of_the_records() -> None:
    head, first, second = Page(report(RECORDS)).tables[0]
    cells = {name.strip(): cell for name, cell in zip(head, first, strict=True)}
    assert first[0] == "lm-local" and cells["n"] == "3"
    assert (cells["within 1 mm"], cells["within 2 mm"], cells["within 10 mm"]) == ("33 %", "33 %", "33 %")
    assert cells["mTRE median"].startswith("12.00 ") and cells["mTRE p95"].startswith("\u221e")
    assert (cells["> 10 mm accepted"], cells["> 10 mm rejected"]) == ("1", "1")
    assert cells["mRPD"] == "\u2013" and cells["seconds"] == "0.50" and cells["renders"] == "25"
    assert second[0] == "lm-patch-ncc" and second[1] == "2" and second[5].startswith("1.62 ")


def test_dangerous_counts_are_red_and_best_values_are_bold() -> None:
    page = report(RECORDS)
    assert '<span class="danger">1</span>' in page
    table = page[page.index("<h2>All cases") : page.index('<div class="pair">')]
    assert re.findall(r'<td class="best">([0-9.]+)<', table)[:2] == ["1.62", "2.31"], "lower percentiles are better"
    assert re.findall(r'<td class="best">([0-9]+ %)<', table) == ["50 %", "50 %", "100 %"]


def test_missing_records_and_failures_are_reported_first() -> None:
    page = report(RECORDS)
    assert "lm-patch-ncc has 2 of 3 cases: the run is not complete." in page
    assert "lm-local has" not in page
    assert "1 registration failed with an error" in page
    assert "2 methods on 3 cases of 1 CT" in page and "Seed 11." in page


def test_plots_use_the_colours_of_the_style_sheet() -> None:
    page = report(RECORDS)
    used, defined = set(re.findall(r"var\((--[\w-]+)\)", page)), set(re.findall(r"(--[\w-]+):", page))
    assert used <= defined and {"--series-0", "--series-1"} <= used
    assert page.count('<svg viewBox="') == 3 and not re.search(r"#0000(0|1)\d", page)


def test_a_report_can_have_more_methods_than_colours_or_only_failures() -> None:
    many = [record("cases/a", f"method-{n}", mtre_mm=1.0 + n) for n in range(9)]
    assert "9 methods on 1 case" in report(many)
    failed = [record("cases/a", mtre_mm=None, accepted=False, outcome="failed", start_mtre_mm=None, seconds=None, ct="")]
    assert "1 method on 1 case" in report(failed)


def test_the_worst_records_are_dangerous_ones_then_those_with_the_largest_errors() -> None:
    records = [
        record("right"),
        record("far", mtre_mm=90.0, accepted=False),
        record("dangerous", mtre_mm=11.0),
        record("nowhere", mtre_mm=None, accepted=False, outcome="rejected_image"),
        record("broken", mtre_mm=None, accepted=False, outcome="failed"),
    ]
    assert [one.case for one in worst_records(records)] == ["dangerous", "far", "right", "nowhere"]
    assert [one.case for one in worst_records(records, 2)] == ["dangerous", "far"]


@pytest.fixture(scope="module")
def rendered(small_cases: Path) -> dict[str, list[WorstCase]]:
    case = read_case(small_cases / "case_000")
    pose = [[1.0, 0, 0, 4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]] @ case.truth.matrix().numpy()
    methods = group_by_method([record("case_000", camera_from_patient=pose.tolist()), record("gone", mtre_mm=0.1)])
    return render_worst_cases(methods, lambda name: small_cases / name, lambda done, total: None)


def test_images_show_both_poses_if_the_case_still_exists(rendered: dict[str, list[WorstCase]]) -> None:
    shown, removed = rendered["lm-local"]
    assert shown.estimated.startswith(b"RIFF") and shown.truth.startswith(b"RIFF") and shown.estimated != shown.truth
    assert removed.missing.startswith("no image: cannot read case.json") and not removed.xray
    page = report(RECORDS, rendered)
    assert page.count('<img alt="the true pose" src="data:image/webp;base64,') == 1
    assert "mTRE 0.5 mm (initially 7.0 mm)" in page and "no image: cannot read case.json" in page


def test_edges_lie_at_the_projection_of_their_pose(small_cases: Path, rendered: dict[str, list[WorstCase]]) -> None:
    """A lateral error of 4 mm is magnified onto a detector of 300 mm, which the image shows in 448 px."""
    shown, case = rendered["lm-local"][0], read_case(small_cases / "case_000")
    estimated, truth = (
        np.asarray(Image.open(io.BytesIO(webp)))[..., 3].astype(float) for webp in (shown.estimated, shown.truth)
    )
    depth = float(case.truth.apply(case.landmarks_patient)[:, 2].mean())
    overlaps = [(truth[:, : 448 - shift] * estimated[:, shift:]).sum() for shift in range(30)]
    assert int(np.argmax(overlaps)) == pytest.approx(4 * 1020 / depth * 448 / 300, abs=1.5)
