"""The demo's report from artificial records: it is self-contained, escapes variable text, and shows the results."""

import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from fluoro_reg.demo.assessment import FrameRecord, summarise
from fluoro_reg.demo.pictures import DemoImages, FrameImage
from fluoro_reg.demo.plots import stage_seconds
from fluoro_reg.demo.report import DemoReport, RunDetails, demo_html
from fluoro_reg.evaluation.metrics import TargetErrors
from fluoro_reg.geometry import RigidTransform

HOSTILE = 'no structure </script><script>alert("x")</script> & <b>'
BLANK = (2, 5)


def webp(size=8):
    file = io.BytesIO()
    Image.new("L", (size, size), 90).save(file, format="WEBP")
    return file.getvalue()


def record(index):
    common = {"index": index, "stamp_ns": 1_700_000_000_000_000_000 + index, "blank": index in BLANK, "device": "cpu"}
    if index in BLANK:
        return FrameRecord(accepted=False, outcome="rejected_image", reason=HOSTILE, latency_s=0.01, **common)
    return FrameRecord(
        accepted=True,
        outcome="converged",
        reason="similarity 0.97",
        similarity=0.97,
        camera_from_patient=RigidTransform.identity(),
        errors=TargetErrors(0.25 + index / 100, 0.1, 0.2, 0.05, 0.1),
        latency_s=0.1,
        seconds={"decode": 0.001, "register": 0.07, "register.refine": 0.06, "node": 0.08},
        **common,
    )


@pytest.fixture(scope="module")
def report():
    records = [record(index) for index in range(8)]
    frames = [FrameImage(webp(), webp() if r.accepted else None) for r in records]
    details = RunDetails("fluoro-reg demo --out <DIR>", "a: <b>", {"torch": "2.0 <x>"}, 19, 7)
    return DemoReport(records, summarise(records, 6), [], DemoImages(frames, webp(), "given, with an mTRE of 10.0 mm"), details)


@pytest.fixture(scope="module")
def page(report):
    return demo_html(report)


class Parts(HTMLParser):
    """The tags of a page with their attributes, and the elements that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.unclosed = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        while self.open and self.open[-1] != tag:
            self.unclosed.add(self.open.pop())
        if self.open:
            self.open.pop()


def test_the_page_is_self_contained(page):
    assert "http:" not in page and "https:" not in page and "@import" not in page
    for tag, attributes in Parts(page).tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/webp;base64,", "#"))


def test_every_element_is_closed(page):
    parts = Parts(page)
    assert parts.open == []
    assert parts.unclosed == set()


def test_variable_text_is_escaped(page):
    assert HOSTILE not in page
    assert page.count("<script") == 2 and page.count("</script>") == 2
    for text in ("a: <b>", "2.0 <x>", "<DIR>"):
        assert text not in page
        assert text.replace("<", "&lt;").replace(">", "&gt;") in page


def test_the_viewer_gets_the_data_of_every_frame(page, report):
    frames = json.loads(re.search(r'id="frames">(.*?)</script>', page, re.DOTALL)[1])
    assert [frame["verdict"] for frame in frames] == [("rejected" if n in BLANK else "accepted") for n in range(8)]
    assert frames[2]["reason"] == HOSTILE
    assert frames[2]["edges"] is None and "nothing was published" in frames[2]["published"]
    assert frames[3]["error"] == "0.28" and frames[3]["edges"].startswith("data:image/webp;base64,")


def test_the_verdict_and_the_key_figures_are_on_the_page(page, report):
    assert "The patient is on tf2: 6 of 8 frames registered, 2 blank frames rejected" in page
    median = f"{report.summary['median_mtre_mm']:.2f}"
    assert f"<b>{median} <small>mm</small></b><span>median 3-D error" in page
    assert "<b>2 <small>of 2</small></b><span>blank frames rejected" in page
    assert "not a medical device" in page
    assert "its seed, 7." in page
    assert page.count('<td class="text"><span class="chip') == 8


def test_failed_checks_are_in_the_headline(report):
    failed = DemoReport(report.records, report.summary, ["an <accepted> pose is wrong"], report.images, report.details)
    page = demo_html(failed)
    assert "<h1>The demo failed its checks</h1>" in page
    assert "<li>an &lt;accepted&gt; pose is wrong</li>" in page


def test_plots_use_the_colours_of_the_style_sheet(page):
    used, defined = set(re.findall(r"var\((--[\w-]+)\)", page)), set(re.findall(r"(--[\w-]+):", page))
    assert used <= defined
    light, dark = re.findall(r":root \{(.*?)\}", page, re.DOTALL)[:2]
    assert set(re.findall(r"(--[\w-]+):", light)) == set(re.findall(r"(--[\w-]+):", dark))
    assert not re.search(r"#0000(0|1)\d", page), "a placeholder colour was left"


def test_a_demo_without_any_pose_has_a_report(report):
    records = [FrameRecord(n, n + 1, n in BLANK, False, "no_answer", "the node gave no answer") for n in range(8)]
    images = DemoImages([FrameImage(webp(), None)] * 8, webp(), "given, with an mTRE of 10.0 mm")
    page = demo_html(DemoReport(records, summarise(records, 0), ["no frame was accepted"], images, report.details))
    assert "<b>none</b><span>median 3-D error" in page


def test_stages_add_up_to_the_latency():
    stages = stage_seconds(record(0))
    assert sum(stages.values()) == pytest.approx(0.1)
    assert stages["transport"] == pytest.approx(0.1 - 0.001 - 0.06)
    assert stage_seconds(FrameRecord(0, 1, False, False, "no_answer", "")) == {}
